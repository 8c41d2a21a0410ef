import json
import os
import re
import subprocess
import sys

import numpy as np
import pytest
import scipy.io
import scipy.sparse
from matplotlib.image import imread
from refusals import complaint

import sciml_bounds as sb
from sciml_bounds import comparison
from sciml_bounds.cli import compare as command
from sciml_bounds.cli.main import run

UNIT = ["compare", "--coefficient", "2", "--source", "1", "--shape", "9,8", "--repeat", "1"]
TRIDIAGONAL = scipy.sparse.diags_array([-np.ones(29), 3 * np.ones(30), -np.ones(29)], offsets=(-1, 0, 1)).tocsr()


def record_of(capsys, *arguments: str, code: int = 0) -> dict:
    """Run, and return the JSON object."""
    assert run([*arguments, "--json"]) == code
    return json.loads(capsys.readouterr().out, parse_constant=lambda name: pytest.fail(f"{name} is not JSON"))


def test_the_record(capsys):
    record = record_of(capsys, *UNIT, "--methods", "multigrid,direct,pyamg:ruge-stuben", "--rtol", "1e-9")
    assert (record["unknowns"], record["rtol"], record["interrupted"]) == (90, 1e-9, False)
    assert [entry["method"] for entry in record["methods"]] == ["multigrid", "direct", "pyamg:ruge-stuben"]
    for entry in record["methods"]:
        assert entry["converged"]
        assert entry["residual"] <= 1e-9
        assert entry["total_seconds"] == pytest.approx(entry["setup_seconds"] + entry["solve_seconds"])
        assert entry["history"][-1][1] == pytest.approx(entry["residual"], rel=0.5)


def test_the_table_shows_who_did_not_arrive(capsys):
    assert run([*UNIT, "--methods", "auto,scipy:cg,petsc:nothing"]) == 2
    assert "method is 'petsc:nothing'" in capsys.readouterr().err
    assert run([*UNIT, "--methods", "direct,scipy:cg", "--maxiter", "3"]) == 0
    printed = capsys.readouterr().out
    assert re.search(r"^direct .* 1\.0 +direct +\S+ +yes", printed, re.MULTILINE)
    assert re.search(r"^scipy:cg .* - +3 +\S+ +no: maxiter reached", printed, re.MULTILINE)
    assert "after a warm-up" in " ".join(printed.split())


@pytest.mark.slow
def test_a_process_of_its_own_gives_inner_products_of_numpy_one_thread():
    """Two that wait for each other on a busy machine make scipy and PyAMG many times slower than they are."""
    environment = {name: value for name, value in os.environ.items() if name != "OPENBLAS_NUM_THREADS"}
    script = (
        f"import sys; from sciml_bounds.cli.main import run; sys.exit(run({[*UNIT, '--methods', 'direct', '--json']}))"
    )
    for given, threads in ({}, "1"), ({"OPENBLAS_NUM_THREADS": "2"}, "2"):
        done = subprocess.run(
            [sys.executable, "-c", script], env=environment | given, capture_output=True, text=True, check=True
        )
        assert json.loads(done.stdout)["blas_threads"] == threads


def test_nobody_arrives(capsys):
    assert run([*UNIT, "--methods", "scipy:cg,cg", "--maxiter", "2"]) == 3
    captured = capsys.readouterr()
    assert "no method reached" in captured.err
    assert captured.out.count("no: maxiter reached") == 2


def test_a_method_that_fails_says_why(capsys):
    rough = ["compare", "--coefficient", "2", "--source", "1", "--shape", "9,8", "--boundary", "all=robin:1"]
    assert run([*rough, "--methods", "transform,direct", "--repeat", "1"]) == 0
    assert "transform failed: method 'transform' needs constant coefficients" in capsys.readouterr().out


@pytest.mark.parametrize("ending", ["mtx", "npz"])
def test_matrices_from_files(tmp_path, capsys, ending):
    file, b = tmp_path / f"A.{ending}", np.arange(30.0)
    write = scipy.io.mmwrite if ending == "mtx" else scipy.sparse.save_npz
    write(file, TRIDIAGONAL)
    np.save(tmp_path / "b.npy", b)
    record = record_of(
        capsys, "compare", "--matrix", str(file), "--rhs", f"{tmp_path}/b.npy", "--repeat", "1", "--rtol", "1e-10"
    )
    assert [entry["method"] for entry in record["methods"]] == command.ON_MATRICES.split(",")
    assert all(entry["converged"] for entry in record["methods"])
    assert run(["compare", "--matrix", str(file), "--methods", "cg", "--repeat", "1"]) == 0
    printed = " ".join(capsys.readouterr().out.split())
    assert "right-hand side b: ones" in printed
    assert "Times are of one round" in printed
    assert "1 threads" not in printed


def test_the_energy_error_against_a_reference(tmp_path, capsys):
    solved = sb.solve(sb.Diffusion(sb.Grid((9, 8)), 2.0, 1.0), rtol=1e-12)
    np.save(tmp_path / "u.npy", 2 * solved.values.numpy())
    arguments = [*UNIT, "--reference", f"{tmp_path}/u.npy", "--methods", "direct"]
    assert record_of(capsys, *arguments)["methods"][0]["energy_error"] == pytest.approx(0.5, rel=1e-9)
    assert run(arguments) == 0
    assert "5.00e-01" in capsys.readouterr().out


def test_a_sample_of_the_fields_is_measured_against_that_of_the_reference(tmp_path, capsys):
    fields = np.random.default_rng(0).lognormal(size=(3, 9, 8))
    np.save(tmp_path / "a.npy", fields)
    sb.data.write(sb.solve(sb.Diffusion(sb.Grid((9, 8)), fields, 1.0), rtol=1e-12), tmp_path / "u.nc")
    arguments = ["compare", "--coefficient", f"{tmp_path}/a.npy", "--source", "1", "--shape", "9,8", "--sample", "2"]
    arguments += ["--reference", f"{tmp_path}/u.nc:solution", "--methods", "direct", "--repeat", "1"]
    assert record_of(capsys, *arguments)["methods"][0]["energy_error"] < 1e-10


def test_the_picture(tmp_path, capsys):
    path = tmp_path / "convergence.png"
    assert run([*UNIT, "--methods", "cg,direct,transform", "--plot", str(path)]) == 0
    image = imread(path)
    assert image.std() > 0.05
    assert [file.name for file in tmp_path.iterdir()] == [path.name]


def test_ctrl_c_keeps_what_is_done(monkeypatch, capsys):
    def interrupted(equations):
        raise KeyboardInterrupt

    monkeypatch.setitem(comparison.METHODS, "scipy:spsolve", interrupted)
    assert run([*UNIT, "--methods", "direct,scipy:spsolve"]) == 130
    captured = capsys.readouterr()
    assert re.search(r"^direct .* yes", captured.out, re.MULTILINE)
    assert "spsolve" not in captured.out
    assert captured.err.splitlines()[-1] == "sciml-bounds: interrupted; 1 of 2 methods were measured."


def test_a_missing_extra_is_one_sentence(monkeypatch, capsys):
    monkeypatch.setitem(sys.modules, "dolfinx", None)
    monkeypatch.setitem(sys.modules, "dolfinx_solver", None)
    monkeypatch.setitem(sys.modules, "petsc4py", None)
    assert run([*UNIT, "--methods", "petsc:gamg"]) == 2
    captured = capsys.readouterr()
    assert captured.out == ""
    assert re.fullmatch(r"sciml-bounds: .*pip install 'sciml-bounds\[fem\]'.*\.\n", captured.err)


REFUSALS = {
    "--source 1": "problem matrix",
    "--matrix A.mtx --coefficient 1 --source 1": "problem",
    "--matrix none.mtx": "file",
    "--matrix A.mtx --rhs none.npy": "file",
    "--matrix A.mtx --reference b.npy": "matrix",
    "--matrix A.mtx --source b.npy": "problem",
    "--matrix A.mtx --sample 0": "problem",
    "--matrix A.mtx --boundary all=neumann:0": "problem",
    "--matrix A.mtx --rhs b.npy": "matrix 30 rows side shape (4,)",
    "--matrix b.npy": ".mtx .npz",
    "--coefficient 1 --source 1 --shape 8,8 --rhs b.npy": "--rhs",
    "--coefficient 1 --source 0 --shape 8,8": "zero source",
    "--coefficient 1 --source 1 --shape 8,8 --reference b.npy": "reference shape (4,)",
    "--coefficient 1 --source 1 --shape 8,8 --methods cg,cg": "cg twice",
    "--coefficient 1 --source 1 --shape 8,8 --rtol 1e-20": "below",
    "--coefficient 1 --source 1 --shape 8,8 --plot c.gif": ".png",
    "--coefficient a.npy --source 1 --shape 8,8": "batch (2,)",
}


@pytest.mark.parametrize("arguments", REFUSALS)
def test_bad_input_is_one_sentence(tmp_path, monkeypatch, capsys, arguments):
    monkeypatch.chdir(tmp_path)
    scipy.io.mmwrite("A.mtx", TRIDIAGONAL)
    np.save("b.npy", np.ones(4))
    np.save("a.npy", np.ones((2, 8, 8)))
    assert run(["compare", *arguments.split()]) == 2
    complaint(capsys, REFUSALS[arguments])
