"""Result records: printed form, data sets, figures, and derived quantities."""

import copy
import dataclasses
import math
import pickle
import re
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
import xarray

import sciml_bounds as sb
from sciml_bounds.results import Interval

INF, NAN = math.inf, math.nan
GRID = sb.Grid((2, 3), lengths=(1.0, 3.0), origin=(0.0, -1.0))


def double(value: Any) -> torch.Tensor:
    return torch.as_tensor(value, dtype=torch.float64)


def certificate_of(upper: Any = 1 / 3, energy: Any = 4 / 3, **changes: Any) -> sb.Certificate:
    """A certificate of made-up numbers."""
    upper, energy = double(upper), double(energy)
    batch = upper.shape
    fields = {
        "upper": upper,
        "lower": upper / 2,
        "energy": energy,
        "indicators": torch.ones(*batch, 2, 3).double(),
        "boundary_part": torch.zeros(batch).double(),
        "boundary_gap": torch.zeros(batch).double(),
        "terms": {},
        "flux": (),
        "values": torch.zeros(*batch, 3, 4).double(),
        "layout": "nodes",
        "grid": GRID,
        "seconds": 1.0,
    }
    return sb.Certificate(**(fields | changes))


def linear_of(**changes: Any) -> sb.results.LinearSolution:
    """A linear solution of made-up numbers."""
    fields = {
        "x": torch.zeros(12),
        "converged": torch.tensor(True),
        "reason": sb.results.Reason.CONVERGED,
        "iterations": torch.tensor(12345),
        "residual_norms": double([1.0, 2e-9]),
        "residual_norm": double(2e-9),
        "tolerance": double(1e-8),
        "method": "magic",
    }
    return sb.results.LinearSolution(**(fields | changes))


def solution_of(certificate: sb.Certificate | None = None, **changes: Any) -> sb.Solution:
    """A solution of made-up numbers."""
    fields = {
        "values": torch.zeros(3, 4),
        "converged": torch.tensor(True),
        "reason": sb.results.Reason.ERROR_REACHED,
        "linear": linear_of(),
        "grid": GRID,
        "coefficient": torch.ones(2, 3),
        "certificate": certificate,
        "seconds": 0.12345,
    }
    return sb.Solution(**(fields | changes))


@pytest.fixture(scope="module")
def batch() -> sb.Solution:
    """A certified solution with batch (2, 3), one coefficient for each of the three, periodic along x."""
    sides = {"x0": sb.Periodic(), "x1": sb.Periodic(), "y0": sb.Dirichlet(0.0), "y1": sb.Neumann(1.0)}
    coefficient = torch.tensor([1.0, 2.0, 5.0]).double().view(3, 1, 1).expand(3, 4, 3)
    source = torch.tensor([1.0, -1.0]).double().view(2, 1, 1, 1).expand(2, 1, 4, 3)
    grid = sb.Grid((4, 3), lengths=(2.0, 1.0), origin=(-1.0, 5.0))
    return sb.solve(sb.Diffusion(grid, coefficient, source, boundary=sides), certify=True)


# --- printing ---------------------------------------------------------------------------------------------------------


def test_a_linear_solution_prints_as_a_table():
    assert str(linear_of()) == (
        "LinearSolution\n"
        "  method      magic\n"
        "  unknowns    12\n"
        "  reason      converged\n"
        "  iterations  12345\n"
        "  residual    2e-09 (tolerance 1e-08)"
    )


@pytest.mark.parametrize(("kind", "sign"), [("bound", "<="), ("estimate", "about")])
def test_an_estimate_is_not_printed_as_a_bound(kind, sign):
    row = str(linear_of(error_upper=double(1 / 3), error_upper_kind=kind)).splitlines()[-1]
    assert row == f"  A-norm error ({kind})  {sign} 0.3334"


def test_a_solution_prints_as_a_table():
    assert str(solution_of()) == (
        "Solution\n"
        "  values      (3, 4) float32\n"
        "  method      magic\n"
        "  reason      error bound reached\n"
        "  iterations  12345\n"
        "  residual    2e-09\n"
        "  seconds     0.123"
    )
    assert str(solution_of(certificate_of())).splitlines()[-2:] == [
        "  energy error (bound)  0.1666 <= error <= 0.3334",
        "  relative (bound)      <= 0.3334",
    ]


def test_a_certificate_prints_as_a_table():
    assert str(certificate_of()) == (
        "Certificate\n"
        "  certified     multilinear interpolant of nodal values, (3, 4) float64\n"
        "  energy error  0.1666 <= error <= 0.3334  (bound)\n"
        "  relative      <= 0.3334"
    )
    wrong = certificate_of(boundary_part=double(0.25), boundary_gap=double(0.5), layout="cells")
    assert "cell values averaged to nodes" in str(wrong).splitlines()[1]
    assert str(wrong).splitlines()[-1] == "  boundary values  off by up to 0.5; part of the bound: 0.25"


def test_a_batch_prints_its_range():
    certificate = certificate_of([1 / 3, 2.0], [4 / 3, 1.0])
    assert "0.1666 ... 1 <= error <= 0.3334 ... 2  (bound)" in str(certificate)
    assert "<= 0.3334 ... inf" in str(certificate)
    mixed = solution_of(reason=(sb.results.Reason.CONVERGED, sb.results.Reason.MAXITER, sb.results.Reason.CONVERGED))
    assert "2 x converged, 1 x maxiter reached" in str(mixed)


def test_an_interval_prints_with_its_ends_rounded_outwards():
    third = double(1 / 3)
    assert str(Interval(third, third)) == repr(Interval(third, third)) == "[0.333333, 0.333334]"
    assert str(Interval(-third, third)) == "[-0.333334, 0.333334]"
    assert str(Interval(double([0.0, 1.0]), double([2.0, INF]))) == "[0 ... 1, 2 ... inf]"
    lower, upper = Interval(double(1.0), double(2.0))
    assert (lower.item(), upper.item()) == (1.0, 2.0)


# --- derived numbers --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("upper", "energy", "relative"),
    [
        (1.0, 3.0, 0.5),
        (0.0, 1.0, 0.0),
        (2.0, 2.0, INF),  # the exact solution may be zero
        (3.0, 2.0, INF),
        (0.0, 0.0, INF),
        (INF, 1.0, INF),
        (INF, INF, INF),
        (NAN, 1.0, INF),
        (1.0, NAN, INF),
    ],
)
def test_relative_bound(upper, energy, relative):
    """From | |||u||| - |||v||| | <= |||u - v|||, and never a number where nothing is known."""
    assert certificate_of(upper, energy).relative_upper.item() == relative


def test_relative_bounds_of_a_batch_and_their_gradients():
    upper = double([1.0, 3.0]).requires_grad_()
    certificate = certificate_of(upper, [3.0, 3.0])
    assert certificate.relative_upper.tolist() == [0.5, INF]
    (gradient,) = torch.autograd.grad(certificate.relative_upper[0], upper)
    assert gradient.tolist() == [0.75, 0.0]  # energy / (energy - upper)^2, and no NaN from the sample beside it


def test_costly_parts_are_computed_on_first_use_and_once():
    calls = []

    def counted(name: str, result: Any) -> Any:
        return lambda *arguments: (calls.append((name, *arguments)), result)[1]

    mesh, model = Interval(double(1.0), double(2.0)), Interval(double(3.0), double(4.0))
    details = SimpleNamespace(
        mesh_and_model=counted("parts", (mesh, model)), l2_upper=counted("l2", double(0.5)), goal=counted("goal", mesh)
    )
    certificate = certificate_of(_details=details)
    str(certificate), certificate.to_xarray(), certificate.relative_upper
    assert calls == []
    assert certificate.model is model
    assert certificate.mesh is certificate.mesh is mesh
    assert certificate.l2_upper.item() == certificate.l2_upper.item() == 0.5
    assert calls == [("parts",), ("l2",)]
    functional = sb.Mean()
    assert certificate.goal(functional) is mesh
    assert calls[-1] == ("goal", functional)


def test_a_solution_tells_what_its_linear_solve_did():
    solution = solution_of()
    for name in ("iterations", "residual_norms", "residual_norm", "tolerance", "method"):
        assert getattr(solution, name) is getattr(solution.linear, name)


# --- records ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("result", [linear_of(), solution_of(certificate_of()), certificate_of()], ids=type)
def test_results_are_frozen_and_are_themselves_only(result):
    first = dataclasses.fields(result)[0].name
    with pytest.raises(dataclasses.FrozenInstanceError):
        setattr(result, first, None)
    other = dataclasses.replace(result)
    assert result == result
    assert result != other  # comparing tensors entry by entry has no single answer
    assert len({result, other}) == 2


def test_results_are_pickled_with_their_numbers(batch):
    certificate = batch.certificate
    l2_upper = certificate.l2_upper
    restored = pickle.loads(pickle.dumps(batch))
    assert str(restored) == str(batch)
    assert torch.equal(restored.values, batch.values)
    assert torch.equal(restored.residual_norms, batch.residual_norms)
    assert restored.reason == batch.reason
    for name in ("upper", "lower", "energy", "indicators", "relative_upper"):
        assert torch.equal(getattr(restored.certificate, name), getattr(certificate, name))
    assert torch.equal(restored.certificate.l2_upper, l2_upper)  # was computed already
    assert all(map(torch.equal, restored.certificate.flux, certificate.flux))


@pytest.mark.parametrize("duplicate", [copy.copy, copy.deepcopy, lambda c: pickle.loads(pickle.dumps(c))])
@pytest.mark.parametrize("values", [torch.zeros(5, 5), sb.BarronNetwork(2, 3)])
def test_copies_of_a_certificate_compute_the_same(duplicate, values):
    """Of a field and of a function, with a lifting; a copy has the problem too."""
    certificate = sb.certify(sb.Diffusion(sb.Grid((4, 4)), source=1.0, boundary=sb.Dirichlet(1.0)), values)
    other = duplicate(certificate)
    for use in (lambda c: c.mesh, lambda c: c.model, lambda c: (c.l2_upper,), lambda c: c.goal(sb.Mean())):
        assert all(map(torch.equal, use(other), use(certificate)))


def test_certificates_from_files_say_that_they_have_no_problem():
    for use in (lambda c: c.mesh, lambda c: c.model, lambda c: c.l2_upper, lambda c: c.goal(sb.Mean())):
        with pytest.raises(RuntimeError, match="problem"):
            use(certificate_of())


# --- data sets --------------------------------------------------------------------------------------------------------

CERTIFIED = {"error_indicator", "error_upper", "error_lower", "error_relative_upper", "boundary_part"}


def test_a_data_set_has_places_and_names(batch):
    data = batch.to_xarray()
    assert set(data.data_vars) == {"solution", "coefficient"} | CERTIFIED
    assert data["solution"].dims == ("sample", "batch1", "x_node", "y_node")
    assert data["coefficient"].dims == data["error_indicator"].dims == ("sample", "batch1", "x", "y")
    assert dict(data.sizes) == {"sample": 2, "batch1": 3, "x_node": 4, "y_node": 4, "x": 4, "y": 3}  # periodic along x
    np.testing.assert_allclose(data["x_node"], [-1.0, -0.5, 0.0, 0.5], rtol=1e-15)
    np.testing.assert_allclose(data["y_node"], np.linspace(5, 6, 4), rtol=1e-15)
    np.testing.assert_allclose(data["x"], [-0.75, -0.25, 0.25, 0.75], rtol=1e-15)
    np.testing.assert_allclose(data["y"], 5 + np.array([1, 3, 5]) / 6, rtol=1e-15)
    np.testing.assert_array_equal(data["solution"], batch.values)
    for name, field in {
        "error_upper": "upper",
        "error_lower": "lower",
        "error_relative_upper": "relative_upper",
    }.items():
        assert data[name].dims == ("sample", "batch1")
        assert data[name].attrs["kind"] == "bound"
        np.testing.assert_array_equal(data[name], getattr(batch.certificate, field))
    np.testing.assert_array_equal(data["error_indicator"], batch.certificate.indicators)
    assert all(set(variable.attrs) >= {"long_name", "units"} for variable in data.variables.values())
    assert data.attrs == {
        "method": batch.method,
        "reason": "6 x converged",
        "iterations": int(batch.iterations.max()),
        "converged": 1,
    }


def test_every_sample_of_a_data_set_has_its_own_coefficient(batch):
    """The coefficient has fewer batch axes than the solution; it belongs to the last of them."""
    data = batch.to_xarray()
    for i in range(2):
        np.testing.assert_array_equal(data["coefficient"][i, :, 0, 0], [1.0, 2.0, 5.0])
    one = dataclasses.replace(batch, coefficient=batch.coefficient[:1], certificate=None).to_xarray()  # batch (1,)
    assert (one["coefficient"] == 1.0).all()
    assert one["coefficient"].sizes["batch1"] == 3
    shared = dataclasses.replace(batch, coefficient=batch.coefficient[1], certificate=None).to_xarray()
    assert shared["coefficient"].dims == ("x", "y")


def test_a_data_set_of_one_solution():
    data = solution_of(values=torch.zeros(3, 4, requires_grad=True)).to_xarray()
    assert set(data.data_vars) == {"solution", "coefficient"}
    assert data["solution"].dims == ("x_node", "y_node")
    assert data["solution"].dtype == np.float32
    assert data.attrs["reason"] == "error bound reached"


def test_one_sample_that_failed_is_seen_in_the_attributes():
    mixed = solution_of(converged=torch.tensor([True, False]), linear=linear_of(iterations=torch.tensor([3, 9])))
    attributes = mixed.to_xarray().attrs
    assert (attributes["converged"], attributes["iterations"]) == (0, 9)


@pytest.mark.parametrize("shape", [(4,), (2, 3, 4)])
def test_certificates_of_every_dimension_are_data_sets(shape):
    problem = sb.Diffusion(sb.Grid(shape), source=1.0)
    data = sb.certify(problem, torch.zeros(problem.node_shape)).to_xarray()
    axes = tuple("xyz"[: len(shape)])
    assert data["values"].dims == tuple(f"{axis}_node" for axis in axes)
    assert data["error_indicator"].dims == axes
    assert data["error_upper"].dims == ()
    assert data.attrs == {"layout": "nodes"}


def test_a_data_set_says_what_the_boundary_costs():
    certificate = certificate_of(boundary_part=double(0.25), boundary_gap=double(0.5))
    assert certificate.to_xarray()["boundary_part"].item() == 0.25


@pytest.mark.parametrize("part", ["solution", "certificate"])
def test_a_data_set_survives_a_file(batch, part, tmp_path):
    data = batch.to_xarray() if part == "solution" else batch.certificate.to_xarray()
    data.to_netcdf(tmp_path / "result.nc", engine="h5netcdf")
    with xarray.open_dataset(tmp_path / "result.nc", engine="h5netcdf") as restored:
        xarray.testing.assert_identical(restored.load(), data)


# --- figures ----------------------------------------------------------------------------------------------------------


def test_every_sample_is_drawn_with_its_own_coefficient(batch):
    for sample in range(6):
        image = batch.plot(sample=sample).axes[0].images[0].get_array()
        assert np.unique(image).tolist() == [[1.0, 2.0, 5.0][sample % 3]]


def test_what_was_certified_is_drawn_in_sample_order(batch):
    figure = batch.certificate.plot(sample=4)
    assert [re.sub(r" \(.*", "", axes.get_title()) for axes in figure.axes[:2]] == [
        "certified field",
        "error indicator",
    ]
    drawn = np.asarray(figure.axes[1].images[0].get_array())
    np.testing.assert_array_equal(drawn, batch.certificate.indicators[1, 1].T.flip(0))


@pytest.mark.parametrize("batch", [(), (4,)])
def test_a_diagonal_coefficient_keeps_its_components_in_files(tmp_path, batch):
    parts = tuple(np.full((*batch, 4, 3, 2), value) for value in (1.0, 2.0, 3.0))
    solution = sb.solve(sb.Diffusion(sb.Grid((4, 3, 2)), parts, source=1.0))
    sb.data.write(solution, tmp_path / "u.nc")
    read = sb.data.read(tmp_path / "u.nc")
    for name, part in zip(("coefficient", "coefficient_y", "coefficient_z"), parts):
        for dataset in (solution.to_xarray(), read.to_xarray()):
            np.testing.assert_array_equal(dataset[name], part)
