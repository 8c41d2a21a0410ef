"""The program, as it is run from a shell: what it writes, prints and draws, and its sentences on bad input."""

from __future__ import annotations

import importlib.util
import json
import os
import sys
from pathlib import Path

import pytest
import torch
from refusals import complaint

import sciml_bounds as sb

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def program():
    """Run the program in this process, which saves the start of another for every sentence."""
    spec = importlib.util.spec_from_file_location("reaction_program", ROOT / "solvers" / "reaction_diffusion.py")
    module = sys.modules[spec.name] = importlib.util.module_from_spec(spec)  # dataclasses look there
    spec.loader.exec_module(module)
    return lambda *arguments: module.run_program(module.app, module.NAME, arguments)


@pytest.mark.slow
def test_every_method_is_certified_in_one_report(program, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    arguments = ["--cells", "12", "--width", "20", "--out", "u.h5", "--picture", "u.png", "--json"]
    assert program(*arguments) == 0
    record = json.loads(capsys.readouterr().out)
    assert list(record["methods"]) == ["newton", "kacanov", "gradient", "gns", "features", "ritz", "unfolded"]
    assert sorted(os.listdir()) == ["u.h5", "u.png"]
    fields = sb.data.read("u.h5")
    # the same problem on a grid of a quarter of the spacing lies closer to the least energy than any of these
    density = sb.variational.ShearThinning(3.0, reaction=5.0)
    values = fields["u_newton"].values
    problem = sb.variational.VariationalProblem(
        sb.Grid((12, 12)), density, lambda x, y: 100 * (bump(x, y, 0.3) - bump(x, y, 0.7))
    )
    fine = problem.refine(4)
    least = sb.variational.minimize_energy(fine).energy
    for name, found in record["methods"].items():
        excess = float(problem.energy(fields[f"u_{name}"].values)) - least
        # the finer grid is not the least energy either: excess is a little less than J(v) - J(u)
        assert excess <= found["excess_upper"]
        assert found["excess_lower"] <= excess * 1.1
    assert values.shape == (13, 13)


def bump(x, y, centre):
    return torch.exp(-50 * ((x - centre) ** 2 + (y - centre) ** 2))


def test_methods_that_do_not_suit_are_left_out_with_the_reason(program, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    arguments = ["--cells", "8", "--power", "4", "--methods", "newton", "--methods", "gradient", "--out", "u.h5"]
    assert program(*arguments) == 0
    printed = capsys.readouterr().out
    assert "gradient" in printed
    assert "at most" not in printed
    assert list(sb.data.read("u.h5").data_vars) == ["u_newton"]


@pytest.mark.filterwarnings("default")
def test_networks_that_did_not_converge_are_told_by_the_exit_code(program, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    arguments = ["--cells", "8", "--width", "10", "--methods", "newton", "--methods", "features", "--out", "u.h5"]
    assert program(*arguments) == 0
    capsys.readouterr()
    monkeypatch.setattr("sciml_bounds.network_solvers._network_solution.GRADIENT_TOL", -1.0)  # unreachable
    assert program(*arguments, "--json") == 3
    printed = capsys.readouterr()
    assert "reaction_diffusion: the network did not converge: a gradient of" in printed.err
    methods = json.loads(printed.out)["methods"]
    assert [methods[name]["converged"] for name in ("newton", "features")] == [True, False]


def test_reactions_that_degenerate_are_solved_by_networks(program, tmp_path, monkeypatch, capsys):
    """At u = 0 the second derivative of |u|^1.5 is infinite; the zero network was once the answer."""
    monkeypatch.chdir(tmp_path)
    arguments = ["--cells", "16", "--width", "40", "--extra", "0", "--power", "1.5", "--out", "u.h5", "--json"]
    assert program(*arguments, "--methods", "newton", "--methods", "features") == 0
    methods = json.loads(capsys.readouterr().out)["methods"]
    assert methods["features"]["excess_upper"] < 1.0  # zero is 4.3 above the least energy


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (["--methods", "euler"], "method 'euler' newton"),
        (["--dim", "4"], "dim 4 1 2 3"),
        (["--extra", "-1"], "extra -1.0 negative"),
        (["--reaction", "-1"], "reaction -1.0 negative"),
        (["--power", "1"], ""),
        (["--cells", "1"], ""),
        (["--rtol", "0"], "rtol 0.0 positive number"),
        (["--rtol", "1e-20"], "rtol 1e-20 1e-14"),
        (["--width", "0"], ""),
        (["--out", "c.txt"], "extension"),
    ],
)
def test_bad_input_is_one_sentence(program, tmp_path, monkeypatch, capsys, arguments, sentence):
    monkeypatch.chdir(tmp_path)
    assert program("--cells", "8", "--out", "c.h5", *arguments) == 2
    complaint(capsys, sentence, "reaction_diffusion")
    assert os.listdir() == []
