"""Reference solutions and bounds in plain numpy, written independently of the package; loaded by path from tests.

    solve            multilinear finite elements (Galerkin, exact integrals) with dense linear algebra
    solve_1d         the exact solution in one dimension, cell by cell in closed form
    flux             two-point fluxes with dense linear algebra, in equilibrium to round-off
    majorant         the upper bound from values and flux by Gauss quadrature

Legend: b samples, c cells (flattened), k corners of a cell (2^d), d axes, q quadrature points. Functions are kept by
their values at the corners of every cell, (..., b, c, k), so that they may jump where cells meet only at a vertex or an
edge: there the two sides know nothing of each other. Degrees of freedom are found as the connected components of the
graph that joins the corners which two fluid cells have in common across a face.
"""

import math
from dataclasses import dataclass, replace
from functools import cached_property, reduce
from itertools import product

import numpy as np
import scipy.linalg
import scipy.sparse
import scipy.sparse.csgraph

#: Roots of the mass matrix and of the stiffness matrix of linear elements on the unit interval.
ROOT = np.linalg.cholesky(np.array([[2.0, 1.0], [1.0, 2.0]]) / 6)
DIFFERENCE = np.array([[-1.0], [1.0]])


@dataclass(frozen=True)
class Side:
    """One side: "dirichlet" (nodal value), "neumann" (value is the flux), "robin" (alpha, value is g) or "periodic"."""

    kind: str
    value: np.ndarray | None = None
    alpha: np.ndarray | None = None


@dataclass(frozen=True)
class Data:
    """Data of b problems on one grid: cell fields (b, n), coefficient (d, b, n), sides[axis][end]."""

    shape: tuple[int, ...]
    lengths: tuple[float, ...]
    coefficient: np.ndarray
    source: np.ndarray
    reaction: np.ndarray
    fluid: np.ndarray
    sides: tuple[tuple[Side, Side], ...]

    @property
    def dim(self) -> int:
        return len(self.shape)

    @property
    def batch(self) -> int:
        return len(self.source)

    @property
    def spacing(self) -> np.ndarray:
        return np.array(self.lengths) / self.shape

    @property
    def volume(self) -> float:
        return float(np.prod(self.spacing))

    @property
    def periodic(self) -> tuple[bool, ...]:
        return tuple(first.kind == "periodic" for first, _ in self.sides)

    def named_sides(self):
        return [(axis, end, self.sides[axis][end]) for axis in range(self.dim) for end in (0, 1)]

    @cached_property
    def corners(self) -> np.ndarray:
        """Corners of a cell as bits, shape (k, d)."""
        return np.array(list(product((0, 1), repeat=self.dim)))

    @cached_property
    def cell_index(self) -> np.ndarray:
        return np.arange(math.prod(self.shape)).reshape(self.shape)

    @cached_property
    def flat_coefficient(self) -> np.ndarray:
        """Coefficient (d, b, c), one in solids."""
        return np.where(self.fluid, self.coefficient, 1.0).reshape(self.dim, self.batch, -1)

    @cached_property
    def flat_fluid(self) -> np.ndarray:
        return self.fluid.reshape(self.batch, -1)

    @cached_property
    def flat_source(self) -> np.ndarray:
        return np.where(self.fluid, self.source, 0.0).reshape(self.batch, -1)

    @cached_property
    def flat_reaction(self) -> np.ndarray:
        return np.where(self.fluid, self.reaction, 0.0).reshape(self.batch, -1)

    def behind(self, axis: int, end: int) -> np.ndarray:
        """Flat indices of the cells behind a side."""
        return self.cell_index.take(-end, axis).reshape(-1)

    def on_side(self, axis: int, end: int, faces: np.ndarray) -> np.ndarray:
        """Copy values of the faces of a side to the adjacent cells; all other cells, and solids, get zero: (b, c)."""
        cells = np.zeros(self.flat_fluid.shape)
        cells[:, self.behind(axis, end)] = faces.reshape(self.batch, -1)
        return cells * self.flat_fluid

    @cached_property
    def neighbours(self) -> list[tuple[np.ndarray, np.ndarray]]:
        """Pairs of cells that share a face, for each axis: lower, upper (flat indices, fluid or not)."""
        pairs = []
        for axis, wraps in enumerate(self.periodic):
            lower, upper = self.cell_index, np.roll(self.cell_index, -1, axis)
            if not wraps:
                lower, upper = (np.delete(part, -1, axis) for part in (lower, upper))
            pairs.append((lower.reshape(-1), upper.reshape(-1)))
        return pairs

    @cached_property
    def components(self) -> tuple[np.ndarray, np.ndarray]:
        """Label of each cell (b, c) (solids have labels of their own), and whether each component floats."""
        count = self.flat_fluid.size
        offset = np.arange(self.batch)[:, None] * self.cell_index.size
        starts, ends = [], []
        for lower, upper in self.neighbours:
            both = self.flat_fluid[:, lower] & self.flat_fluid[:, upper]
            starts.append((offset + lower)[both])
            ends.append((offset + upper)[both])
        labels = _components(count, starts, ends)
        holds = self.flat_reaction > 0
        for axis, end, side in self.named_sides():
            if side.kind == "dirichlet":
                holds[:, self.behind(axis, end)] = True
            elif side.kind == "robin":
                holds[:, self.behind(axis, end)] |= side.alpha.reshape(self.batch, -1) > 0
        held = np.zeros(labels.max() + 1, dtype=bool)
        np.logical_or.at(held, labels, (holds & self.flat_fluid).reshape(-1))
        return labels.reshape(self.batch, -1), ~held


def refine(data: Data, factor: int) -> Data:
    """Divide every cell; the continuous problem stays the same."""

    def cells(array: np.ndarray, axes: int) -> np.ndarray:
        for axis in range(array.ndim - axes, array.ndim):
            array = np.repeat(array, factor, axis)
        return array

    def side(condition: Side) -> Side:
        if condition.kind == "dirichlet":
            return replace(condition, value=interpolate(condition.value, factor, data.dim - 1))
        if condition.kind == "periodic":
            return condition
        alpha = None if condition.alpha is None else cells(condition.alpha, data.dim - 1)
        return replace(condition, value=cells(condition.value, data.dim - 1), alpha=alpha)

    return Data(
        tuple(n * factor for n in data.shape),
        data.lengths,
        *(cells(part, data.dim) for part in (data.coefficient, data.source, data.reaction, data.fluid)),
        tuple((side(first), side(second)) for first, second in data.sides),
    )


def interpolate(nodal: np.ndarray, factor: int, dim: int) -> np.ndarray:
    """Multilinear interpolation of nodal values (..., n + 1) in the last `dim` axes."""
    for axis in range(nodal.ndim - dim, nodal.ndim):
        n = nodal.shape[axis] - 1
        fine, coarse = np.arange(n * factor + 1) / factor, np.arange(n + 1)
        hats = np.maximum(0.0, 1.0 - np.abs(fine[:, None] - coarse))
        nodal = np.moveaxis(np.tensordot(hats, nodal, (1, axis)), 0, axis)
    return nodal


def at_corners(data: Data, nodal: np.ndarray) -> np.ndarray:
    """Corner values (..., b, c, k) of a nodal field (..., b, n + 1)."""
    parts = []
    for bits in data.corners:
        window = tuple(slice(bit, bit + n) for bit, n in zip(bits, data.shape))
        parts.append(nodal[(..., *window)].reshape(*nodal.shape[: -data.dim], -1))
    return np.stack(parts, -1)


# --- Galerkin ---------------------------------------------------------------------------------------------------------

#: A form as sums of squares: a(u, v) = sum over parts and cells of weight (F^T u).(F^T v), F (k, m), weight (b, c).
Form = list[tuple[np.ndarray, np.ndarray]]


def energy_form(data: Data) -> Form:
    """a(u, v) on multilinear functions: Kronecker products of the roots of one-dimensional matrices."""
    mass = [ROOT * math.sqrt(h) for h in data.spacing]
    parts = [(reduce(np.kron, mass), data.flat_reaction)]
    for axis, h in enumerate(data.spacing):
        factors = [*mass[:axis], DIFFERENCE / math.sqrt(h), *mass[axis + 1 :]]
        parts.append((reduce(np.kron, factors), data.flat_fluid * data.flat_coefficient[axis]))
    return parts + robin_form(data)


def robin_form(data: Data) -> Form:
    parts = []
    for axis, end, side in data.named_sides():
        if side.kind == "robin":
            factors = [ROOT * math.sqrt(h) for h in data.spacing]
            factors[axis] = np.array([[1.0 - end], [float(end)]])
            parts.append((reduce(np.kron, factors), data.on_side(axis, end, side.alpha)))
    return parts


def energy(form: Form, w: np.ndarray) -> np.ndarray:
    """|||w||| of functions (..., b, c, k), shape (..., b). Constants cancel exactly."""
    return np.sqrt(sum((weight * ((w @ F) ** 2).sum(-1)).sum(-1) for F, weight in form))


def magnitude(form: Form, w: np.ndarray) -> np.ndarray:
    """Size of the numbers that are subtracted in |||w|||: the scale of round-off, shape (..., b)."""
    return energy([(np.abs(F), weight) for F, weight in form], np.abs(w))


def _apply(form: Form, w: np.ndarray) -> np.ndarray:
    """a(w, function of each corner) cell by cell, (b, c, k)."""
    return sum(weight[..., None] * ((w @ F) @ F.T) for F, weight in form)


def loads(data: Data, share: np.ndarray | float = 1.0) -> np.ndarray:
    """(f, function of each corner) and Neumann and Robin data, (b, c, k); `share` corrects the first."""
    k = 2**data.dim
    cells = np.repeat((data.flat_source * share * data.volume / k)[..., None], k, -1)
    for axis, end, side in data.named_sides():
        if side.kind in ("neumann", "robin"):
            at_end = (data.corners[:, axis] == end) * (data.volume / data.spacing[axis] / 2 ** (data.dim - 1))
            cells = cells + data.on_side(axis, end, side.value)[..., None] * at_end
    return cells


def _degrees_of_freedom(data: Data) -> np.ndarray:
    """Number of the degree of freedom of every corner of every cell, (b, c, k), distinct over the samples."""
    k = 2**data.dim
    offset = np.arange(data.batch)[:, None] * data.cell_index.size
    starts, ends = [], []
    for axis, (lower, upper) in enumerate(data.neighbours):
        both = data.flat_fluid[:, lower] & data.flat_fluid[:, upper]
        from_cell, to_cell = (offset + lower)[both], (offset + upper)[both]
        for corner in np.flatnonzero(data.corners[:, axis] == 1):
            partner = corner - 2 ** (data.dim - 1 - axis)  # the same corner seen from the upper cell
            starts.append(from_cell * k + corner)
            ends.append(to_cell * k + partner)
    return _components(data.flat_fluid.size * k, starts, ends).reshape(data.batch, -1, k)


def _components(count: int, starts: list[np.ndarray], ends: list[np.ndarray]) -> np.ndarray:
    pairs = (np.concatenate(starts), np.concatenate(ends))
    graph = scipy.sparse.coo_array((np.ones(len(pairs[0]), dtype=np.int8), pairs), shape=(count, count))
    return scipy.sparse.csgraph.connected_components(graph, directed=False)[1]


def _dirichlet_corners(data: Data) -> tuple[np.ndarray, np.ndarray]:
    """Which corners lie on Dirichlet sides, and their values, (b, c, k)."""
    held = np.zeros((data.batch, data.cell_index.size, 2**data.dim), dtype=bool)
    values = np.zeros(held.shape)
    for axis, end, side in data.named_sides():
        if side.kind != "dirichlet":
            continue
        cells = data.behind(axis, end)
        corners = np.flatnonzero(data.corners[:, axis] == end)
        for corner in corners:
            bits = np.delete(data.corners[corner], axis)
            window = tuple(slice(bit, bit + n) for bit, n in zip(bits, np.delete(data.shape, axis)))
            held[:, cells, corner] = True
            values[:, cells, corner] = side.value[(slice(None), *window)].reshape(data.batch, -1)
    return held, values


def solve(data: Data, form: Form, loads: np.ndarray) -> np.ndarray:
    """Solve a(u, v) = loads(v): corner values (b, c, k)."""
    labels = _degrees_of_freedom(data)
    on_side, values = _dirichlet_corners(data)
    fluid = np.broadcast_to(data.flat_fluid[..., None], labels.shape)
    count = labels.max() + 1
    held, prescribed = np.zeros(count, dtype=bool), np.zeros(count)
    held[labels[on_side]] = True
    prescribed[labels[on_side & fluid]] = values[on_side & fluid]
    u = np.where(fluid, prescribed[labels], 0.0)
    free = fluid & ~held[labels]
    matrices = sum(weight[..., None, None] * (F @ F.T) for F, weight in form)
    pinned = _first_floating_cells(data)
    systems = [_System(labels[s], free[s], matrices[s], pinned[s]) for s in range(data.batch)]
    for _ in range(3):  # one solve and two refinements, with residuals in which constants cancel exactly
        residual = loads - _apply(form, u)
        u = u + np.array([system.solve(r) for system, r in zip(systems, residual)])
    return u


class _System:
    """The equations of the free degrees of freedom of one sample, factorised."""

    def __init__(self, labels: np.ndarray, free: np.ndarray, matrices: np.ndarray, pinned: list[int]) -> None:
        used, self.number = np.unique(labels[free], return_inverse=True)
        self.free, self.size = free, len(used)
        index = np.zeros(labels.shape, dtype=np.int64)
        index[free] = self.number
        pairs = free[:, :, None] & free[:, None, :]
        flat = (index[:, :, None] * self.size + index[:, None, :])[pairs]
        A = np.bincount(flat, matrices[pairs], minlength=self.size**2).reshape(self.size, self.size)
        for cell in pinned:  # the data balance, so this holds the value there
            A[index[cell, 0], index[cell, 0]] *= 2
        self.factors = scipy.linalg.lu_factor(A) if self.size else None

    def solve(self, loads: np.ndarray) -> np.ndarray:
        change = np.zeros(self.free.shape)
        if self.size:
            rhs = np.bincount(self.number, loads[self.free], minlength=self.size)
            change[self.free] = scipy.linalg.lu_solve(self.factors, rhs)[self.number]
        return change


def _first_floating_cells(data: Data) -> list[list[int]]:
    """One cell of each floating component, a list for each sample."""
    labels, floating = data.components
    cells = []
    for sample_labels, fluid in zip(labels, data.flat_fluid):
        found, first = np.unique(sample_labels, return_index=True)
        cells.append([cell for label, cell in zip(found, first) if floating[label] and fluid[cell]])
    return cells


# --- one dimension, exactly -------------------------------------------------------------------------------------------


def solve_1d(data: Data) -> np.ndarray:
    """Exact values at the ends of every cell, (b, c, 2): elements whose functions solve the homogeneous equation."""
    h, a, c = data.spacing[0], data.flat_coefficient[0], data.flat_reaction
    reacts = c > 0
    t = np.where(reacts, np.sqrt(c / a) * h, 1.0)
    difference = a / h * np.where(reacts, t / np.sinh(t), 1.0)
    absorption = np.where(reacts, c * h / 2 * np.tanh(t / 2) / (t / 2), 0.0)
    form = [(DIFFERENCE, data.flat_fluid * difference), (np.eye(2), absorption), *robin_form(data)]
    return solve(data, form, loads(data, np.where(reacts, np.tanh(t / 2) / (t / 2), 1.0)))


def error_1d(data: Data, ends: np.ndarray, v: np.ndarray, points: int = 48) -> tuple[np.ndarray, np.ndarray]:
    """Energy and L2 norm of u - v, with u given by `solve_1d` and v by corner values (..., b, c, 2): shape (..., b)."""
    h, a, c, f = data.spacing[0], data.flat_coefficient[0], data.flat_reaction, data.flat_source
    reacts = c > 0
    kappa = np.where(reacts, np.sqrt(c / a), 1.0)
    particular = f / np.where(reacts, c, 1.0)
    energy_squared = l2_squared = 0.0
    for x, weight in zip(*_gauss(points)):
        t = x * h
        left, right = np.sinh(kappa * (h - t)) / np.sinh(kappa * h), np.sinh(kappa * t) / np.sinh(kappa * h)
        d_left = -kappa * np.cosh(kappa * (h - t)) / np.sinh(kappa * h)
        d_right = kappa * np.cosh(kappa * t) / np.sinh(kappa * h)
        u0, u1 = ends[..., 0], ends[..., 1]
        u_reacting = particular + (u0 - particular) * left + (u1 - particular) * right
        d_reacting = (u0 - particular) * d_left + (u1 - particular) * d_right
        u_plain = u0 * (1 - x) + u1 * x + f / a * t * (h - t) / 2
        d_plain = (u1 - u0) / h + f / a * (h - 2 * t) / 2
        u, du = np.where(reacts, u_reacting, u_plain), np.where(reacts, d_reacting, d_plain)
        e = u - (v[..., 0] * (1 - x) + v[..., 1] * x)
        de = du - (v[..., 1] - v[..., 0]) / h
        cell = weight * h * data.flat_fluid
        energy_squared = energy_squared + (cell * (a * de**2 + c * e**2)).sum(-1)
        l2_squared = l2_squared + (cell * e**2).sum(-1)
    energy_squared = energy_squared + (energy(robin_form(data), ends - v) ** 2 if robin_form(data) else 0.0)
    return np.sqrt(energy_squared), np.sqrt(l2_squared)


def _gauss(points: int) -> tuple[np.ndarray, np.ndarray]:
    """Gauss points and weights on [0, 1]."""
    x, w = np.polynomial.legendre.leggauss(points)
    return (x + 1) / 2, w / 2


# --- flux -------------------------------------------------------------------------------------------------------------


def flux(data: Data) -> tuple[np.ndarray, ...]:
    """Two-point fluxes in equilibrium to round-off: one field (b, n + 1 along its own axis) an axis."""
    cells = data.cell_index.size
    A = np.zeros((data.batch, cells, cells))
    diagonal = data.flat_reaction * data.volume
    rhs = data.flat_source * data.volume
    inner = []
    for axis, (lower, upper) in enumerate(data.neighbours):
        a, h = data.flat_coefficient[axis], data.spacing[axis]
        both = data.flat_fluid[:, lower] & data.flat_fluid[:, upper]
        T = both * (data.volume / h**2) * 2 * a[:, lower] * a[:, upper] / (a[:, lower] + a[:, upper])
        np.add.at(A, (slice(None), lower, upper), -T)
        np.add.at(A, (slice(None), upper, lower), -T)
        np.add.at(diagonal, (slice(None), lower), T)
        np.add.at(diagonal, (slice(None), upper), T)
        inner.append(T)
    ends = {}
    for axis, end, side in data.named_sides():
        if side.kind != "periodic":
            behind = data.behind(axis, end)
            T, supply = ends[axis, end] = _exchange(data, axis, end, side)
            np.add.at(diagonal, (slice(None), behind), T)
            np.add.at(rhs, (slice(None), behind), supply)
    for sample, cells_of_sample in enumerate(_first_floating_cells(data)):
        diagonal[sample, cells_of_sample] *= 2
    A += np.eye(cells) * np.where(data.flat_fluid, diagonal, 1.0)[:, None]
    p = np.linalg.solve(A, np.where(data.flat_fluid, rhs, 0.0)[..., None])[..., 0]
    return tuple(_face_values(data, axis, inner[axis], p, ends) for axis in range(data.dim))


def _exchange(data: Data, axis: int, end: int, side: Side) -> tuple[np.ndarray, np.ndarray]:
    """Flux into the cells behind a side as supply - T p, both (b, faces)."""
    behind = data.behind(axis, end)
    open_faces = data.flat_fluid[:, behind]
    area = data.volume / data.spacing[axis]
    half = open_faces * data.flat_coefficient[axis][:, behind] * 2 * area / data.spacing[axis]
    if side.kind == "dirichlet":
        value = side.value
        for a in range(1, value.ndim):
            value = (np.delete(value, -1, a) + np.delete(value, 0, a)) / 2
        return half, half * value.reshape(data.batch, -1)
    supply = open_faces * area * side.value.reshape(data.batch, -1)
    if side.kind == "neumann":
        return np.zeros_like(half), supply
    exchange = area * side.alpha.reshape(data.batch, -1)
    share = half / np.where(open_faces, half + exchange, 1.0)
    return share * exchange, share * supply


def _face_values(data: Data, axis: int, T: np.ndarray, p: np.ndarray, ends: dict) -> np.ndarray:
    area = data.volume / data.spacing[axis]
    lower, upper = data.neighbours[axis]
    inner = T * (p[:, upper] - p[:, lower]) / area
    n = list(data.shape)
    if data.periodic[axis]:  # the face above the last cell is the face below the first
        above = np.moveaxis(inner.reshape(data.batch, *n), 1 + axis, 1)
        return np.moveaxis(np.concatenate([above[:, -1:], above], 1), 1, 1 + axis)
    n[axis] -= 1
    parts = [np.moveaxis(inner.reshape(data.batch, *n), 1 + axis, 1)]
    for end in (0, 1):
        conductance, supply = ends[axis, end]
        into = (supply - conductance * p[:, data.behind(axis, end)]) / area
        face = (into if end else -into).reshape(data.batch, 1, *np.delete(data.shape, axis))
        parts.insert(end * 2, face)
    return np.moveaxis(np.concatenate(parts, 1), 1, 1 + axis)


def divergence(data: Data, faces: tuple[np.ndarray, ...]) -> np.ndarray:
    """Compute div y, shape (..., b, c)."""
    ends = [_cell_ends(data, face, axis) for axis, face in enumerate(faces)]
    return sum((high - low) / h for (low, high), h in zip(ends, data.spacing))


def _cell_ends(data: Data, face: np.ndarray, axis: int) -> tuple[np.ndarray, np.ndarray]:
    """The values of a face field at both ends of every cell, each (..., b, c)."""
    position = face.ndim - data.dim + axis
    batch = face.shape[: face.ndim - data.dim]
    low, high = np.delete(face, -1, position), np.delete(face, 0, position)
    return low.reshape(*batch, -1), high.reshape(*batch, -1)


# --- bound ------------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Bounds:
    """The bound with local Poincare constants, the plain expression without them, and the shares of the cells."""

    upper: np.ndarray
    hypercircle: np.ndarray
    squared: np.ndarray


def majorant(data: Data, v: np.ndarray, faces: tuple[np.ndarray, ...]) -> Bounds:
    """Evaluate the bounds of |||u - v||| for corner values v (..., b, c, k) by Gauss quadrature with 3^d points.

    `hypercircle` puts all of c^-1 ||f + div y - c v||^2 into the sum: by the identity of Prager and Synge its square
    exceeds the square of the error by the same number for every v with the right boundary values.
    """
    a, c = data.flat_coefficient, data.flat_reaction
    reacts = c > 0
    safe = np.where(reacts, c, 1.0)
    ends = [_cell_ends(data, face, axis) for axis, face in enumerate(faces)]
    mismatch, mean, square = 0.0, 0.0, 0.0
    residual = data.flat_source + divergence(data, faces)
    for xi, weight in _tensor_gauss(data.dim):
        shape, gradient = _shape_functions(data, xi)
        r = residual - c * (v @ shape)
        mean, square = mean + weight * r, square + weight * r**2
        for axis, (low, high) in enumerate(ends):
            y = low * (1 - xi[axis]) + high * xi[axis]
            mismatch = mismatch + weight * (a[axis] * (v @ gradient[axis]) - y) ** 2 / a[axis]
    flux_term = data.volume * mismatch * data.flat_fluid
    mean_term = np.where(reacts, data.volume * mean**2 / safe, 0.0)
    variance = np.where(reacts, data.volume * _variance(data, v, c), 0.0)
    constant = np.max([h / (math.pi * np.sqrt(a[axis])) for axis, h in enumerate(data.spacing)], 0)
    with_constant = (np.sqrt(flux_term) + constant * np.sqrt(variance)) ** 2
    robin = _robin_terms(data, v, faces)
    squared = np.minimum(with_constant, flux_term + variance / safe) + mean_term + robin
    plain = flux_term + np.where(reacts, data.volume * square / safe, 0.0) + robin
    return Bounds(np.sqrt(squared.sum(-1)), np.sqrt(plain.sum(-1)), squared)


def _variance(data: Data, v: np.ndarray, c: np.ndarray) -> np.ndarray:
    """Mean of (c v - mean of c v)^2 on every cell (r differs from it by a constant)."""
    mean = v.mean(-1)
    return sum(weight * (c * (v @ _shape_functions(data, xi)[0] - mean)) ** 2 for xi, weight in _tensor_gauss(data.dim))


def _robin_terms(data: Data, v: np.ndarray, faces: tuple[np.ndarray, ...]) -> np.ndarray:
    terms = np.zeros(v.shape[:-1])
    for axis, end, side in data.named_sides():
        if side.kind != "robin":
            continue
        cells = data.behind(axis, end)
        alpha, g = side.alpha.reshape(data.batch, -1), side.value.reshape(data.batch, -1)
        exchanges = (alpha > 0) & data.flat_fluid[:, cells]
        outward = _cell_ends(data, faces[axis], axis)[end][..., cells] * (1 if end else -1)
        total = 0.0
        for eta, weight in _tensor_gauss(data.dim - 1):
            shape, _ = _shape_functions(data, np.insert(eta, axis, float(end)))
            total = total + weight * (g - alpha * (v[..., cells, :] @ shape) - outward) ** 2
        area = data.volume / data.spacing[axis]
        terms[..., cells] += np.where(exchanges, area * total / np.where(exchanges, alpha, 1.0), 0.0)
    return terms


def _tensor_gauss(dim: int) -> list[tuple[np.ndarray, float]]:
    x, w = _gauss(3)
    return [(np.array([x[i] for i in q]), math.prod(w[i] for i in q)) for q in product(range(3), repeat=dim)]


def _shape_functions(data: Data, xi: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Values (k,) and gradients (d, k) of the functions of the corners at a point of the unit cell."""
    hats = np.where(data.corners == 1, xi, 1 - xi)
    slopes = np.where(data.corners == 1, 1.0, -1.0) / data.spacing
    gradients = [slopes[:, axis] * np.prod(np.delete(hats, axis, 1), 1) for axis in range(data.dim)]
    return np.prod(hats, 1), np.array(gradients)
