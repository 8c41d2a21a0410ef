"""Certificates: both bounds against the true error, and what the arguments of `certify` mean."""

from __future__ import annotations

import itertools
import math

import numpy as np
import pytest
import torch
from refusals import refused

import sciml_bounds as sb
import sciml_bounds.bounds._certify as certify_module
import sciml_bounds.bounds._flux as flux_module

#: The true error comes from quadrature and dense linear algebra, exact to about this.
ROUND_OFF = 1e-9

DIRICHLET = {side: sb.Dirichlet(0.0) for side in ("x0", "x1", "y0", "y1")}


def line_problem(kinds: str, dim: int, ratios: tuple[float, ...], n: int = 10) -> sb.Diffusion:
    """Data that vary along the last axis only, with nothing happening across it; one sample for each c / a."""
    rng = np.random.default_rng(sum(map(ord, kinds)))
    make = {"D": sb.Dirichlet(0.8), "N": sb.Neumann(0.6), "R": sb.Robin(1.5, 0.5), "P": sb.Periodic()}
    shape = (*(2, 3)[: dim - 1], n)
    a, f = np.exp(rng.standard_normal(n)), 10 * rng.standard_normal(n)
    sides: dict[str, sb.Boundary] = {}
    for axis, across in zip("xy"[: dim - 1], (sb.Periodic, sb.Neumann)):
        sides |= {f"{axis}0": across(), f"{axis}1": across()}
    sides |= {f"{'xyz'[dim - 1]}{end}": make[kind] for end, kind in enumerate(kinds)}
    c = np.array(ratios).reshape(-1, *[1] * dim) * np.broadcast_to(a, shape)
    coefficient, source = (np.broadcast_to(q, shape).copy() for q in (a, f))
    grid = sb.Grid(shape, lengths=(*(0.8, 1.2)[: dim - 1], 1.0))
    return sb.Diffusion(grid, coefficient, source, boundary=sides, reaction=c)


def sample_of(problem: sb.Diffusion, i: int) -> sb.Diffusion:
    return problem.replace(reaction=problem.reaction[i])


def some_fields(problem: sb.Diffusion) -> torch.Tensor:
    """The discrete solution, the same with 2 % noise, zero, and one that is much too large, (4, samples, nodes)."""
    v = sb.solve(problem).values
    size = v.abs().amax()
    noise = torch.randn(v.shape, dtype=v.dtype, generator=torch.Generator().manual_seed(0))
    wave = torch.sin(2 * math.pi * problem.grid.nodes(problem.grid.dim - 1)[: v.shape[-1]])
    fields = torch.stack([v, v + 0.02 * size * noise, torch.zeros_like(v), v + 3 * size * wave])
    return problem.impose_boundary(fields)


@pytest.mark.parametrize("dim", [1, 2, 3])
@pytest.mark.parametrize("kinds", ["DD", "DN", "DR", "RN", "NN", "PP"])
def test_bounds_enclose_the_error_for_every_boundary_and_reaction(kinds, dim, exact_line):
    """c / a = 0, 1, 100, 1000; the exact solution is known, since all data are constant on each cell.

    Efficiency: without reaction nothing is lost along a line; a field that is several times too large has an index of 1
    within 1 %, so that a bound a little too small would be caught.
    """
    ratios = (0.0, 1.0, 100.0, 1000.0) if kinds not in ("NN", "PP") else (1.0, 100.0, 1000.0)
    problem = line_problem(kinds, dim, ratios)
    fields = some_fields(problem)
    certificate = sb.certify(problem, fields, rtol=1e-10)
    assert certificate.upper.shape == (4, len(ratios))
    for i, ratio in enumerate(ratios):
        exact = exact_line(sample_of(problem, i), dim - 1)
        for k in range(4):
            error = exact.error(fields[k, i], points=8)
            lower, upper = certificate.lower[k, i].item(), certificate.upper[k, i].item()
            assert lower <= error * (1 + ROUND_OFF), (ratio, k)
            assert error <= upper * (1 + ROUND_OFF), (ratio, k)
            assert lower >= (0.99 if k == 3 else 0.75) * error, (ratio, k)
            assert upper <= {3: 1.01}.get(k, 1.5) * error, (ratio, k)
            assert ratio > 0 or upper == pytest.approx(error, rel=1e-8)


@pytest.mark.parametrize(
    "picture",
    [
        "........ ........ ####.### ........ ........",  # a room behind a small opening
        "....##.. ....##.. ####.... ####....",  # parts that touch at vertices only
        "........ .######. .#....#. .#.##.#. .#.##.#. ...##.#.",  # a dead-end corridor
    ],
)
def test_bounds_hold_behind_small_openings(picture, gauss):
    """A field that is off by a constant far from the open side, which a constant of the box knows nothing of.

    The square of its error lies between 2 (J(v) - J(w)) and that plus the squared bound of w, with w from h / 4.
    """
    solid = np.array([[letter == "#" for letter in row] for row in picture.split()])
    sides = dict.fromkeys(("x1", "y0", "y1"), sb.Neumann(0.0)) | {"x0": sb.Dirichlet(0.0)}
    problem = sb.Diffusion(sb.Grid(solid.shape), 1.0, 1.0, boundary=sides, solid=solid)
    far = torch.zeros(problem.node_shape, dtype=torch.float64)
    far[3:] = 1.0
    v = sb.solve(problem, rtol=1e-12).values + 0.5 * far + 0.1 * torch.randn(far.shape, dtype=far.dtype) * (far > 0)
    fine = problem.refine(4)
    w = sb.solve(fine, rtol=1e-12)
    gain = 2 * (gauss(problem).functional(problem.impose_boundary(v)) - gauss(fine).functional(w.values))
    left = sb.certify(fine, w).upper.item()
    for flux in (None, (torch.zeros(len(solid) + 1, solid.shape[1]), torch.zeros(len(solid), solid.shape[1] + 1))):
        certificate = sb.certify(problem, v, flux=flux)
        assert certificate.lower.item() <= math.sqrt(gain + left**2)
        assert math.sqrt(gain) <= certificate.upper.item() * (1 + ROUND_OFF)
        assert certificate.upper.item() <= 1.5 * math.sqrt(gain)


# --- boundary values --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("dim", [1, 2, 3])
def test_bounds_hold_for_fields_that_are_off_on_the_boundary(dim, exact_line):
    problem = line_problem("DR", dim, (0.0, 100.0))
    rng = np.random.default_rng(0)
    fields = sb.solve(problem).values + torch.as_tensor(0.3 * rng.standard_normal((2, 2, *problem.node_shape)))
    certificate = sb.certify(problem, fields)
    for i in range(2):
        exact = exact_line(sample_of(problem, i), dim - 1)
        for k in range(2):
            error = exact.error(fields[k, i], points=8)
            assert certificate.lower[k, i].item() <= error * (1 + ROUND_OFF)
            assert error <= certificate.upper[k, i].item() * (1 + ROUND_OFF)
    gap = (fields[..., 0] - 0.8).abs().reshape(2, 2, -1).amax(-1)
    assert torch.allclose(certificate.boundary_gap, gap, rtol=1e-14)
    assert bool((certificate.boundary_part > 0).all())
    assert torch.equal(certificate.values, fields)  # what is certified is the field as it was given


def test_boundary_part_is_the_energy_of_the_lifting():
    """On a line with a = 3 the lifting of the differences 0.2 and -0.1 is linear; its energy is a (0.3)^2 / length."""
    sides = {"x0": sb.Dirichlet(1.0), "x1": sb.Dirichlet(0.0)}
    problem = sb.Diffusion(sb.Grid(8, lengths=2.0), 3.0, 1.0, boundary=sides)
    bad = sb.solve(problem).values.clone()
    bad[0] += 0.2
    bad[-1] -= 0.1
    certificate = sb.certify(problem, bad)
    assert certificate.boundary_part.item() == pytest.approx(math.sqrt(3.0 * 0.3**2 / 2.0), rel=1e-6)
    lifted = bad - torch.linspace(0.2, -0.1, 9, dtype=torch.float64)
    inner = sb.certify(problem, lifted)
    assert certificate.upper.item() == pytest.approx(inner.upper.item() + certificate.boundary_part.item(), rel=1e-6)
    assert certificate.lower.item() == pytest.approx(
        max(0.0, inner.lower.item() - certificate.boundary_part.item()), rel=1e-6
    )
    assert inner.boundary_part.item() < 1e-14


def test_strict_says_where_and_by_how_much():
    problem = sb.Diffusion(sb.Grid((4, 8), lengths=(2.0, 1.0)), 1.0, 1.0, boundary=sb.Dirichlet(0.5))
    v = sb.solve(problem).values.clone()
    v[4, 2] += 0.25
    v[1, 0] -= 0.125
    refused("0.25 (4, 2) x=2 y=0.25) impose_boundary", sb.certify, problem, v, strict=True)
    refused(
        "0.25 (4, 2) x=2 y=0.25) sample 1",
        lambda: sb.certify(problem, torch.stack([sb.solve(problem).values, v]), strict=True),
    )
    repaired = sb.certify(problem, problem.impose_boundary(v), strict=True)
    assert repaired.boundary_gap.item() == repaired.boundary_part.item() == 0
    assert repaired.upper.item() == pytest.approx(sb.certify(problem, sb.solve(problem)).upper.item(), rel=1e-10)


def test_inner_values_are_nobody_elses_business():
    """Only Dirichlet sides prescribe values: nothing is off on Neumann, Robin and periodic sides."""
    problem = line_problem("RN", 2, (1.0,))
    certificate = sb.certify(problem, 100 * torch.randn(problem.node_shape, dtype=torch.float64), strict=True)
    assert certificate.boundary_gap.item() == certificate.boundary_part.item() == 0


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32])
def test_differences_of_round_off_are_ignored(dtype):
    """0.1 is not a floating-point number: boundary values that differ by its rounding count as equal."""
    problem = sb.Diffusion(sb.Grid((6, 5)), 1.0, 1.0, boundary=sb.Dirichlet(0.1))
    v = sb.solve(problem).values
    rounded = ((v * 3) / 3 + 2e-16).to(dtype)
    certificate = sb.certify(problem, rounded, strict=True)
    assert certificate.boundary_gap.item() == 0
    assert certificate.boundary_part.item() <= 10 * torch.finfo(dtype).eps
    assert certificate.upper.item() == pytest.approx(sb.certify(problem, v).upper.item(), rel=1e-5)


def test_single_precision_problem_and_field(exact_line):
    """Certified in double precision: the problem is the one with the declared (single) data, the field what it is."""
    rng = np.random.default_rng(2)
    a, f = np.exp(rng.standard_normal(12)).astype(np.float32), rng.standard_normal(12).astype(np.float32)
    problem = sb.Diffusion(sb.Grid(12), a, f, boundary={"x0": sb.Dirichlet(0.1), "x1": sb.Robin(0.3, 0.2)})
    assert problem.dtype == torch.float32
    v = sb.solve(problem).values
    certificate = sb.certify(problem, v, strict=True)
    assert certificate.upper.dtype == certificate.values.dtype == torch.float64
    error = exact_line(problem.to(torch.float64)).error(v.double())
    assert certificate.lower.item() <= error <= certificate.upper.item() * (1 + ROUND_OFF)


def test_single_precision_problem_that_floats():
    """Sources that balance in single precision have no solution in double precision, until they are balanced again."""
    rng = np.random.default_rng(3)
    f = rng.standard_normal((8, 8)).astype(np.float32)
    f -= f.mean()
    assert f.astype(np.float64).sum() != 0
    problem = sb.Diffusion(sb.Grid((8, 8)), np.float32(2.0), f, boundary=sb.Neumann())
    certificate = sb.certify(problem, sb.solve(problem))
    assert 0 < certificate.lower.item() < certificate.upper.item() < certificate.energy.item()


# --- arguments --------------------------------------------------------------------------------------------------------


def rough_problem(batch: tuple[int, ...] = (), n: int = 8) -> sb.Diffusion:
    """Two dimensions, coefficients 12 and 3 per cell, one Neumann and one Robin side, reaction on some cells."""
    rng = np.random.default_rng(5)
    a = np.where(rng.random((*batch, n, n)) < 0.5, 12.0, 3.0)
    sides = {"x0": sb.Dirichlet(0.2), "x1": sb.Robin(1.0, 0.5), "y0": sb.Dirichlet(0.2), "y1": sb.Neumann(0.3)}
    c = rng.random((n, n)) * (rng.random((n, n)) > 0.5)
    return sb.Diffusion(sb.Grid((n, n)), a, rng.standard_normal((n, n)), boundary=sides, reaction=c)


def noisy(problem: sb.Diffusion, *batch: int, size: float = 0.05) -> torch.Tensor:
    v = sb.solve(problem).values
    noise = torch.randn(*batch, *problem.node_shape, dtype=v.dtype, generator=torch.Generator().manual_seed(1))
    return problem.impose_boundary(v + size * v.abs().max() * noise)


def test_upper_bound_alone():
    problem = rough_problem()
    v = noisy(problem)
    both, alone = sb.certify(problem, v), sb.certify(problem, v, lower=False)
    assert alone.upper.item() == both.upper.item()
    assert alone.lower.item() == 0 < both.lower.item()


@pytest.mark.parametrize("batch", [(), (3,)])
def test_a_flux_is_reused_without_a_solve(batch, monkeypatch):
    problem = rough_problem(batch)
    v = noisy(problem)
    first = sb.certify(problem, v)

    def fail(*arguments, **keywords):
        raise AssertionError("a system was solved")

    for module in (flux_module, certify_module):
        monkeypatch.setattr(module, "LinearSolver", fail)
    again = sb.certify(problem, v, flux=first.flux, lower=False)
    assert torch.allclose(again.upper, first.upper, rtol=1e-12)
    assert torch.allclose(again.indicators, first.indicators, rtol=1e-9)


def test_one_flux_serves_many_fields():
    problem = rough_problem()
    fields = noisy(problem, 2, 3)
    flux = sb.certify(problem, fields[0, 0]).flux
    together = sb.certify(problem, fields, flux=flux)
    assert together.upper.shape == together.lower.shape == together.energy.shape == (2, 3)
    assert together.indicators.shape == (2, 3, *problem.grid.shape)
    for i, k in itertools.product(range(2), range(3)):
        one = sb.certify(problem, fields[i, k], flux=flux)
        assert together.upper[i, k].item() == pytest.approx(one.upper.item(), rel=1e-12)
        assert together.lower[i, k].item() == pytest.approx(one.lower.item(), rel=1e-9)


def test_batch_of_problems_is_a_row_of_certificates():
    problem = rough_problem((2, 2))
    v = noisy(problem)
    together = sb.certify(problem, v, rtol=1e-12)
    for i, k in itertools.product(range(2), range(2)):
        one = sb.certify(problem.replace(coefficient=problem.coefficient[0][i, k]), v[i, k], rtol=1e-12)
        for name in ("upper", "lower", "energy", "l2_upper", "indicators"):
            assert torch.allclose(getattr(together, name)[i, k], getattr(one, name), rtol=1e-8), name
        for pair in ("mesh", "model"):
            for ours, theirs in zip(getattr(together, pair), getattr(one, pair)):
                assert ours[i, k].item() == pytest.approx(theirs.item(), rel=1e-6)
    one_field = sb.certify(problem, v[0, 0])  # one field for all four
    assert one_field.upper[0, 0].item() == pytest.approx(together.upper[0, 0].item(), rel=1e-6)
    assert one_field.upper.shape == (2, 2)


@pytest.mark.parametrize("factor", [2, 3])
def test_flux_of_a_finer_grid_gives_a_tighter_bound(factor):
    problem = rough_problem(n=6)
    v = sb.solve(problem).values
    coarse = sb.certify(problem, v)
    fine_problem = problem.refine(factor)
    fine = sb.certify(problem, v, flux=sb.certify(fine_problem, sb.solve(fine_problem)).flux)
    assert coarse.lower.item() < fine.upper.item() < 0.95 * coarse.upper.item()
    assert fine.indicators.shape == problem.grid.shape
    assert (fine.indicators**2).sum().item() == pytest.approx(fine.upper.item() ** 2, rel=1e-12)
    assert fine.flux[0].shape == (6 * factor + 1, 6 * factor)


def test_any_flux_gives_a_bound(exact_line):
    """Random fluxes, also ones on a finer grid: far from the best, but never below the error."""
    problem = line_problem("DR", 2, (0.0,))
    problem = problem.replace(reaction=problem.reaction[0])
    v = sb.solve(problem).values
    error = exact_line(problem, 1).error(v)
    rng = np.random.default_rng(0)
    for factor, size in ((1, 1.0), (1, 1e-3), (2, 1.0), (1, 1e8)):
        n, m = (factor * k for k in problem.grid.shape)
        flux = (size * rng.standard_normal((n + 1, m)), size * rng.standard_normal((n, m + 1)))
        assert sb.certify(problem, v, flux=flux).upper.item() >= error * (1 - ROUND_OFF)


def test_improvement_lowers_the_bound_and_keeps_it_one():
    problem = rough_problem(n=12)
    v = sb.solve(problem).values
    plain = sb.certify(problem, v)
    bounds = [sb.certify(problem, v, improve=steps).upper.item() for steps in (1, 3, 10)]
    assert plain.lower.item() < bounds[2] < bounds[1] < bounds[0] < plain.upper.item()


@pytest.mark.parametrize(
    ("flux", "message"),
    [
        (lambda x, y: (x,), "tuple 2 field axis"),
        (lambda x, y: x, "tuple 2 field axis"),
        (lambda x, y: (y, x), "x shape (8, 9) batch 9 8)"),
        (lambda x, y: (x, y[:-1]), "y shape (7, 9) batch 8 9)"),
        (lambda x, y: (x[0], y), "x shape (8,)"),
        (lambda x, y: (x.expand(3, 9, 8), y), "(3, 9, 8) batch broadcast (2,)"),
        (lambda x, y: (x / 0, y), "x entries NaN"),
    ],
)  # fmt: skip
def test_a_flux_of_the_wrong_shape_is_refused(flux, message):
    problem = rough_problem((2,))
    x, y = torch.ones(9, 8, dtype=torch.float64), torch.ones(8, 9, dtype=torch.float64)
    refused(message, lambda: sb.certify(problem, torch.zeros(9, 9, dtype=torch.float64), flux=flux(x, y)))


@pytest.mark.parametrize(
    ("values", "keywords", "message"),
    [
        (torch.zeros(9, 9, dtype=torch.int64), {}, "field dtype int64"),
        (torch.full((9, 9), torch.nan), {}, "entries NaN"),
        (torch.zeros(3, 9, 9), {}, "batch (3,) problem (2,)"),
        (torch.zeros(9, 9).to_sparse(), {}, "field sparse tensor"),
        (torch.zeros(9, 9), {"layout": "corners"}, "layout 'corners'"),
        (torch.zeros(9, 9), {"rtol": 1e-17}, "rtol"),
        *((torch.zeros(9, 9), {"improve": n}, f"improve {n}") for n in (None, 1.5, math.nan, -1)),
    ],
)
def test_bad_arguments_are_refused(values, keywords, message):
    refused(message, lambda: sb.certify(rough_problem((2,)), values, **keywords))
    refused("Diffusion problem object type int", sb.certify, 3, values)
    energy = sb.variational.VariationalProblem(sb.Grid((8, 8)), sb.variational.QuadraticEnergy())
    refused("Diffusion problem sb.variational.certify_energy", sb.certify, energy, torch.zeros(9, 9))


@pytest.mark.parametrize("batch", [(), (2,), (3, 2)])
def test_what_is_not_finite_is_found_at_its_own_index(batch):
    values = torch.zeros(*batch, 9, 9)
    index = (*(n - 1 for n in batch), 1, 6)
    values[index] = torch.nan
    words = f"field 1 NaN infinite index {index}"
    refused(words, lambda: sb.certify(sb.Diffusion(sb.Grid((8, 8)), 1.0, 1.0), values))


def test_a_solution_is_taken_as_it_is():
    problem = rough_problem()
    solution = sb.solve(problem, certify=True)
    for certificate in (sb.certify(problem, solution), solution.certificate):
        assert certificate.upper.item() == pytest.approx(sb.certify(problem, solution.values).upper.item(), rel=1e-12)


def test_values_inside_solids_are_ignored():
    solid = np.zeros((8, 8), dtype=bool)
    solid[2:6, 3:7] = True
    problem = sb.Diffusion(sb.Grid((8, 8)), 1.0, 1.0, boundary=DIRICHLET, solid=solid)
    v = sb.solve(problem).values
    spoilt = v.clone()
    spoilt[3:6, 4:7] = torch.nan
    assert sb.certify(problem, spoilt).upper.item() == sb.certify(problem, v).upper.item()


# --- what a certificate says ------------------------------------------------------------------------------------------


def test_terms_make_up_the_bound():
    """Squares of the norms of the terms: by Minkowski, with the oscillation added to the flux term before squaring."""
    certificate = sb.certify(rough_problem(), noisy(rough_problem()))
    flux, oscillation, reaction, robin = (
        certificate.terms[name].item() for name in ("flux", "oscillation", "reaction", "robin")
    )
    assert min(flux, reaction, robin) > 0
    squared = certificate.upper.item() ** 2
    assert flux + oscillation + reaction + robin <= squared * (1 + 1e-12)
    assert squared <= ((math.sqrt(flux) + math.sqrt(oscillation)) ** 2 + reaction + robin) * (1 + 1e-12)
    still = sb.certify(line := line_problem("DR", 2, (0.0,)), some_fields(line)[0])
    assert still.terms["oscillation"].item() == still.terms["reaction"].item() == 0
    parts = still.terms["flux"] + still.terms["robin"]
    assert parts.item() == pytest.approx(still.upper.item() ** 2, rel=1e-12)


def test_energy_and_relative_bound(gauss):
    problem = rough_problem()
    v = noisy(problem)
    certificate = sb.certify(problem, v)
    exact = gauss(problem)
    assert certificate.energy.item() == pytest.approx(exact.norm(exact.function(v)), rel=1e-12)
    upper, energy = certificate.upper.item(), certificate.energy.item()
    assert certificate.relative_upper.item() == pytest.approx(upper / (energy - upper), rel=1e-12)
    assert certificate.kind == "bound"
    box = sb.Diffusion(sb.Grid((4, 4)), 1.0, 1.0)
    assert sb.certify(box, torch.zeros(5, 5)).relative_upper.item() == math.inf  # the bound exceeds the field


def test_table_and_data_set():
    problem = rough_problem()
    certificate = sb.certify(problem, noisy(problem) + 0.01)
    assert "boundary values" in str(certificate)
    assert "bound" in str(certificate)
    data = certificate.to_xarray()
    assert data["error_upper"].item() == certificate.upper.item()
    assert data["error_indicator"].dims == ("x", "y")
    np.testing.assert_array_equal(data["values"].values, certificate.values.numpy())


# --- solving to a bound -----------------------------------------------------------------------------------------------


def test_solve_stops_as_soon_as_the_bound_is_reached():
    problem = sb.Diffusion(sb.Grid((48, 48)), lambda x, y: torch.where(x > y, 12.0, 3.0), 1.0)
    history: list[float] = []
    best = sb.solve(problem, certify=True).certificate.relative_upper.item()
    asked = 1.05 * best
    solution = sb.solve(problem, method="cg", error=asked, callback=lambda p: history.append(p.relative_upper.item()))
    assert solution.converged.item()
    assert str(solution.reason) != str(sb.results.Reason.CONVERGED)
    assert solution.certificate.relative_upper.item() <= asked
    assert len(history) == solution.iterations.item() >= 2
    assert history[-1] <= asked < history[-2]
    with pytest.warns(sb.ConvergenceWarning, match="guaranteed relative error"):
        missed = sb.solve(problem, error=0.5 * best)
    assert not missed.converged.item()
    assert missed.certificate.relative_upper.item() == pytest.approx(best, rel=1e-3)


@pytest.mark.parametrize("shape", [(9,), (6, 5), (3, 4, 5)])
def test_a_batch_of_fields_for_each_problem_of_a_batch(shape):
    """Eight fields for each of five problems, in every kind of data: as one by one."""
    rng = np.random.default_rng(5)
    a, f, c = np.exp(rng.standard_normal((5, *shape))), rng.standard_normal((5, *shape)), rng.random((5, *shape))
    alpha = 0.5 + rng.random((5, *shape[1:]))
    values = torch.as_tensor(rng.standard_normal((8, 5, *[n + 1 for n in shape])))

    def problem(k):
        sides = dict.fromkeys(sb.Grid(shape).sides, sb.Dirichlet(0.0)) | {"x1": sb.Robin(alpha[k], 0.3)}
        return sb.Diffusion(sb.Grid(shape), a[k], f[k], boundary=sides, reaction=c[k])

    together = sb.certify(problem(slice(None)), values)
    for j, k in itertools.product(range(8), range(5)):
        alone = sb.certify(problem(k), values[j, k])
        for name in ("energy", "upper", "lower", "boundary_part"):
            ours, theirs = getattr(together, name)[j, k], getattr(alone, name)
            torch.testing.assert_close(ours, theirs, rtol=1e-6, atol=0, msg=name)  # liftings are solved to 1e-8


def test_mesh_interval_allows_for_what_the_solver_left(exact_line, monkeypatch):
    """A solver that stops at the Galerkin solution w, not at the discrete one u_h, and says how far apart they are.

    w is the closest of all fields, so the bound of its error, sharp with a flux from a grid 32 times as fine, is below
    the error of u_h: |||u - u_h|||^2 = |||u - w|||^2 + |||w - u_h|||^2. On one free node w is found by hand:
    with f = 0, u(0) = 1, a = 1 and t = c h^2 it is (1 - t / 6) / (2 + 2 t / 3), and u_h is 1 / (2 + t).
    """
    h, t = 0.5, 16.0
    sides = {"x0": sb.Dirichlet(1.0), "x1": sb.Dirichlet(0.0)}
    problem = sb.Diffusion(sb.Grid(2), 1.0, boundary=sides, reaction=t / h**2)
    u_h, w = (torch.tensor([1.0, x, 0.0]).double() for x in (1 / (2 + t), (1 - t / 6) / (2 + 2 * t / 3)))
    torch.testing.assert_close(sb.solve(problem, rtol=1e-12).values, u_h)
    left = math.sqrt((2 + t) / h) * (w - u_h).abs().max()  # in the norm of the lattice, which is the larger one
    monkeypatch.setattr(certify_module, "discrete_solution", lambda problem: (w[None], left[None]))
    fine = problem.refine(32)
    lower, upper = sb.certify(problem, u_h, flux=sb.certify(fine, sb.solve(fine)).flux).mesh
    error, closest = (exact_line(problem).error(v) for v in (u_h, w))
    assert closest <= error - 0.1 * left.item()  # so the difference is not lost in the slack of the bound
    assert lower.item() <= error <= upper.item() <= 1.05 * (closest + left.item())


@pytest.mark.parametrize("given", ["computed", "given"])
def test_a_certificate_does_not_see_what_becomes_of_its_input(given):
    problem = sb.Diffusion(sb.Grid((8, 8)), 1.0, source=1.0)
    first = sb.certify(problem, sb.solve(problem))
    values, flux = first.values.clone().numpy(), tuple(face.clone() for face in first.flux)
    certificate = sb.certify(problem, values, flux=flux if given == "given" else None)
    values[:] = 0.0
    for face in flux:
        face.zero_()
    untouched = sb.certify(problem, first.values, flux=tuple(first.flux) if given == "given" else None)
    for name in ("mesh", "model"):
        assert getattr(certificate, name) == getattr(untouched, name)
    assert certificate.goal(sb.Mean()) == untouched.goal(sb.Mean())
    assert torch.equal(certificate.values, first.values)
    assert all(torch.equal(one, other) for one, other in zip(certificate.flux, untouched.flux))


def test_a_flux_brings_its_pressures_with_it():
    problem = sb.Diffusion(sb.Grid((16, 12)), lambda x, y: 1 + x * y, source=1.0)
    values = 0.8 * sb.solve(problem).values
    first = sb.certify(problem, values)
    again = sb.certify(problem, values, flux=first.flux)
    assert again.lower == first.lower  # from the same correction
    assert again.upper == first.upper
    other = sb.Diffusion(sb.Grid((12, 16)), 1.0, source=1.0)
    foreign = tuple(face.mT for face in reversed(first.flux))
    assert sb.certify(other, values.mT, flux=foreign).lower > 0  # faces alone do, too
    refined = sb.certify(problem.refine(2), sb.solve(problem.refine(2)), lower=False).flux
    assert sb.certify(problem, values, flux=refined).lower > 0  # pressures of another grid are left alone
