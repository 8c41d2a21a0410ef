"""The two parts of an error, and its L2 norm.

The mesh part is the error of the discrete solution u_h on the grid; the model part is the distance of a field to u_h.
For neither is orthogonality assumed: u_h is computed, and what the solver left of it is bounded.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

from sciml_bounds._linear import Automatic, LinearSolver, Stop
from sciml_bounds.bounds._energy import EnergyForm
from sciml_bounds.bounds._thomson import energy_error_bound
from sciml_bounds.grid import AXES, Dirichlet
from sciml_bounds.problems.diffusion import Diffusion
from sciml_bounds.problems.discretization import node_system
from sciml_bounds.problems.transfers import with_periodic_copies
from sciml_bounds.results import Interval

__all__ = ["discrete_solution", "l2_constant", "model_interval"]


def discrete_solution(problem: Diffusion, rtol: float = 1e-10) -> tuple[Tensor, Tensor]:
    """Compute the discrete solution (b, n + 1) and a bound of the energy distance to the exact discrete solution (b,).

    The energy of multilinear functions never exceeds that of the lattice (the trapezoidal rule overestimates squares),
    so a bound in the norm of the lattice operator serves.
    """
    with torch.no_grad():
        system = node_system(problem)
        solver = LinearSolver(system, Automatic())
        linear = solver.solve(stop=Stop(rtol=rtol))
        x = linear.x.view(-1, *problem.node_shape)
        left = linear.error_upper if linear.error_upper_kind == "bound" else None
        if left is None:
            left = energy_error_bound(solver.operator, system.rhs, linear.x)
        values = with_periodic_copies(x + problem.dirichlet_values, problem.periodic)
        return values, left


def model_interval(problem: Diffusion, values: Tensor, discrete: Tensor, left: Tensor) -> Interval:
    """Bound the energy distance of a field to the exact discrete solution."""
    distance = EnergyForm(problem).norm(values - discrete)
    return Interval((distance - left).clamp_min(0), distance + left)


def l2_constant(problem: Diffusion) -> Tensor:
    """Return mu, shape (b,), with |||w|||^2 >= mu ||w||^2 for all w that vanish on Dirichlet sides; zero if unknown.

    On a box the eigenvalues along an axis are (pi / l)^2 between two Dirichlet sides and (pi / 2l)^2 with one. With
    solids only the reaction counts.
    """
    grid = problem.grid
    reaction = torch.where(problem.fluid, problem.samples(problem.reaction), torch.inf)
    total: Tensor = reaction.flatten(1).amin(1)
    if problem.solid is not None:
        return total
    for axis, length in enumerate(grid.lengths):
        held = sum(isinstance(problem.boundary[f"{AXES[axis]}{end}"], Dirichlet) for end in (0, 1))
        a_min = problem.samples(problem.coefficient[axis]).flatten(1).amin(1)
        total = total + a_min * (held * math.pi / (2 * length)) ** 2
    return total
