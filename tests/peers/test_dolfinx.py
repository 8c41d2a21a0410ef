"""Our numbers beside those that DOLFINx assembles from the textbook formulas.

A grid becomes a mesh of intervals, quadrilaterals or hexahedra (solid cells are cut out of it), nodal values a function
of Q1, cell data functions of DG0, and a flux a function of the lowest Raviart-Thomas space. Only the formulas and the
arrays are handed over: numbering, quadrature, assembly and linear algebra are those of DOLFINx and scipy.
"""

from __future__ import annotations

import math
from functools import cached_property

import numpy as np
import pytest
import scipy.interpolate
import scipy.sparse.linalg

import sciml_bounds as sb
from sciml_bounds.errors import MissingExtraError
from sciml_bounds.fem import require_dolfinx
from sciml_bounds.grid import side_axis

try:
    require_dolfinx()
except MissingExtraError as missing:
    pytest.skip(str(missing), allow_module_level=True)

import ufl
from dolfinx import fem, mesh
from mpi4py import MPI
from ufl import div, dot, grad, inner

pytestmark = pytest.mark.fem

CELL_TYPES = (mesh.CellType.interval, mesh.CellType.quadrilateral, mesh.CellType.hexahedron)
RAVIART_THOMAS = ("Lagrange", "RTCF", "NCF")  # of degree 1, in one, two and three dimensions

#: The trapezoidal rule, of which the 2 d + 1 points of the vertex-centred scheme come.
VERTICES = {"quadrature_rule": "GLL", "quadrature_degree": 1}
#: Tensor Gauss points, exact for degree four along each axis: squares of functions of degree two.
EXACT = {"quadrature_degree": 4}


class Mesh:
    """The fluid cells of a problem without batch as a mesh, and our arrays as functions on it."""

    def __init__(self, problem: sb.Diffusion, refinement: int = 1, degree: int = 1) -> None:
        self.problem, self.refinement = problem, refinement
        self.grid = problem.grid.refine(refinement)
        self.mesh = self._fluid(self._box())
        self.nodal_space = fem.functionspace(self.mesh, ("Lagrange", degree))
        self.cell_space = fem.functionspace(self.mesh, ("DG", 0))

    def _box(self) -> mesh.Mesh:
        low = np.array(self.grid.origin)
        corners, kind = [low, low + self.grid.lengths], CELL_TYPES[self.grid.dim - 1]
        if self.grid.dim == 1:
            return mesh.create_interval(MPI.COMM_SELF, self.grid.shape[0], [corners[0][0], corners[1][0]])
        create = mesh.create_rectangle if self.grid.dim == 2 else mesh.create_box
        return create(MPI.COMM_SELF, corners, list(self.grid.shape), cell_type=kind)

    def _fluid(self, box: mesh.Mesh) -> mesh.Mesh:
        if self.problem.solid is None:
            return box
        fluid = self.problem.fluid[0].numpy()
        middles = fem.functionspace(box, ("DG", 0)).tabulate_dof_coordinates()
        cells = np.flatnonzero(fluid[self.cell_index(middles)]).astype(np.int32)
        return mesh.create_submesh(box, self.grid.dim, cells)[0]

    def cell_index(self, points: np.ndarray) -> tuple[np.ndarray, ...]:
        """Which of our cells (of the grid before refinement) contain the points (count, 3)."""
        grid = self.problem.grid
        steps = [(points[:, a] - grid.origin[a]) / grid.spacing[a] for a in range(grid.dim)]
        return tuple(np.clip(np.floor(s).astype(int), 0, n - 1) for s, n in zip(steps, grid.shape))

    @cached_property
    def node_index(self) -> tuple[np.ndarray, ...]:
        """Which of our nodes the degrees of freedom of Q1 are."""
        points = self.nodal_space.tabulate_dof_coordinates()
        return tuple(
            np.rint((points[:, a] - self.grid.origin[a]) / self.grid.spacing[a]).astype(int)
            for a in range(self.grid.dim)
        )

    def nodal(self, values: object) -> fem.Function:
        """Q1 function with our nodal values; periodic axes get the copy of their first node."""
        array = np.asarray(values)
        for axis, periodic in enumerate(self.problem.periodic):
            if periodic:
                array = np.concatenate([array, array.take([0], axis)], axis)
        function = fem.Function(self.nodal_space)
        function.x.array[:] = array[self.node_index]
        return function

    def cellwise(self, values: object) -> fem.Function:
        """DG0 function with our cell values."""
        function = fem.Function(self.cell_space)
        array = np.broadcast_to(np.asarray(values), self.problem.grid.shape)
        function.x.array[:] = array[self.cell_index(self.cell_space.tabulate_dof_coordinates())]
        return function

    @cached_property
    def coefficient(self) -> ufl.core.expr.Expr:
        """The diagonal matrix a."""
        parts = [self.cellwise(part) for part in self.problem.coefficient]
        dim = self.grid.dim
        return ufl.as_matrix([[parts[i] if i == j else 0 for j in range(dim)] for i in range(dim)])

    @cached_property
    def reaction(self) -> fem.Function:
        """The reaction c."""
        return self.cellwise(self.problem.reaction)

    @cached_property
    def source(self) -> fem.Function:
        """The source f."""
        return self.cellwise(self.problem.source)

    def behind(self, side: str, data: object) -> fem.Function:
        """Data per face of a side, as a DG0 function constant along the axis of the side."""
        axis, _ = side_axis(side)
        return self.cellwise(np.expand_dims(np.asarray(data), axis))

    @cached_property
    def sides(self) -> ufl.Measure:
        """Integration over the exterior facets, with the number of the side as the tag."""
        tdim = self.grid.dim
        facets, tags = [], []
        for number, side in enumerate(self.grid.sides):
            axis, end = side_axis(side)
            place = self.grid.origin[axis] + end * self.grid.lengths[axis]
            found = mesh.locate_entities_boundary(self.mesh, tdim - 1, lambda x, a=axis, p=place: np.isclose(x[a], p))
            facets.append(found)
            tags.append(np.full(len(found), number, dtype=np.int32))
        order = np.argsort(np.concatenate(facets))
        found, numbers = np.concatenate(facets)[order], np.concatenate(tags)[order]
        return ufl.Measure("ds", self.mesh, subdomain_data=mesh.meshtags(self.mesh, tdim - 1, found, numbers))

    def side(self, name: str) -> ufl.Measure:
        """Integration over one side."""
        return self.sides(self.grid.sides.index(name))

    def conditions(self, kind: type) -> list[tuple[str, object]]:
        """The sides with one kind of condition."""
        return [(side, c) for side, c in self.problem.boundary.items() if isinstance(c, kind)]

    # --- the weak form ------------------------------------------------------------------------------------------------

    def form(self, u: object, v: object, rule: dict[str, object]) -> ufl.Form:
        """a(u, v) = int a grad u . grad v + c u v, and alpha u v on Robin sides."""
        total = (inner(self.coefficient * grad(u), grad(v)) + self.reaction * u * v) * ufl.dx(self.mesh, metadata=rule)
        for side, condition in self.conditions(sb.Robin):
            total += self.behind(side, condition.alpha) * u * v * self.side(side)(metadata=rule)
        return total

    def load(self, v: object, rule: dict[str, object]) -> ufl.Form:
        """int f v, and g v on Neumann and Robin sides."""
        total = self.source * v * ufl.dx(self.mesh, metadata=rule)
        for side, condition in self.conditions(sb.Neumann | sb.Robin):
            data = condition.flux if isinstance(condition, sb.Neumann) else condition.g
            total += self.behind(side, data) * v * self.side(side)(metadata=rule)
        return total

    def solve(self, rule: dict[str, object], boundary_values: fem.Function) -> fem.Function:
        """Solve the discrete problem with the values of a function on Dirichlet sides, by a sparse factorisation."""
        space = self.nodal_space
        u, v = ufl.TrialFunction(space), ufl.TestFunction(space)
        A = fem.assemble_matrix(fem.form(self.form(u, v, rule))).to_scipy().tocsr()
        b = fem.assemble_vector(fem.form(self.load(v, rule))).array
        points, fixed = space.tabulate_dof_coordinates(), np.zeros(A.shape[0], dtype=bool)
        for side, _ in self.conditions(sb.Dirichlet):
            axis, end = side_axis(side)
            fixed |= np.isclose(points[:, axis], self.grid.origin[axis] + end * self.grid.lengths[axis])
        solution = fem.Function(space)
        x = np.where(fixed, boundary_values.x.array, 0.0)
        free = ~fixed
        x[free] = scipy.sparse.linalg.spsolve(A[free][:, free].tocsc(), (b - A @ x)[free])
        solution.x.array[:] = x
        return solution

    def energy_norm(self, function: object) -> float:
        """|||w||| by quadrature that is exact for squares of multilinear functions."""
        return math.sqrt(fem.assemble_scalar(fem.form(self.form(function, function, EXACT))))

    # --- fluxes -------------------------------------------------------------------------------------------------------

    def flux(self, faces: tuple[object, ...]) -> object:
        """Raviart-Thomas function with our normal fluxes at the face centres, as a vector."""
        arrays = [np.asarray(face) for face in faces]
        function = fem.Function(fem.functionspace(self.mesh, (RAVIART_THOMAS[self.grid.dim - 1], 1)))
        function.interpolate(lambda x: np.stack([self._linear_along(a, face, x.T) for a, face in enumerate(arrays)]))
        return function if self.grid.dim > 1 else ufl.as_vector([function])

    def _linear_along(self, axis: int, face: np.ndarray, points: np.ndarray) -> np.ndarray:
        """One component: linear between the faces along its axis, constant over a cell along the others."""
        index = list(self.cell_index(points))
        step = (points[:, axis] - self.grid.origin[axis]) / self.grid.spacing[axis]
        share = step - index[axis]
        low = face[tuple(index)]
        index[axis] = index[axis] + 1
        return (1 - share) * low + share * face[tuple(index)]

    def on_cells(self, integrand: object, measure: ufl.Measure | None = None) -> np.ndarray:
        """Integrals over each cell (in the numbering of DG0)."""
        test = ufl.TestFunction(self.cell_space)
        measure = ufl.dx(self.mesh, metadata=EXACT) if measure is None else measure(metadata=EXACT)
        return fem.assemble_vector(fem.form(integrand * test * measure)).array


# --- the problems -----------------------------------------------------------------------------------------------------


def on_a_line(rng: np.random.Generator) -> sb.Diffusion:
    """Dirichlet and Robin ends, with reaction."""
    grid = sb.Grid(9, lengths=2.0, origin=-0.5)
    boundary = {"x0": sb.Dirichlet(0.7), "x1": sb.Robin(2.0, -1.0)}
    return sb.Diffusion(
        grid, rng.lognormal(size=9), rng.normal(size=9), boundary=boundary, reaction=rng.uniform(0.5, 2.0, 9)
    )


def diagonal(rng: np.random.Generator) -> sb.Diffusion:
    """A diagonal coefficient, every kind of side, and reaction in half of the cells, from weak to dominant."""
    shape = (7, 5)
    boundary = {
        "x0": sb.Dirichlet(rng.normal(size=6)),
        "x1": sb.Neumann(rng.normal(size=5)),
        "y0": sb.Robin(rng.uniform(0.2, 2.0, 7), rng.normal(size=7)),
        "y1": sb.Neumann(0.3),
    }
    reaction = rng.lognormal(3.0, 2.0, shape) * (rng.uniform(size=shape) > 0.5)
    coefficient = (rng.lognormal(size=shape), rng.lognormal(size=shape))
    grid = sb.Grid(shape, lengths=(1.4, 0.8), origin=(1.0, -2.0))
    return sb.Diffusion(grid, coefficient, rng.normal(size=shape), boundary=boundary, reaction=reaction)


def around_an_obstacle(rng: np.random.Generator) -> sb.Diffusion:
    """A block of solid cells in a channel between two prescribed values."""
    shape = (8, 6)
    solid = np.zeros(shape, dtype=bool)
    solid[2:5, 1:4] = True
    boundary = {"x0": sb.Dirichlet(1.0), "x1": sb.Dirichlet(-0.5), "y0": sb.Neumann(0.0), "y1": sb.Neumann(0.2)}
    return sb.Diffusion(
        sb.Grid(shape), rng.lognormal(size=shape), rng.normal(size=shape), boundary=boundary, solid=solid
    )


def in_space(rng: np.random.Generator) -> sb.Diffusion:
    """Three dimensions, unequal spacings, mixed sides."""
    shape = (4, 3, 5)
    boundary = {
        "x0": sb.Neumann(rng.normal(size=(3, 5))),
        "x1": sb.Dirichlet(rng.normal(size=(4, 6))),
        "y0": sb.Neumann(0.0),
        "y1": sb.Robin(rng.uniform(0.2, 2.0, (4, 5)), rng.normal(size=(4, 5))),
        "z0": sb.Neumann(-0.2),
        "z1": sb.Neumann(0.0),
    }
    grid = sb.Grid(shape, lengths=(1.0, 0.5, 2.0))
    return sb.Diffusion(grid, rng.lognormal(size=shape), rng.normal(size=shape), boundary=boundary)


PROBLEMS = (on_a_line, diagonal, around_an_obstacle, in_space)


@pytest.fixture(scope="module", params=PROBLEMS, ids=lambda make: make.__name__)
def case(request: pytest.FixtureRequest) -> tuple[sb.Diffusion, Mesh]:
    """A problem and its mesh."""
    problem = request.param(np.random.default_rng(3))
    return problem, Mesh(problem)


@pytest.fixture(scope="module", params=["rough", "solved"])
def field(request: pytest.FixtureRequest, case) -> np.ndarray:
    """A field with the right boundary values: random numbers, or the discrete solution.

    The flux is far from the gradient of the first and close to that of the second, which decides how the bound treats
    the oscillation of the residual.
    """
    problem, _ = case
    if request.param == "solved":
        return sb.solve(problem).values.numpy()
    return problem.impose_boundary(np.random.default_rng(4).normal(size=problem.node_shape)).numpy()


# --- the tests --------------------------------------------------------------------------------------------------------


def test_solution_is_that_of_q1_elements_with_the_trapezoidal_rule(case):
    problem, peer = case
    zero = problem.impose_boundary(np.zeros(problem.node_shape))
    theirs = peer.solve(VERTICES, peer.nodal(zero)).x.array
    # Condition numbers are below 1e3: two factorisations agree to a few times 1e3 round-offs, and a relative residual
    # of 1e-12 leaves at most 1e-9.
    for method, tolerance in (("direct", 1e-12), ("multigrid", 1e-9)):
        ours = sb.solve(problem, method=method, rtol=1e-12).values.numpy()[peer.node_index]
        np.testing.assert_allclose(ours, theirs, rtol=0, atol=tolerance * np.abs(theirs).max())


def test_energy_norm(case, field):
    problem, peer = case
    energy = float(sb.certify(problem, field, lower=False).energy)
    assert energy == pytest.approx(peer.energy_norm(peer.nodal(field)), rel=1e-12)


def test_flux_is_in_equilibrium(case):
    """Where c = 0: div y = -f; on Neumann sides y.n = g. As moments against DG0, by the divergence of the RT space."""
    problem, peer = case
    y = peer.flux(sb.solve(problem, certify=True).certificate.flux)
    defect = peer.on_cells(ufl.conditional(ufl.gt(peer.reaction, 0), 0, peer.source + div(y)))
    scale = np.abs(peer.on_cells(abs(peer.source))).max()
    np.testing.assert_allclose(defect, 0, atol=1e-12 * scale)
    n = ufl.FacetNormal(peer.mesh)
    for side, condition in peer.conditions(sb.Neumann):
        outflow = peer.on_cells(dot(y, n) - peer.behind(side, condition.flux), peer.side(side))
        np.testing.assert_allclose(outflow, 0, atol=1e-12 * scale)


def test_upper_bound_is_the_majorant_of_its_flux(case, field):
    """Every term and the total, from the formula of Prager, Synge and Repin assembled on our field and flux."""
    problem, peer = case
    certificate = sb.certify(problem, field, lower=False)
    v, y = peer.nodal(field), peer.flux(certificate.flux)
    gap = peer.coefficient * grad(v) - y
    flux = peer.on_cells(inner(ufl.inv(peer.coefficient) * gap, gap))
    assert float(certificate.terms["flux"]) == pytest.approx(flux.sum(), rel=1e-10)

    residual = peer.source + div(y) - peer.reaction * v
    mean = fem.Function(peer.cell_space)
    mean.x.array[:] = peer.on_cells(residual) / problem.grid.cell_volume
    oscillation = np.sqrt(peer.on_cells((residual - mean) ** 2))
    inverse = peer.cellwise(np.where(problem.reaction > 0, 1 / np.where(problem.reaction > 0, problem.reaction, 1), 0))
    mean_part = peer.on_cells(inverse * mean**2)
    m = np.max(
        [h / (np.pi * np.sqrt(part.numpy())) for h, part in zip(problem.grid.spacing, problem.coefficient)], axis=0
    )
    inside = (np.sqrt(flux) + peer.cellwise(m).x.array * oscillation) ** 2
    outside = flux + inverse.x.array * oscillation**2
    reacts = inverse.x.array > 0
    squared = np.where(reacts, np.minimum(inside, outside), flux) + mean_part

    n = ufl.FacetNormal(peer.mesh)
    for side, condition in peer.conditions(sb.Robin):
        alpha, g = peer.behind(side, condition.alpha), peer.behind(side, condition.g)
        squared += peer.on_cells((g - alpha * v - dot(y, n)) ** 2 / alpha, peer.side(side))
    assert float(certificate.upper) == pytest.approx(math.sqrt(squared.sum()), rel=1e-10)


@pytest.mark.parametrize("make", [diagonal, around_an_obstacle], ids=lambda make: make.__name__)
@pytest.mark.parametrize("spoilt", [0.0, 0.1, 3.0])
def test_true_error_lies_between_the_bounds(make, spoilt):
    """The truth is a solution of degree two on a mesh four times as fine.

    That solution U is Galerkin in a space that contains our field v, so |||u - v|||^2 = |||u - U|||^2 + |||U - v|||^2:
    the upper bound must hold for |||U - v||| all the more, and the lower bound may exceed it only by what U itself
    misses, which is far less than the margin of the lower bound.
    """
    rng = np.random.default_rng(5)
    problem = make(rng)
    values = sb.solve(problem).values.numpy()
    change = rng.normal(size=values.shape) * values.std()
    values = problem.impose_boundary(values + spoilt * change).numpy()
    certificate = sb.certify(problem, values, strict=True)

    peer = Mesh(problem, refinement=4, degree=2)
    nodes = [problem.grid.nodes(axis).numpy() for axis in range(problem.grid.dim)]
    v = fem.Function(peer.nodal_space)
    points = peer.nodal_space.tabulate_dof_coordinates()[:, : problem.grid.dim]
    v.x.array[:] = scipy.interpolate.RegularGridInterpolator(nodes, values, bounds_error=False, fill_value=None)(points)
    error = peer.energy_norm(peer.solve(EXACT, v) - v)
    assert float(certificate.lower) <= error <= float(certificate.upper)
    assert 0.5 * error <= float(certificate.lower)
    assert float(certificate.upper) <= 2.0 * error
