"""Discretisation part and model part of an error, and the constant that bounds the L2 norm by the energy norm.

The mesh part is the error of the discrete solution u_h, and the model part is the distance of a field to u_h. They are
not assumed to be orthogonal: u_h is computed, and the error of the linear solve is bounded.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

from sciml_bounds._linear import LinearSolver
from sciml_bounds._linear_methods import Automatic
from sciml_bounds.bounds._energy import EnergyForm
from sciml_bounds.bounds._thomson import energy_error_bound
from sciml_bounds.grid import AXES, Dirichlet
from sciml_bounds.problems.diffusion import Diffusion
from sciml_bounds.problems.discretization import node_system
from sciml_bounds.problems.transfers import with_periodic_copies
from sciml_bounds.results import Interval
from sciml_bounds.stopping import StoppingCriteria

__all__ = ["discrete_solution", "l2_constant", "model_interval"]


def discrete_solution(problem: Diffusion, rtol: float = 1e-10) -> tuple[Tensor, Tensor]:
    """Return the discrete solution (b, n + 1), and a bound on its energy distance to the exact discrete solution (b,).

    The trapezoidal rule overestimates squares, so the energy of a multilinear function is at most the energy of its
    nodal values on the lattice. So a bound in the norm of the lattice operator is sufficient.
    """
    with torch.no_grad():
        system = node_system(problem)
        solver = LinearSolver(system, Automatic())
        linear = solver.solve(stop=StoppingCriteria(rtol=rtol))
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
    """Return mu, shape (b,), for which |||w|||^2 >= mu ||w||^2 if w vanishes on Dirichlet sides; zero if unknown.

    On a box, the smallest eigenvalue along an axis of length l is (pi / l)^2 with two Dirichlet sides and (pi / 2l)^2
    with one. If there are solids, only the reaction contributes.
    """
    grid = problem.grid
    reaction = torch.where(problem.fluid, problem.samples(problem.reaction), torch.inf)
    total: Tensor = reaction.flatten(1).amin(1)
    if problem.solid is not None:
        return total
    for axis, length in enumerate(grid.lengths):
        count = sum(isinstance(problem.boundary[f"{AXES[axis]}{end}"], Dirichlet) for end in (0, 1))
        a_min = problem.samples(problem.coefficient[axis]).flatten(1).amin(1)
        total = total + a_min * (count * math.pi / (2 * length)) ** 2
    return total
