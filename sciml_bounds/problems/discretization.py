"""Two discretizations of a diffusion problem: vertex-centred for the solution, cell-centred for the fluxes.

Vertex-centred: multilinear elements with the trapezoidal rule. The stencil has 2 d + 1 points in d dimensions, and the
conductance of an edge is the mean of the coefficient over the adjacent cells. Cell-centred: two-point fluxes with
harmonic means of the coefficient, whose face fluxes balance the sources of every cell exactly. See Eymard, Gallouet,
Herbin, "Finite volume methods" (2000), section 9.

All functions are differentiable in the data. Equations are integrated over the cells. Fields have shape (b, x, y, z)
with as many space axes as the grid; b is 1 for data without batch.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import scipy.sparse
import scipy.sparse.csgraph
import torch
from torch import Tensor

from sciml_bounds.grid import AXES, Boundary, Dirichlet, Neumann, Periodic, Robin, side_axis
from sciml_bounds.kernels._backend import needs_gradient
from sciml_bounds.kernels.assembly import add_cell_sums, cell_sums
from sciml_bounds.kernels.field_memory import elementwise, new_field
from sciml_bounds.kernels.lattice import rows
from sciml_bounds.operators._lattice_operator import LatticeOperator, LatticeSystem, to_lattice
from sciml_bounds.operators._transform import AxisKind, BoxInverse, End
from sciml_bounds.problems.diffusion import Diffusion
from sciml_bounds.problems.nodal_loads import nodal_volumes
from sciml_bounds.problems.transfers import node_average, spread_side, sum_to_nodes, with_periodic_copies

__all__ = [
    "CellFluxes",
    "boundary_load",
    "box_eigenvalue",
    "cell_fluxes",
    "lifting_system",
    "nodal_load",
    "node_system",
    "source_load",
]


def axis_offsets(dim: int) -> tuple[tuple[int, int, int], ...]:
    """Return the offset to the next point along each axis, on lattices padded to three axes in front."""
    return tuple((int(k == 0), int(k == 1), int(k == 2)) for k in range(3 - dim, 3))


# --- vertex-centred ---------------------------------------------------------------------------------------------------


def node_system(problem: Diffusion) -> LatticeSystem:
    """Assemble the vertex-centred equations for the difference of u and the extension of its Dirichlet values by zero.

    Nodes with a prescribed value and nodes inside solids remain in the lattice, with the (scaled) equation x = 0.
    """
    return _eliminate(problem, nodal_load(problem), problem.dirichlet_values)


def nodal_load(problem: Diffusion) -> Tensor:
    """Return the exact integrals of source and side data times each nodal basis function, shape (b, nodes)."""
    return _with_side_data(problem, _node_sums(problem, problem.source))


def _with_side_data(problem: Diffusion, load: Tensor) -> Tensor:
    """Return the sum of a load vector and the integrals of the side data times the nodal basis functions."""
    for side, condition in problem.boundary.items():
        if isinstance(condition, Neumann | Robin):
            data = condition.flux if isinstance(condition, Neumann) else condition.g
            load = load + _side_to_nodes(problem, side, data)
    return load


def lifting_system(problem: Diffusion, known: Tensor) -> LatticeSystem:
    """Assemble the equations for the discrete lifting of Dirichlet values (b, nodes), with all other data zero."""
    return _eliminate(problem, torch.zeros_like(known), known)


def boundary_load(problem: Diffusion) -> Tensor:
    """Return the contribution of the side data to the right-hand side of `node_system`, shape (b, x, y, z)."""
    nothing = torch.zeros((1, *problem.node_shape), dtype=problem.dtype, device=problem.device)
    return _assembled(problem, _with_side_data(problem, nothing), problem.dirichlet_values)[2]


def source_load(problem: Diffusion) -> Tensor:
    """Return the contribution of the source to the right-hand side of `node_system`, shape (b, x, y, z)."""
    load = to_lattice(_node_sums(problem, problem.source), problem.grid.dim)
    return torch.where(to_lattice(problem.free_nodes, problem.grid.dim), load, 0.0)


def _eliminate(problem: Diffusion, load: Tensor, known: Tensor) -> LatticeSystem:
    """Assemble the equations A x = b for the free nodes, with known values moved to the right-hand side."""
    T, c, load = _assembled(problem, load, known)
    operator = _operator(T, c, problem.grid.dim)
    components, weights = _floating_nodes(problem, operator, problem.free_nodes)
    if problem.solid is None:
        operator.eigenvalue_lower = box_eigenvalue(problem, nodal=True)
    return LatticeSystem(operator, load, components, weights, box_inverse(problem, operator, nodal=True))


def _assembled(problem: Diffusion, load: Tensor, known: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Return conductances, absorption and right-hand side of the free nodes."""
    dim = problem.grid.dim
    c = _node_sums(problem, problem.reaction)
    for side, condition in problem.boundary.items():
        if isinstance(condition, Robin):
            c = c + _side_to_nodes(problem, side, condition.alpha)
    c, load, known = (to_lattice(field, dim) for field in (c, load, known))
    T = _edge_conductances(problem, len(c))
    c = _repeated(c, T.shape[1])
    dirichlet = [side_axis(side) for side, condition in problem.boundary.items() if isinstance(condition, Dirichlet)]
    if dirichlet:
        load = _repeated(load, max(T.shape[1], len(load), len(known)))
    for axis, end in dirichlet:
        _eliminate_side(T, c, load, known, axis + 3 - dim, end)
    free = problem.free_nodes
    if problem.solid is not None:
        c, load = (torch.where(to_lattice(free, dim), field, 0.0) for field in (c, load))
    size = _mean_entry(T, c, free)
    for axis, end in dirichlet:
        entries = c.select(4 - dim + axis, -end)
        entries.copy_(size.squeeze(-1).expand_as(entries))
    if problem.solid is not None:
        c = torch.where(to_lattice(free, dim), c, size)
    return T, c, load


def _repeated(field: Tensor, batch: int) -> Tensor:
    """Return a field with a full batch in writeable memory; the field itself if its batch is full already."""
    return field if len(field) == batch else field.expand(batch, *field.shape[1:]).contiguous()


def _eliminate_side(T: Tensor, c: Tensor, load: Tensor, known: Tensor, axis: int, end: int) -> None:
    """Eliminate the nodes of a Dirichlet side from the equations of the other nodes, in place.

    Edges within the side are removed. An edge to the interior contributes to absorption and load of its interior node.
    """
    dim = 1 + axis
    first = T.ndim - 2 - len(T)  # axis of the first conductance, on the padded lattice
    for k in range(len(T)):
        if first + k != axis:
            T[k].select(dim, -end).zero_()
    nodes = c.shape[dim]
    edge = T[axis - first].select(dim, nodes - 2 if end else 0)
    leaving = edge.clone()
    edge.zero_()
    behind = nodes - 2 if end else 1
    c.select(dim, behind).add_(leaving)
    values = known.select(dim, -end)
    if needs_gradient(leaving) and not values.requires_grad:  # an adjoint may overflow, and times zero would be NaN
        leaving = torch.where(values != 0, leaving, 0.0)
    load.select(dim, behind).add_(leaving * values)
    c.select(dim, -end).zero_()
    load.select(dim, -end).zero_()


def _edge_conductances(problem: Diffusion, batch: int) -> Tensor:
    """Return the conductances (dim, b, x, y, z) of the edges, on the lattice padded to three axes, with b >= `batch`.

    The last conductance along a non-periodic axis is zero.
    """
    grid = problem.grid
    cells = [_in_fluid(problem, a) for a in problem.coefficient]
    *outer, inner = (1,) * (3 - grid.dim) + problem.node_shape
    batch = max(batch, *map(len, cells))
    T = new_field(cells[0], (batch, *outer, grid.dim, inner)).movedim(3, 0)  # memory layout of `LatticeOperator`
    for axis, (a, h) in enumerate(zip(cells, grid.spacing)):
        scale = grid.cell_volume / h**2 / 2 ** (grid.dim - 1)
        others = tuple(other != axis for other in range(grid.dim))
        add_cell_sums(a.expand(batch, *a.shape[1:]), others, problem.periodic, scale, T, axis)
    return T


def _node_sums(problem: Diffusion, density: Tensor) -> Tensor:
    """Integrate a cell field times the nodal basis functions by the trapezoidal rule; return a node field."""
    grid = problem.grid
    scale = grid.cell_volume / 2**grid.dim
    return cell_sums(_in_fluid(problem, density), (True,) * grid.dim, problem.periodic, scale)


def _in_fluid(problem: Diffusion, field: Tensor) -> Tensor:
    """Return a cell field as (b, n), set to zero inside solids."""
    cells = problem.samples(field)
    return cells if problem.solid is None else torch.where(problem.fluid, cells, 0.0)


def _side_to_nodes(problem: Diffusion, side: str, data: Tensor) -> Tensor:
    """Integrate face data of a side times the nodal functions by the trapezoidal rule; return a node field."""
    dim = problem.grid.dim
    axis, end = side_axis(side)
    weight = problem.fluid.select(1 + axis, -end).to(problem.dtype) * (problem.grid.face_area(axis) / 2 ** (dim - 1))
    along = tuple(p for a, p in enumerate(problem.periodic) if a != axis)
    shares = sum_to_nodes(problem.samples(data, dim - 1) * weight, along)
    return spread_side(shares, axis, end, problem.node_shape)


def _mean_entry(T: Tensor, c: Tensor, free: Tensor) -> Tensor:
    """Return the mean diagonal entry of the equations of free points, (b, 1, 1, 1); T and c must be zero elsewhere.

    This number scales the equations x = 0 of the other points. Since it lies between the smallest eigenvalue and the
    norm of the free equations, it changes neither, whatever the size of the coefficients.
    """
    count = torch.stack([mask.count_nonzero() for mask in free]).clamp_min(1)  # `sum` would copy to integers
    size = (c.detach().flatten(1).sum(1) + 2 * rows(T.detach()).flatten(1).sum(1)) / count
    return torch.where(size > 0, size, 1.0).view(-1, 1, 1, 1)


def _operator(T: Tensor, c: Tensor, dim: int) -> LatticeOperator:
    """Return the lattice operator with the given conductances and absorption, on the lattice padded to three axes."""
    batch = max(T.shape[1], len(c))
    return LatticeOperator(axis_offsets(dim), T.expand(-1, batch, -1, -1, -1), c.expand(batch, *c.shape[1:]))


def _floating_nodes(problem: Diffusion, operator: LatticeOperator, free: Tensor) -> tuple[Tensor | None, Tensor | None]:
    """Return the labels of the floating node components and the volumes of the nodes; two None if nothing floats."""
    if not problem.floats:
        return None, None
    dim = problem.grid.dim
    T = operator.conductance.detach().flatten(2).cpu().numpy()
    c = operator.absorption.detach().flatten(1).cpu().numpy()
    open_nodes = to_lattice(free.expand(operator.batch, *free.shape[1:]), dim).flatten(1).cpu().numpy()
    index = np.arange(T.shape[2]).reshape(operator.lattice)
    labels = np.full(c.shape, -1, dtype=np.int64)
    first = 0
    for sample in range(operator.batch):
        starts, ends = [], []
        for k, offset in enumerate(operator.offsets):
            coupled = T[k, sample] > 0
            starts.append(index.reshape(-1)[coupled])
            ends.append(np.roll(index, tuple(-o for o in offset), (0, 1, 2)).reshape(-1)[coupled])
        pairs = (np.concatenate(starts), np.concatenate(ends))
        graph = scipy.sparse.coo_array((np.ones(len(pairs[0]), dtype=np.int8), pairs), shape=(c.shape[1],) * 2)
        count, found = scipy.sparse.csgraph.connected_components(graph, directed=False)
        fixed = np.bincount(found, weights=np.where(open_nodes[sample], c[sample], 1.0), minlength=count) > 0
        numbers = np.where(fixed, -1, np.cumsum(~fixed) - 1 + first)
        labels[sample] = numbers[found]
        first += int(np.count_nonzero(~fixed))
    if first == 0:  # a floating cell component may be fixed through a node shared with another component
        return None, None
    volumes = nodal_volumes(problem)
    weights = to_lattice(volumes.expand(operator.batch, *volumes.shape[1:]), dim)
    return torch.as_tensor(labels, device=operator.device).view(operator.absorption.shape), weights


# --- cell-centred -----------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class CellFluxes:
    """The cell-centred equations, and the face fluxes of given cell pressures.

    Attributes
    ----------
    problem : Diffusion
        The problem.
    system : LatticeSystem
        Equations for the cell pressures.
    inner : tuple of Tensor
        Conductance times area of the faces between cells, one tensor per axis; entry k is between cells k and k + 1.
    """

    problem: Diffusion
    system: LatticeSystem
    inner: tuple[Tensor, ...]

    def faces(self, pressure: Tensor) -> tuple[Tensor, ...]:
        """Return fluxes y ~ a grad u at face centres from pressures (b, n): per axis a field (b, n + 1 along it)."""
        return tuple(self._faces_along(axis, pressure) for axis in range(self.problem.grid.dim))

    def _faces_along(self, axis: int, pressure: Tensor) -> Tensor:
        area, dim = self.problem.grid.face_area(axis), 1 + axis
        n = self.problem.grid.shape[axis]
        batch = max(len(pressure), len(self.inner[axis]))
        faces = new_field(pressure, (batch, *pressure.shape[1:dim], n + 1, *pressure.shape[dim + 1 :]))
        between = faces.narrow(dim, 1, n - 1)
        parts = pressure.narrow(dim, 1, n - 1), pressure.narrow(dim, 0, n - 1), self.inner[axis].narrow(dim, 0, n - 1)
        high, low, inner = (part.expand_as(between) for part in parts)
        if needs_gradient(pressure, inner):
            between.copy_((high - low) * inner / area)
        else:  # in place, as memory traffic costs more than arithmetic
            torch.sub(high, low, out=between)
            torch.addcmul(_zero(between), between, inner, value=1 / area, out=between)
        first, last = pressure.select(dim, 0), pressure.select(dim, n - 1)
        if self.problem.periodic[axis]:
            across = self.inner[axis].select(dim, n - 1) * (first - last) / area
            ends = across, across
        else:
            name = AXES[axis]
            ends = self.outward(f"{name}0", first) / -area, self.outward(f"{name}1", last) / area
        for end, flux in enumerate(ends):
            faces.select(dim, -end).copy_(flux)
        return faces

    def outward(self, side: str, pressure: Tensor) -> Tensor:
        """Return the outward flux through the faces of a side, integrated, from the pressures of the adjacent cells."""
        absorbed, supplied = side_exchange(self.problem, side)
        return supplied - absorbed * pressure


def side_exchange(problem: Diffusion, side: str) -> tuple[Tensor, Tensor]:
    """Return (k, s) for which cells next to a side with pressures p receive the flux s - k p through the side."""
    grid, condition = problem.grid, problem.boundary[side]
    axis, end = side_axis(side)
    area = grid.face_area(axis)
    open_faces = problem.fluid.select(1 + axis, -end).to(problem.dtype)
    behind = problem.samples(problem.coefficient[axis]).select(1 + axis, -end)
    half = behind * open_faces * (2 * area / grid.spacing[axis])
    zero = torch.zeros_like(half)
    if isinstance(condition, Dirichlet):
        return half, half * _side_face_values(problem, side, condition)
    if isinstance(condition, Neumann):
        return zero, problem.samples(condition.flux, grid.dim - 1) * open_faces * area
    if isinstance(condition, Robin):
        exchange = problem.samples(condition.alpha, grid.dim - 1) * area
        supply = problem.samples(condition.g, grid.dim - 1) * area
        share = half / torch.where(open_faces > 0, half + exchange, 1.0)
        return share * exchange, share * supply
    return zero, zero


def _side_face_values(problem: Diffusion, side: str, condition: Dirichlet) -> Tensor:
    """Return the mean of the Dirichlet interpolant over each face of a side, shape (b, faces)."""
    axis, _ = side_axis(side)
    nodes = problem.samples(condition.value, problem.grid.dim - 1)
    along = tuple(p for a, p in enumerate(problem.periodic) if a != axis)
    return node_average(with_periodic_copies(nodes, along), tuple(range(1, nodes.ndim)))


def cell_fluxes(problem: Diffusion) -> CellFluxes:
    """Assemble the cell-centred equations with two-point fluxes."""
    dim = problem.grid.dim
    fluid = problem.fluid
    T = _face_conductances(problem)
    c, b = _in_fluid(problem, problem.reaction), _in_fluid(problem, problem.source)
    c, b = (elementwise(torch.mul, field, problem.grid.cell_volume) for field in (c, b))
    for side, condition in problem.boundary.items():
        if isinstance(condition, Periodic):
            continue
        axis, end = side_axis(side)
        absorbed, supplied = side_exchange(problem, side)
        c, b = (_repeated(field, max(len(field), len(part))) for field, part in ((c, absorbed), (b, supplied)))
        c.select(1 + axis, -end).add_(absorbed)
        b.select(1 + axis, -end).add_(supplied)
    c = to_lattice(c, dim)
    if problem.solid is not None:
        b = torch.where(fluid, b, 0.0)
        c = torch.where(to_lattice(fluid, dim), c, 0.0)
        c = torch.where(to_lattice(fluid, dim), c, _mean_entry(T, c, fluid))
    operator = _operator(T, c, dim)
    if problem.solid is None:
        operator.eigenvalue_lower = box_eigenvalue(problem, nodal=False)
    components = weights = None
    if problem.floats:
        found = problem.components.for_batch(max(operator.batch, len(problem.components.labels)))
        fixed = ~found.floating[found.labels.clamp_min(0)]
        components = to_lattice(torch.where(fixed, -1, found.labels), dim)
        weights = to_lattice(fluid.to(problem.dtype), dim)
    inverse = box_inverse(problem, operator, nodal=False)
    inner = tuple(along.view(len(along), *problem.grid.shape) for along in T)
    return CellFluxes(problem, LatticeSystem(operator, to_lattice(b, dim), components, weights, inverse), inner)


def _face_conductances(problem: Diffusion) -> Tensor:
    """Return the conductances between adjacent cells: harmonic mean of the coefficient times area over distance.

    The shape is (dim, b, x, y, z), padded to three axes. The last entry along a non-periodic axis is zero.
    """
    grid = problem.grid
    cells = [problem.samples(a) for a in problem.coefficient]
    batch = max(len(problem.fluid), *map(len, cells))
    *outer, last = grid.shape
    T = new_field(cells[0], (batch, *outer, grid.dim, last)).movedim(-2, 0)  # memory layout of `LatticeOperator`
    for axis, a in enumerate(cells):
        n, dim = grid.shape[axis], 1 + axis
        between = [(a.narrow(dim, 0, n - 1), a.narrow(dim, 1, n - 1), T[axis].narrow(dim, 0, n - 1), 0)]
        if problem.periodic[axis]:
            between.append((a.narrow(dim, n - 1, 1), a.narrow(dim, 0, 1), T[axis].narrow(dim, n - 1, 1), n - 1))
        else:
            T[axis].select(dim, n - 1).zero_()
        for before, after, out, start in between:
            total = elementwise(torch.add, before, after)
            if problem.solid is not None:  # coefficients in solids are arbitrary
                open_faces = (problem.fluid & torch.roll(problem.fluid, -1, dim)).narrow(dim, start, before.shape[dim])
                before, total = torch.where(open_faces, before, 0.0), torch.where(open_faces, total, 1.0)
                after = torch.where(open_faces, after, 0.0)
            _write_in_series(before, after, total, 2 * grid.face_area(axis) / grid.spacing[axis], out)
    return T.reshape(grid.dim, batch, *(1,) * (3 - grid.dim), *grid.shape)


def _write_in_series(first: Tensor, second: Tensor, total: Tensor, factor: float, out: Tensor) -> None:
    """Write `factor` first second / total into `out`; `total` = first + second is overwritten.

    Not differentiable, as fluxes are computed for detached problems only.
    """
    share = torch.addcdiv(_zero(total), second, total, value=factor, out=total)
    torch.mul(first.expand_as(out), share.expand_as(out), out=out)


def _zero(like: Tensor) -> Tensor:
    """Return a zero tensor without axes, the summand for `addcmul` and `addcdiv`."""
    return like.new_zeros(())


# --- constant coefficients --------------------------------------------------------------------------------------------


def box_inverse(problem: Diffusion, operator: LatticeOperator, *, nodal: bool) -> BoxInverse | None:
    """Return the inverse of a lattice matrix by fast transforms, or None if the matrix is not of this kind.

    The coefficients must be constant, without solid cells and Robin sides.
    """
    sides = [[problem.boundary[f"{axis}{end}"] for end in (0, 1)] for axis in AXES[: problem.grid.dim]]
    exchanging = [c for pair in sides for c in pair if isinstance(c, Robin)]
    if problem.solid is not None or any(bool(c.alpha.any()) for c in exchanging):
        return None
    known = {id(q): _constant(problem.samples(q.detach())) for q in (*problem.coefficient, problem.reaction)}
    if any(number is None for number in known.values()):
        return None
    *coefficient, reaction = torch.broadcast_tensors(*(known[id(q)] for q in (*problem.coefficient, problem.reaction)))
    ends: list[tuple[End, End]] = [(_end(first), _end(last)) for first, last in sides]
    axes = tuple(AxisKind(n, nodal, *pair) for n, pair in zip(problem.grid.shape, ends))
    weights = tuple(a / h**2 for a, h in zip(coefficient, problem.grid.spacing))
    corner = tuple(0 if axis.first == "dirichlet" else -1 for axis in axes)  # a Dirichlet node, if any
    padded = (0,) * (3 - len(axes)) + corner
    other = operator.diagonal()[:, padded[0], padded[1], padded[2]].reciprocal()
    return BoxInverse(axes, weights, reaction, problem.grid.cell_volume, other)


def _constant(field: Tensor) -> Tensor | None:
    """Return the constant value of a field (b, n) in each sample, or None if it varies in some sample."""
    flat = _distinct(field)
    first = flat[:, :1]
    soon = [flat[:, :64]] if flat.device.type == "cpu" else []  # most varying fields vary there
    for some in [*soon, flat] if flat.shape[1] > 1 else []:
        if not bool((some == first).all()):
            return None
    return first[:, 0]


def _end(condition: Boundary) -> End:
    if isinstance(condition, Periodic):
        return "periodic"
    return "dirichlet" if isinstance(condition, Dirichlet) else "neumann"


def _smallest(field: Tensor) -> Tensor:
    """Return the smallest value of a field (b, n) in each sample."""
    found: Tensor = _distinct(field).amin(1)
    return found


def _distinct(field: Tensor) -> Tensor:
    """Flatten a field (b, n); a field expanded from one number per sample becomes (b, 1)."""
    flat = field.flatten(1)
    return flat if any(field.stride()[1:]) else flat[:, :1]


# --- spectrum ---------------------------------------------------------------------------------------------------------


def box_eigenvalue(problem: Diffusion, *, nodal: bool) -> Tensor | None:
    """Return a lower bound on the smallest eigenvalue of the lattice matrix on a box without solids, shape (b,).

    Replacing the coefficient by its minimum along each axis, and Robin sides by Neumann sides, decreases the quadratic
    form. With n cells of size h, the smallest eigenvalue along an axis is then a 4/h^2 sin^2(t), with t = pi/2n for two
    Dirichlet sides and t = pi/4n for one. Without Dirichlet sides the smallest nonzero eigenvalue has t = pi/2n
    (Neumann) or t = pi/n (periodic). On a floating box, the result bounds the smallest nonzero eigenvalue. The result
    is None if the bound is zero for some sample.
    """
    grid = problem.grid
    smallest = {id(a): _smallest(problem.samples(a.detach())) for a in problem.coefficient}
    total = _smallest(problem.samples(problem.reaction.detach()))
    free_axes = []
    mass = grid.cell_volume
    for axis, (n, h) in enumerate(zip(grid.shape, grid.spacing)):
        a_min = smallest[id(problem.coefficient[axis])]
        conditions = [problem.boundary[f"{AXES[axis]}{end}"] for end in (0, 1)]
        dirichlet = sum(isinstance(condition, Dirichlet) for condition in conditions)
        angle = math.pi / n if problem.periodic[axis] else math.pi / (2 * n) / (2 if dirichlet == 1 else 1)
        eigenvalue = a_min * (4 / h**2 * math.sin(angle) ** 2)
        if dirichlet:
            total = total + eigenvalue
        else:
            free_axes.append(eigenvalue)
        if nodal and not problem.periodic[axis] and dirichlet < 2:
            mass /= 2  # a node at a Neumann end represents half a cell
    if problem.floats:  # without solids every sample is one component
        nonzero = torch.stack(torch.broadcast_tensors(*free_axes)).amin(0)
        total = torch.where(problem.components.floating, nonzero, total)
    return total * mass if bool((total > 0).all()) else None
