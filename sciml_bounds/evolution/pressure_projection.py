"""The part of a velocity on a staggered grid that has no divergence (Chorin, Math. Comp. 22, 1968).

With phi = dt p / rho, the projected velocity is u - grad phi, whose divergence vanishes in every fluid cell. Open sides
hold phi = 0; through closed sides and solids nothing passes but what moves with them. Multiplied by the square of the
smallest spacing, the equations of the cells are those of a lattice operator: the conductance is 1 between two fluid
cells (less along an axis with larger spacing) and 0 beside solids, c is 2 behind an open side, half a cell away.

A part of the fluid without an open side floats: what flows into it through its walls must balance. Where moving solids
do not let it, the same inflow in each of its cells is taken off, and reported.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from sciml_bounds.arrays import convert, to_mask
from sciml_bounds.errors import ConvergenceError, InputError
from sciml_bounds.evolution.staggered import Velocity, divergence, face_shape
from sciml_bounds.grid import AXES, Grid, side_axis
from sciml_bounds.operators._lattice_operator import LatticeOperator, LatticeSystem, to_lattice
from sciml_bounds.reports import describe_reason
from sciml_bounds.results import LinearSolution

__all__ = ["PressureEquations", "Projection", "SolvePressure", "require_sides", "require_solver"]

#: Solves a system for phi, given a guess (b, x, y, z) or None and the residual norm that is asked for (the 2-norm).
#: Systems of one geometry share their operator, so that a set-up can be kept.
SolvePressure = Callable[[LatticeSystem, Tensor | None, float], LinearSolution]


@dataclass(frozen=True)
class Projection:
    """A projected velocity, and what it took.

    Attributes
    ----------
    velocity
        Without divergence.
    pressure
        phi at cell centres, with mean zero in each part of the fluid that floats, and zero in solids.
    solution
        Of the linear system.
    divergence
        The largest divergence that is left in a fluid cell, computed from `velocity`, without `imbalance`.
    imbalance
        The largest divergence that no pressure can remove, since bodies squeeze fluid that cannot get away.
    """

    velocity: Velocity
    pressure: Tensor
    solution: LinearSolution
    divergence: float
    imbalance: float


def require_sides(grid: Grid, open_sides: Sequence[str]) -> None:
    """Refuse names of sides that the grid has not.

    Raises
    ------
    InputError
        With the first of them.
    """
    for side in open_sides:
        if side not in grid.sides:
            raise InputError(f"there is no side {side!r}; the sides of this grid are {', '.join(grid.sides)}.")


def require_solver(pressure: Any) -> None:
    """Refuse what solves no systems of the pressure.

    Raises
    ------
    InputError
        With what it is.
    """
    if not callable(pressure) or isinstance(pressure, type):
        raise InputError(f"pressure is {pressure!r}; give a solver, for example PressureSolver('multigrid-pcg').")
    if hasattr(pressure, "as_preconditioner"):  # a network can be called too, but not with a system
        raise InputError(
            f"pressure is a {type(pressure).__name__}; give PressureSolver(Preconditioned(...)) around its "
            "as_preconditioner."
        )


class PressureEquations:
    """The equations of the pressure around the solids of one moment.

    Parameters
    ----------
    grid
        The grid, in two or three dimensions.
    solid
        Which cells are solid, shape (x, y[, z]).
    open_sides
        Names of the sides that are open.

    Raises
    ------
    InputError
        If the solid cells are no truth values, one a cell, there is no such side, or every cell is solid.

    Examples
    --------
    Any velocity on the faces of cells, and any solver of the pressure:

    >>> import torch, sciml_bounds as sb
    >>> from sciml_bounds.pressure import PressureSolver
    >>> equations = PressureEquations(sb.Grid((8, 8)), torch.zeros(8, 8, dtype=torch.bool), ["y1"])
    >>> velocity = equations.close([torch.ones(9, 8).double(), torch.ones(8, 9).double()])
    >>> projection = equations.project(velocity, PressureSolver("learned-cycle"), tolerance=1e-9)
    >>> projection.divergence <= 1e-9
    True
    """

    def __init__(self, grid: Grid, solid: Any, open_sides: Sequence[str] = ()) -> None:
        if not isinstance(grid, Grid):
            raise InputError(f"the grid is {grid!r}; give a Grid.")
        self.grid, self.open_sides = grid, tuple(open_sides)
        require_sides(grid, self.open_sides)
        solid = to_mask(solid, "the array of solid cells")
        if tuple(solid.shape) != grid.shape:
            raise InputError(
                f"the array of solid cells has shape {tuple(solid.shape)}, but the grid has "
                f"{' x '.join(map(str, grid.shape))} cells; they must agree."
            )
        self.fluid = ~solid
        if not bool(self.fluid.any()):
            raise InputError("every cell is solid, so that there is no room for a fluid; use smaller bodies.")
        self.scale = min(grid.spacing) ** 2
        self._weights = [self.scale / h**2 for h in grid.spacing]
        self.operator, self._alone = self._assemble()
        floating = torch.as_tensor(self._floating(), device=solid.device)
        self._floats = floating if bool((floating >= 0).any()) else None
        coupled = torch.where(self._alone, -1, floating)
        self._components = to_lattice(coupled, grid.dim) if bool((coupled >= 0).any()) else None

    def _assemble(self) -> tuple[LatticeOperator, Tensor]:
        """Assemble the operator; solid cells, and fluid ones without neighbours, get the equation x = 0 (scaled)."""
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
        lone = diagonal + c == 0
        c = torch.where(lone, sum(self._weights), c)
        offsets = tuple((int(k == 0), int(k == 1), int(k == 2)) for k in range(3 - dim, 3))
        T = T.view(dim, 1, *(1,) * (3 - dim), *fluid.shape)
        return LatticeOperator(offsets, T, to_lattice(c, dim)), lone & fluid

    def _floating(self) -> np.ndarray[tuple[int, ...], np.dtype[np.int64]]:
        """Give each part of the fluid that touches no open side a number, and all other cells -1."""
        from scipy.ndimage import label

        parts, count = label(self.fluid.cpu().numpy())
        held = np.zeros(count + 1, dtype=bool)
        held[0] = True
        for side in self.open_sides:
            axis, end = side_axis(side)
            held[np.unique(parts.take(-end, axis))] = True
        numbers = np.where(held, -1, np.cumsum(~held) - 1)
        found: np.ndarray[tuple[int, ...], np.dtype[np.int64]] = numbers[parts]
        return found

    def system(self, velocity: Velocity) -> LatticeSystem:
        """Give the system whose solution is phi; its right-hand side is balanced.

        Raises
        ------
        InputError
            If the velocity is not one field an axis, with n + 1 entries along its own.
        """
        velocity = self._faces(velocity)
        source = torch.where(self.fluid, divergence(velocity, self.grid) * -self.scale, 0.0)
        rhs = to_lattice(source - self._excess(source), self.grid.dim)
        weights = None if self._components is None else to_lattice(self.fluid.double(), self.grid.dim)
        return LatticeSystem(self.operator, rhs, self._components, weights)

    def _faces(self, velocity: Any) -> Velocity:
        """Read one field an axis, in double precision."""
        given = tuple(velocity) if isinstance(velocity, Sequence) else ()
        if len(given) != self.grid.dim:
            raise InputError(f"the velocity has {len(given)} components; give a list of {self.grid.dim}, one an axis.")
        fields = tuple(convert(part, "the velocity", torch.float64, self.fluid.device) for part in given)
        for axis, part in enumerate(fields):
            if tuple(part.shape) != (wanted := face_shape(self.grid, axis)):
                raise InputError(
                    f"the velocity along {AXES[axis]} has shape {tuple(part.shape)}; the grid has {wanted} faces there."
                )
        return fields

    def _cells(self, guess: Any) -> Tensor:
        """Read a guess of phi, zero in solids."""
        phi = convert(guess, "the guess", torch.float64, self.fluid.device)
        if tuple(phi.shape) != self.grid.shape:
            raise InputError(f"the guess has shape {tuple(phi.shape)}; the grid has {self.grid.shape} cells.")
        return torch.where(self.fluid, phi, 0.0)

    def _excess(self, field: Tensor) -> Tensor:
        """Compute the mean of a cell field over each part of the fluid that floats; zero elsewhere."""
        if self._floats is None:
            return torch.zeros_like(field)
        inside = self._floats >= 0
        labels = self._floats[inside]
        sums = field.new_zeros(int(labels.max()) + 1)
        means = sums.index_add(0, labels, field[inside]) / torch.bincount(labels)
        return torch.where(inside, means[self._floats.clamp_min(0)], 0.0)

    def gradient(self, phi: Tensor) -> Velocity:
        """Compute grad phi, phi (x, y[, z]), at the faces where the fluid may pass, and zero at all others."""
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
        """Give a velocity that is the same but for closed sides, through which nothing passes."""
        closed = tuple(component.clone() for component in self._faces(velocity))
        for axis, component in enumerate(closed):
            for end in (0, 1):
                if f"{AXES[axis]}{end}" not in self.open_sides:
                    component.select(axis, -end).zero_()
        return closed

    def project(
        self, velocity: Velocity, solve: SolvePressure, *, tolerance: float, guess: Tensor | None = None
    ) -> Projection:
        """Remove the divergence of a velocity that moves with solids and sides already.

        Parameters
        ----------
        velocity
            What is to be projected, one field an axis, with n + 1 entries along its own. Faces of solids and of closed
            sides keep what they have.
        solve
            The linear solver.
        tolerance
            What the divergence is asked to stay below, in every cell.
        guess
            phi, roughly, shape (x, y[, z]).

        Raises
        ------
        ConvergenceError
            If the divergence stays above the tolerance.
        InputError
            If velocity or guess have other shapes, the divergence is NaN, infinite, or so large that its square is, or
            what solves cannot be called, or gives no solution.
        """
        require_solver(solve)
        velocity = self._faces(velocity)
        system = self.system(velocity)
        if not bool(torch.isfinite(system.rhs.square().sum())):
            raise InputError(
                "the divergence before the projection, or its square, is not a finite number; use smaller velocities, "
                "forces, or time steps."
            )
        start = None if guess is None else system.fix_mean(to_lattice(self._cells(guess), self.grid.dim))
        # the largest entry of a residual is at most its norm; round-off of the check takes its share
        solution = solve(system, start, 0.99 * tolerance * self.scale)
        if not isinstance(solution, LinearSolution):
            kind = type(solution).__name__
            raise InputError(f"the solver of the pressure gives a {kind}; let it give a LinearSolution.")
        phi = torch.where(self.fluid & ~self._alone, solution.x.view(self.grid.shape), 0.0)
        projected = tuple(u - g for u, g in zip(velocity, self.gradient(phi)))
        rest = torch.where(self.fluid, divergence(projected, self.grid), 0.0)
        imbalance = self._excess(torch.where(self.fluid, divergence(velocity, self.grid), 0.0))
        left = float((rest - imbalance).abs().max())
        if not left <= tolerance:
            raise ConvergenceError(
                f"the divergence after the projection is {left:.3g} where {tolerance:.3g} was asked: "
                f"{solution.method}: {describe_reason(solution.reason)}, {solution.progress}."
            )
        return Projection(projected, phi, solution, left, float(imbalance.abs().max()))
