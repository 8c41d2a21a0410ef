"""Functions a network may be for a problem, and their energy in points: what all solvers by networks start from.

Legend: q points, n functions, d axes; a jet is values and gradients of functions together, (q, 1 + d, n).
"""

from __future__ import annotations

import copy
import dataclasses
from collections.abc import Callable
from functools import cached_property, wraps
from typing import Any

import torch
from torch import Tensor

from sciml_bounds.barron._barron_network import BarronNetwork
from sciml_bounds.barron._box_distance import BoxDistance
from sciml_bounds.errors import InputError
from sciml_bounds.grid import Dirichlet, Neumann, Periodic
from sciml_bounds.network_solvers._network_solution import NetworkSolution
from sciml_bounds.network_solvers._quadrature import Quadrature
from sciml_bounds.problems.variational_problem import VariationalProblem

__all__ = [
    "EnergySpace",
    "affine_jets",
    "dirichlet_sides",
    "energy_of",
    "feature_jets",
    "fitted_on_cpu",
    "free_arguments",
    "jet_of",
    "network_arguments",
    "require_linear",
    "require_problem",
    "side_values",
]

#: What a lifting may be off by, relative to one and the values.
MATCHED = 1e-6


#: Points where a network is evaluated at a time.
CHUNK = 2**14


def fitted_on_cpu[Solver: Callable[..., NetworkSolution]](solver: Solver) -> Solver:
    """Let a solver by networks run on the CPU, and return the network on the device of the problem."""

    @wraps(solver)
    def solve(problem: Any, *arguments: Any, lifting: Any = None, **options: Any) -> NetworkSolution:
        device = getattr(problem, "device", torch.device("cpu"))
        if isinstance(lifting, BarronNetwork):
            lifting = copy.deepcopy(lifting).cpu()
        if not isinstance(problem, VariationalProblem) or device.type == "cpu":
            return solver(problem, *arguments, lifting=lifting, **options)
        solution = solver(problem.to("cpu"), *arguments, lifting=lifting, **options)
        return dataclasses.replace(solution, network=solution.network.to(device))

    return solve  # type: ignore[return-value]


def require_problem(problem: Any, what: str) -> None:
    """Refuse what is no variational problem."""
    if not isinstance(problem, VariationalProblem):
        kind = type(problem).__name__
        raise InputError(f"{what} needs an sb.variational.VariationalProblem, and this is a {kind}.")


def require_linear(problem: Any, what: str) -> None:
    """Refuse problems other than -div(a grad u) + c u = f."""
    require_problem(problem, what)
    if not problem.linear:
        raise InputError(
            f"{what} solves linear problems only, not {type(problem.density).__name__}; "
            "take network_solvers.ritz_network."
        )


def network_arguments(problem: VariationalProblem, lifting: BarronNetwork | None) -> dict[str, Any]:
    """Return box, Dirichlet sides and lifting of the networks that meet the conditions on the sides.

    Raises
    ------
    InputError
        If a side has a condition that networks do not meet, or its values need a lifting that is not given.
    """
    values = _dirichlet_values(problem)
    number = _one_number(values)
    if lifting is None and number is None:
        raise InputError(
            "the Dirichlet values are not one number for all sides; give lifting=, a network that has these values."
        )
    if lifting is None and number:
        empty = torch.zeros((0, problem.dim), dtype=torch.float64)
        lifting = BarronNetwork.of(empty, [], [], offset=number)
    elif lifting is not None:
        _require_lifting(problem, lifting)
    return {**free_arguments(problem), "dirichlet_sides": dirichlet_sides(problem), "lifting": lifting}


def _require_lifting(problem: VariationalProblem, lifting: Any) -> None:
    """Compare a lifting with the prescribed values at points of the sides."""
    if not isinstance(lifting, BarronNetwork):
        kind = type(lifting).__name__
        raise InputError(f"lifting is a {kind}; give a BarronNetwork, one without neurons if it is affine.")
    if lifting.dimension != problem.dim:
        raise InputError(f"lifting has {lifting.dimension} variables, and the problem has {problem.dim}.")
    for (axis, end), value in _dirichlet(problem).items():
        x = _side_points(problem, axis, end)
        expected = problem.boundary_at(x) if problem.grid is None else torch.as_tensor(value).expand(x.shape[:-1])
        with torch.no_grad():
            off = float((lifting(x) - expected).abs().max())
        if not off <= MATCHED * (1 + float(expected.abs().max())):
            raise InputError(
                f"the lifting is off by up to {off:.3g} on a Dirichlet side (axis {axis}, end {end}); give a network "
                "that has the prescribed values there."
            )


def _side_points(problem: VariationalProblem, axis: int, end: int) -> Tensor:
    """Return points of a side: the nodes of a grid (..., d), or points that are spread over the side of a box."""
    origin, length = problem.box.origin[axis], problem.box.lengths[axis]
    if problem.grid is None:
        x = problem.sample_points()
    else:
        lines = [problem.grid.nodes(other) for other in range(problem.dim)]
        lines[axis] = lines[axis][:1]
        x = torch.stack(torch.meshgrid(*lines, indexing="ij"), -1).squeeze(axis)
    x[..., axis] = origin + end * length
    return x


def free_arguments(problem: VariationalProblem) -> dict[str, Any]:
    """Return the box only."""
    return {"lengths": problem.box.lengths, "origin": problem.box.origin}


def dirichlet_sides(problem: VariationalProblem) -> tuple[tuple[int, int], ...]:
    """Return the sides (axis, end) whose values are given."""
    return tuple(sorted(_dirichlet(problem)))


def _dirichlet_values(problem: VariationalProblem) -> list[Any]:
    return list(_dirichlet(problem).values())


def side_values(problem: VariationalProblem, places: Tensor) -> Tensor:
    """Return the given values at points of Dirichlet sides, (s,)."""
    if problem.grid is None and isinstance(problem.boundary, Dirichlet):
        return problem.boundary_at(places)
    number = _one_number(_dirichlet_values(problem))
    if number is None:
        raise InputError("the Dirichlet values on the grid are not one number; pose the problem on an sb.barron.Box.")
    return torch.full((len(places),), number, dtype=torch.float64)


def _dirichlet(problem: VariationalProblem) -> dict[tuple[int, int], Any]:
    """Return the values by side (axis, end)."""
    boundary = problem.boundary
    if problem.grid is None:
        boundary = {f"{axis}{end}": boundary for axis in range(problem.dim) for end in (0, 1)}
    else:
        boundary = {f"{'xyz'.index(side[0])}{side[1]}": condition for side, condition in boundary.items()}
    if any(isinstance(condition, Periodic) for condition in boundary.values()):
        raise InputError("a side is periodic, and networks are not; take Neumann or Dirichlet sides.")
    for condition in boundary.values():
        if isinstance(condition, Neumann) and not _is_zero(condition.flux):
            raise InputError("a side has a Neumann flux other than zero; networks are solved for sb.Neumann(0.0) only.")
    return {
        (int(side[:-1]), int(side[-1])): condition.value
        for side, condition in boundary.items()
        if isinstance(condition, Dirichlet)
    }


def _is_zero(field: Any) -> bool:
    return not bool(torch.as_tensor(field).any())


def _one_number(values: list[Any]) -> float | None:
    """Return the number that all values are; zero without any, None if they differ or are functions."""
    if any(callable(value) for value in values):
        return None
    numbers = torch.cat(
        [torch.as_tensor(value, dtype=torch.float64).reshape(-1) for value in values] or [torch.zeros(1)]
    )
    return float(numbers[0]) if bool((numbers == numbers[0]).all()) else None


class EnergySpace:
    """The bilinear form a(u, v) = int a grad u . grad v + c u v and the load of a linear problem, by points.

    Parameters
    ----------
    problem
        A linear problem.
    quadrature
        The points.
    """

    def __init__(self, problem: VariationalProblem, quadrature: Quadrature) -> None:
        x, w = quadrature.points, quadrature.weights
        self.problem, self.quadrature = problem, quadrature
        self.a, self.c, self.f = w * problem.coefficient_at(x), w * problem.reaction_at(x), w * problem.source_at(x)

    @cached_property
    def metric(self) -> Tensor:
        """Weights of the products of values and of gradients, (q, 1 + d)."""
        return torch.cat([self.c[:, None], self.a[:, None].expand(-1, self.problem.dim)], 1)

    def product(self, u: Tensor, v: Tensor) -> Tensor:
        """Return a(u_i, v_j) of jets (q, 1 + d, n) and (q, 1 + d, m), shape (n, m)."""
        return (u * self.metric[..., None]).flatten(0, 1).T @ v.flatten(0, 1)

    def load(self, u: Tensor) -> Tensor:
        """Return the integrals of f times values, shape (n,)."""
        return self.f @ u[:, 0]

    def residual(self, u: Tensor, distance: BoxDistance | None) -> tuple[Tensor, Tensor]:
        """Return A (q,) and B (q, d) with a(u, D g) - int f D g = sum_q A g + B . grad g, of one jet (q, 1 + d)."""
        A, B = self.c * u[:, 0] - self.f, self.a[:, None] * u[:, 1:]
        if distance is None:
            return A, B
        factor, slope, _ = distance.jet(self.quadrature.points)
        return A * factor + (B * slope).sum(-1), B * factor[:, None]


def energy_of(network: BarronNetwork, problem: VariationalProblem, quadrature: Quadrature) -> float:
    """Compute J of a network by points."""
    total = 0.0
    with torch.no_grad():
        for x, w in zip(quadrature.points.split(CHUNK), quadrature.weights.split(CHUNK)):
            total += float(w @ problem.integrand(x, network(x), network.gradient(x)))
    return total


def jet_of(network: BarronNetwork, x: Tensor) -> Tensor:
    """Evaluate a network, (q, 1 + d)."""
    with torch.no_grad():
        return torch.cat([network(x)[:, None], network.gradient(x)], 1)


def feature_jets(network: BarronNetwork, x: Tensor) -> Tensor:
    """Evaluate what outer weights multiply, (q, 1 + d, k)."""
    with torch.no_grad():
        return torch.cat([network.features(x)[:, None], network.feature_gradients(x).mT], 1)


def affine_jets(network: BarronNetwork, x: Tensor) -> Tensor:
    """Evaluate what offset and slope multiply: D, D x_1, ..., (q, 1 + d, 1 + d)."""
    q, d = x.shape
    values = torch.cat([torch.ones_like(x[:, :1]), x], 1)
    slopes = torch.cat([torch.zeros(q, d, 1).to(x), torch.eye(d).to(x).expand(q, d, d)], -1)
    if network.distance is None:
        return torch.cat([values[:, None], slopes], 1)
    factor, slope, _ = network.distance.jet(x)
    gradients = factor[:, None, None] * slopes + slope[:, :, None] * values[:, None]
    return torch.cat([(factor[:, None] * values)[:, None], gradients], 1)
