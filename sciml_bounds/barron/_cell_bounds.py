"""Guaranteed bounds of a two-layer network and its derivatives on the cells of a grid.

On a cell with centre x and half side lengths r, derivatives up to order 3 are evaluated at the centre. Derivatives of
order 4 are bounded by sum_j |a_j w_j^m| sup |s''''| over the arguments w_j . x + b_j +- |w_j| . r (a path bound). By
Taylor's formula, for a multi-index m,

    |d^m v(y) - d^m v(x)| <= sum over 1 <= |n| <= 3 - |m| of r^n / n! |d^(m+n) v(x)|
                             + sum over |n| = 4 - |m| of r^n / n! sup |d^(m+n) v|.

ReLUs whose kink crosses the cell are treated separately: the derivatives of t_+^p up to order p are non-decreasing, so
they lie between zero and their value at t + |w| . r; higher derivatives are unbounded. All other ReLUs are polynomials
on the cell. Products with a distance function are enclosed by Leibniz' rule and interval arithmetic with pairs
(centre, radius). Cells are subdivided if the bounds of second derivatives are too wide. Cost and memory are linear in
the number of cells times the width; memory is limited by processing chunks.

Legend: C cells of a chunk, k neurons, d axes; a jet maps multi-indices up to order 3 to (centre, radius), each (C,).
"""

from __future__ import annotations

import itertools
import math

import torch
from torch import Tensor

from sciml_bounds.arrays import require_instance
from sciml_bounds.barron._box_distance import BoxDistance
from sciml_bounds.barron._norms import require_finite_parameters
from sciml_bounds.barron._two_layer import TwoLayer
from sciml_bounds.bounds._interpolation_error import CellBounds
from sciml_bounds.errors import InputError
from sciml_bounds.grid import AXES, Grid

__all__ = ["cell_bounds"]

Index = tuple[int, ...]
Enclosure = tuple[Tensor, Tensor]
Jet = dict[Index, Enclosure]

#: Highest order of derivatives that are enclosed.
ORDER = 3
#: Number of neuron arguments in memory at a time.
CHUNK_SIZE = 2**21
#: Sides of box and grid coincide if their distance is at most this fraction of the side length.
COORDINATE_TOL = 1e-14
#: Round-off of the phases of waves, in machine epsilons.
PHASE_ROUND_OFF = 8
#: Cells are subdivided if the radius of a second derivative exceeds this fraction of its root mean square on the grid.
MAX_RELATIVE_RADIUS = 0.1
#: Maximum number of subdivisions, by dimension; each multiplies the number of parts by 2^d.
MAX_DIVISIONS = {1: 8, 2: 3, 3: 1}


def cell_bounds(network: TwoLayer, grid: Grid) -> CellBounds:
    """Bound a network on all cells of a grid; see `BarronNetwork.cell_bounds`."""
    require_instance(grid, "the grid", Grid, "an sb.Grid")
    if grid.dim != network.dimension:
        raise InputError(
            f"the network has {network.dimension} variables, but the grid has {grid.dim} axes; they must agree."
        )
    if network.activation.smoothness == 0:
        raise InputError(
            "a network with step activation is discontinuous, so its derivatives are unbounded; use another activation."
        )
    require_finite_parameters(network)
    with torch.no_grad():
        lower, upper = _derivative_bounds(network, grid)
        nodes, round_off = _nodal_values(network, grid)
    units = [_unit(grid.dim, i) for i in range(grid.dim)]
    row_of = {index: i for i, index in enumerate(_indices(grid.dim))}

    def gathered(bounds: Tensor, rows: list[list[Index]]) -> Tensor:
        return torch.stack([torch.stack([bounds[row_of[index]] for index in row]) for row in rows])

    first, second = [units], [[_plus(a, b) for b in units] for a in units]
    third = gathered(torch.maximum(lower.abs(), upper.abs()), [[_plus(a, _plus(b, b)) for b in units] for a in units])
    return CellBounds(
        nodes,
        (lower[0], upper[0]),
        (gathered(lower, first)[0], gathered(upper, first)[0]),
        (gathered(lower, second), gathered(upper, second)),
        third,
        _multilinear_sides(network, grid),
        round_off,
    )


def _multilinear_sides(network: TwoLayer, grid: Grid) -> tuple[str, ...]:
    """Return the sides of a grid on which the network is multilinear: Dirichlet sides, and sides where waves cancel."""
    if grid.dim == 1:  # a side is a point
        return ("x0", "x1")
    if network.lifting is not None and network.lifting.width:
        return ()
    sides = []
    for axis in range(grid.dim):
        for end in (0, 1):
            coordinate = grid.origin[axis] + end * grid.lengths[axis]
            if _is_dirichlet(network, axis, end, coordinate) or _waves_cancel(network, axis, coordinate):
                sides.append(f"{AXES[axis]}{end}")
    return tuple(sides)


def _is_dirichlet(network: TwoLayer, axis: int, end: int, coordinate: float) -> bool:
    """Check that a side of the box of the network is a Dirichlet side and has the given coordinate."""
    own = network.origin[axis] + end * network.lengths[axis]
    return (axis, end) in network.dirichlet_sides and abs(own - coordinate) <= COORDINATE_TOL * network.lengths[axis]


def _waves_cancel(network: TwoLayer, axis: int, coordinate: float) -> bool:
    """Check that the cosines sum to a constant on a side, as products of sines do at their zeros.

    On the side, waves with the same frequencies along the other axes (up to a common sign) combine into one wave, whose
    complex amplitude is the sum of a exp(i phase).
    """
    if network.activation.name != "cosine" or network.distance is not None:
        return False
    along = network.weights[:, [i for i in range(network.dimension) if i != axis]]
    phases = network.biases + network.weights[:, axis] * coordinate
    first = along.gather(1, (along != 0).long().argmax(1, keepdim=True))[:, 0]
    sign = torch.where(first < 0, -1.0, 1.0)
    _, group = torch.unique(along * sign[:, None] + 0.0, dim=0, return_inverse=True)  # + 0.0 turns -0.0 into 0.0
    round_off = PHASE_ROUND_OFF * torch.finfo(torch.float64).eps * (1 + phases.abs())
    waves = torch.polar(network.outer, sign * phases)
    sums = torch.zeros(len(along), dtype=torch.complex128).index_add(0, group, waves)
    slack = torch.zeros(len(along), dtype=torch.float64).index_add(0, group, network.outer.abs() * round_off)
    varying = torch.zeros(len(along), dtype=torch.bool).index_put((group,), first != 0)
    return bool((~varying | (sums.abs() <= slack)).all())


# --- cells ------------------------------------------------------------------------------------------------------------


def _points(axes: list[Tensor]) -> Tensor:
    return torch.stack(torch.meshgrid(*axes, indexing="ij"), -1)


def _nodal_values(network: TwoLayer, grid: Grid) -> tuple[Tensor, float]:
    """Return the values at the nodes, and a bound of their round-off."""
    points = _points([grid.nodes(axis) for axis in range(grid.dim)])
    size = max(1, CHUNK_SIZE // max(network.width, 1))
    chunks = points.flatten(0, -2).split(size)
    values = torch.cat([network.forward(chunk) for chunk in chunks]).reshape(points.shape[:-1])
    return values, max(float(_round_off(network, chunk).max()) for chunk in chunks)


def _round_off(network: TwoLayer, x: Tensor) -> Tensor:
    """Bound the round-off of `forward` at points (C, d): that of the sum, and that of the arguments times the slopes.

    The round-off of a sum of k terms is at most k eps times the sum of their absolute values (Higham, "Accuracy and
    Stability of Numerical Algorithms" (2002), section 4.2). A few eps are added for products and the activation.
    """
    s, w, eps = network.activation, network.weights, torch.finfo(torch.float64).eps
    t, size = x @ w.T + network.biases, x.abs() @ w.abs().T + network.biases.abs()
    terms = (network.width + network.dimension + 8) * eps
    errors = terms * s(t).abs() + (network.dimension + 2) * eps * s(t, 1).abs() * size
    total = errors @ network.outer.abs() + terms * (x.abs() @ network.slope.abs() + network.offset.abs())
    if network.distance is not None:
        total = total * network.distance.factors(x)[0].prod(-1).abs()
    return total if network.lifting is None else total + _round_off(network.lifting, x)


def _derivative_bounds(network: TwoLayer, grid: Grid) -> tuple[Tensor, Tensor]:
    """Return lower and upper bounds of all derivatives up to order 3, shape (number of derivatives, n) each."""
    centres = _points([grid.centers(axis) for axis in range(grid.dim)]).flatten(0, -2)
    radius = torch.tensor(grid.spacing, dtype=torch.float64) / 2
    lower, upper = _enclose(network, centres, radius)
    for division in range(MAX_DIVISIONS[grid.dim] if network.activation.smoothness > 2 else 0):
        uncertain = _uncertain_cells(lower, upper, grid.dim)
        if not bool(uncertain.any()):
            break
        parts = 2 ** (division + 1)
        children = _children(centres[uncertain], radius, parts)
        low, high = _enclose(network, children.flatten(0, 1), radius / parts)
        shape = (len(lower), *children.shape[:2])
        lower[:, uncertain] = torch.maximum(lower[:, uncertain], low.reshape(shape).amin(-1))
        upper[:, uncertain] = torch.minimum(upper[:, uncertain], high.reshape(shape).amax(-1))
    return lower.reshape(-1, *grid.shape), upper.reshape(-1, *grid.shape)


def _uncertain_cells(lower: Tensor, upper: Tensor, dim: int) -> Tensor:
    """Mark the cells whose bounds of a second derivative are finite but too wide, shape (cells,)."""
    rows = [i for i, index in enumerate(_indices(dim)) if sum(index) == 2]
    low, high = lower[rows], upper[rows]
    finite = torch.isfinite(high - low)
    size = torch.where(finite, torch.maximum(low.abs(), high.abs()), 0.0).square().mean(1, keepdim=True).sqrt()
    return (finite & (high - low > 2 * MAX_RELATIVE_RADIUS * size.amax())).any(0)


def _children(centres: Tensor, radius: Tensor, parts: int) -> Tensor:
    """Return the centres of the parts^d sub-boxes of each cell, shape (C, parts^d, d)."""
    steps = (torch.arange(parts, dtype=torch.float64) + 0.5) * (2 / parts) - 1
    offsets = _points([steps] * len(radius)).flatten(0, -2) * radius
    return centres[:, None] + offsets


def _enclose(network: TwoLayer, centres: Tensor, radius: Tensor) -> tuple[Tensor, Tensor]:
    """Return lower and upper bounds of all derivatives on boxes, shape (number of derivatives, boxes) each."""
    size = max(1, CHUNK_SIZE // max(network.width, 1))
    parts = [_stacked(_network_jet(network, chunk, radius)) for chunk in centres.split(size)]
    lower, upper = zip(*parts)
    return torch.cat(lower, 1), torch.cat(upper, 1)


def _stacked(jet: Jet) -> tuple[Tensor, Tensor]:
    """Convert a jet to lower and upper bounds, in the order of `_indices`."""
    pairs = [jet[index] for index in _indices(len(next(iter(jet))))]
    centre, radius = (torch.stack(part) for part in zip(*pairs))
    return centre - radius, centre + radius


# --- jets -------------------------------------------------------------------------------------------------------------


def _network_jet(network: TwoLayer, centres: Tensor, radius: Tensor) -> Jet:
    """Enclose the network with its factor D and its lifting."""
    jet = _inner_jet(network, centres, radius)
    if network.distance is not None:
        jet = _product(_distance_jet(network.distance, centres, radius), jet)
    if network.lifting is not None:
        lifting = _network_jet(network.lifting, centres, radius)
        jet = {index: (jet[index][0] + centre, jet[index][1] + r) for index, (centre, r) in lifting.items()}
    return jet


def _inner_jet(network: TwoLayer, centres: Tensor, radius: Tensor) -> Jet:
    """Enclose sum_j a_j s(w_j . x + b_j) + c . x + c_0."""
    s, dim = network.activation, network.dimension
    w, slope = network.weights, network.slope
    t, reach = centres @ w.T + network.biases, w.abs() @ radius
    crossing = (t.abs() <= reach) if s.is_piecewise else torch.zeros_like(t, dtype=torch.bool)
    paths = {index: network.outer * _power(w, index) for index in _indices(dim, ORDER + 1)}
    smooth: dict[Index, Tensor] = {}
    for order in range(ORDER + 1):
        smooth |= _summed(torch.where(crossing, 0.0, s(t, order)), paths, _of_order(dim, order))
    smooth[(0,) * dim] = smooth[(0,) * dim] + centres @ slope + network.offset
    for axis in range(dim):
        smooth[_unit(dim, axis)] = smooth[_unit(dim, axis)] + slope[axis]
    sizes = {index: path.abs() for index, path in paths.items()}
    largest = _summed(torch.where(crossing, 0.0, s.largest_fourth(t, reach)), sizes, _of_order(dim, ORDER + 1))
    jet = {index: (smooth[index], _remainder(index, smooth, largest, radius)) for index in _indices(dim)}
    return _with_kinks(jet, network, t + reach, crossing, paths) if bool(crossing.any()) else jet


def _summed(neurons: Tensor, paths: dict[Index, Tensor], indices: list[Index]) -> dict[Index, Tensor]:
    """Sum values of neurons (C, k), weighted for each multi-index, in one matrix product."""
    sums = neurons @ torch.stack([paths[index] for index in indices], 1)
    return dict(zip(indices, sums.unbind(1)))


def _remainder(index: Index, at_centre: dict[Index, Tensor], largest: dict[Index, Tensor], radius: Tensor) -> Tensor:
    """Bound the difference of a derivative to its value at the centre, by Taylor's formula."""
    total = torch.zeros_like(at_centre[index])
    highest = ORDER + 1 - sum(index)
    for step in _indices(len(index), highest):
        if any(step):
            size = math.prod(float(r) ** n / math.factorial(n) for r, n in zip(radius, step))
            other = _plus(index, step)
            total = total + size * (largest[other] if sum(step) == highest else at_centre[other].abs())
    return total


def _with_kinks(jet: Jet, network: TwoLayer, top: Tensor, crossing: Tensor, paths: dict[Index, Tensor]) -> Jet:
    """Add the neurons whose kink crosses a cell; `top` contains the largest arguments, shape (C, k)."""
    s = network.activation
    highest = s.power if s.name == "relu" else 0
    added = {}
    for index, (centre, radius) in jet.items():
        if sum(index) > highest:
            unbounded = (crossing & (paths[index] != 0)).any(1)
            added[index] = (centre, torch.where(unbounded, math.inf, radius))
        else:
            half = torch.where(crossing, s(top, sum(index)), 0.0) / 2
            added[index] = (centre + half @ paths[index], radius + half @ paths[index].abs())
    return added


def _distance_jet(distance: BoxDistance, centres: Tensor, radius: Tensor) -> Jet:
    """Enclose the derivatives of a product of parabolas; a parabola is enclosed by its values at ends and vertex."""
    _, slope, second = distance.factors(centres)
    low, high = (distance.factors(centres + sign * radius)[0] for sign in (-1, 1))
    vertex_inside = slope.abs() < second.abs() * radius
    vertex = torch.where(vertex_inside, centres - slope / torch.where(second == 0, 1.0, second), centres)
    peak = torch.where(vertex_inside, distance.factors(vertex)[0], low)
    values = torch.stack([low, high, peak])
    least, most = values.amin(0), values.amax(0)
    middle = (least + most) / 2, (most - least) / 2
    factors = (middle, (slope, second.abs() * radius), (second, torch.zeros_like(second)))
    jet = {}
    for index in _indices(len(radius)):
        if max(index) > 2:
            continue
        product = (torch.ones_like(centres[:, 0]), torch.zeros_like(centres[:, 0]))
        for axis, order in enumerate(index):
            centre, r = factors[order]
            product = _times(product, (centre[:, axis], r[:, axis]))
        jet[index] = product
    return jet


def _product(f: Jet, g: Jet) -> Jet:
    """Multiply jets by Leibniz' rule; derivatives missing in f are zero."""
    result = {}
    for index in g:
        centre, radius = torch.zeros_like(g[index][0]), torch.zeros_like(g[index][0])
        for part in itertools.product(*(range(n + 1) for n in index)):
            if part in f:
                rest = tuple(n - p for n, p in zip(index, part))
                count = math.prod(math.comb(n, p) for n, p in zip(index, part))
                c, r = _times(f[part], g[rest])
                centre, radius = centre + count * c, radius + count * r
        result[index] = (centre, radius)
    return result


def _times(f: Enclosure, g: Enclosure) -> Enclosure:
    """Multiply enclosures, where zero times an unbounded set is zero."""
    size = f[0].abs() + f[1]
    radius = torch.where(size > 0, size * g[1], 0.0)
    return f[0] * g[0], radius + f[1] * g[0].abs()


# --- multi-indices ----------------------------------------------------------------------------------------------------


def _of_order(dim: int, order: int) -> list[Index]:
    return [index for index in itertools.product(range(order + 1), repeat=dim) if sum(index) == order]


def _indices(dim: int, highest: int = ORDER) -> list[Index]:
    """Return all multi-indices up to an order, starting with zero."""
    return [index for order in range(highest + 1) for index in _of_order(dim, order)]


def _unit(dim: int, axis: int) -> Index:
    return tuple(int(i == axis) for i in range(dim))


def _plus(a: Index, b: Index) -> Index:
    return tuple(x + y for x, y in zip(a, b))


def _power(w: Tensor, index: Index) -> Tensor:
    """Return w^index for every neuron, shape (k,)."""
    result = torch.ones_like(w[:, 0])
    for axis, order in enumerate(index):
        result = result * w[:, axis] ** order
    return result
