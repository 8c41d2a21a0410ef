"""Guaranteed bounds of J(v) - J(u) in many random nonlinear problems, where J(u) is known or bracketed in numpy.

On an interval without reaction the flux is known up to a constant C, y = C - int f, and

    J(u) = max over C of y(1) u(1) - y(0) u(0) - int a g*(|y| / a),

which scipy maximises on an integral of 40 Gauss points a cell; with a Neumann side C is known. Elsewhere, and with a
reaction, any w gives J(v) - J(u) >= J(v) - J(w): here the minimiser on a grid that divides every cell. So the upper
bound must not be below J(v) - J(w), and the lower one not above J(v) - J(w) by more than the energy that w may still
lose, for which an extrapolation stands: a grid half as fine lost a multiple of it.

A few hundred fields by default; the full count of problems, with a table of the results:

    SCIML_BOUNDS_CASES=20200 pytest tests/bounds/test_random_energies.py -s

Where no axis is periodic there are two networks besides, which have the prescribed values on the sides.
"""

from __future__ import annotations

import math
import os
import warnings
from dataclasses import dataclass
from typing import Any

import numpy as np
import pytest
import scipy.optimize
import torch

import sciml_bounds as sb
from sciml_bounds.variational import (
    IsotropicEnergy,
    MinimalSurface,
    PLaplacian,
    QuadraticEnergy,
    ShearThinning,
    VariationalProblem,
    VariationalSolution,
    minimize_energy,
)

#: The count of `test_random_cases.py` is that of fields; a quarter of it is the number of problems here.
PROBLEMS = int(os.environ.get("SCIML_BOUNDS_CASES", "160")) // 4

FIELDS = ("discrete", "20 % wrong", "zero", "noise", "network", "fitted network")

#: Activations with their powers; there are no second derivatives of the first ReLU.
KINDS = (("cosine", 1), ("tanh", 1), ("sigmoid", 1), ("relu", 1), ("relu", 2), ("relu", 3))

#: Of problems on an interval without reaction, out of ten.
KNOWN = 7

#: Round-off, relative to the energies that are subtracted, and quadrature of the known minimum where |y| has its kink.
SLACK = 1e-9

#: Energies beyond are left out: their bounds overflow.
HUGE = 1e100

Numbers = np.ndarray[Any, Any]


@dataclass
class Profile:
    """g, g*, and the density that has it."""

    name: str
    value: Any
    conjugate: Any
    density: Any


def profiles(rng: np.random.Generator) -> Profile:
    kind = rng.choice(["quadratic", "power", "surface", "shear thinning", "own"])
    if kind == "power":
        q = float(rng.uniform(1.4, 4.0))
        dual = q / (q - 1)
        return Profile(kind, lambda r: r**q / q, lambda t: t**dual / dual, lambda **k: PLaplacian(q, **k))
    if kind == "surface":
        return Profile(kind, lambda r: np.sqrt(1 + r**2), lambda t: np.where(t <= 1, -np.sqrt(np.maximum(1 - t**2, 0)),
                       np.inf), MinimalSurface)  # fmt: skip
    if kind == "shear thinning":
        k = float(10 ** rng.uniform(-1, 1.5))

        def value(r: Numbers) -> Numbers:
            return r**2 / 2 + k * (np.sqrt(1 + r**2) - 1)

        return Profile(kind, value, by_newton(value, lambda r: r + k * r / np.sqrt(1 + r**2),
                       lambda r: 1 + k * (1 + r**2) ** -1.5), lambda **w: ShearThinning(k, **w))  # fmt: skip
    if kind == "own":  # g = cosh r - 1, g' = sinh

        def make(**weights: Any) -> IsotropicEnergy:
            return IsotropicEnergy(lambda r: torch.cosh(r) - 1, **own_potential(weights), convex=True, lower=1.0)

        return Profile(kind, lambda r: np.cosh(r) - 1, lambda t: t * np.arcsinh(t) - np.sqrt(1 + t**2) + 1, make)
    return Profile(kind, lambda r: r**2 / 2, lambda t: t**2 / 2, QuadraticEnergy)


def own_potential(weights: dict[str, Any]) -> dict[str, Any]:
    weights = dict(weights)
    m = weights.pop("power", 2.0)
    if not np.any(weights.get("reaction", 0.0)):
        weights.pop("reaction", None)
        return weights
    return weights | {"potential": lambda u: u.abs() ** m / m}


def by_newton(value: Any, slope: Any, curvature: Any) -> Any:
    """g*(t) = r t - g(r) at g'(r) = t, for a slope that is concave: steps from r = 0 stay below."""

    def conjugate(t: Numbers) -> Numbers:
        r = np.zeros_like(t)
        for _ in range(80):
            r = r + (t - slope(r)) / curvature(r)
        return r * t - value(r)

    return conjugate


@dataclass
class Case:
    """One problem with its fields and networks; arrays are (fields)."""

    family: str
    problem: VariationalProblem
    excess: Numbers  # J(v) - J(u), or J(v) - J(w)
    lost: float  # what J(w) may be above J(u)
    upper: Numbers
    lower: Numbers
    size: Numbers  # of the energies
    missed: Numbers  # by quadrature
    above: Numbers  # how far the bounds of J(u) and J(v) are on the right side of J(u), or J(w), and J(v): (fields, 4)


# --- problems ---------------------------------------------------------------------------------------------------------


def draw_weight(rng: np.random.Generator, shape: tuple[int, ...]) -> Numbers:
    kind = rng.choice(["constant", "log-normal", "jumps"])
    if kind == "constant":
        return np.full(shape, 10.0 ** rng.uniform(-0.5, 0.5))
    if kind == "log-normal":
        return np.exp(0.5 * rng.standard_normal(shape))
    return np.where(rng.random(shape) < 0.5, 1.0, 10.0 ** rng.uniform(0.3, 1.0))


def draw_source(rng: np.random.Generator, shape: tuple[int, ...], size: float) -> Numbers:
    kind = rng.choice(["constant", "random", "one cell"])
    if kind == "one cell":
        source = np.zeros(shape)
        source[tuple(int(rng.integers(n)) for n in shape)] = size * math.prod(shape) / 4
        return source
    return size * (rng.standard_normal(shape) if kind == "random" else np.ones(shape))


def draw(seed: int) -> tuple[str, Profile, VariationalProblem, float, np.random.Generator]:
    """Draw a problem; areas have small sources, which some flux carries."""
    rng = np.random.default_rng([7, seed])
    profile = profiles(rng)
    known = seed % 10 < KNOWN
    dim = 1 if known else int(rng.choice([1, 2, 2, 3]))
    shape = tuple(int(n) for n in rng.integers(2, {1: 16, 2: 6, 3: 3}[dim] + 1, dim))
    lengths = tuple(10.0 ** rng.uniform(-0.2, 0.2, dim))
    surface = profile.name == "surface"
    a = draw_weight(rng, shape)
    size = 0.2 * float(a.min()) if surface else 10.0 ** rng.uniform(-1, 1)
    source = draw_source(rng, shape, size)
    weights: dict[str, Any] = {"coefficient": a}
    power = 2.0
    if not known and rng.random() < 0.7:
        power = float(rng.choice([2.0, 4.0, 1.5]))
        weights |= {"reaction": draw_weight(rng, shape) * (rng.random(shape) < 0.8) * 10.0 ** rng.uniform(-1, 2)}
        weights |= {"power": power}
    grid = sb.Grid(shape, lengths)
    problem = VariationalProblem(grid, profile.density(**weights), source, boundary=draw_sides(rng, grid, size))
    return f"{dim}-D {profile.name}" + (" known" if known else ""), profile, problem, power, rng


def draw_sides(rng: np.random.Generator, grid: sb.Grid, size: float) -> dict[str, Any]:
    level, slopes = rng.standard_normal(), 0.5 * rng.standard_normal(grid.dim)

    def value(*x: torch.Tensor) -> torch.Tensor:
        return level + sum(s * c for s, c in zip(slopes, x))  # one linear function, so that sides meet

    sides: dict[str, Any] = {}
    for axis in "xyz"[: grid.dim]:
        pair = [sb.Dirichlet(value), sb.Dirichlet(value)]
        if axis != "x" and rng.random() < 0.2 and slopes["xyz".index(axis)]:
            slopes["xyz".index(axis)] = 0.0
            pair = [sb.Periodic(), sb.Periodic()]
        elif rng.random() < 0.3:
            pair[1] = sb.Neumann(0.3 * size * rng.standard_normal())
        sides |= {f"{axis}0": pair[0], f"{axis}1": pair[1]}
    return sides


def solved(problem: VariationalProblem) -> VariationalSolution:
    """Solve; bounds hold of any field, and one that is not quite the minimiser serves as well."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", sb.ConvergenceWarning)
        return minimize_energy(problem, rtol=1e-6)


def draw_fields(rng: np.random.Generator, problem: VariationalProblem) -> list[torch.Tensor]:
    discrete = solved(problem).values
    noise = problem.free * torch.as_tensor(rng.standard_normal(problem.node_shape))
    spread = float((discrete - discrete.mean()).abs().max()) or 1.0
    zero = problem.impose_boundary(torch.zeros(problem.node_shape, dtype=torch.float64))
    return [discrete, discrete + 0.2 * spread * noise, zero, discrete + rng.uniform(0.5, 2.0) * spread * noise]


def draw_networks(rng: np.random.Generator, problem: VariationalProblem, discrete: torch.Tensor) -> list[Any]:
    """Draw a network with the prescribed values, and one of which the outer weights are fitted to the minimiser."""
    grid, dim = problem.grid, problem.dim
    if any(problem.frame.periodic):
        return []
    held = [("xyz".index(s[0]), int(s[1])) for s, side in problem.boundary.items() if isinstance(side, sb.Dirichlet)]
    lifting = affine(problem, held)
    x = torch.stack(torch.meshgrid(*[grid.nodes(i) for i in range(dim)], indexing="ij"), -1)
    networks = []
    for fitted in (False, True):
        activation, power = KINDS[rng.integers(len(KINDS))]
        network = sb.BarronNetwork(
            dim, int(rng.integers(1, 20)), activation, power=power, lengths=grid.lengths, dirichlet_sides=held,
            lifting=lifting, scale=float(10 ** rng.uniform(-0.3, 0.8)), seed=int(rng.integers(1000)),
        )  # fmt: skip
        with torch.no_grad():
            network.outer.mul_(10 ** rng.uniform(-1, 1))
            if fitted:
                features = network.features(x).reshape(-1, network.width).numpy()
                target = (discrete - lifting(x)).reshape(-1).numpy()
                network.outer.copy_(torch.as_tensor(np.linalg.lstsq(features, target, rcond=1e-8)[0]))
        networks.append(network)
    return networks


def affine(problem: VariationalProblem, held: list[tuple[int, int]]) -> sb.BarronNetwork:
    """The linear function that the Dirichlet data are, from the values at the nodes."""
    values = problem.impose_boundary(torch.zeros(problem.node_shape, dtype=torch.float64))
    x = torch.stack(torch.meshgrid(*[problem.grid.nodes(i) for i in range(problem.dim)], indexing="ij"), -1)
    on_sides = problem.free == 0
    rows = torch.cat([x[on_sides], torch.ones(int(on_sides.sum()), 1, dtype=torch.float64)], 1).numpy()
    *slope, offset = np.linalg.lstsq(rows, values[on_sides].numpy(), rcond=1e-12)[0]
    return sb.BarronNetwork.of(np.zeros((0, problem.dim)), [], [], slope=slope, offset=float(offset))


# --- the truth --------------------------------------------------------------------------------------------------------


def energy(problem: VariationalProblem, profile: Profile, power: float, v: torch.Tensor, count: int = 6) -> float:
    """J by Gauss points along each axis of every cell, in numpy."""
    grid = problem.grid
    nodes = v.numpy()
    for axis, wraps in enumerate(problem.frame.periodic):
        nodes = np.concatenate([nodes, np.take(nodes, [0], axis)], axis) if wraps else nodes
    a, c = (q.numpy() for q in problem.quadrature_data)
    total = 0.0
    for t, weight in gauss_points(count, grid):
        u = nodes
        for axis, s in enumerate(t):
            low, high = (np.take(u, range(e, e + grid.shape[axis]), axis) for e in (0, 1))
            u = low * (1 - s) + high * s
        squares = 0.0
        for along, h in enumerate(grid.spacing):
            p = nodes
            for axis, s in enumerate(t):
                low, high = (np.take(p, range(e, e + grid.shape[axis]), axis) for e in (0, 1))
                p = (high - low) / h if axis == along else low * (1 - s) + high * s
            squares = squares + p**2
        density = a * profile.value(np.sqrt(squares)) + c * np.abs(u) ** power / power
        total += weight * density.sum()
    return float(total - (problem.load * v).sum())


def gauss_points(count: int, grid: sb.Grid) -> list[tuple[Numbers, float]]:
    t, w = np.polynomial.legendre.leggauss(count)
    t, w = (t + 1) / 2, w / 2
    every = np.ndindex(*(count,) * grid.dim)
    return [(t[list(k)], grid.cell_volume * float(np.prod(w[list(k)]))) for k in every]


def energy_of_network(
    problem: VariationalProblem, profile: Profile, power: float, network: sb.BarronNetwork, count: int
) -> float:
    """J by Gauss points on 3 parts of every cell along each axis, and on those of Neumann sides."""
    grid = problem.grid.refine(3)
    a, c = (spread(q.numpy()) for q in problem.quadrature_data)
    f = spread(problem.source.numpy())
    corner = np.stack(np.meshgrid(*[grid.nodes(i).numpy()[:-1] for i in range(grid.dim)], indexing="ij"), -1)
    total = 0.0
    for t, weight in gauss_points(count, grid):
        x = torch.as_tensor(corner + t * np.array(grid.spacing))
        u, p = network(x).detach().numpy(), network.gradient(x).detach().numpy()
        density = a * profile.value(np.sqrt((p**2).sum(-1))) + c * np.abs(u) ** power / power - f * u
        total += weight * density.sum()
    for name, side in problem.boundary.items():
        if isinstance(side, sb.Neumann):
            axis = "xyz".index(name[0])
            flux = float(side.flux.flatten()[0])  # one number on the side
            faces = np.take(corner, [-1], axis)  # all Neumann sides of these problems are the far ones
            for t, weight in gauss_points(count, grid):
                place = t.copy()
                place[axis] = 1.0
                x = torch.as_tensor(faces + place * np.array(grid.spacing))
                total -= flux * weight / grid.spacing[axis] * network(x).detach().numpy().sum()
    return float(total)


def spread(field: Numbers) -> Numbers:
    for axis in range(field.ndim):
        field = field.repeat(3, axis)
    return field


def known_minimum(problem: VariationalProblem, profile: Profile) -> float:
    grid = problem.grid
    h = grid.spacing[0]
    a, f = problem.quadrature_data[0].numpy(), problem.source.numpy()
    t, w = np.polynomial.legendre.leggauss(40)
    t, w = (t + 1) / 2, w / 2 * h
    before = np.concatenate([[0.0], np.cumsum(f * h)])
    loads = before[:-1, None] + f[:, None] * h * t  # int f up to each point, (n, points)
    sides = problem.boundary
    left = float(sides["x0"].value)

    def dual(C: float) -> float:
        y = C - loads
        right = 0.0 if isinstance(sides["x1"], sb.Neumann) else (C - before[-1]) * float(sides["x1"].value)
        conjugates = a[:, None] * profile.conjugate(np.abs(y) / a[:, None])
        return right - C * left - float((conjugates * w).sum())

    if isinstance(sides["x1"], sb.Neumann):
        return dual(float(sides["x1"].flux) + before[-1])
    if profile.name == "surface":  # C for which no |y| is above a, at the ends of cells
        ends = np.stack([before[:-1], before[1:]], 1)
        low, high = float((ends - a[:, None]).max()), float((ends + a[:, None]).min())
    else:
        size = 1e3 * (1 + float(np.abs(before).max()) + float(a.max()))
        low, high = -size, size
    found = scipy.optimize.minimize_scalar(lambda C: -dual(C), bounds=(low, high), method="bounded",
                                           options={"xatol": 1e-13 * (high - low), "maxiter": 500})  # fmt: skip
    return -float(found.fun)


def evaluate(seed: int) -> Case:
    family, profile, problem, power, rng = draw(seed)
    values = draw_fields(rng, problem)
    found = [energy(problem, profile, power, v) for v in values]
    fewer = [energy(problem, profile, power, v, 5) for v in values]  # cosh of steep fields is not resolved
    networks, coarser, better = [], [], []
    for network in draw_networks(rng, problem, values[0]):
        J = energy_of_network(problem, profile, power, network, 4)
        if J < HUGE:  # cosh of steep ones is not
            networks.append(network)
            better.append(J)
            coarser.append(energy_of_network(problem, profile, power, network, 3))
    energies = np.array(found + better)
    missed = 3 * np.abs(energies - np.array(fewer + coarser))
    lost = 0.0
    if family.endswith("known"):
        minimum = known_minimum(problem, profile)
    else:
        refined = [problem.refine(2), problem.refine(4)]
        solutions = [solved(finer) for finer in refined]
        coarse, fine = (energy(f, profile, power, s.values) for f, s in zip(refined, solutions))
        # what is not converged may lose any amount
        minimum, lost = min(coarse, fine), abs(coarse - fine) if all(s.converged for s in solutions) else math.inf
    certificates = [sb.variational.certify_energy(problem, values[0])]
    halvings = int(rng.integers(0, 2)) if problem.dim < 3 else 0
    for v in (*values[1:], *networks):
        certificates.append(
            sb.variational.certify_energy(problem, v, lower=bool(rng.random() < 0.3), halvings=halvings)
        )
    upper, lower = (np.array([float(getattr(c, name)) for c in certificates]) for name in ("upper", "lower"))
    size = np.array([max(abs(float(end)) for end in c.energy) for c in certificates]) + abs(minimum)
    above = [
        (minimum - c.minimum.lower, c.minimum.upper - minimum + lost, J - c.energy.lower, c.energy.upper - J)
        for c, J in zip(certificates, energies)
    ]
    return Case(family, problem, energies - minimum, lost, upper, lower, size, missed, np.array(above))


# --- what must hold ---------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def cases() -> list[Case]:
    return [evaluate(seed) for seed in range(PROBLEMS)]


@pytest.mark.slow
def test_no_upper_bound_is_below_the_excess(cases):
    for case in cases:
        bad = ~(case.upper >= case.excess - case.missed - SLACK * case.size)  # NaN is bad
        assert not bad.any(), (
            case.family,
            case.problem,
            np.array(FIELDS)[: len(bad)][bad],
            case.upper[bad],
            case.excess[bad],
        )


@pytest.mark.slow
def test_no_lower_bound_is_above_the_excess(cases):
    for case in cases:
        bad = ~(case.lower <= case.excess + case.missed + case.lost + SLACK * case.size)
        assert not bad.any(), (
            case.family,
            case.problem,
            np.array(FIELDS)[: len(bad)][bad],
            case.lower[bad],
            case.excess[bad],
        )


@pytest.mark.slow
def test_energies_lie_between_their_bounds(cases):
    """J(u) lies between its two, so that J(w) is not below the lower one; J(v) lies between its two."""
    for case in cases:
        bad = ~(case.above >= -(case.missed + SLACK * case.size)[:, None])
        assert not bad.any(), (case.family, case.problem, case.above, case.size)


@pytest.mark.slow
def test_bounds_are_tight(cases):
    """Of J(v) - J(w), which is no more than J(v) - J(u); fields that are the minimiser but for round-off left out."""
    ratios: dict[str, list[float]] = {}
    lowers: dict[str, list[float]] = {}
    for case in cases:
        for field, upper, lower, excess, size in zip(FIELDS, case.upper, case.lower, case.excess, case.size):
            if excess > 1e3 * SLACK * size + 2 * case.lost:
                of_network = field.endswith("network")  # few cells leave much between the nodes
                for row in (field, "networks") if of_network else (case.family, field, "all"):
                    ratios.setdefault(row, []).append(upper / excess)
                    if lower > 0:
                        lowers.setdefault(row, []).append(lower / excess)
    count = sum(len(case.upper) for case in cases)
    print(f"\n{len(cases)} problems, {count} fields and networks; upper and lower bound over J(v) - J(u)")
    for row, found in sorted(ratios.items()):
        quantiles = np.quantile(found, [0.5, 0.9, 1.0], method="higher")  # some may be infinite
        below = f"{np.median(lowers[row]):7.3f}" if row in lowers else "   none"
        print(f"{row:28s} {len(found):6d}  median {quantiles[0]:7.3f}  90 % {quantiles[1]:7.3f}  "
              f"largest {quantiles[2]:9.3f}  lower {below}")  # fmt: skip
    assert np.median(ratios["all"]) <= 2
    assert np.median(ratios["network"]) <= 2
    assert np.quantile(ratios["1-D power known"], 0.9) < 1.1  # in one dimension fluxes can be exact
