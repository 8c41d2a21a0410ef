import json
import math
from pathlib import Path

import h5py
import numpy as np
import pytest
import torch
import xarray
from matplotlib.image import imread
from refusals import complaint

import sciml_bounds as sb
from sciml_bounds.cli.main import run

UNIT = ["--coefficient", "1", "--source", "1", "--shape", "16,12"]


def as_json(capsys, *arguments: str, code: int = 0) -> dict:
    """Run, check the exit code and that stdout is one JSON object and nothing else, and return it."""
    assert run(["solve", *arguments, "--json"]) == code
    out = capsys.readouterr().out
    assert out.count("\n") == 1
    return json.loads(out, parse_constant=lambda name: pytest.fail(f"{name} is not JSON"))


def solution_of(tmp_path: Path, *arguments: str) -> np.ndarray:
    assert run(["solve", *arguments, "--out", str(tmp_path / "u.nc")]) == 0
    with h5py.File(tmp_path / "u.nc") as file:
        return np.asarray(file["solution"])


# --- what it does ---


def test_the_record_agrees_with_the_library(capsys):
    record = as_json(capsys, *UNIT, "--certify", "--lengths", "2,1", "--origin", "1,1", "--reaction", "3")
    grid = sb.Grid((16, 12), lengths=(2.0, 1.0), origin=(1.0, 1.0))
    solution = sb.solve(sb.Diffusion(grid, 1.0, 1.0, reaction=3.0), certify=True)
    assert record["command"] == "solve"
    assert record["version"] == sb.__version__
    assert (record["shape"], record["batch_shape"]) == ([16, 12], [])
    assert record["converged"] is True
    assert record["reason"] == "converged"
    assert record["iterations"] == int(solution.iterations)
    assert record["residual_norm"] <= record["tolerance"]
    certificate = record["certificate"]
    assert certificate["kind"] == "bound"
    for name in ("lower", "upper", "relative_upper", "energy"):
        # The same operations on the same data; round-off may differ with the order of sums in threads.
        assert certificate[name] == pytest.approx(float(getattr(solution.certificate, name)), rel=1e-9)


def test_the_table(capsys):
    assert run(["solve", *UNIT, "--certify"]) == 0
    captured = capsys.readouterr()
    for word in ("16 x 12 cells", "converged", "iterations", "<= error <=", "relative (bound)"):
        assert word in captured.out
    assert "iteration 1: residual" in captured.err


def test_without_a_certificate_there_is_none(capsys):
    assert as_json(capsys, *UNIT)["certificate"] is None


def test_stop_at_a_guaranteed_error(capsys):
    assert run(["solve", *UNIT, "--error", "0.3", "--json"]) == 0
    captured = capsys.readouterr()
    record = json.loads(captured.out)
    assert record["certificate"]["relative_upper"] <= 0.3
    assert record["reason"] == "error bound reached"
    assert "guaranteed relative error" in captured.err


@pytest.mark.parametrize(
    ("options", "reason", "sentence"),
    [
        (["--error", "1e-4"], "error bound limited by the mesh", "refine the grid"),
        (["--maxiter", "1", "--method", "cg"], "maxiter reached", "Raise maxiter, or use method 'multigrid'."),
    ],
)
def test_what_is_not_reached_exits_with_3_and_a_sentence(capsys, tmp_path, options, reason, sentence):
    out = tmp_path / "u.nc"
    assert run(["solve", *UNIT, *options, "--json", "--out", str(out)]) == 3
    captured = capsys.readouterr()
    record = json.loads(captured.out)
    assert (record["converged"], record["reason"]) == (False, reason)
    last = captured.err.splitlines()[-1]
    assert last.startswith("sciml-bounds: the solve did not converge")
    assert sentence in last
    with xarray.open_dataset(out) as dataset:  # what was reached is written, and says so
        assert dataset.attrs["converged"] == 0


@pytest.mark.parametrize("method", ["multigrid", "cg", "algebraic", "direct"])
def test_methods(tmp_path, method):
    values = solution_of(tmp_path, *UNIT, "--method", method, "--rtol", "1e-12")
    reference = sb.solve(sb.Diffusion(sb.Grid((16, 12)), 1.0, 1.0), method="direct").values
    # The largest eigenvalue of the matrix, 8, is about 100 times the smallest, 2 pi^2 / (16 x 12): a relative residual
    # of 1e-12 leaves at most about 1e-10 of the solution.
    np.testing.assert_allclose(values, reference, atol=1e-10 * float(reference.max()))


def test_boundary_conditions(tmp_path):
    """-(2 u')' = 0 between u = 1 and 2 u' + 3 u = 0 on the right: u = 1 - 3 / (2 + 3) x, exact on any grid."""
    sides = ["--boundary", "all=neumann:0", "--boundary", "x0=dirichlet:1", "--boundary", "x1=robin:3:0"]
    values = solution_of(tmp_path, "--coefficient", "2", "--shape", "5,3", *sides)
    expected = 1 - 0.6 * np.linspace(0, 1, 6)
    np.testing.assert_allclose(values, np.repeat(expected[:, None], 4, 1), atol=1e-7)  # rtol of the solve is 1e-8
    sides = [f"--boundary={side}" for side in ("x0=dirichlet:1", "x1=neumann:-1.2", "y0=periodic", "y1=periodic")]
    values = solution_of(tmp_path, "--coefficient", "2", "--shape", "5,3", *sides)
    np.testing.assert_allclose(values, np.repeat(expected[:, None], 3, 1), atol=1e-7)


def test_fields_from_files(tmp_path):
    rng = np.random.default_rng(0)
    a, f, c = (rng.uniform(0.5, 2.0, (3, 8, 6)) for _ in range(3))
    solid = np.zeros((8, 6), dtype=bool)
    solid[2:4, 2:5] = True
    np.save(tmp_path / "a.npy", a)
    torch.save({"f": torch.from_numpy(f)}, tmp_path / "f.pt")
    np.savez(tmp_path / "c.npz", c=c)
    with h5py.File(tmp_path / "s.h5", "w") as file:
        file["geometry/solid"] = solid
    files = {"coefficient": "a.npy", "source": "f.pt:f", "reaction": "c.npz:c", "solid": "s.h5:geometry/solid"}
    options = [f"--{name}={tmp_path}/{file}" for name, file in files.items()]
    values = solution_of(tmp_path, *options)  # the mask without batch says that the grid has two axes
    expected = sb.solve(sb.Diffusion(sb.Grid((8, 6)), a, f, reaction=c, solid=solid)).values
    np.testing.assert_allclose(values, expected, atol=1e-12)
    np.testing.assert_allclose(solution_of(tmp_path, *options, "--sample", "1"), expected[1], atol=1e-8)


def test_a_batch_and_one_sample_of_it(tmp_path, capsys):
    a = np.random.default_rng(0).uniform(0.5, 2.0, (3, 8, 6))
    np.save(tmp_path / "a.npy", a)
    options = ["--coefficient", f"{tmp_path}/a.npy", "--source", "1"]
    assert run(["solve", *options]) == 2  # a box or a batch
    complaint(capsys, "coefficient shape (3, 8, 6) batch --shape 3,8,6 8,6")
    for told in (["--shape", "3,8,6"], ["--lengths", "1,1,1"], ["--origin", "0,0,0"]):
        assert as_json(capsys, *options, *told)["shape"] == [3, 8, 6]
    sides = [f"--boundary={side}=dirichlet:0" for side in ("all", "z0")]
    assert as_json(capsys, *options, *sides)["shape"] == [3, 8, 6]
    batch = as_json(capsys, *options, "--shape", "8,6", "--certify")
    assert (batch["shape"], batch["batch_shape"]) == ([8, 6], [3])
    one = as_json(capsys, *options, "--shape", "8,6", "--sample", "2", "--certify")
    assert (one["shape"], one["batch_shape"]) == ([8, 6], [])
    assert one["certificate"]["upper"] == pytest.approx(batch["certificate"]["upper"][2], rel=1e-6)


def test_axes_that_have_names_tell_what_is_a_batch(tmp_path, capsys):
    sb.make_dataset("darcy-rough", tmp_path / "d.nc", samples=3, resolution=8)
    options = ["--coefficient", f"{tmp_path}/d.nc:coefficient", "--source", "1"]
    batch = as_json(capsys, *options)
    assert (batch["shape"], batch["batch_shape"]) == ([8, 8], [3])
    one = as_json(capsys, *options, "--sample", "1")
    assert (one["shape"], one["batch_shape"]) == ([8, 8], [])
    np.save(tmp_path / "f.npy", np.ones((3, 8, 8)))
    both = as_json(capsys, "--coefficient", f"{tmp_path}/f.npy", "--source", f"{tmp_path}/d.nc:coefficient")
    assert (both["shape"], both["batch_shape"]) == ([8, 8], [3])


def test_the_input_is_not_lost(tmp_path, capsys):
    sb.make_dataset("darcy-rough", tmp_path / "d.nc", samples=3, resolution=8)
    before = (tmp_path / "d.nc").read_bytes()
    options = ["--coefficient", f"{tmp_path}/d.nc:coefficient", "--source", "1", "--out", f"{tmp_path}/d.nc"]
    assert run(["solve", *options]) == 2
    error = capsys.readouterr().err
    assert all(word in error for word in ("d.nc", "data set of a recipe", "Solution", "remove it"))
    assert (tmp_path / "d.nc").read_bytes() == before


def test_the_tolerance_of_the_residual_is_not_printed_when_an_error_is_requested(capsys):
    assert run(["solve", *UNIT, "--error", "0.3"]) == 0
    assert "(tolerance" not in capsys.readouterr().out
    assert run(["solve", *UNIT]) == 0
    assert "(tolerance" in capsys.readouterr().out


def test_infinite_numbers_are_null(capsys):
    """A field that is zero has no relative error, and JSON has no infinity."""
    record = as_json(capsys, "--coefficient", "1", "--boundary", "all=dirichlet:0", "--shape", "4,4", "--certify")
    assert record["certificate"]["relative_upper"] is None


@pytest.mark.parametrize("engine", ["h5netcdf", "netcdf4"])
def test_the_file_opens_with_xarray(tmp_path, engine):
    path = tmp_path / "u.nc"
    assert run(["solve", *UNIT, "--certify", "--out", str(path)]) == 0
    with xarray.open_dataset(path, engine=engine) as dataset:
        assert dataset["solution"].dims == ("x_node", "y_node")
        assert dataset["solution"].shape == (17, 13)
        assert dataset["error_indicator"].shape == (16, 12)
        upper = float(dataset["error_upper"])
        assert math.sqrt(float((dataset["error_indicator"] ** 2).sum())) == pytest.approx(upper, rel=1e-12)
        np.testing.assert_allclose(dataset["y"], (np.arange(12) + 0.5) / 12)
        asked = json.loads(dataset.attrs["asked"])
        assert (asked["command"], asked["coefficient"], asked["certify"]) == ("solve", "1", True)


@pytest.mark.parametrize("ending", ["png", "pdf", "svg"])
def test_pictures(tmp_path, ending):
    path = tmp_path / f"u.{ending}"
    assert run(["solve", *UNIT, "--certify", "--plot", str(path)]) == 0
    content = path.read_bytes()
    assert content.startswith({"png": b"\x89PNG", "pdf": b"%PDF", "svg": b"<?xml"}[ending])
    if ending == "png":
        assert imread(path).std() > 0
    assert [file.name for file in tmp_path.iterdir()] == [path.name]


# --- what it refuses: exit code 2, one sentence, no file ---


@pytest.fixture
def files(tmp_path, monkeypatch):
    """A folder with one file for each way to be wrong, entered."""
    good = np.ones((8, 6))
    bad = {"negative": -good, "zero": np.where(np.eye(8, 6), 0.0, 1.0), "nan": np.where(np.eye(8, 6), np.nan, 1.0)}
    bad |= {"integer": good.astype(int), "boolean": good > 0, "good": good, "nodes": np.ones((9, 7))}
    bad |= {
        "line": np.ones(8),
        "steps": np.tile([1.0, 2.0], (8, 3)),
        "batch": np.ones((2, 3, 4, 5)),
        "two": np.ones((2, 8, 6)),
        "walls": np.ones((8, 6), dtype=bool),
    }
    for name, array in bad.items():
        np.save(tmp_path / f"{name}.npy", array)
    (tmp_path / "cut.npy").write_bytes((tmp_path / "good.npy").read_bytes()[:200])
    np.save(tmp_path / "pickle.npy", np.array([print], dtype=object), allow_pickle=True)
    np.savez(tmp_path / "several.npz", a=good, b=good)
    (tmp_path / "folder").mkdir()
    monkeypatch.chdir(tmp_path)
    return tmp_path


ON_GOOD = "--coefficient good.npy --source 1"
ON_SHAPE = "--coefficient 1 --source 1 --shape 8,8"
REFUSALS = {
    "--coefficient none.npy --source 1": "file",
    "--coefficient folder --source 1": "folder file",
    "--coefficient cut.npy --source 1": "coefficient",
    "--coefficient pickle.npy --source 1": "never",
    "--coefficient several.npz --source 1": "name",
    "--coefficient several.npz:c --source 1": "array 'c' b",
    "--coefficient negative.npy --source 1": "coefficient positive 48 cells",
    "--coefficient zero.npy --source 1": "coefficient positive 6 cells",
    "--coefficient nan.npy --source 1": "coefficient 6 entries NaN infinite index",
    "--coefficient integer.npy --source 1": "coefficient dtype int64",
    "--coefficient boolean.npy --source 1": "coefficient dtype bool",
    "--coefficient batch.npy --source 1": "grid axes",
    "--coefficient good.npy --source 1 --shape 6,8": "coefficient shape (8, 6) cell",
    "--coefficient good.npy --source nodes.npy": "shape field",
    f"{ON_GOOD} --reaction=-1": "reaction negative -1",
    f"{ON_GOOD} --solid good.npy": "solid cells dtype float64 bool",
    f"{ON_GOOD} --solid walls.npy": "cell solid",
    f"{ON_GOOD} --lengths 1,-1": "length axis y -1.0",
    f"{ON_GOOD} --lengths 1,2,3": "lengths 3 entries 2 axes",
    f"{ON_GOOD} --lengths one,two": "number axis 1.5,2",
    f"{ON_GOOD} --origin nan,0": "origin finite",
    "--coefficient two.npy --source 1 --sample 2 --shape 8,6": "2 samples",
    "--coefficient good.npy --source 1 --sample 0": ("axis coefficient shape (8, 6) 8,6 6"),
    "--coefficient two.npy --source two.npy --sample 0": "batch cells axis 2,8,6",
    "--coefficient line.npy --source 1 --sample 0": "batch cells axis 8",
    "--coefficient good.npy": "problem",
    "--coefficient 1 --source 1": "cells axis 64,64",
    "--coefficient 1 --source 1 --shape 1,8": "axis x 1 cell 2",
    "--coefficient 1 --source 1 --shape 8.5,8": "8.5,8",
    "--coefficient 1 --source 1 --shape 4,4,4,4": "4",
    "--coefficient 1 --source 1 --shape 9000000,9000000": "problem",
    "--coefficient inf --source 1 --shape 8,8": "coefficient inf",
    f"{ON_SHAPE} --method gauss": "'multigrid' 'cg' 'algebraic' 'direct'",
    f"{ON_SHAPE} --rtol 0": "0 float64 (2.2e-15)",
    f"{ON_SHAPE} --rtol -1": "-1.0 finite negative",
    f"{ON_SHAPE} --rtol 0.1 --error 0.1": "rtol error",
    f"{ON_SHAPE} --maxiter -3": "-3",
    "--coefficient steps.npy --source good.npy --method transform": "multigrid",
    f"{ON_SHAPE} --error -0.1": "-0.1 positive",
    f"{ON_SHAPE} --boundary x0": "x0 SIDE=KIND:VALUE",
    f"{ON_SHAPE} --boundary x0=dirichlet:0": "condition x1 y0 y1",
    f"{ON_SHAPE} --boundary w0=dirichlet:0": "side 'w0'",
    f"{ON_SHAPE} --boundary z0=neumann:0 --boundary all=neumann:0": "side 'z0' sides grid x0",
    f"{ON_SHAPE} --boundary x0=neumann:0 --boundary x0=neumann:1": "x0 twice",
    f"{ON_SHAPE} --boundary all=cauchy:0": "'cauchy' dirichlet neumann robin",
    f"{ON_SHAPE} --boundary all=dirichlet": "all=dirichlet 0 numbers",
    f"{ON_SHAPE} --boundary all=robin:1:2:3": "3 numbers",
    f"{ON_SHAPE} --boundary all=dirichlet:one": "one number",
    f"{ON_SHAPE} --boundary all=dirichlet:nan": "NaN",
    f"{ON_SHAPE} --boundary all=dirichlet:0 --boundary x0=periodic": "x0 x1 periodic",
    f"{ON_SHAPE} --boundary all=dirichlet:0 --boundary x0=dirichlet:1": "1 sides",
    f"{ON_SHAPE} --boundary all=robin:-1": "x0 negative",
    f"{ON_SHAPE} --boundary all=neumann:0": "source",
    f"{ON_SHAPE} --out none/u.nc": "folder",
    f"{ON_SHAPE} --out folder": "extension",
    f"{ON_SHAPE} --out u.csv": "extension",
    f"{ON_SHAPE} --plot u.gif": "png",
}


@pytest.mark.parametrize("arguments", REFUSALS)
def test_bad_input_is_one_sentence(files, capsys, arguments):
    before = sorted(files.iterdir())
    outputs = [] if "--out" in arguments or "--plot" in arguments else ["--out", "u.nc", "--plot", "u.png"]
    assert run(["solve", *arguments.split(), *outputs]) == 2
    complaint(capsys, REFUSALS[arguments])
    assert sorted(files.iterdir()) == before
