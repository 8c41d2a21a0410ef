"""The program, as it is run from a shell: its files, what it prints, its exit codes, and sentences on bad input."""

from __future__ import annotations

import importlib.util
import json
import os
from pathlib import Path

import numpy as np
import pytest
from refusals import complaint

import sciml_bounds as sb

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def program():
    """Run the program in this process, which saves the start of another for every sentence."""
    spec = importlib.util.spec_from_file_location("control_program", ROOT / "solvers" / "optimal_control.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return lambda *arguments: module.run_program(module.app, module.NAME, arguments)


def test_fields_a_picture_and_a_table(program, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    assert program("--cells", "16", "--target", "bump", "--out", "c.h5", "--picture", "c.png") == 0
    printed = capsys.readouterr().out
    assert "Newton steps" in printed
    assert "c.png" in printed
    fields = sb.data.read("c.h5")
    assert {"target", "state", "control", "step_kkt_residual", "step_inner_steps"} <= set(fields)
    problem = sb.Diffusion(sb.Grid((16, 16)))
    exact = sb.control.DistributedControl(problem, fields["target"].values, weight=1e-4)
    state, control = exact.fields(exact.minimize(inner="direct").x)
    np.testing.assert_allclose(fields["state"], state, atol=1e-6)
    np.testing.assert_allclose(fields["control"], control, atol=1e-4 * float(control.abs().max()))
    assert sorted(os.listdir()) == ["c.h5", "c.png"]


@pytest.mark.slow
@pytest.mark.parametrize("dim", [1, 3])
def test_other_dimensions_and_the_cubic_equation(program, tmp_path, monkeypatch, capsys, dim):
    monkeypatch.chdir(tmp_path)
    np.save("t.npy", np.ones((9,) * dim))
    arguments = ["--dim", str(dim), "--cells", "8", "--target", "t.npy", "--cubic", "10", "--out", "c.h5", "--json"]
    found = []
    for method in ("multigrid", "direct"):
        assert program(*arguments, "--method", method, "--picture", "c.pdf") == 0
        found.append(json.loads(capsys.readouterr().out))
    assert found[0]["objective"] == pytest.approx(found[1]["objective"], rel=1e-7)
    assert found[0]["inner_steps"] > found[1]["inner_steps"] == 0
    assert sb.data.read("c.h5")["state"].shape == (9,) * dim


def test_what_does_not_converge_is_told(program, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    assert program("--cells", "8", "--cubic", "10", "--maxiter", "1", "--out", "c.h5") == 3
    assert capsys.readouterr().err.startswith("optimal_control: minimize did not converge: maxiter reached")
    assert os.listdir() == []


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (["--target", "hat"], "target"),
        (["--target", "short.npy"], "target shape (4, 4) nodal field (9, 9)"),
        (["--weight", "0"], "weight 0.0 positive number"),
        (["--cubic", "-1"], "cubic -1.0 negative"),
        (["--dim", "4"], "dim 4 1 2 3"),
        (["--cells", "1"], ""),
        (["--method", "gmres"], "method 'gmres' 'multigrid' 'direct'"),
        (["--rtol", "0"], "rtol 0.0 positive number"),
        (["--out", "c.txt"], "extension"),
        (["--picture", "c.txt"], "extension"),
    ],
)
def test_bad_input_is_one_sentence(program, tmp_path, monkeypatch, capsys, arguments, sentence):
    monkeypatch.chdir(tmp_path)
    np.save("short.npy", np.ones((4, 4)))
    assert program("--cells", "8", "--out", "c.h5", *arguments) == 2
    complaint(capsys, sentence, "optimal_control")
    assert os.listdir() == ["short.npy"]
