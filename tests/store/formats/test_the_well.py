from __future__ import annotations

import signal
import subprocess
import sys
from pathlib import Path

import h5py
import numpy as np
import pytest
import xarray
from file_limits import files_limited
from refusals import refused, refused_without_a_trace
from small_datasets import diffusion, vorticity, write_dataset

from sciml_bounds.store.formats.the_well import export_the_well


def exported(folder: Path, split: str) -> h5py.File:
    (file,) = (folder / "data" / split).iterdir()
    return h5py.File(file)


def statistics(folder: Path) -> dict[str, dict[str, float]]:
    """Read stats.yaml, of which no more than two levels are used."""
    table, kind = {}, ""
    for line in (folder / "stats.yaml").read_text().splitlines():
        key, _, value = line.partition(":")
        if line.startswith(" "):
            table[kind][key.strip().strip('"')] = float(value)
        else:
            kind = key
            table[kind] = {}
    return table


def fields(path: Path, *, first: int = 0, recipe: str = "test", parameters: dict | None = None, **variables) -> Path:
    """Write variables, the first of which is the input and the last the target."""
    names = list(variables)
    about = {"inputs": (names[0],), "targets": (names[-1],), "layout": "same", "parameters": parameters or {}}
    return write_dataset(path, variables, {}, first=first, recipe=recipe, **about)


def test_every_sample_is_in_the_file_of_its_split(tmp_path):
    diffusion(tmp_path / "d.nc", count=21)
    folder = export_the_well(tmp_path / "d.nc", tmp_path / "out")
    with h5py.File(tmp_path / "d.nc") as ours:
        coefficient, errors = ours["coefficient"][:], ours["label_error"][:]
    seen = []
    for split, digits in (("train", {0, 1, 2, 3, 4, 5, 6, 7}), ("valid", {8}), ("test", {9})):
        with exported(folder, split) as file:
            samples = file["sciml_bounds/sample"][:]
            assert set(samples % 10) == digits
            assert file.attrs["n_trajectories"] == len(samples)
            np.testing.assert_array_equal(file["t0_fields/coefficient"][:], coefficient[samples])
            np.testing.assert_array_equal(file["sciml_bounds/label_error"][:], errors[samples])
            seen += samples.tolist()
    assert sorted(seen) == list(range(21))


@pytest.mark.parametrize("cells", [(8, 6), (4, 5, 3)])
def test_a_multilinear_solution_is_met_exactly_at_the_centres(tmp_path, cells):
    diffusion(tmp_path / "d.nc", cells=cells)
    folder = export_the_well(tmp_path / "d.nc", tmp_path / "out")
    with exported(folder, "train") as file:
        centres = [(np.arange(n) + 0.5) / n for n in cells]
        product = np.prod(np.meshgrid(*(1 + points for points in centres), indexing="ij"), axis=0)
        factors = 1 + file["sciml_bounds/sample"][:].reshape(-1, *(1,) * len(cells))
        solution = file["t0_fields/solution"][:]
        assert (solution.dtype, solution.shape[1]) == (np.float32, 1)
        np.testing.assert_allclose(solution[:, 0], factors * product, rtol=1e-6)
        nodal = file["sciml_bounds/solution"]
        assert nodal.dtype == np.float64
        assert nodal.shape[1:] == tuple(n + 1 for n in cells)
        for axis, points in zip("xyz", centres):
            np.testing.assert_allclose(file["dimensions"][axis][:], points, rtol=1e-6)


def test_steady_inputs_are_constant_fields_and_targets_have_one_frame(tmp_path):
    diffusion(tmp_path / "d.nc")
    with exported(export_the_well(tmp_path / "d.nc", tmp_path / "out"), "train") as file:
        fields = file["t0_fields"]
        assert fields["coefficient"].attrs["time_varying"] == np.False_
        assert fields["solution"].attrs["time_varying"] == np.True_
        assert file["dimensions/time"].shape == (1,)
        assert list(file["boundary_conditions"]) == ["x_wall", "y_wall"]
        assert file["boundary_conditions/x_wall"].attrs["stated"] == '"dirichlet"'
        assert list(file.attrs["simulation_parameters"]) == ["source"]
        assert file["scalars/source"][()] == 2.0


def test_trajectories_keep_their_frames_and_times(tmp_path):
    vorticity(tmp_path / "v.nc")
    folder = export_the_well(tmp_path / "v.nc", tmp_path / "out")
    with exported(folder, "test") as file, h5py.File(tmp_path / "v.nc") as ours:
        np.testing.assert_array_equal(file["t0_fields/vorticity"][0], ours["vorticity"][9])
        np.testing.assert_array_equal(file["dimensions/time"][:], ours["time"][:].astype("f4"))
        assert {group.attrs["bc_type"] for group in file["boundary_conditions"].values()} == {"PERIODIC"}
        assert "sciml_bounds/vorticity" not in file  # nothing was averaged, so nothing is kept twice


def test_statistics_are_those_of_the_training_samples(tmp_path):
    vorticity(tmp_path / "v.nc", count=20)
    table = statistics(export_the_well(tmp_path / "v.nc", tmp_path / "out"))
    with h5py.File(tmp_path / "v.nc") as ours:
        train = ours["vorticity"][:][np.arange(20) % 10 < 8].astype(np.float64)
    for suffix, values in (("", train), ("_delta", np.diff(train, axis=1))):
        assert table[f"mean{suffix}"]["vorticity"] == pytest.approx(values.mean(), rel=1e-12, abs=1e-12)
        assert table[f"std{suffix}"]["vorticity"] == pytest.approx(values.std(), rel=1e-12)
        assert table[f"rms{suffix}"]["vorticity"] == pytest.approx(np.sqrt((values**2).mean()), rel=1e-12)


def test_statistics_of_a_small_deviation_from_a_large_mean(tmp_path):
    values = 1e6 + np.random.default_rng(0).standard_normal((10, 8, 8)).round(1).astype(np.float32)
    fields(tmp_path / "d.nc", a=(("x", "y"), values))
    table = statistics(export_the_well(tmp_path / "d.nc", tmp_path / "out"))
    assert table["std"]["a"] == pytest.approx(values[:8].astype(np.float64).std(), rel=1e-9)


def test_fields_at_nodes_alone_stay_there(tmp_path):
    values = np.random.default_rng(0).standard_normal((10, 5, 5)).astype(np.float32)
    dims = ("x_node", "y_node")
    about = {"inputs": ("wave_speed",), "targets": ("solution",), "layout": "nodes->nodes"}
    write_dataset(tmp_path / "d.nc", {"wave_speed": (dims, values), "solution": (dims, 2 * values)}, {}, **about)
    with exported(export_the_well(tmp_path / "d.nc", tmp_path / "out"), "valid") as file:
        np.testing.assert_array_equal(file["t0_fields/solution"][0, 0], 2 * values[8])
        assert list(file["dimensions"].attrs["spatial_dims"]) == ["x", "y"]


def test_a_split_without_samples_has_no_folder(tmp_path):
    diffusion(tmp_path / "d.nc", count=9)
    folder = export_the_well(tmp_path / "d.nc", tmp_path / "out")
    assert sorted(path.name for path in (folder / "data").iterdir()) == ["train", "valid"]


@pytest.mark.parametrize("engine", ["h5netcdf", "netcdf4"])
@pytest.mark.parametrize("make", [diffusion, vorticity])
def test_xarray_opens_every_group_with_labels(tmp_path, engine, make):
    if engine == "netcdf4":
        pytest.importorskip("netCDF4")
    make(tmp_path / "d.nc")
    folder = export_the_well(tmp_path / "d.nc", tmp_path / "out")
    (path,) = (folder / "data" / "train").iterdir()
    with xarray.open_datatree(path, engine=engine) as tree:
        fields = tree["t0_fields"]
        assert not [dim for dim in fields.dims if dim.startswith("phony")]
        assert {"trajectory", "time", "x", "y"} <= set(fields.coords)
        assert all(np.isfinite(fields[name].values).all() for name in fields.data_vars)
        assert tree["sciml_bounds"]["sample"].values.tolist()[:3] == [0, 1, 2]


def export_refused(folder: Path, words: str) -> None:
    refused_without_a_trace(folder, words, export_the_well, folder / "d.nc", folder / "out")


def test_an_existing_folder_is_never_overwritten(tmp_path):
    diffusion(tmp_path / "d.nc")
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "precious").write_text("work")
    export_refused(tmp_path, "exists name")


def with_nan(shape: tuple[int, ...]) -> np.ndarray:
    values = np.ones(shape, np.float32)
    values[7, 1, 2] = np.nan
    return values


ONES = np.ones((10, 4, 4), np.float32)


@pytest.mark.parametrize(
    ("words", "variables"),
    [
        ("sample 7 'b' finite", {"a": (("x", "y"), ONES), "b": (("x", "y"), with_nan(ONES.shape))}),
        ("sample 0 'a' finite float32", {"a": (("x", "y"), np.full(ONES.shape, 1e300))}),
        ("grid", {"a": (("x", "y"), ONES), "b": (("r", "y"), np.ones((10, 6, 4)))}),
        ("steady target", {"a": (("time", "x"), ONES), "b": (("x",), ONES[:, 0])}),
        ("training sample", {"a": (("x",), ONES[0, :2]), "first": 8}),
        ("recipe name '../../../evil'", {"a": (("x",), ONES[0]), "recipe": "../../../evil"}),
        ("axis name 'trajectory'", {"a": (("trajectory",), ONES[0])}),
        ("variable name 'a b'", {"a b": (("x",), ONES[0])}),
    ],
)
def test_data_sets_that_cannot_be_exported(tmp_path, words, variables):
    fields(tmp_path / "d.nc", **variables)
    export_refused(tmp_path, words)


@pytest.mark.parametrize(
    ("parameters", "kind"),
    [({}, "OPEN"), ({"boundary": "periodic"}, "PERIODIC"), ({"equation": "u = 0 on the boundary"}, "WALL")],
    ids=["nothing", "periodic", "equation"],
)
def test_the_boundary_of_imported_data_is_what_is_stated(tmp_path, parameters, kind):
    fields(tmp_path / "d.nc", recipe="imported", parameters=parameters, a=(("x",), np.ones((2, 4))))
    with exported(export_the_well(tmp_path / "d.nc", tmp_path / "out"), "train") as file:
        assert [group.attrs["bc_type"] for group in file["boundary_conditions"].values()] == [kind]


def test_a_damaged_data_set(tmp_path):
    diffusion(tmp_path / "d.nc")
    with h5py.File(tmp_path / "d.nc", "r+") as file:
        file["coefficient"][3, 2, 1] += 1
    export_refused(tmp_path, "checksum")


def test_a_file_of_somebody_else(tmp_path):
    with h5py.File(tmp_path / "d.nc", "w") as file:
        file["a"] = np.ones(3)
    export_refused(tmp_path, "package")


def test_no_folder_to_put_it_in(tmp_path):
    diffusion(tmp_path / "d.nc")
    refused("folder", export_the_well, tmp_path / "d.nc", tmp_path / "none" / "out")


def test_an_interruption_leaves_nothing(tmp_path):
    diffusion(tmp_path / "d.nc")

    def interrupt(done: int, count: int) -> None:
        if done == 5:
            signal.raise_signal(signal.SIGINT)

    with pytest.raises(KeyboardInterrupt):
        export_the_well(tmp_path / "d.nc", tmp_path / "out", callback=interrupt)
    assert [path.name for path in tmp_path.iterdir()] == ["d.nc"]


def test_a_killed_process_leaves_no_folder_and_the_next_one_clears_up(tmp_path):
    diffusion(tmp_path / "d.nc")
    code = (
        "import os, signal, sys; from sciml_bounds.store.formats.the_well import export_the_well\n"
        "def kill(done, count): done < 5 or os.kill(os.getpid(), signal.SIGKILL)\n"
        "export_the_well(sys.argv[1] + '/d.nc', sys.argv[1] + '/out', callback=kill)"
    )
    killed = subprocess.run([sys.executable, "-c", code, str(tmp_path)], check=False)
    assert killed.returncode == -signal.SIGKILL
    assert not (tmp_path / "out").exists()
    export_the_well(tmp_path / "d.nc", tmp_path / "out")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["d.nc", "out"]


def test_a_full_disk(tmp_path):
    fields(tmp_path / "d.nc", a=(("x", "y"), np.random.default_rng(0).standard_normal((10, 64, 64))))
    with files_limited(50_000):
        export_refused(tmp_path, "File space")


def test_progress_is_told(tmp_path):
    diffusion(tmp_path / "d.nc")
    told = []
    export_the_well(tmp_path / "d.nc", tmp_path / "out", callback=lambda *progress: told.append(progress))
    assert told == [(done, 12) for done in range(1, 13)]
