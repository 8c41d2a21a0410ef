"""Own arrays become a data set like any other: the numbers, the places on the grid, the certified labels."""

from __future__ import annotations

import json
from pathlib import Path

import h5py
import numpy as np
import pytest
import torch
from refusals import refusals, refused

import sciml_bounds as sb
from sciml_bounds.recipes.generation import make_dataset

RNG = np.random.default_rng(0)
COEFFICIENT = RNG.uniform(1, 4, (12, 6, 5))
GRID = sb.Grid((6, 5), lengths=(1.0, 2.0))
PROBLEM = sb.Diffusion(GRID, source=1.0)
SOLUTION = sb.solve(PROBLEM.replace(coefficient=COEFFICIENT)).values.numpy()
ARRAYS = {"coefficient": COEFFICIENT, "solution": SOLUTION}


def made(folder: Path, arrays=ARRAYS, **options):
    return sb.data.from_arrays(arrays, folder / "own.nc", **options)


def test_numbers_places_and_splits(tmp_path):
    with sb.open_dataset(made(tmp_path, grid=GRID)) as data:
        np.testing.assert_array_equal(data["coefficient"], COEFFICIENT)
        np.testing.assert_array_equal(data["solution"], SOLUTION)
        assert data["coefficient"].dims == ("sample", "x", "y")
        assert data["solution"].dims == ("sample", "x_node", "y_node")
        np.testing.assert_allclose(data["y_node"], np.linspace(0, 2, 6))
        assert data["split"].values.tolist() == [0] * 8 + [1, 2, 0, 0]
        assert data.attrs["layout"] == "cells->nodes"
        assert "coefficient with one value per cell (6 x 5)" in data.attrs["description"]
        assert "label_error" not in data
        assert data["solution"].dtype == np.float64


@pytest.mark.parametrize("kind", ["npy", "npz", "h5", "pt", "fortran", "channel"])
def test_every_kind_of_file_gives_the_same_arrays(tmp_path, kind):
    a, u = COEFFICIENT.astype(np.float32), SOLUTION.astype(np.float32)
    if kind in ("npy", "fortran", "channel"):
        np.save(
            tmp_path / "a.npy", np.asfortranarray(a) if kind == "fortran" else a[:, None] if kind == "channel" else a
        )
        np.save(tmp_path / "u.npy", u)
        files = {"coefficient": tmp_path / "a.npy", "solution": f"{tmp_path}/u.npy"}
    else:
        file = tmp_path / f"d.{kind}"
        if kind == "npz":
            np.savez_compressed(file, a=a, u=u)
        elif kind == "pt":
            torch.save({"a": torch.from_numpy(a), "u": torch.from_numpy(u)}, file)
        else:
            with h5py.File(file, "w") as group:
                group["a"], group["u"] = a, u
        files = {"coefficient": f"{file}:a", "solution": f"{file}:u"}
    with sb.open_dataset(made(tmp_path, files)) as data:
        np.testing.assert_array_equal(data["coefficient"], a)
        np.testing.assert_array_equal(data["solution"], u)
        assert set(json.loads(data.attrs["parameters"])["files"]) == {"coefficient", "solution"}


def test_a_pickle_is_not_executed(tmp_path):
    class Bomb:
        def __reduce__(self):
            return (Path.touch, (tmp_path / "exploded",))

    torch.save({"u": Bomb()}, tmp_path / "u.pt")
    np.save(tmp_path / "u.npy", np.array([Bomb()], dtype=object), allow_pickle=True)
    for name in ("u.pt:u", "u.npy"):
        refused("solution", made, tmp_path, {"solution": f"{tmp_path}/{name}"})
    assert not (tmp_path / "exploded").exists()


def test_labels_are_certified_on_request(tmp_path):
    """The bound is above the error against a grid 16 times finer, and larger for a wrong label."""
    wrong = SOLUTION.copy()
    wrong[3] *= 3.0
    path = made(tmp_path, {**ARRAYS, "solution": wrong}, problem=PROBLEM, certify=True)
    errors = sb.TorchDataset(path, "all", dtype=torch.float64).label_error
    for sample in (0, 3):
        problem = PROBLEM.replace(coefficient=COEFFICIENT[sample])
        fine = sb.Diffusion(GRID.refine(16), coefficient=np.kron(COEFFICIENT[sample], np.ones((16, 16))), source=1.0)
        truth = sb.solve(fine, method="direct").values
        coarse = sb.certify(fine, torch.from_numpy(wrong[sample]), layout="coarse")
        assert float(coarse.lower) <= float(errors[sample]) * float(sb.certify(fine, truth).energy)
        assert float(errors[sample]) == pytest.approx(
            float(sb.certify(problem, wrong[sample]).relative_upper), rel=1e-2
        )
    assert errors[3] > 1.0 > errors[0] > 0


def test_arrays_in_memory_give_the_data_set_of_a_recipe(tmp_path):
    """The same samples by `make_dataset` and by `from_arrays` give the same pairs of tensors."""
    make_dataset("darcy-rough", tmp_path / "recipe.nc", samples=10, resolution=12)
    with sb.open_dataset(tmp_path / "recipe.nc") as data:
        arrays = {name: torch.from_numpy(data[name].values) for name in ("coefficient", "solution")}
    own = sb.TorchDataset(made(tmp_path, arrays), "all")
    for (x, y), (a, b) in zip(own, sb.TorchDataset(tmp_path / "recipe.nc", "all"), strict=True):
        assert torch.equal(x, a)
        assert torch.equal(y, b)


def test_it_trains_and_evaluates(tmp_path):
    train, test = (
        sb.TorchDataset(made(tmp_path) if s == "train" else tmp_path / "own.nc", s) for s in ("train", "test")
    )
    net = sb.MgNO(channels=2, layers=1, levels=2)
    assert len(sb.train(net, train, None, epochs=1).history) == 1
    assert sb.training.evaluate(net, test, ["l2"]).values["l2"].shape == (1,)


def test_nodes_of_a_periodic_box_are_points(tmp_path):
    periodic = sb.Diffusion(
        sb.Grid((6, 6)), reaction=1.0, boundary=dict.fromkeys(("x0", "x1", "y0", "y1"), sb.Periodic())
    )
    source = RNG.standard_normal((10, 6, 6))
    u = sb.solve(periodic.replace(source=source)).values
    path = made(tmp_path, {"source": source, "solution": u}, problem=periodic, certify=True)
    with sb.open_dataset(path) as data:
        assert data["source"].dims == ("sample", "x", "y")
        assert data["solution"].dims == ("sample", "x_point", "y_point")
    x, y = sb.TorchDataset(path, "all", subsample=2, dtype=torch.float64)[0]
    np.testing.assert_allclose(x[0], source[0].reshape(3, 2, 3, 2).mean((1, 3)))
    np.testing.assert_array_equal(y[0], u[0, ::2, ::2])


def test_the_problem_is_recorded(tmp_path):
    path = made(tmp_path, problem=PROBLEM)
    record = sb.TorchDataset(path, "all").parameters["problem"]
    assert (record["source"], record["lengths"], record["varies"]) == (1.0, [1.0, 2.0], [])
    assert "coefficient" not in record


def test_what_is_assumed_is_logged(tmp_path, caplog):
    with caplog.at_level("INFO", "sciml_bounds"):
        made(tmp_path)
    assert "coefficient: one value per cell (6 x 5); solution: one value per node (7 x 6)" in caplog.text


def test_progress_is_reported(tmp_path):
    told = []
    made(tmp_path, callback=lambda *progress: told.append(progress))
    assert told[-1] == (12, 12)


def with_nan():
    values = SOLUTION.copy()
    values[7, 2, 2] = np.nan
    return {**ARRAYS, "solution": values}


test_refusals = refusals(
    ("arrays mapping", lambda tmp_path: made(tmp_path, COEFFICIENT)),
    ("arrays mapping coefficient", lambda tmp_path: made(tmp_path, {})),
    ("label_error named", lambda tmp_path: made(tmp_path, {"label_error": SOLUTION})),
    ("x_node named", lambda tmp_path: made(tmp_path, {"x_node": SOLUTION})),
    ("solution targets coefficient", lambda tmp_path: made(tmp_path, {"coefficient": COEFFICIENT}, grid=GRID)),
    ("targets u", lambda tmp_path: made(tmp_path, targets=["u"])),
    ("inputs at least one", lambda tmp_path: made(tmp_path, {"solution": SOLUTION}, grid=GRID)),
    ("shape cell node grid --shape (6, 5) (5, 4)",
     lambda tmp_path: made(tmp_path, {"coefficient": COEFFICIENT, "solution": COEFFICIENT})),
    ("solution (5, 6) cells nodes",
     lambda tmp_path: made(tmp_path, {**ARRAYS, "solution": SOLUTION[:, :-2]}, grid=GRID)),
    ("grid problem", lambda tmp_path: made(tmp_path, problem=PROBLEM, grid=sb.Grid((6, 5)))),
    ("numbers of samples coefficient 11 solution 12",
     lambda tmp_path: made(tmp_path, {**ARRAYS, "coefficient": COEFFICIENT[1:]})),
    ("sample 7 solution NaN", lambda tmp_path: made(tmp_path, with_nan())),
    ("components separate", lambda tmp_path: made(tmp_path, {"solution": np.ones((3, 2, 4, 4, 4))})),
    ("complex128 float64", lambda tmp_path: made(tmp_path, {"solution": SOLUTION * 1j})),
    ("coefficient node problem",
     lambda tmp_path: made(tmp_path, {**ARRAYS, "coefficient": SOLUTION + 1}, problem=PROBLEM)),
    ("certified problem=", lambda tmp_path: made(tmp_path, certify=True)),
    ("Diffusion str", lambda tmp_path: made(tmp_path, problem="darcy")),
    ("coefficient positive", lambda tmp_path: made(
        tmp_path, {**ARRAYS, "coefficient": -COEFFICIENT}, problem=PROBLEM, certify=True)),
    ("none.npy exist", lambda tmp_path: made(tmp_path, {"solution": "none.npy"})),
)  # fmt: skip


def test_nothing_is_left_after_a_refusal(tmp_path):
    refused("sample 7", made, tmp_path, with_nan())
    assert list(tmp_path.iterdir()) == []


def test_messages_about_other_files_name_it(tmp_path):
    with h5py.File(tmp_path / "mine.h5", "w") as file:
        file["a"], file["b"] = COEFFICIENT, SOLUTION
    refused("from_arrays --arrays", sb.TorchDataset, tmp_path / "mine.h5")
    refused("from_arrays --arrays", sb.data.import_dataset, tmp_path / "mine.h5", tmp_path / "out.nc")
    sb.data.write(sb.solve(PROBLEM), tmp_path / "u.nc")
    refused("from_arrays Solution", sb.TorchDataset, tmp_path / "u.nc")
