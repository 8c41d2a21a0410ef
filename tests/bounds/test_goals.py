"""Intervals for linear outputs: they contain the exact value, and shrink like h^2."""

from __future__ import annotations

import itertools
import math

import numpy as np
import pytest
import torch
from refusals import refused

import sciml_bounds as sb
from sciml_bounds.results import Interval

CLOSED = {"y0": sb.Neumann(0.0), "y1": sb.Neumann(0.0)}
UNIT_DROP = {"x0": sb.Dirichlet(1.0), "x1": sb.Dirichlet(0.0), **CLOSED}


def layered(kinds: str, ratio: float = 0.0) -> sb.Diffusion:
    """Data that vary along x only, with a known solution; nothing happens across."""
    rng = np.random.default_rng(sum(map(ord, kinds)))
    make = {"D": sb.Dirichlet(0.8), "N": sb.Neumann(0.6), "R": sb.Robin(1.5, 0.5)}
    sides = {"x0": make[kinds[0]], "x1": make[kinds[1]], **CLOSED}
    a, f = (np.repeat(q[:, None], 3, 1) for q in (np.exp(rng.standard_normal(9)), 5 * rng.standard_normal(9)))
    return sb.Diffusion(sb.Grid((9, 3), lengths=(1.0, 0.7)), a, f, boundary=sides, reaction=ratio * a)


def fields_of(problem: sb.Diffusion) -> torch.Tensor:
    """The discrete solution, the same with noise, and zero."""
    v = sb.solve(problem).values
    noise = torch.randn(v.shape, dtype=v.dtype, generator=torch.Generator().manual_seed(0))
    return problem.impose_boundary(torch.stack([v, v + 0.05 * v.abs().max() * noise, 0 * v]))


def contains(interval, value: float, size: float = 1.0) -> bool:
    """Whether every sample's interval contains a value, up to the round-off of numbers of some size."""
    slack = 1e-9 * size
    return bool((interval.lower <= value + slack).all() and (interval.upper >= value - slack).all())


@pytest.mark.parametrize("kinds", ["DD", "DN", "RN", "RD"])
def test_intervals_contain_the_exact_means_and_fluxes(kinds, exact_line, gauss):
    """For c / a = 0, 5, 500 (one batch) and for good and bad fields."""
    ratios = (0.0, 5.0, 500.0)
    problem = layered(kinds)
    a = problem.coefficient[0]
    batch = problem.replace(reaction=torch.stack([ratio * a for ratio in ratios]))
    certificate = sb.certify(batch, fields_of(batch))
    region = torch.zeros(9, 3, dtype=torch.float64)
    region[2:5] = 1.0
    weights = torch.as_tensor(np.random.default_rng(0).standard_normal((9, 3)))
    left = (problem.grid.centers(0) < 0.5).double()[:, None].expand(9, 3)
    functionals = {
        "mean": sb.Mean(), "part": sb.Mean(region), "callable": sb.Mean(lambda x, y: (x < 0.5).double()),
        "weights": weights,
        **{side: sb.BoundaryFlux(side) for side in ("x0", "x1", "y0")},
    }  # fmt: skip
    intervals = {name: certificate.goal(functional) for name, functional in functionals.items()}
    for i, ratio in enumerate(ratios):
        sample = problem.replace(reaction=ratio * a)
        exact, quadrature = exact_line(sample), gauss(sample, 8)
        u = exact.function(quadrature)[0]
        slopes = exact.at(np.array([0.0, 1.0]), derivative=True) * 0.7  # times the section

        def integral(weight: torch.Tensor, u: np.ndarray = u, quadrature=quadrature) -> float:
            return quadrature.integral(quadrature.cells(weight) * u)

        volume = problem.grid.cell_volume
        values = {
            "mean": integral(torch.ones_like(a)) / 0.7,
            "part": integral(region) / (region.sum().item() * volume),
            "callable": integral(left) / (left.sum().item() * volume),
            "weights": integral(weights),
            "x0": -float(a[0, 0] * slopes[0]),
            "x1": float(a[-1, 0] * slopes[-1]),
            "y0": 0.0,
        }
        for name, value in values.items():
            interval = Interval(intervals[name].lower[:, i], intervals[name].upper[:, i])
            assert interval.lower.shape == (3,)
            assert contains(interval, value, 10.0), (name, ratio)
        width = (intervals["mean"].upper - intervals["mean"].lower)[:, i]
        assert ratio > 100 or width[0] < 0.2 * width[2]  # the discrete solution against zero


def test_hypercircle_halves_the_product_of_two_bounds():
    """Centred at the corrected value, the interval is at most |X_u| |X_z| wide: here, as all is symmetric, eta(v)^2.

    With f = 1 and the output int u the dual is the problem itself, and half of the product is attained by the centre.
    """
    n = 16
    problem = sb.Diffusion(sb.Grid((n, n)), 1.0, 1.0)
    certificate = sb.certify(problem, sb.solve(problem, rtol=1e-12))
    interval = certificate.goal(torch.ones(n, n, dtype=torch.float64))
    width = (interval.upper - interval.lower).item()
    assert width == pytest.approx(certificate.upper.item() ** 2, rel=1e-3)


@pytest.mark.parametrize("functional", [sb.Mean(), sb.BoundaryFlux("x0")], ids=["mean", "flux"])
def test_intervals_shrink_like_h_squared(functional):
    """-laplace u = 1 on the unit square with two open sides: u is smooth enough for errors of order h in energy."""
    sides = {"x0": sb.Dirichlet(0.0), "x1": sb.Dirichlet(0.0), **CLOSED}
    problem = sb.Diffusion(sb.Grid((4, 4)), lambda x, y: 1.0 + (y > 0.5), 1.0, boundary=sides, reaction=1.0)
    widths = []
    for factor in (1, 2, 4, 8):
        fine = problem.refine(factor)
        interval = sb.certify(fine, sb.solve(fine)).goal(functional)
        widths.append((interval.upper - interval.lower).item())
    assert all(3.0 < coarse / fine < 5.0 for coarse, fine in itertools.pairwise(widths)), widths


@pytest.mark.parametrize("side", ["x0", "y1"])
def test_flux_through_a_dirichlet_side_is_weighted_at_its_corners(side):
    """On the sides next to it the weight falls from one to zero over one cell of the user's grid, whatever the flux's.

    The value is a(u, w) - (f, w) for the weight w. u from a grid eight times as fine makes an error of second order.
    """
    n, factor = 4, 8
    problem = sb.Diffusion(sb.Grid((n, n)), lambda x, y: 1 + x * y, 1.0)
    fine = problem.refine(factor)
    solution = sb.solve(fine, rtol=1e-12)
    ramp = np.interp(np.linspace(0, n, n * factor + 1), np.arange(n + 1), [1, 0, 0, 0, 0])
    weight = np.outer(ramp, np.ones_like(ramp)) if side == "x0" else np.outer(np.ones_like(ramp), ramp[::-1])
    system = sb.prepare(fine.replace(boundary=sb.Neumann(0.0), reaction=1.0))  # all nodes are free: a + mass
    mass = np.outer(*[np.r_[0.5, np.ones(n * factor - 1), 0.5]] * 2).reshape(-1) * fine.grid.cell_volume
    image = system.operator.to_csr(0) @ solution.values.numpy().reshape(-1) - mass * solution.values.numpy().reshape(-1)
    value = float(weight.reshape(-1) @ (image - mass))
    v = sb.solve(problem).values
    for certificate in (
        sb.certify(problem, v),
        sb.certify(problem, v, flux=sb.certify(problem.refine(2), sb.solve(problem.refine(2))).flux),
        sb.certify(problem, v, flux=sb.certify(fine, solution).flux),
    ):
        assert contains(certificate.goal(sb.BoundaryFlux(side)), value, size=1e6)  # 1e-3: the error of the fine grid


def test_flux_of_a_finer_grid_narrows_every_interval():
    problem = layered("DR", 5.0).replace(coefficient=lambda x, y: torch.where(x + y > 1, 5.0, 1.0))
    v = sb.solve(problem).values
    coarse = sb.certify(problem, v)
    fine_problem = problem.refine(3)
    fine = sb.certify(problem, v, flux=sb.certify(fine_problem, sb.solve(fine_problem)).flux)
    region = torch.zeros(9, 3, dtype=torch.float64)
    region[4:, 1:] = 1.0
    for functional in (sb.Mean(), sb.Mean(region), sb.BoundaryFlux("x0"), sb.BoundaryFlux("x1"), region):
        outer, inner = coarse.goal(functional), fine.goal(functional)
        assert max(outer.lower.item(), inner.lower.item()) <= min(outer.upper.item(), inner.upper.item())
        assert (inner.upper - inner.lower).item() < 0.8 * (outer.upper - outer.lower).item()


@pytest.mark.parametrize("solids", [False, True])
def test_means_count_fluid_cells_only(solids, gauss):
    problem = sb.Diffusion(sb.Grid((8, 8)), 1.0, 1.0, boundary=sb.Robin(1.0, 0.2))
    if solids:
        solid = np.zeros((8, 8), dtype=bool)
        solid[3:5, 1:7] = True
        problem = problem.replace(solid=solid)
    interval = sb.certify(problem, sb.solve(problem)).goal(sb.Mean())
    fine = problem.refine(4)
    quadrature = gauss(fine)
    u = quadrature.value(sb.solve(fine).values)
    mean = quadrature.integral(u) / quadrature.integral(np.ones_like(u))  # itself off by about 1e-4
    assert contains(interval, mean)
    assert 5e-4 < (interval.upper - interval.lower).item() < 0.2 * mean


# --- permeability -----------------------------------------------------------------------------------------------------


def test_layers_have_the_harmonic_and_the_arithmetic_mean():
    """Both exactly: the multilinear solution is the exact one. Length and section do not matter, nor does the drop."""
    a = np.array([1.0, 10.0, 3.0, 0.1])
    grid = sb.Grid((4, 6), lengths=(2.0, 0.5))
    sides = {"x0": sb.Dirichlet(3.0), "x1": sb.Dirichlet(1.0), **CLOSED}
    across = sb.Diffusion(grid, np.repeat(a[:, None], 6, 1), boundary=sides)
    along = sb.Diffusion(sb.Grid((6, 4), lengths=(0.5, 2.0)), np.repeat(a[None], 6, 0), boundary=sides)
    for problem, mean in ((across, 4 / (1 / a).sum()), (along, a.mean())):
        interval = sb.certify(problem, sb.solve(problem, rtol=1e-13), rtol=1e-13).goal(sb.EffectivePermeability("x"))
        assert interval.lower.item() == pytest.approx(mean, rel=1e-9)
        assert interval.upper.item() == pytest.approx(mean, rel=1e-9)


@pytest.mark.parametrize("jump", [4.0, 100.0])
def test_checkerboard_has_the_geometric_mean(jump):
    """A classical exact value: sqrt(a_1 a_2). By symmetry 2 x 2 quadrants between open and closed sides will do."""
    n = 16
    quadrant = np.kron(np.array([[jump, 1.0], [1.0, jump]]), np.ones((n // 2, n // 2)))
    widths = []
    for factor in (1, 2):
        problem = sb.Diffusion(sb.Grid((n, n)), quadrant, boundary=UNIT_DROP).refine(factor)
        v = sb.solve(problem).values
        noise = 0.1 * torch.randn(v.shape, dtype=v.dtype, generator=torch.Generator().manual_seed(0))
        certificate = sb.certify(problem, problem.impose_boundary(torch.stack([v, v + noise, torch.zeros_like(v)])))
        interval = certificate.goal(sb.EffectivePermeability("x"))
        assert contains(interval, math.sqrt(jump))
        widths.append((interval.upper - interval.lower)[0].item())
    assert widths[1] < widths[0]


def test_permeability_of_a_porous_sample():
    """Solids count as section; a finer grid narrows the interval, and every batch member has its own."""
    solid = np.zeros((2, 8, 8), dtype=bool)
    solid[1, 2:6, 2:6] = True
    problem = sb.Diffusion(sb.Grid((8, 8)), 1.0, boundary=UNIT_DROP, solid=solid)
    coarse = sb.certify(problem, sb.solve(problem)).goal(sb.EffectivePermeability())
    fine = sb.certify(problem.refine(2), sb.solve(problem.refine(2))).goal(sb.EffectivePermeability())
    assert coarse.lower[0].item() == pytest.approx(1.0, rel=1e-9)  # the empty channel
    assert coarse.lower[1] <= fine.upper[1] <= coarse.upper[1] < 0.75  # a bar half as wide as the channel: below 3/4
    assert fine.lower[1] > coarse.lower[1] > 0.4


# --- errors -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("functional", "message"),
    [
        (sb.Mean(np.zeros((4, 4))), "region mean"),
        (sb.Mean(np.ones((5, 5))), "weights functional shape (5, 5)"),
        (sb.BoundaryFlux("z0"), "side 'z0'"),
        (sb.BoundaryFlux("y0"), "side y0 periodic"),
        (sb.EffectivePermeability("z"), "axis 'z'"),
        (sb.EffectivePermeability("xy"), "axis 'xy' axes grid x y"),
        (sb.EffectivePermeability(""), "axis ''"),
        (sb.EffectivePermeability(None), "axis None"),
        (sb.Mean, "output class Mean instance"),
        (sb.Mean(np.ones((5, 4, 4))), "shape (5, 4, 4) batch broadcast"),
        (np.ones((5, 4, 4)), "shape (5, 4, 4) batch broadcast"),
        (sb.EffectivePermeability("y"), "Dirichlet values y0 y1"),
        *((wrong, "sb.Mean") for wrong in ("mean", 3, 3.0, None, np.float64(3), torch.tensor(3.0))),
    ],
)
def test_outputs_that_do_not_fit_are_refused(functional, message):
    sides = {"x0": sb.Dirichlet(1.0), "x1": sb.Dirichlet(0.0), "y0": sb.Periodic(), "y1": sb.Periodic()}
    problem = sb.Diffusion(sb.Grid((4, 4)), boundary=sides)
    refused(message, lambda: sb.certify(problem, sb.solve(problem)).goal(functional))


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"source": 1.0}, "source reaction"),
        ({"reaction": 1.0}, "source reaction"),
        ({"boundary": UNIT_DROP | {"x0": sb.Dirichlet(lambda x, y: y)}}, "constant values"),
        ({"boundary": UNIT_DROP | {"y0": sb.Neumann(0.1)}}, "Neumann(0.0) Periodic"),
        ({"boundary": UNIT_DROP | {"x0": sb.Dirichlet(0.0)}}, "equal"),
    ],
)
def test_permeability_of_another_problem_is_refused(changes, message):
    problem = sb.Diffusion(sb.Grid((4, 4)), boundary=UNIT_DROP).replace(**changes)
    refused(message, lambda: sb.certify(problem, sb.solve(problem)).goal(sb.EffectivePermeability("x")))


def test_level_of_a_floating_problem_has_no_mean_but_differences_have():
    source = torch.zeros(6, dtype=torch.float64)
    source[0], source[5] = 1.0, -1.0
    problem = sb.Diffusion(sb.Grid(6), 1.0, source, boundary=sb.Neumann(0.0))
    certificate = sb.certify(problem, sb.solve(problem))
    refused("level", lambda: certificate.goal(sb.Mean()))
    interval = certificate.goal(
        torch.tensor([1.0, 0, 0, 0, 0, -1.0], dtype=torch.float64)
    )  # u = x (h - x / 2) at first
    assert interval.lower.item() > 0


@pytest.mark.parametrize("field", ["near", "zero"])
def test_what_varies_within_a_cell_counts_for_the_dual_too(field, exact_line, monkeypatch):
    """Any dual field gives an interval; here one that leaves nothing but what r = -c z varies within a cell.

    Two chambers in which z is nearly constant (a = 1e8) exchange the flux q h = 1 through a cell with a = 1 and
    reaction: the dual field falls there from 1/2 to -1/2, its flux is the given one and its mean is zero, so its vector
    in the hypercircle is of size 1e-4, compared with an oscillation of 1 / (pi sqrt 12) = 0.09.
    The field is the same (with an oscillation only) or zero (with a vector only): without the products with the
    oscillation of the dual, the interval would be too narrow.
    """
    sources = torch.tensor([1.0, 0.0, -1.0], dtype=torch.float64)
    problem = sb.Diffusion(
        sb.Grid(3, lengths=3.0),
        torch.tensor([1e8, 1.0, 1e8], dtype=torch.float64),
        sources,
        boundary=sb.Neumann(),
        reaction=torch.tensor([0.0, 1.0, 0.0], dtype=torch.float64),
    )
    falling = torch.tensor([0.5, 0.5, -0.5, -0.5], dtype=torch.float64)
    monkeypatch.setattr("sciml_bounds.bounds._goals.discrete_solution", lambda dual: (falling[None], torch.zeros(1)))
    v = falling if field == "near" else 0 * falling
    interval = sb.certify(problem, v, rtol=1e-12).goal(sources)
    # by hand: odd about the middle, with slope -1 at the ends of the cell, so u = -sinh(x - 3/2) / cosh(1/2)
    value = 2 * math.tanh(0.5)
    u = exact_line(problem).at(np.array([0.0, 1.0]))
    assert float(u.reshape(3, 2)[1, 0]) * 2 == pytest.approx(value, rel=1e-7)
    assert contains(interval, value, 100.0)  # 1e-7: the chambers are constant up to 1e-8
    assert (interval.upper - interval.lower).item() < 0.3
