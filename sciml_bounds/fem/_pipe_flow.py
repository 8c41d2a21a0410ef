"""Steady incompressible flow through a bent pipe on a mapped mesh, and its data set (extra `fem`)."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from numbers import Integral
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.interpolate import CubicHermiteSpline
from torch import Tensor

from sciml_bounds.errors import ConvergenceError, InputError
from sciml_bounds.fem._dolfinx import require_dolfinx
from sciml_bounds.memory import require_memory
from sciml_bounds.recipes._recipe import JSON, Array, Recipe, Variable, sample_rng

__all__ = ["PIPE", "Centreline", "PipeFlow", "draw_centreline", "solve_pipe_flow"]

_Floats = NDArray[np.float64]

LENGTH = 10.0
_KNOTS = np.linspace(0.0, LENGTH, 5)

#: Stop Newton's method once no velocity changes by more than this; the velocity at the inlet is at most 1.
_TOLERANCE = 1e-10
#: Tolerance for the same change at intermediate steps of the continuation.
_CONTINUATION_TOLERANCE = 1e-3
#: A Newton step that changes a velocity by more than this counts as divergence.
_MAX_CHANGE = 10.0
#: First continuation step, as a fraction of the convective term.
_FIRST_STRIDE = 0.15
#: Maximum number of linear systems per flow.
_MAX_LINEAR_SOLVES = 150
#: Approximate memory of the factorisation in bytes per node.
_BYTES_PER_NODE = 10_000


@dataclass(frozen=True)
class Centreline:
    """Centreline of a pipe of length 10: a cubic spline given by heights and slopes at x = 0, 2.5, 5, 7.5, 10.

    The pipe is the set |y - centreline(x)| <= 1/2, so its width 1 is measured along y.

    Parameters
    ----------
    heights, slopes : sequence of 5 float
        Values of y and dy/dx of the centreline.
    """

    heights: Sequence[float]
    slopes: Sequence[float]

    def spline(self) -> CubicHermiteSpline:
        """Return y of the centreline as a function of x."""
        return CubicHermiteSpline(_KNOTS, np.asarray(self.heights), np.asarray(self.slopes))


@dataclass(frozen=True)
class PipeFlow:
    """Flow at the nodes of the mapped mesh, with index i along the pipe and index j across it, from the bottom.

    Attributes
    ----------
    mesh_x, mesh_y : Tensor (n + 1, n + 1)
        Coordinates of the nodes.
    velocity : Tensor (2, n + 1, n + 1)
        Both components of the velocity.
    pressure : Tensor (n + 1, n / 4 + 1)
        Pressure at the corners of the elements, every fourth node across the pipe.
    steps : int
        Number of linear systems solved.
    """

    mesh_x: Tensor
    mesh_y: Tensor
    velocity: Tensor
    pressure: Tensor
    steps: int


def solve_pipe_flow(centreline: Centreline, cells: int = 128, *, viscosity: float = 0.005) -> PipeFlow:
    """Solve the steady Navier-Stokes equations (u . grad) u - nu Laplace(u) + grad p = 0, div u = 0 in a bent pipe.

    Parameters
    ----------
    centreline : Centreline
        Centreline of the pipe.
    cells : int, default 128
        Number of mesh cells along the pipe and across it: a multiple of 4, so that elements end at the spline knots.
    viscosity : float, default 0.005
        Viscosity nu, positive.

    Returns
    -------
    PipeFlow
        The flow at the (cells + 1)^2 nodes of the mesh.

    Raises
    ------
    ConvergenceError
        If continuation from Stokes flow by Newton's method fails.
    InputError
        If `cells` or `viscosity` is invalid.
    MissingExtraError
        If DOLFINx is not installed.

    Notes
    -----
    Boundary conditions: u = (1 - 4 s^2, 0) at the inlet x = 0, where s is the distance from the centreline along y; u =
    0 on the walls; nu du/dn - p n = 0 at the outlet x = 10. The elements are Taylor-Hood elements (continuous, velocity
    of degree 2, pressure of degree 1) on cells x cells / 4 quadrilaterals, with more elements along the pipe because of
    the bends. The equations are transformed exactly to the straight pipe (the map has determinant 1, and its slope is
    quadratic on every element), so the walls are curves, not polygons. If several steady flows exist, the result is the
    flow that is connected to Stokes flow.
    """
    assert _is_multiple_of_four(cells, 8)
    require_memory(_BYTES_PER_NODE * int(cells) ** 2, f"the factorisation of a pipe flow with {cells} x {cells} cells")
    spline = centreline.spline()
    velocity, pressure, steps = _discretisation(int(cells)).solve(spline, float(viscosity))
    at_mesh = velocity[:, ::2] @ _to_mesh(int(cells)).T  # every second node along the pipe is a mesh node
    return PipeFlow(*_mesh(spline, int(cells)), torch.from_numpy(at_mesh), torch.from_numpy(pressure), steps)


def _is_multiple_of_four(cells: Any, least: int) -> bool:
    whole = isinstance(cells, Integral) and not isinstance(cells, bool)
    return whole and int(cells) >= least and int(cells) % 4 == 0


@lru_cache(maxsize=2)
def _discretisation(cells: int) -> _Discretisation:
    return _Discretisation(cells)


class _Discretisation:
    """Elements, compiled forms and factorisation on the straight pipe, shared by all pipes with one mesh."""

    def __init__(self, cells: int) -> None:
        require_dolfinx()
        import basix.ufl
        from dolfinx import fem, mesh
        from mpi4py import MPI

        self.elements = along, across = cells, cells // 4
        corners = [(0.0, -0.5), (LENGTH, 0.5)]
        kind = mesh.CellType.quadrilateral
        self.mesh = mesh.create_rectangle(MPI.COMM_SELF, corners, (along, across), kind)
        velocity = basix.ufl.element("Lagrange", "quadrilateral", 2, shape=(2,))
        pressure = basix.ufl.element("Lagrange", "quadrilateral", 1)
        self.space = fem.functionspace(self.mesh, basix.ufl.mixed_element([velocity, pressure]))
        self.state = fem.Function(self.space)
        self.slope = fem.Function(fem.functionspace(self.mesh, ("Lagrange", 2)))
        self.viscosity, self.inertia = fem.Constant(self.mesh, 0.0), fem.Constant(self.mesh, 0.0)
        self.velocity_dofs = [
            self._lattice_dofs(self.space.sub(0).sub(axis), 2 * along, 2 * across) for axis in range(2)
        ]
        self.pressure_dofs = self._lattice_dofs(self.space.sub(1), along, across)
        self._find_boundary()
        self._compile()
        self._prepare_factorisation()

    def _lattice_dofs(self, space: Any, along: int, across: int) -> NDArray[np.intp]:
        """Return the index of the unknown at each node of a lattice, shape (along + 1, across + 1)."""
        collapsed, numbers = space.collapse()
        points = collapsed.tabulate_dof_coordinates()
        i = np.rint(points[:, 0] * along / LENGTH).astype(int)
        j = np.rint((points[:, 1] + 0.5) * across).astype(int)
        dofs = np.empty((along + 1, across + 1), dtype=np.intp)
        dofs[i, j] = np.ravel(numbers)
        return dofs

    def _find_boundary(self) -> None:
        """Set Dirichlet conditions for the velocity at the inlet and on the walls."""
        from dolfinx import fem

        fixed = [np.concatenate([dofs[0], dofs[1:, 0], dofs[1:, -1]]) for dofs in self.velocity_dofs]
        self.fixed = np.sort(np.concatenate(fixed)).astype(np.int32)
        self.conditions = [fem.dirichletbc(fem.Function(self.space), self.fixed)]  # increments are zero there

    def _compile(self) -> None:
        import ufl
        from dolfinx import fem

        u, p = ufl.split(self.state)
        du, dp = ufl.TrialFunctions(self.space)
        v, q = ufl.TestFunctions(self.space)

        def gradient(w: Any) -> Any:
            """Return the gradient in x and y of a vector function on the straight pipe; rows are components."""
            along, across = w.dx(0), w.dx(1)
            columns = (along - self.slope * across, across)
            return ufl.as_matrix([[columns[axis][row] for axis in range(2)] for row in range(2)])

        def stokes(w: Any, pressure: Any) -> Any:
            diffusion = self.viscosity * ufl.inner(gradient(w), gradient(v))
            return diffusion - pressure * ufl.tr(gradient(v)) - q * ufl.tr(gradient(w))

        carried = ufl.dot(gradient(u) * u, v)
        linearised = ufl.dot(gradient(du) * u, v) + ufl.dot(gradient(u) * du, v)
        self.residual = fem.form((stokes(u, p) + self.inertia * carried) * ufl.dx)
        self.jacobian = fem.form((stokes(du, dp) + self.inertia * linearised) * ufl.dx)

    def _prepare_factorisation(self) -> None:
        from dolfinx.fem import petsc
        from petsc4py import PETSc

        self.matrix = petsc.create_matrix(self.jacobian)
        self.solver = PETSc.KSP().create(self.mesh.comm)
        self.solver.setType("preonly")
        preconditioner = self.solver.getPC()
        preconditioner.setType("lu")
        preconditioner.setFactorSolverType("mumps")

    def solve(self, spline: CubicHermiteSpline, viscosity: float) -> tuple[_Floats, _Floats, int]:
        """Return velocities (2, nodes along, nodes across), pressures at their nodes, and the number of linear solves.

        The convective term is scaled by a factor that grows from 0 (Stokes flow) to 1, with extrapolation and Newton's
        method. The step of the factor is halved if Newton's method fails, and enlarged if it converges.
        """
        self.slope.interpolate(lambda x: spline(x[0], 1))
        self.viscosity.value = viscosity
        self._start()
        steps, reached, stride = self._newton(0.0, _CONTINUATION_TOLERANCE)[1], 0.0, _FIRST_STRIDE
        state = self.state.x.array.copy()
        tangent = np.zeros_like(state)
        while reached < 1:
            goal = min(1.0, reached + stride)
            self.state.x.array[:] = state + (goal - reached) * tangent
            done, count = self._newton(goal, _TOLERANCE if goal == 1 else _CONTINUATION_TOLERANCE)
            steps += count
            if done:
                tangent = (self.state.x.array - state) / (goal - reached)
                state, reached = self.state.x.array.copy(), goal
            stride *= 1.6 if done else 0.5
            if steps > _MAX_LINEAR_SOLVES:
                raise ConvergenceError(_continuation_failure(reached, steps))
        values = self.state.x.array
        return np.stack([values[dofs] for dofs in self.velocity_dofs]), values[self.pressure_dofs], steps

    def _newton(self, inertia: float, tolerance: float) -> tuple[bool, int]:
        """Run Newton's method with the convective term scaled by `inertia`; return convergence and linear solves."""
        self.inertia.value = inertia
        before = math.inf
        for step in range(1, 9):
            change = self._step()
            if change < tolerance:
                return True, step
            if not change < _MAX_CHANGE or (step > 2 and change > before / 2):
                break
            before = change
        return False, step

    def _start(self) -> None:
        across = np.linspace(-0.5, 0.5, 2 * self.elements[1] + 1)
        values = self.state.x.array
        values[:] = 0.0
        values[self.velocity_dofs[0][0]] = 1 - 4 * across**2

    def _step(self) -> float:
        """Solve one linearised system, and return the largest change of a velocity."""
        from dolfinx.fem import petsc

        self.matrix.zeroEntries()
        petsc.assemble_matrix(self.matrix, self.jacobian, bcs=self.conditions)
        self.matrix.assemble()
        load = petsc.assemble_vector(self.residual)
        load.array[self.fixed] = 0.0
        self.solver.setOperators(self.matrix)
        increment = load.duplicate()
        self.solver.solve(load, increment)
        changes = increment.array.copy()
        failed = bool(self.solver.is_diverged)
        for vector in (load, increment):
            vector.destroy()
        if failed:
            return math.nan
        self.state.x.array[:] -= changes
        return float(max(np.abs(changes[dofs]).max() for dofs in self.velocity_dofs))


def _continuation_failure(reached: float, steps: int) -> str:
    return (
        f"continuation from Stokes flow stopped at {reached:.0%} of the convective term after {steps} Newton steps; "
        "give a larger viscosity, a smoother centreline or more cells."
    )


def _to_mesh(cells: int) -> _Floats:
    """Return the matrix (cells + 1, cells / 2 + 1) that evaluates quadratic elements of four cells at mesh nodes."""
    matrix = np.zeros((cells + 1, cells // 2 + 1))
    matrix[::2] = np.eye(cells // 2 + 1)
    for first in range(0, cells // 2, 2):
        matrix[2 * first + 1, first : first + 3] = 0.375, 0.75, -0.125
        matrix[2 * first + 3, first : first + 3] = -0.125, 0.75, 0.375
    return matrix


def _mesh(spline: CubicHermiteSpline, cells: int) -> tuple[Tensor, Tensor]:
    x = np.linspace(0.0, LENGTH, cells + 1)
    across = np.arange(cells + 1) / cells - 0.5
    return torch.from_numpy(np.tile(x[:, None], cells + 1)), torch.from_numpy(spline(x)[:, None] + across)


# --- the data set -----------------------------------------------------------------------------------------------------


class _Pipe(Recipe):
    name = "pipe"
    title = "Pipe: steady incompressible flow through a bent pipe"
    description = (
        "(u . grad) u - nu Lap u + grad p = 0, div u = 0 with nu = 0.005 in a pipe of length 10 and width 1 (along y), "
        "whose centreline is a cubic spline given by heights and slopes at five equidistant points. Inlet "
        "u = (1 - 4 s^2, 0), no slip on the walls, natural outflow. Inputs are the coordinates of the mesh, which is "
        "mapped from the straight pipe along y; the target is the horizontal velocity. Taylor-Hood elements on "
        "resolution x resolution / 4 quadrilaterals (along x across), evaluated at the nodes of the mesh. The "
        "publication leaves open, and we chose: heights uniform in (-2, 2), slopes uniform in (-1, 1), cross sections "
        "along y instead of the normal, outflow nu du/dn - p n = 0. The resolution is the number of cells along and "
        "across the pipe (published: 128, 129 x 129 nodes), a multiple of 4, at least 32. At 128 the velocity of two "
        "samples differed by 0.04 and 0.13 % (relative l2) from solutions with twice as many elements along the pipe, "
        "an estimate of the error. mesh_x is the same in all samples."
    )
    reference = (
        "Z. Li, D. Z. Huang, B. Liu, A. Anandkumar: Fourier neural operator with learned deformations for PDEs on "
        "general geometries, Journal of Machine Learning Research 24 (2023)"
    )
    resolution = 128
    samples = 1200
    smallest = 32  # on coarser meshes, many samples have no steady flow that is connected to Stokes flow
    inputs = ("mesh_x", "mesh_y")
    targets = ("velocity",)
    layout = "nodes->nodes"

    def chunk(self, resolution: int) -> int:
        return 4

    def check(self, resolution: int) -> None:
        if not _is_multiple_of_four(resolution, self.smallest):
            raise InputError(
                f"recipe {self.name} has no resolution {resolution!r}; give a multiple of 4, at least {self.smallest} "
                f"(published: {self.resolution})."
            )

    def parameters(self, resolution: int) -> dict[str, JSON]:
        return {
            "viscosity": 0.005,
            "length": LENGTH,
            "heights": [-2.0, 2.0],
            "slopes": [-1.0, 1.0],
            "elements": {"velocity": 2, "pressure": 1, "along": resolution, "across": resolution // 4},
            "tolerance": _TOLERANCE,
        }

    def coordinates(self, resolution: int) -> dict[str, tuple[Array, str]]:
        count = np.arange(resolution + 1, dtype=np.float64)
        return {"i": (count, "1"), "j": (count, "1")}

    def variables(self, resolution: int) -> dict[str, Variable]:
        axes = ("i", "j")
        return {
            "mesh_x": Variable(axes, "x coordinate of a node"),
            "mesh_y": Variable(axes, "y coordinate of a node"),
            "velocity": Variable(axes, "horizontal velocity"),
        }

    def generate(self, seed: int, first: int, count: int, resolution: int, device: torch.device) -> dict[str, Array]:
        """Solve the flows one after the other, on the CPU for every device."""
        flows = [self._flow(seed, index, resolution) for index in range(first, first + count)]
        return {
            "mesh_x": np.stack([flow.mesh_x.numpy() for flow in flows]),
            "mesh_y": np.stack([flow.mesh_y.numpy() for flow in flows]),
            "velocity": np.stack([flow.velocity[0].numpy() for flow in flows]),
        }

    def _flow(self, seed: int, index: int, resolution: int) -> PipeFlow:
        try:
            return solve_pipe_flow(draw_centreline(seed, index), resolution)
        except ConvergenceError as error:
            raise ConvergenceError(f"sample {index} of seed {seed} failed: {error}") from None


def draw_centreline(seed: int, index: int) -> Centreline:
    """Return the random centreline of one sample."""
    rng = sample_rng(seed, index)
    return Centreline(tuple(rng.uniform(-2.0, 2.0, 5)), tuple(rng.uniform(-1.0, 1.0, 5)))


PIPE = _Pipe()
