"""Our exports in The Well's own package, beside what ours says about them.

The package pins a version of fsspec that others do not accept, so it has an environment of its own: `make test-peers`.
"""

from __future__ import annotations

from pathlib import Path

import h5py
import numpy as np
import pytest
import torch
import xarray
from small_datasets import diffusion, vorticity
from torch.utils.data import DataLoader

from sciml_bounds.store.formats.the_well import export_the_well

data = pytest.importorskip("the_well.data", reason="the package the-well is not installed here: make test-peers")
normalization = pytest.importorskip("the_well.data.normalization", reason="the package the-well is not installed here")


@pytest.fixture(scope="module")
def darcy(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("darcy")
    diffusion(folder / "d.nc", count=20)
    return export_the_well(folder / "d.nc", folder / "well")


@pytest.fixture(scope="module")
def flow(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("flow")
    vorticity(folder / "v.nc", count=20)
    return export_the_well(folder / "v.nc", folder / "well")


def load(folder: Path, split: str, **options: object) -> torch.utils.data.Dataset:
    return data.WellDataset(path=str(folder), well_split_name=split, **options)


@pytest.mark.parametrize(("split", "samples"), [("train", [0, 1, 2]), ("valid", [8, 18]), ("test", [9, 19])])
def test_a_steady_problem_loads_with_its_coefficient_as_a_constant_field(darcy, split, samples):
    loaded = load(darcy, split, n_steps_input=0, n_steps_output=1)
    with h5py.File(darcy.parent / "d.nc") as ours:
        for place, sample in enumerate(samples):
            item = loaded[place]
            np.testing.assert_array_equal(item["constant_fields"][..., 0], ours["coefficient"][sample])
            x, y = ours["x"][:], ours["y"][:]
            exact = (1 + sample) * np.outer(1 + x, 1 + y)
            np.testing.assert_allclose(item["output_fields"][0, ..., 0], exact, rtol=1e-6)
            np.testing.assert_allclose(item["space_grid"][:, 0, 0], x, rtol=1e-6)
            assert item["boundary_conditions"].tolist() == [[0, 0], [0, 0]]  # walls
            assert item["constant_scalars"].tolist() == [2.0]  # the source
    assert loaded.metadata.spatial_resolution == (8, 6)


def test_trajectories_load_in_windows(flow):
    loaded = load(flow, "train", n_steps_input=2, n_steps_output=1)
    assert len(loaded) == 16 * 3
    with h5py.File(flow.parent / "v.nc") as ours:
        item = loaded[1]
        np.testing.assert_array_equal(item["input_fields"][..., 0], ours["vorticity"][0, 1:3])
        np.testing.assert_array_equal(item["output_fields"][..., 0], ours["vorticity"][0, 3:4])
    assert item["boundary_conditions"].tolist() == [[2, 2], [2, 2]]  # periodic
    assert item["constant_scalars"].tolist() == [pytest.approx(1e-3)]


@pytest.mark.parametrize("name", ["ZScoreNormalization", "RMSNormalization"])
@pytest.mark.parametrize(
    ("made", "steps", "kinds"),
    [
        ("darcy", 0, ["constant_fields"]),
        ("darcy", 0, ["output_fields"]),
        ("flow", 4, ["input_fields", "output_fields"]),
    ],
    ids=["coefficient", "solution", "vorticity"],
)
def test_the_statistics_normalise(request, name, made, steps, kinds):
    rule = {"use_normalization": True, "normalization_type": getattr(normalization, name)}
    loaded = load(request.getfixturevalue(made), "train", n_steps_input=steps, n_steps_output=1, **rule)
    items = [loaded[place] for place in range(len(loaded))]
    numbers = torch.cat([item[kind].flatten() for item in items for kind in kinds]).double()
    assert float((numbers**2).mean()) == pytest.approx(1, rel=1e-4)
    if name == "ZScoreNormalization":
        assert float(numbers.mean()) == pytest.approx(0, abs=1e-4)


def test_a_loader_collates(flow):
    loader = DataLoader(load(flow, "train", n_steps_input=1, n_steps_output=1), batch_size=4, shuffle=True)
    assert next(iter(loader))["input_fields"].shape == (4, 1, 8, 8, 1)


@pytest.mark.filterwarnings("ignore::FutureWarning")
def test_the_loader_and_xarray_agree(flow):
    labelled = load(flow, "test", n_steps_input=1, n_steps_output=1).to_xarray("numpy")
    (path,) = (flow / "data" / "test").iterdir()
    with xarray.open_dataset(path, engine="h5netcdf", group="t0_fields") as ours:
        np.testing.assert_array_equal(np.squeeze(labelled["vorticity"].values), np.squeeze(ours["vorticity"].values))
