"""Results as VTK images: every number in its place, whoever reads it."""

import re

import numpy as np
import pytest
import torch
import xarray
from refusals import refused

import sciml_bounds as sb
from sciml_bounds import vtk_images

pytestmark = pytest.mark.vtk

GRID = sb.Grid((4, 3), lengths=(2.0, 1.5), origin=(-1.0, 0.25))


@pytest.fixture(scope="module")
def solution() -> sb.Solution:
    """A batch of three coefficients."""
    a = torch.rand(3, 4, 3, generator=torch.Generator().manual_seed(0)).double() + 0.5
    return sb.solve(sb.Diffusion(GRID, a, source=1.0), certify=True)


def reads(path):
    import pyvista

    return pyvista.read(path)


def assert_holds(image, solution: sb.Solution, sample: int) -> None:
    """The image has the fields of one sample at the right points and cells: the nearest ones in space."""
    certificate = solution.certificate
    nodes = np.round((image.points[:, :2] - GRID.origin) / GRID.spacing).astype(int)
    cells = np.round((image.cell_centers().points[:, :2] - GRID.origin) / GRID.spacing - 0.5).astype(int)
    for data, where, fields in (
        (image.point_data, nodes, {"solution": solution.values}),
        (image.cell_data, cells, {"coefficient": solution.coefficient, "error_indicator": certificate.indicators}),
    ):
        assert set(data.keys()) == set(fields)
        for name, field in fields.items():
            assert np.array_equal(data[name], field[sample].numpy()[where[:, 0], where[:, 1]]), name
    assert image.field_data["error_upper"][0] == certificate.upper[sample]


@pytest.mark.parametrize("sample", [0, 2])
def test_one_sample_as_an_image_and_as_a_file(solution, sample, tmp_path):
    assert_holds(solution.to_vtk(sample), solution, sample)
    sb.data.write(solution.to_xarray().isel(sample=sample), tmp_path / "u.vti")
    assert_holds(reads(tmp_path / "u.vti"), solution, sample)


def test_all_samples_as_a_series_that_replaces_a_longer_one(solution, tmp_path):
    sb.data.write(solution.to_xarray().isel(sample=[0, 0, 0, 0]), tmp_path / "u.pvd")
    sb.data.write(solution, tmp_path / "u.pvd")
    assert sorted(path.name for path in (tmp_path / "u").iterdir()) == [f"u_000{i}.vti" for i in range(3)]
    import pyvista

    reader = pyvista.get_reader(tmp_path / "u.pvd")
    assert reader.time_values == [0.0, 1.0, 2.0]
    for sample, time in enumerate(reader.time_values):
        reader.set_active_time_value(time)
        assert_holds(reader.read()[0], solution, sample)


def test_steps_in_time_keep_their_times(tmp_path):
    import pyvista

    steps = [sb.solve(sb.Diffusion(GRID, source=float(f))) for f in (1, 2)]
    frames = xarray.concat([step.to_xarray() for step in steps], "time").assign_coords(time=[0.25, 0.5])
    sb.data.write(frames, tmp_path / "heat.pvd")
    reader = pyvista.get_reader(tmp_path / "heat.pvd")
    assert reader.time_values == [0.25, 0.5]
    reader.set_active_time_value(0.5)
    assert np.array_equal(reader.read()[0].point_data["solution"], steps[1].values.numpy().ravel(order="F"))


def test_certificate(solution, tmp_path):
    certificate = solution.certificate
    image = certificate.to_vtk(1)
    assert np.array_equal(image.point_data["values"], solution.values[1].numpy().ravel(order="F"))
    assert np.isclose((image.cell_data["error_indicator"] ** 2).sum(), float(certificate.upper[1]) ** 2)


@pytest.mark.parametrize("dim", [1, 3])
def test_one_and_three_dimensions(dim):
    solution = sb.solve(sb.Diffusion(sb.Grid((3, 2, 4)[:dim]), source=1.0), certify=True)
    image = solution.to_vtk()
    assert image.dimensions == (4, 3, 5)[:dim] + (1,) * (3 - dim)
    place = np.round(image.points / image.spacing).astype(int)[:, :dim]
    assert np.array_equal(image.point_data["solution"], solution.values.numpy()[tuple(place.T)])


def test_periodic_axis_is_closed():
    sides = {"x0": sb.Periodic(), "x1": sb.Periodic(), "y0": sb.Dirichlet(0.0), "y1": sb.Dirichlet(0.0)}
    solution = sb.solve(sb.Diffusion(GRID, source=lambda x, y: x + y, boundary=sides))
    image = solution.to_vtk()
    values = image.point_data["solution"].reshape(5, 4, order="F")
    assert image.dimensions == (5, 4, 1)
    assert np.array_equal(values[:4], solution.values.numpy())
    assert np.array_equal(values[4], values[0])


def test_components_stay_together():
    field = np.arange(24.0).reshape(4, 3, 2)
    image = vtk_images.sample_image(xarray.Dataset({"k": (("x", "y", "component"), field)}))
    assert np.array_equal(image.cell_data["k"], field.transpose(1, 0, 2).reshape(12, 2))
    assert image.origin == (-0.5, -0.5, 0.0)  # without positions, cells have size 1 and centres 0, 1, ...


@pytest.mark.parametrize(
    ("nouns", "dataset"),
    [
        (
            "'q' axes component",
            xarray.Dataset({"u": (("x", "y"), np.ones((2, 2))), "q": (("x", "w"), np.ones((2, 2)))}),
        ),
        ("positions x equally spaced", xarray.Dataset({"u": ("x", np.ones(3))}, {"x": [0.0, 1.0, 3.0]})),
        ("axes x y_node", xarray.Dataset({"u": ("w", np.ones(3))})),
        ("'u' numbers", xarray.Dataset({"u": ("x", np.array(["a", "b"]))})),
        ("sample time isel", xarray.Dataset({"u": (("sample", "time", "x"), np.ones((2, 2, 2)))})),
        ("2 frames .pvd", xarray.Dataset({"u": (("sample", "x"), np.ones((2, 2)))})),
    ],
)
def test_refusals(nouns, dataset, tmp_path):
    refused(nouns, sb.data.write, dataset, tmp_path / "u.vti")


def test_refused_files_and_options(solution, tmp_path):
    refused("sample 3 samples", solution.to_vtk, 3)
    refused("flux .nc", sb.data.write, solution, tmp_path / "u.pvd", flux=True)
    (tmp_path / "u.vti").write_text("mine")
    refused("u.vti VTK", sb.data.write, solution, tmp_path / "u.vti")
    (tmp_path / "u").write_text("mine")
    refused("folder u.pvd", sb.data.write, solution, tmp_path / "u.pvd")
    assert re.fullmatch("mine", (tmp_path / "u.vti").read_text())
