"""Guaranteed bounds against the true error in many random cases: problems of every kind times fields of every kind.

The true error is bracketed by an independent reference (`reference.py`, dense numpy). In one dimension it is exact. In
two and three, u_f is the Galerkin solution on a grid that divides every cell, and `left` the Prager-Synge bound of
|||u - u_f||| from a two-point flux on that grid:

    |||u_f - v||| <= |||u - v||| <= sqrt(|||u_f - v|||^2 + left^2)        if v has the right boundary values,

because u - u_f is orthogonal to the functions of the fine grid; for other v the two norms differ by at most `left`.

A few hundred cases by default; the full count, with a table of the results:

    SCIML_BOUNDS_CASES=20200 pytest tests/bounds/test_random_cases.py -s
"""

from __future__ import annotations

import dataclasses
import math
import os
import runpy
from dataclasses import dataclass
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch

import sciml_bounds as sb
import sciml_bounds.bounds._certify as certify_module

ref = SimpleNamespace(**runpy.run_path(str(Path(__file__).with_name("reference.py"))))

CASES = int(os.environ.get("SCIML_BOUNDS_CASES", "1200"))
SAMPLES = 5  # problems in a batch

FAMILIES = ("1-D", "2-D", "3-D", "1-D solids", "2-D solids", "3-D solids", "1-D linear", "2-D linear")
LARGEST = {1: 24, 2: 6, 3: 3}  # cells along an axis
FACTOR = {2: 4, 3: 2}  # refinement of the reference; even, so that it contains the grid of half the spacing

#: Fields, and whether they are so wrong that bound / error must be within 1 % of 1 (by at least the energy of u).
FIELDS = {
    "discrete": False,
    "20 % wrong": False,
    "5 % wrong, float32": False,
    "zero": False,
    "boundary off": False,
    "noise": True,
    "noise, float32": True,
    "smooth": True,
    "scaled": True,
    "spike": True,
}

#: Round-off, relative to the numbers that are subtracted in a grad v and u - v (`magnitude`, close to |||v||| unless v
#: is nearly constant). A few hundred operations of 1e-16 each; 20,000 cases needed 4e-15.
SLACK = 1e-13


@dataclass
class Batch:
    """One grid, one set of side conditions: `SAMPLES` problems, each with all fields; arrays are (fields, samples)."""

    family: str
    data: Any
    problem: sb.Diffusion
    values: np.ndarray
    certificates: dict[torch.dtype, sb.results.Certificate]
    upper: np.ndarray
    lower: np.ndarray
    galerkin: np.ndarray  # |||u_f - v|||
    error_low: np.ndarray
    error_high: np.ndarray
    slack: np.ndarray
    sharp: np.ndarray  # whether bound / error must be within 1 % of 1
    factor: int  # by which the grid of the fluxes is finer


# --- problems ---------------------------------------------------------------------------------------------------------


def single(array: np.ndarray) -> np.ndarray:
    """Round to float32, so that the same problem can be posed in both precisions."""
    return array.astype(np.float32).astype(np.float64)


def draw_data(rng: np.random.Generator, family: str) -> Any:
    dim = int(family[0])
    shape = tuple(int(n) for n in rng.integers(2, LARGEST[dim] + 1, dim))
    lengths = tuple(10.0 ** rng.uniform(-0.4, 0.4, dim))
    if "linear" in family:
        return draw_linear(rng, shape, lengths)
    coefficient = draw_coefficient(rng, shape)
    fluid = draw_fluid(rng, shape) if "solids" in family else np.ones((SAMPLES, *shape), dtype=bool)
    coefficient = np.where(fluid, coefficient, 0.0)  # what stands in solids, here and below, must not matter
    ratio = rng.choice([0.0, 1.0, 100.0, 1000.0])
    reaction = single(ratio * coefficient[0] * (rng.random((SAMPLES, *shape)) < rng.choice([0.5, 1.0])))
    source = draw_source(rng, shape)
    sides = draw_sides(rng, shape)
    data = balanced(ref.Data(shape, lengths, coefficient, source, reaction, fluid, sides))
    return dataclasses.replace(data, source=np.where(fluid, data.source, 7.0), reaction=np.where(fluid, reaction, 5.0))


def draw_linear(rng: np.random.Generator, shape: tuple[int, ...], lengths: tuple[float, ...]) -> Any:
    """Draw problems whose discrete solution is linear: flux and cell means are exact, and the bound all oscillation."""
    slopes = single(rng.standard_normal((SAMPLES, len(shape))))

    def linear(points: list[np.ndarray]) -> np.ndarray:
        return np.tensordot(slopes, np.array(np.meshgrid(*points, indexing="ij")), 1)

    nodal = linear([np.arange(n + 1.0) for n in shape])
    centers = linear([np.arange(n) + 0.5 for n in shape])
    size = (SAMPLES, *shape)
    reaction = 2.0 ** rng.integers(-3, 3) / (min(lengths) / max(shape)) ** 2
    sides = tuple(
        tuple(ref.Side("dirichlet", np.take(nodal, -end, 1 + axis)) for end in (0, 1)) for axis in range(len(shape))
    )
    reaction = single(np.full(size, reaction))
    return ref.Data(
        shape, lengths, np.ones((len(shape), *size)), single(reaction * centers), reaction, np.ones(size, bool), sides
    )


def draw_coefficient(rng: np.random.Generator, shape: tuple[int, ...]) -> np.ndarray:
    size = (SAMPLES, *shape)
    kind = rng.choice(["constant", "log-normal", "jumps", "diagonal"])
    if kind == "constant":
        field = np.broadcast_to(10.0 ** rng.uniform(-2, 2, (SAMPLES, *(1,) * len(shape))), size)
    elif kind == "log-normal":
        field = np.exp(rng.standard_normal(size))
    elif kind == "jumps":
        field = np.where(rng.random(size) < 0.5, 1.0, 10.0 ** rng.uniform(1, 4))
    else:
        return single(np.exp(1.5 * rng.standard_normal((len(shape), *size))))
    return single(np.repeat(field[None], len(shape), 0))


def draw_source(rng: np.random.Generator, shape: tuple[int, ...]) -> np.ndarray:
    size = (SAMPLES, *shape)
    kind = rng.choice(["constant", "random", "one cell", "zero"], p=[0.3, 0.4, 0.2, 0.1])
    if kind == "random":
        return single(rng.standard_normal(size))
    if kind == "one cell":
        source = np.zeros(size)
        source[(slice(None), *(int(rng.integers(n)) for n in shape))] = 10.0
        return source
    return np.full(size, float(kind == "constant"))


def draw_fluid(rng: np.random.Generator, shape: tuple[int, ...]) -> np.ndarray:
    masks = []
    index = np.indices(shape)
    for _ in range(SAMPLES):
        kind = rng.choice(["random", "one-cell opening", "contacts only", "two blocks", "corridor"])
        if kind == "random":
            mask = rng.random(shape) < 0.65
        elif kind == "one-cell opening":
            mask = index[0] != shape[0] // 2
            mask[(shape[0] // 2, *(int(rng.integers(n)) for n in shape[1:]))] = True
        elif kind == "contacts only":  # cells meet at vertices (and edges) only
            mask = index.sum(0) % 2 == 0
        elif kind == "two blocks":  # which meet at a vertex
            middle = np.array(shape).reshape(-1, *(1,) * len(shape)) // 2
            mask = (index < middle).all(0) | (index >= middle).all(0)
        else:
            mask = random_walk(rng, shape)
        mask[tuple(int(rng.integers(n)) for n in shape)] = True
        masks.append(mask)
    return np.array(masks)


def random_walk(rng: np.random.Generator, shape: tuple[int, ...]) -> np.ndarray:
    mask = np.zeros(shape, dtype=bool)
    at = np.array([int(rng.integers(n)) for n in shape])
    for _ in range(2 * sum(shape)):
        mask[tuple(at)] = True
        at[rng.integers(len(shape))] += rng.choice([-1, 1])
        at = np.clip(at, 0, np.array(shape) - 1)
    return mask


def draw_sides(rng: np.random.Generator, shape: tuple[int, ...]) -> tuple[tuple[Any, Any], ...]:
    """Draw all four kinds freely; Dirichlet data are the trace of one nodal field, so that they meet at corners."""
    kinds = [rng.choice(["dirichlet", "neumann", "robin"], 2, p=[0.45, 0.3, 0.25]) for _ in shape]
    kinds = [["periodic", "periodic"] if rng.random() < 0.2 else list(pair) for pair in kinds]
    nodal = rng.standard_normal((SAMPLES, *(n + 1 for n in shape))) * rng.choice([0.0, 0.3])
    nodal = single(nodal + rng.choice([0.0, 1.0]))
    for axis, pair in enumerate(kinds):
        if pair[0] == "periodic":
            first = np.take(nodal, [0], 1 + axis)
            nodal = np.concatenate([np.delete(nodal, -1, 1 + axis), first], 1 + axis)
    sides = []
    for axis, pair in enumerate(kinds):
        traces = [np.take(nodal, -end, 1 + axis) for end in (0, 1)]
        sides.append(tuple(draw_side(rng, *side, np.delete(shape, axis)) for side in zip(pair, traces)))
    return tuple(sides)


def draw_side(rng: np.random.Generator, kind: str, trace: np.ndarray, faces: np.ndarray) -> Any:
    size = (SAMPLES, *faces)
    if kind == "periodic":
        return ref.Side("periodic")
    if kind == "dirichlet":
        return ref.Side("dirichlet", trace)
    value = single(rng.standard_normal(size) * rng.choice([0.0, 1.0]))
    if kind == "neumann":
        return ref.Side("neumann", value)
    alpha = 10.0 ** rng.uniform(-2, 3, (SAMPLES, *(1,) * len(faces))) * rng.uniform(0.5, 2.0, size)
    return ref.Side("robin", value, single(alpha * (rng.random(size) < 0.8)))


def balanced(data: Any) -> Any:
    """Make the sources of every component that nothing holds sum to zero."""
    labels, floating = data.components
    supply = data.flat_source * data.volume
    for axis, end, side in data.named_sides():
        if side.kind in ("neumann", "robin"):
            behind = data.behind(axis, end)
            area = data.volume / data.spacing[axis]
            supply[:, behind] += data.flat_fluid[:, behind] * side.value.reshape(SAMPLES, -1) * area
    sizes = np.bincount(labels.reshape(-1), minlength=len(floating))
    excess = np.bincount(labels.reshape(-1), supply.reshape(-1), len(floating)) / sizes / data.volume
    source = data.flat_source - np.where(floating[labels], excess[labels], 0.0)
    source = np.where(
        np.abs(source) > 1e-12 * np.abs(supply).max() / data.volume, source, 0.0
    )  # round-off is not a source
    return dataclasses.replace(data, source=source.reshape(data.source.shape))


def make_problem(data: Any) -> sb.Diffusion:
    wraps = data.periodic

    def condition(axis: int, side: Any) -> Any:
        if side.kind == "periodic":
            return sb.Periodic()
        if side.kind == "dirichlet":
            others = [a for a in range(data.dim) if a != axis]
            value = side.value
            for position, other in enumerate(others):
                value = np.delete(value, -1, 1 + position) if wraps[other] else value
            return sb.Dirichlet(value)
        return sb.Neumann(side.value) if side.kind == "neumann" else sb.Robin(side.alpha, side.value)

    diagonal = bool((data.coefficient != data.coefficient[:1]).any())
    return sb.Diffusion(
        sb.Grid(data.shape, data.lengths),
        coefficient=tuple(data.coefficient) if diagonal else data.coefficient[0],
        source=data.source,
        reaction=data.reaction,
        solid=None if data.fluid.all() else ~data.fluid,
        boundary={f"{'xyz'[axis]}{end}": condition(axis, side) for axis, end, side in data.named_sides()},
    )


# --- fields -----------------------------------------------------------------------------------------------------------


def with_copies(data: Any, nodal: np.ndarray) -> np.ndarray:
    """Repeat the first node at the end of periodic axes: (..., n + 1)."""
    for axis, wraps in enumerate(data.periodic):
        if wraps:
            position = nodal.ndim - data.dim + axis
            nodal = np.concatenate([nodal, np.take(nodal, [0], position)], position)
    return nodal


def draw_fields(rng: np.random.Generator, data: Any, problem: sb.Diffusion, discrete: np.ndarray, size: np.ndarray,
                needed: np.ndarray) -> tuple[np.ndarray, np.ndarray]:  # fmt: skip
    """Draw the fields (fields, samples, nodes), and whether each is wrong by at least `needed` and |||u||| (`size`)."""
    free = (problem.active_nodes & ~problem.dirichlet_nodes).expand(discrete.shape).numpy()
    nodes = np.indices(discrete.shape[1:])
    waves = [np.cos(math.pi * int(rng.integers(0, 3)) * x / n) for x, n in zip(nodes, data.shape)]
    spike = np.zeros(discrete.shape)
    for sample, mask in enumerate(free):
        spike[sample].reshape(-1)[rng.choice(np.flatnonzero(mask)) if mask.any() else 0] = 1.0
    noise = rng.standard_normal(discrete.shape)

    form = ref.energy_form(data)

    def corners(field: np.ndarray) -> np.ndarray:
        return ref.at_corners(data, with_copies(data, field))

    def wrong(direction: np.ndarray, amplitude: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        length = ref.energy(form, corners(direction))
        usable = length > 1e-6 * ref.magnitude(form, corners(direction))  # not a constant that nothing holds, not zero
        factor = np.where(usable, amplitude / np.where(usable, length, 1.0), 0.0)
        return discrete + factor.reshape(-1, *(1,) * data.dim) * direction, usable

    floor = 1e-3 * ref.magnitude(form, corners(discrete))  # where u is constant, any error is infinitely many per cent
    large = np.maximum.reduce([size, needed, floor]) * rng.uniform(1.0, 3.0, SAMPLES)
    large = np.where(large > 0, large, 1.0)
    tilt = sum(rng.standard_normal() * x * (not wraps) for x, wraps in zip(nodes, data.periodic))
    off = problem.active_nodes.numpy() * (noise if rng.random() < 0.5 else tilt)
    fields = {
        "discrete": (discrete, False),
        "20 % wrong": wrong(free * noise, 0.2 * size),
        "5 % wrong, float32": wrong(free * rng.standard_normal(discrete.shape), 0.05 * size),
        "zero": (problem.impose_boundary(np.zeros(discrete.shape)).numpy(), False),
        "boundary off": wrong(off, rng.uniform(0.2, 2.0) * size),
        "noise": wrong(free * noise, large),
        "noise, float32": wrong(free * rng.standard_normal(discrete.shape), large),
        "smooth": wrong(free * math.prod(waves), large),
        "scaled": wrong(free * discrete, large),
        "spike": wrong(spike * free, large),
    }
    values = [single(field) if "float32" in name else field for name, (field, _) in fields.items()]
    sharp = [np.broadcast_to(is_wrong & FIELDS[name], SAMPLES) for name, (_, is_wrong) in fields.items()]
    return np.array(values), np.array(sharp)


# --- evaluation -------------------------------------------------------------------------------------------------------


class Reference:
    """The true error of node fields (..., samples, n + 1), or what brackets it."""

    def __init__(self, data: Any) -> None:
        self.data = data
        self.fine = data if data.dim == 1 else ref.refine(data, FACTOR[data.dim])
        self.form = ref.energy_form(self.fine)
        if data.dim == 1:
            self.solution = ref.solve_1d(data)
            self.left = np.zeros(SAMPLES)
        else:
            self.solution = ref.solve(self.fine, self.form, ref.loads(self.fine))
            self.left = ref.majorant(self.fine, self.solution, ref.flux(self.fine)).hypercircle

    def corners(self, nodal: np.ndarray) -> np.ndarray:
        factor = FACTOR.get(self.data.dim, 1)
        return ref.at_corners(self.fine, ref.interpolate(nodal, factor, self.data.dim))

    def error(self, nodal: np.ndarray) -> np.ndarray:
        """|||u_f - v||| (|||u - v||| in one dimension)."""
        if self.data.dim == 1:
            return ref.error_1d(self.data, self.solution, self.corners(nodal))[0]
        return ref.energy(self.form, self.corners(nodal) - self.solution)


def evaluate(seed: int) -> Batch:
    rng = np.random.default_rng([2, seed])
    family = FAMILIES[seed % len(FAMILIES)]
    data = draw_data(rng, family)
    problem = make_problem(data)
    reference = Reference(data)
    discrete = sb.solve(problem, method="direct").values.reshape(SAMPLES, *problem.node_shape)
    kind = rng.choice(["computed", "reused", "refined", "noisy"])
    factor = 2 if kind == "refined" else 1
    flux = draw_flux(rng, problem, discrete, kind)
    discrete = discrete.numpy()
    nodal = with_copies(data, discrete)
    # |||u - v|||^2 + (error of the flux)^2 is known for every v (Prager-Synge), so a field whose error is 8 times that
    # of the flux has a bound within sqrt(1 + 1/64) of its error.
    error = reference.error(nodal)
    hypercircle = majorant(data, nodal, flux, factor).hypercircle
    flux_error = np.sqrt(np.maximum(hypercircle**2 - error**2, 0.0))
    size = reference.error(np.zeros_like(nodal))
    values, sharp = draw_fields(rng, data, problem, discrete, size, 9 * (flux_error + error))

    given = None if kind == "computed" else flux
    improve = int(rng.choice([0, 2]))
    certificates = {}
    upper, lower = np.empty((len(FIELDS), SAMPLES)), np.empty((len(FIELDS), SAMPLES))
    for dtype in (torch.float64, torch.float32):
        rows = rows_of(dtype)
        posed = (
            problem.to(dtype) if not problem.components.floating.any() else problem
        )  # the balance is kept in float64
        certificate = sb.certify(posed, torch.as_tensor(values[rows], dtype=dtype), flux=given, improve=improve)
        certificates[dtype] = certificate
        upper[rows], lower[rows] = certificate.upper.numpy(), certificate.lower.numpy()

    nodal = with_copies(data, values)
    galerkin = reference.error(nodal)
    off = np.array(["boundary" in name for name in FIELDS])[:, None]
    error_low = np.where(off, np.maximum(galerkin - reference.left, 0.0), galerkin)
    error_high = np.where(off, galerkin + reference.left, np.hypot(galerkin, reference.left))
    numbers = ref.magnitude(ref.energy_form(data), ref.at_corners(data, nodal))
    slack = SLACK * (numbers[0] + numbers)
    return Batch(
        family, data, problem, values, certificates, upper, lower, galerkin, error_low, error_high, slack, sharp, factor
    )


def draw_flux(rng: np.random.Generator, problem: sb.Diffusion, values: torch.Tensor, kind: str) -> Any:
    """Compute an equilibrated flux on the grid, on one twice as fine, or from arbitrary numbers."""
    posed = problem.refine(2) if kind == "refined" else problem
    zero = posed.impose_boundary(torch.zeros(posed.node_shape, dtype=torch.float64))
    flux = sb.certify(posed, zero, lower=False).flux
    if kind != "noisy":
        return flux
    return sb.certify(problem, values, flux=tuple(y + torch.as_tensor(rng.standard_normal(y.shape)) for y in flux)).flux


def rows_of(dtype: torch.dtype) -> list[int]:
    return [row for row, name in enumerate(FIELDS) if ("float32" in name) == (dtype == torch.float32)]


def majorant(data: Any, nodal: np.ndarray, flux: tuple[torch.Tensor, ...], factor: int) -> Any:
    """Bounds by quadrature from nodal values (..., samples, n + 1) and a flux on the grid finer by a factor."""
    fine = ref.refine(data, factor)
    v = ref.at_corners(fine, ref.interpolate(nodal, factor, data.dim))
    return ref.majorant(fine, v, numpy_flux(flux))


def numpy_flux(flux: tuple[torch.Tensor, ...]) -> tuple[np.ndarray, ...]:
    return tuple(face.numpy() for face in flux)


@pytest.fixture(scope="module")
def batches() -> list[Batch]:
    return [evaluate(seed) for seed in range(math.ceil(CASES / len(FIELDS) / SAMPLES))]


def some(batches: list[Batch]) -> list[Batch]:
    """The part that the costlier tests look at when the full count is run."""
    return batches[:24]


# --- tests ------------------------------------------------------------------------------------------------------------


def test_no_violations(batches: list[Batch]) -> None:
    print_table(batches)
    for batch in batches:
        assert np.isfinite(batch.upper).all()
        assert (batch.upper >= batch.error_low - batch.slack).all(), describe(batch, batch.upper < batch.error_low)
        assert (batch.lower <= batch.error_high + batch.slack).all(), describe(batch, batch.lower > batch.error_high)
        assert (batch.lower >= 0).all()


def describe(batch: Batch, where: np.ndarray) -> str:
    names = list(FIELDS)
    cases = [
        f"{names[f]}, sample {s}: {batch.lower[f, s]:.17g} {batch.upper[f, s]:.17g}" for f, s in np.argwhere(where)
    ]
    return "\n".join([f"{batch.problem!r}", *cases])


def test_bound_of_a_very_wrong_field_is_within_one_per_cent(batches: list[Batch]) -> None:
    """Where the error of the field outweighs that of the flux the index is close to 1: a bound 2 % smaller fails."""
    sharp = np.stack([batch.sharp for batch in batches])
    assert sharp.mean() > 0.45
    upper, low, slack = (np.stack([getattr(b, name) for b in batches]) for name in ("upper", "error_low", "slack"))
    assert (upper[sharp] <= 1.01 * low[sharp]).all()
    caught = 0.98 * upper < low - slack
    assert caught[sharp].all()


def test_lower_bound_is_not_idle(batches: list[Batch]) -> None:
    measurable = [b.error_low > 1e3 * b.slack for b in batches]
    ratio = np.concatenate([b.lower[kept] / b.error_high[kept] for b, kept in zip(batches, measurable)])
    assert np.median(ratio) >= 0.7
    caught = [1.02 * b.lower > b.error_high + b.slack for b in batches]  # a bound 2 % larger fails
    assert np.mean(caught) > 0.4


def test_flux_is_in_equilibrium(batches: list[Batch]) -> None:
    """Outflow matches the source where there is no reaction; nothing passes walls; Neumann faces carry their data."""
    for batch in batches:
        data = ref.refine(batch.data, batch.factor)
        for certificate in batch.certificates.values():
            faces = numpy_flux(certificate.flux)
            size = sum(np.abs(y).max() / h for y, h in zip(faces, data.spacing)) + np.abs(data.flat_source).max()
            free = data.flat_fluid & (data.flat_reaction == 0)
            defect = np.where(free, ref.divergence(data, faces) + data.flat_source, 0.0)
            # the sweep adds numbers along a path through all cells at worst, and reaches round-off of the largest
            assert np.abs(defect).max() <= 1e-14 * free[0].size * size
            check_faces(data, faces)


def check_faces(data: Any, faces: tuple[np.ndarray, ...]) -> None:
    for axis, face in enumerate(faces):
        position = face.ndim - data.dim + axis
        flat = np.moveaxis(face, position, face.ndim - data.dim)
        fluid = np.moveaxis(data.fluid, 1 + axis, 1)
        wraps = data.periodic[axis]
        before = fluid[:, -1:] if wraps else fluid[:, :1]
        after = fluid[:, :1] if wraps else fluid[:, -1:]
        passes = np.concatenate([before, fluid], 1) & np.concatenate([fluid, after], 1)
        assert (np.where(passes, 0.0, flat) == 0).all()
        if wraps:
            np.testing.assert_array_equal(np.take(face, 0, position), np.take(face, -1, position))
        for end, side in enumerate(data.sides[axis]):
            if side.kind == "neumann":
                outward = np.take(face, -end, position) * (1 if end else -1)
                wall = np.where(data.fluid.take(-end, 1 + axis), side.value, 0.0)
                np.testing.assert_allclose(outward, np.broadcast_to(wall, outward.shape), rtol=1e-14)


def test_bound_is_the_documented_formula(batches: list[Batch]) -> None:
    """Gauss quadrature of the formula in `bounds._majorant`, from the certificate's values and flux, cell by cell."""
    for batch in batches:
        for dtype, certificate in batch.certificates.items():
            rows = rows_of(dtype)
            kept = [i for i, row in enumerate(rows) if list(FIELDS)[row] != "boundary off"]  # there v + w is bounded
            nodal = with_copies(batch.data, certificate.values.numpy()[kept])
            space = [slice(None)] * batch.data.dim
            flux = tuple(
                y.expand(len(rows), SAMPLES, *y.shape[-len(space) :])[(kept, slice(None), *space)]
                for y in certificate.flux
            )
            expected = majorant(batch.data, nodal, flux, batch.factor)
            upper, indicators = certificate.upper.numpy()[kept], certificate.indicators.numpy()[kept]
            # a grad v - y loses the digits that its two parts share
            slack = 1e-12 * ref.magnitude(ref.energy_form(batch.data), ref.at_corners(batch.data, nodal))
            assert (np.abs(upper - expected.upper) <= 1e-12 * upper + slack).all()
            difference = np.abs(indicators - np.sqrt(coarse_sums(batch, expected.squared)))
            tolerance = 1e-12 * upper + slack
            assert (difference <= tolerance.reshape(*tolerance.shape, *(1,) * batch.data.dim)).all()


def coarse_sums(batch: Batch, fine: np.ndarray) -> np.ndarray:
    """Sum (..., fine cells) over the parts of each cell of the grid: (..., n)."""
    split = [size for n in batch.data.shape for size in (n, batch.factor)]
    return fine.reshape(*fine.shape[:-1], *split).sum(tuple(range(-1, -2 * batch.data.dim, -2)))


def test_squares_of_the_indicators_sum_to_the_square_of_the_bound(batches: list[Batch]) -> None:
    for batch in batches:
        for certificate in batch.certificates.values():
            total = certificate.indicators.flatten(-batch.data.dim).square().sum(-1).sqrt()
            torch.testing.assert_close(total, certificate.upper, rtol=1e-13, atol=0)


@pytest.mark.parametrize("term", ["flux", "oscillation", "reaction", "robin"])
def test_every_term_is_needed(batches: list[Batch], term: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each term is the larger part of the bound in some case, and without it the bound fails."""
    full = certify_module.majorant

    def without_term(*arguments: Any) -> Any:
        bound = full(*arguments)
        return dataclasses.replace(bound, **{term: torch.zeros_like(bound.flux)})

    monkeypatch.setattr(certify_module, "majorant", without_term)
    largest, violations = 0.0, 0
    for batch in some(batches):
        certificate = batch.certificates[torch.float64]
        rows = rows_of(torch.float64)
        mutilated = sb.certify(batch.problem, batch.values[rows], flux=certificate.flux, lower=False).upper.numpy()
        large = batch.upper[rows] > 1e3 * batch.slack[rows]
        share = 1 - (mutilated[large] / batch.upper[rows][large]) ** 2
        largest = max(largest, float(share.max(initial=0.0)))
        violations += int((mutilated < batch.error_low[rows] - batch.slack[rows]).sum())
    assert largest > 0.5
    assert violations > 0


def test_boundary_part_is_needed(batches: list[Batch]) -> None:
    row = list(FIELDS).index("boundary off")
    largest, violations = 0.0, 0
    for batch in batches:
        certificate = batch.certificates[torch.float64]
        part = certificate.boundary_part.numpy()[rows_of(torch.float64).index(row)]
        large = batch.upper[row] > 1e3 * batch.slack[row]
        largest = max(largest, float((part[large] / batch.upper[row][large]).max(initial=0.0)))
        violations += int((batch.upper[row] - part < batch.error_low[row] - batch.slack[row]).sum())
    assert largest > 0.5
    assert violations > 0


def test_mesh_and_model_contain_the_two_parts(batches: list[Batch]) -> None:
    """`mesh` holds the error of the discrete solution, `model` the distance to it."""
    for batch in some(batches):
        certificate = batch.certificates[torch.float64]
        rows = rows_of(torch.float64)
        nodal = with_copies(batch.data, batch.values)
        distance = ref.energy(ref.energy_form(batch.data), ref.at_corners(batch.data, nodal[rows] - nodal[0]))
        mesh, model, slack = certificate.mesh, certificate.model, batch.slack[rows]
        assert (model.lower.numpy() <= distance + slack).all()
        assert (model.upper.numpy() >= distance - slack).all()
        assert (mesh.lower.numpy() <= batch.error_high[0] + slack).all()
        assert (mesh.upper.numpy() >= batch.error_low[0] - slack).all()


def test_l2_bound_in_one_dimension(batches: list[Batch]) -> None:
    known = 0
    for batch in (b for b in batches if b.data.dim == 1):
        nodal = with_copies(batch.data, batch.values)
        ends = ref.solve_1d(batch.data)
        error = ref.error_1d(batch.data, ends, ref.at_corners(batch.data, nodal))[1]
        for dtype, certificate in batch.certificates.items():
            rows = rows_of(dtype)
            upper = certificate.l2_upper.numpy()
            assert (upper >= error[rows] * (1 - 1e-9) - batch.slack[rows]).all()
            known += np.isfinite(upper).sum()
    assert known > 0


@pytest.mark.parametrize("shape", [(4,), (4, 8), (4, 3, 6)])
def test_oscillation_constant_is_nearly_attained(shape: tuple[int, ...]) -> None:
    """Cells whose oscillation is linear along their longest side, and an error that is free at all faces.

    With f = c x' (x' the mean of x over the cell) and flux 1 at both ends, v = x and y = 1 leave nothing but
    r - r' = -c (x - x'). The error then solves -e'' = r - r' with e' = 0 at every face (but for terms in c), so that
    |||e|||^2 = ||r - r'||^2 h^2 / 10, and the bound, with h^2 / pi^2, is sqrt(10) / pi = 1.0066 times the error.
    """
    n, c = shape[0], 0.01
    lengths = (1.0, *(0.2 * cells / n for cells in shape[1:]))  # cells are longest along x
    x = np.arange(n + 1.0) / n
    data = ref.Data(
        (n,), (1.0,), np.ones((1, 1, n)), c * (x[None, 1:] + x[None, :-1]) / 2, np.full((1, n), c),
        np.ones((1, n), dtype=bool), ((ref.Side("neumann", -np.ones(1)), ref.Side("neumann", np.ones(1))),),
    )  # fmt: skip
    error = ref.error_1d(data, ref.solve_1d(data), ref.at_corners(data, x[None]))[0][0] * math.sqrt(math.prod(lengths))
    grid = sb.Grid(shape, lengths)
    sides: dict[str, Any] = {side: sb.Neumann(0.0) for side in grid.sides} | {
        "x0": sb.Neumann(-1.0),
        "x1": sb.Neumann(1.0),
    }
    profile = [1] * (len(shape) - 1)
    source = np.broadcast_to(data.source.reshape(n, *profile), shape)
    problem = sb.Diffusion(grid, 1.0, source, reaction=c, boundary=sides)
    values = np.broadcast_to(x.reshape(-1, *profile), problem.node_shape)
    index = float(sb.certify(problem, values, rtol=1e-12).upper) / error
    assert 1 <= index <= math.sqrt(10) / math.pi * 1.001


@pytest.mark.parametrize("shape", [(32,), (16, 16), (8, 8, 8)])
def test_indicators_find_a_planted_error(shape: tuple[int, ...]) -> None:
    """A bump at one node of a good field: the cells with the largest indicators are those that touch the node."""
    rng = np.random.default_rng(0)
    dim = len(shape)
    coefficient = np.exp(0.5 * rng.standard_normal((20, *shape)))
    problem = sb.Diffusion(sb.Grid(shape), coefficient, source=1.0)
    values = sb.solve(problem).values
    mesh = sb.certify(problem, values)
    for sample in range(len(values)):
        node = tuple(int(rng.integers(1, n)) for n in shape)
        values[(sample, *node)] += 2 * float(mesh.upper[sample]) * math.prod(shape) ** (0.5 - 1 / dim)
        indicators = sb.certify(problem, values, flux=mesh.flux).indicators[sample].numpy()
        found = np.argsort(indicators, axis=None)[-(2**dim) :]
        near = np.ix_(*([n - 1, n] for n in node))
        expected = np.arange(math.prod(shape)).reshape(shape)[near].reshape(-1)
        assert set(found) == set(expected)


def test_component_that_only_a_vertex_holds() -> None:
    """Two cells meet at a vertex; one has a Dirichlet side, the other floats, but their lattice of nodes is one."""
    solid = np.array([[False, True], [True, False]])
    sides = {"x0": sb.Dirichlet(1.0), "x1": sb.Neumann(0.0), "y0": sb.Neumann(0.0), "y1": sb.Neumann(0.0)}
    problem = sb.Diffusion(sb.Grid((2, 2)), 1.0, 0.0, boundary=sides, solid=solid)
    solution = sb.solve(problem, certify=True)
    torch.testing.assert_close(solution.values[problem.active_nodes[0]], torch.ones(7, dtype=torch.float64))
    assert float(solution.certificate.upper) < 1e-12


# --- table ------------------------------------------------------------------------------------------------------------


def print_table(batches: list[Batch]) -> None:
    """Print violations of the bracket, and the ratios of the bounds to |||u_f - v|||, where that is not round-off."""
    family = np.repeat([b.family for b in batches], len(FIELDS) * SAMPLES)
    field = np.tile(np.repeat(list(FIELDS), SAMPLES), len(batches))
    names = ("upper", "lower", "galerkin", "error_low", "error_high", "slack", "sharp")
    joined = {name: np.concatenate([getattr(b, name).reshape(-1) for b in batches]) for name in names}
    too_low = joined["upper"] < joined["error_low"] - joined["slack"]
    too_high = joined["lower"] > joined["error_high"] + joined["slack"]
    measurable = joined["galerkin"] > 1e3 * joined["slack"]
    print(f"\n{'':24}{'cases':>7}{'violations':>11}   {'upper / error':^26}{'lower / error':>16}{'bracket':>9}")
    print(f"{'':42}   {'min':>8}{'median':>8}{'max':>10}{'median':>9}{'max':>7}{'median':>9}")
    rows = [("all", np.ones_like(too_low)), ("within 1 % by design", joined["sharp"])]
    rows += [(name, family == name) for name in FAMILIES] + [(name, field == name) for name in FIELDS]
    for name, chosen in rows:
        kept = chosen & measurable
        error = joined["galerkin"][kept]
        index, effect = joined["upper"][kept] / error, joined["lower"][kept] / error
        bracket = np.median(joined["error_high"][kept] / error)
        counts = f"{name:24}{chosen.sum():7}{(too_low | too_high)[chosen].sum():11}   "
        above = f"{index.min():8.5f}{np.median(index):8.4f}{index.max():10.3f}"
        print(f"{counts}{above}{np.median(effect):9.4f}{effect.max():7.4f}{bracket:9.4f}")
