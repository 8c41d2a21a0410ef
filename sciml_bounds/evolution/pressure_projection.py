"""Projection of a velocity on a staggered grid onto divergence-free velocities (Chorin, Math. Comp. 22, 1968).

With phi = dt p / rho for the pressure p and the density rho, the projected velocity is u - grad phi, whose divergence
vanishes in every fluid cell. At open sides phi = 0; at closed sides and solids the normal velocity is prescribed.
Multiplied by the square of the smallest spacing, the cell equations are those of a lattice operator. Its conductance is
1 between two fluid cells (less along an axis with larger spacing) and 0 at solids. Its absorption c is 2 at an open
side, which is half a cell away from the cell centre.

In a part of the fluid without open sides, phi is determined up to a constant, and the inflow through the walls must
balance. If moving solids violate this, the mean inflow is subtracted in each cell of the part and reported as the
imbalance.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from sciml_bounds.arrays import convert, require_instance, to_mask
from sciml_bounds.errors import ConvergenceError, InputError
from sciml_bounds.evolution.staggered import Velocity, divergence, face_shape
from sciml_bounds.grid import AXES, Grid, side_axis
from sciml_bounds.operators._lattice_operator import LatticeOperator, LatticeSystem, to_lattice
from sciml_bounds.reports import describe_reason
from sciml_bounds.results import LinearSolution

__all__ = ["PressureEquations", "Projection", "SolvePressure", "require_sides", "require_solver"]

#: Solver of a system for phi. Its arguments are the system, an initial guess (b, x, y, z) or None, and the tolerance
#: for the 2-norm of the residual. Systems with the same geometry share their operator, so the solver can cache its
#: set-up.
SolvePressure = Callable[[LatticeSystem, Tensor | None, float], LinearSolution]


@dataclass(frozen=True)
class Projection:
    """Result of a projection.

    Attributes
    ----------
    velocity : tuple of Tensor
        The projected velocity.
    pressure : Tensor (x, y[, z])
        phi at cell centres, with mean zero in each part of the fluid without open sides, and zero in solids.
    solution : LinearSolution
        Result of the linear solve.
    divergence : float
        Largest divergence that remains in a fluid cell, recomputed from `velocity`, without the imbalance.
    imbalance : float
        Largest divergence that no pressure can remove, in fluid that is enclosed and compressed by moving bodies.
    """

    velocity: Velocity
    pressure: Tensor
    solution: LinearSolution
    divergence: float
    imbalance: float


def require_sides(grid: Grid, open_sides: Sequence[str]) -> None:
    """Raise unless all names are names of sides of the grid.

    Raises
    ------
    InputError
        If a side is unknown.
    """
    for side in open_sides:
        if side not in grid.sides:
            raise InputError(f"open_sides has {side!r}; choose from the sides of this grid: {', '.join(grid.sides)}.")


def require_solver(pressure: Any) -> None:
    """Raise unless the argument is a pressure solver.

    Raises
    ------
    InputError
        If the argument is not callable, or is a network instead of a solver.
    """
    if not callable(pressure) or isinstance(pressure, type):
        raise InputError(
            f"pressure is {pressure!r}; give a solver, for example sb.simulation.PressureSolver('multigrid-pcg')."
        )
    if hasattr(pressure, "as_preconditioner"):  # networks are callable, but not with a system
        raise InputError(
            f"pressure is a {type(pressure).__name__}, a network and not a solver; give "
            "sb.simulation.PressureSolver(sb.simulation.Preconditioned(network.as_preconditioner))."
        )


class PressureEquations:
    """The pressure equations for given solid cells.

    Parameters
    ----------
    grid : Grid
        Grid in two or three dimensions.
    solid : boolean array (x, y[, z])
        Mask of the solid cells.
    open_sides : sequence of str
        Names of the open sides.

    Raises
    ------
    InputError
        If the mask is not boolean or does not have one value per cell, a side is unknown, or every cell is solid.

    Examples
    --------
    Any velocity on the faces of cells can be projected, with any pressure solver:

    >>> import torch, sciml_bounds as sb
    >>> from sciml_bounds.pressure import PressureSolver
    >>> equations = PressureEquations(sb.Grid((8, 8)), torch.zeros(8, 8, dtype=torch.bool), ["y1"])
    >>> velocity = equations.close([torch.ones(9, 8).double(), torch.ones(8, 9).double()])
    >>> projection = equations.project(velocity, PressureSolver("learned-cycle"), tolerance=1e-9)
    >>> projection.divergence <= 1e-9
    True
    """

    def __init__(self, grid: Grid, solid: Any, open_sides: Sequence[str] = ()) -> None:
        require_instance(grid, "the grid", Grid, "an sb.Grid")
        self.grid, self.open_sides = grid, tuple(open_sides)
        require_sides(grid, self.open_sides)
        solid = to_mask(solid, "the array of solid cells")
        if tuple(solid.shape) != grid.shape:
            raise InputError(
                f"the array of solid cells has shape {tuple(solid.shape)}, but the grid has "
                f"{' x '.join(map(str, grid.shape))} cells; give one value per cell."
            )
        self.fluid = ~solid
        if not bool(self.fluid.any()):
            raise InputError("every cell is solid, so there is no fluid; use smaller bodies.")
        self.scale = min(grid.spacing) ** 2
        self._weights = [self.scale / h**2 for h in grid.spacing]
        self.operator, self._isolated = self._assemble()
        floating = torch.as_tensor(self._floating(), device=solid.device)
        self._floats = floating if bool((floating >= 0).any()) else None
        coupled = torch.where(self._isolated, -1, floating)
        self._components = to_lattice(coupled, grid.dim) if bool((coupled >= 0).any()) else None

    def _assemble(self) -> tuple[LatticeOperator, Tensor]:
        """Return the operator, and the mask of isolated fluid cells, whose equation is x = 0 as in solid cells."""
        dim, fluid = self.grid.dim, self.fluid
        T = torch.zeros((dim, *fluid.shape), dtype=torch.float64, device=fluid.device)
        c = torch.zeros(fluid.shape, dtype=torch.float64, device=fluid.device)
        diagonal = torch.zeros_like(c)
        for axis, weight in enumerate(self._weights):
            n = fluid.shape[axis]
            between = (fluid.narrow(axis, 0, n - 1) & fluid.narrow(axis, 1, n - 1)).double() * weight
            T[axis].narrow(axis, 0, n - 1).copy_(between)
            diagonal.narrow(axis, 0, n - 1).add_(between)
            diagonal.narrow(axis, 1, n - 1).add_(between)
        for side in self.open_sides:
            axis, end = side_axis(side)
            c.select(axis, -end).add_(fluid.select(axis, -end).double(), alpha=2 * self._weights[axis])
        isolated = diagonal + c == 0
        c = torch.where(isolated, sum(self._weights), c)
        offsets = tuple((int(k == 0), int(k == 1), int(k == 2)) for k in range(3 - dim, 3))
        T = T.view(dim, 1, *(1,) * (3 - dim), *fluid.shape)
        return LatticeOperator(offsets, T, to_lattice(c, dim)), isolated & fluid

    def _floating(self) -> np.ndarray[tuple[int, ...], np.dtype[np.int64]]:
        """Return for each cell the index of its part of the fluid if the part has no open side, otherwise -1."""
        from scipy.ndimage import label

        parts, count = label(self.fluid.cpu().numpy())
        fixed = np.zeros(count + 1, dtype=bool)
        fixed[0] = True
        for side in self.open_sides:
            axis, end = side_axis(side)
            fixed[np.unique(parts.take(-end, axis))] = True
        numbers = np.where(fixed, -1, np.cumsum(~fixed) - 1)
        found: np.ndarray[tuple[int, ...], np.dtype[np.int64]] = numbers[parts]
        return found

    def system(self, velocity: Velocity) -> LatticeSystem:
        """Return the linear system for phi, with a balanced right-hand side.

        Raises
        ------
        InputError
            If the velocity does not have one field per axis, with n + 1 entries along this axis.
        """
        velocity = self._faces(velocity)
        source = torch.where(self.fluid, divergence(velocity, self.grid) * -self.scale, 0.0)
        rhs = to_lattice(source - self._excess(source), self.grid.dim)
        weights = None if self._components is None else to_lattice(self.fluid.double(), self.grid.dim)
        return LatticeSystem(self.operator, rhs, self._components, weights)

    def _faces(self, velocity: Any) -> Velocity:
        """Return a velocity as tensors in double precision."""
        given = tuple(velocity) if isinstance(velocity, Sequence) else ()
        if len(given) != self.grid.dim:
            raise InputError(f"the velocity has {len(given)} components; give {self.grid.dim} fields, one per axis.")
        fields = tuple(convert(part, "the velocity", torch.float64, self.fluid.device) for part in given)
        for axis, part in enumerate(fields):
            if tuple(part.shape) != (wanted := face_shape(self.grid, axis)):
                raise InputError(
                    f"the velocity along {AXES[axis]} has shape {tuple(part.shape)}, but the grid has {wanted} faces "
                    "normal to this axis; give one value per face."
                )
        return fields

    def _cells(self, guess: Any) -> Tensor:
        """Return an initial guess of phi as a tensor that is zero in solids."""
        phi = convert(guess, "the guess", torch.float64, self.fluid.device)
        if tuple(phi.shape) != self.grid.shape:
            raise InputError(
                f"the guess has shape {tuple(phi.shape)}, but the grid has {self.grid.shape} cells; give one value per "
                "cell."
            )
        return torch.where(self.fluid, phi, 0.0)

    def _excess(self, field: Tensor) -> Tensor:
        """Return in each cell the mean of a field over its part of the fluid without open sides; zero elsewhere."""
        if self._floats is None:
            return torch.zeros_like(field)
        inside = self._floats >= 0
        labels = self._floats[inside]
        sums = field.new_zeros(int(labels.max()) + 1)
        means = sums.index_add(0, labels, field[inside]) / torch.bincount(labels)
        return torch.where(inside, means[self._floats.clamp_min(0)], 0.0)

    def gradient(self, phi: Tensor) -> Velocity:
        """Return grad phi at faces that the fluid can cross, and zero at all other faces, for phi (x, y[, z])."""
        parts = []
        for axis, h in enumerate(self.grid.spacing):
            n = phi.shape[axis]
            passing = self.fluid.narrow(axis, 0, n - 1) & self.fluid.narrow(axis, 1, n - 1)
            inner = torch.where(passing, torch.diff(phi, dim=axis) / h, 0.0)
            first, last = (torch.zeros_like(phi.narrow(axis, i, 1)) for i in (0, n - 1))
            if f"{AXES[axis]}0" in self.open_sides:
                first = torch.where(self.fluid.narrow(axis, 0, 1), phi.narrow(axis, 0, 1) * (2 / h), 0.0)
            if f"{AXES[axis]}1" in self.open_sides:
                last = torch.where(self.fluid.narrow(axis, n - 1, 1), phi.narrow(axis, n - 1, 1) * (-2 / h), 0.0)
            parts.append(torch.cat([first, inner, last], axis))
        return tuple(parts)

    def close(self, velocity: Velocity) -> Velocity:
        """Return a velocity whose normal component is zero at closed sides."""
        closed = tuple(component.clone() for component in self._faces(velocity))
        for axis, component in enumerate(closed):
            for end in (0, 1):
                if f"{AXES[axis]}{end}" not in self.open_sides:
                    component.select(axis, -end).zero_()
        return closed

    def project(
        self, velocity: Velocity, solve: SolvePressure, *, tolerance: float, guess: Tensor | None = None
    ) -> Projection:
        """Remove the divergence of a velocity that has the prescribed normal components at solids and closed sides.

        Parameters
        ----------
        velocity : sequence of Tensor
            Velocity to project: one field per axis, with n + 1 entries along this axis. The values at faces of solids
            and of closed sides are not changed.
        solve : callable
            The linear solver.
        tolerance : float
            Largest divergence in a cell after the projection.
        guess : Tensor (x, y[, z]), optional
            Initial guess of phi.

        Raises
        ------
        ConvergenceError
            If the divergence remains above the tolerance.
        InputError
            If velocity or guess have wrong shapes, the divergence or its square is not finite, or the solver is not
            callable or does not return a `LinearSolution`.
        """
        require_solver(solve)
        velocity = self._faces(velocity)
        system = self.system(velocity)
        if not bool(torch.isfinite(system.rhs.square().sum())):
            raise InputError(
                "the divergence before the projection, or its square, is not finite; use smaller velocities, forces, "
                "or time steps."
            )
        start = None if guess is None else system.fix_mean(to_lattice(self._cells(guess), self.grid.dim))
        # the largest entry of a residual is at most its norm; 1% is left for the round-off of the check
        solution = solve(system, start, 0.99 * tolerance * self.scale)
        if not isinstance(solution, LinearSolution):
            kind = type(solution).__name__
            raise InputError(f"the pressure solver returned a {kind}; let it return a LinearSolution, as sb.cg does.")
        phi = torch.where(self.fluid & ~self._isolated, solution.x.view(self.grid.shape), 0.0)
        projected = tuple(u - g for u, g in zip(velocity, self.gradient(phi)))
        rest = torch.where(self.fluid, divergence(projected, self.grid), 0.0)
        imbalance = self._excess(torch.where(self.fluid, divergence(velocity, self.grid), 0.0))
        left = float((rest - imbalance).abs().max())
        if not left <= tolerance:
            raise ConvergenceError(
                f"the divergence after the projection is {left:.3g}, above the tolerance {tolerance:.3g} "
                f"({solution.method}: {describe_reason(solution.reason)}, {solution.progress}); use another pressure "
                "solver or a larger tolerance."
            )
        return Projection(projected, phi, solution, left, float(imbalance.abs().max()))
