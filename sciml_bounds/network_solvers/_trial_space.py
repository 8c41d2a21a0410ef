"""Admissible networks of a problem and their energies by quadrature; shared by all network solvers.

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

from sciml_bounds.barron._barron_network import BarronNetwork, require_lifting
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

#: Largest error of a lifting, relative to 1 plus the largest prescribed value.
LIFTING_TOL = 1e-6


#: Number of points at which a network is evaluated at a time.
CHUNK_SIZE = 2**14


def fitted_on_cpu[Solver: Callable[..., NetworkSolution]](solver: Solver) -> Solver:
    """Decorate a network solver to run on the CPU and return the network on the device of the problem."""

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
    """Raise unless `problem` is a variational problem."""
    if not isinstance(problem, VariationalProblem):
        kind = type(problem).__name__
        raise InputError(f"{what} needs an sb.variational.VariationalProblem, not a {kind}.")


def require_linear(problem: Any, what: str) -> None:
    """Raise unless the problem is linear, -div(a grad u) + c u = f."""
    require_problem(problem, what)
    if not problem.linear:
        raise InputError(
            f"{what} solves linear problems only, not {type(problem.density).__name__}; use "
            "sb.network_solvers.ritz_network."
        )


def network_arguments(problem: VariationalProblem, lifting: BarronNetwork | None) -> dict[str, Any]:
    """Return box, Dirichlet sides and lifting of networks that satisfy the boundary conditions.

    Raises
    ------
    InputError
        If a boundary condition is not available for networks, or a required lifting is missing.
    """
    values = _dirichlet_values(problem)
    number = _one_number(values)
    if lifting is None and number is None:
        raise InputError(
            "the Dirichlet values are not a single number for all sides; give lifting=, a network that has these "
            "values."
        )
    if lifting is None and number:
        empty = torch.zeros((0, problem.dim), dtype=torch.float64)
        lifting = BarronNetwork.of(empty, [], [], offset=number)
    elif lifting is not None:
        _require_lifting(problem, lifting)
    return {**free_arguments(problem), "dirichlet_sides": dirichlet_sides(problem), "lifting": lifting}


def _require_lifting(problem: VariationalProblem, lifting: Any) -> None:
    """Check that a lifting has the prescribed values at points of the sides."""
    require_lifting(lifting, problem.dim)
    for (axis, end), value in _values_by_side(problem).items():
        x = _side_points(problem, axis, end)
        expected = problem.boundary_at(x) if problem.grid is None else torch.as_tensor(value).expand(x.shape[:-1])
        with torch.no_grad():
            off = float((lifting(x) - expected).abs().max())
        if not off <= LIFTING_TOL * (1 + float(expected.abs().max())):
            raise InputError(
                f"the lifting differs from the prescribed values by up to {off:.3g} on a Dirichlet side (axis {axis}, "
                f"end {end}); give a network that has these values."
            )


def _side_points(problem: VariationalProblem, axis: int, end: int) -> Tensor:
    """Return points of a side, shape (..., d): the nodes of a grid, or points spread over the side of a box."""
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
    """Return the box, for networks without Dirichlet sides and lifting."""
    return {"lengths": problem.box.lengths, "origin": problem.box.origin}


def dirichlet_sides(problem: VariationalProblem) -> tuple[tuple[int, int], ...]:
    """Return the Dirichlet sides (axis, end)."""
    return tuple(sorted(_values_by_side(problem)))


def _dirichlet_values(problem: VariationalProblem) -> list[Any]:
    return list(_values_by_side(problem).values())


def side_values(problem: VariationalProblem, places: Tensor) -> Tensor:
    """Return the prescribed values at points of Dirichlet sides, shape (s,)."""
    if problem.grid is None and isinstance(problem.boundary, Dirichlet):
        return problem.boundary_at(places)
    number = _one_number(_dirichlet_values(problem))
    if number is None:
        raise InputError(
            "the Dirichlet values on the grid are not a single number; pose the problem on an sb.barron.Box."
        )
    return torch.full((len(places),), number, dtype=torch.float64)


def _values_by_side(problem: VariationalProblem) -> dict[tuple[int, int], Any]:
    """Return the prescribed values by side (axis, end)."""
    boundary = problem.boundary
    if problem.grid is None:
        boundary = {f"{axis}{end}": boundary for axis in range(problem.dim) for end in (0, 1)}
    else:
        boundary = {f"{'xyz'.index(side[0])}{side[1]}": condition for side, condition in boundary.items()}
    if any(isinstance(condition, Periodic) for condition in boundary.values()):
        raise InputError("a side is periodic, but networks are not; use Neumann or Dirichlet conditions.")
    for condition in boundary.values():
        if isinstance(condition, Neumann) and not _is_zero(condition.flux):
            raise InputError(
                "a side has a nonzero Neumann flux, but network solvers support only sb.Neumann(0.0); use a zero flux "
                "or a Dirichlet condition."
            )
    return {
        (int(side[:-1]), int(side[-1])): condition.value
        for side, condition in boundary.items()
        if isinstance(condition, Dirichlet)
    }


def _is_zero(field: Any) -> bool:
    return not bool(torch.as_tensor(field).any())


def _one_number(values: list[Any]) -> float | None:
    """Return the common value of all entries; 0 if there are none, None if they differ or are functions."""
    if any(callable(value) for value in values):
        return None
    numbers = torch.cat(
        [torch.as_tensor(value, dtype=torch.float64).reshape(-1) for value in values] or [torch.zeros(1)]
    )
    return float(numbers[0]) if bool((numbers == numbers[0]).all()) else None


class EnergySpace:
    """Bilinear form a(u, v) = int a grad u . grad v + c u v and load of a linear problem, by quadrature.

    Parameters
    ----------
    problem : VariationalProblem
        A linear problem.
    quadrature : Quadrature
        Points and weights.
    """

    def __init__(self, problem: VariationalProblem, quadrature: Quadrature) -> None:
        x, w = quadrature.points, quadrature.weights
        self.problem, self.quadrature = problem, quadrature
        self.a, self.c, self.f = w * problem.coefficient_at(x), w * problem.reaction_at(x), w * problem.source_at(x)

    @cached_property
    def metric(self) -> Tensor:
        """Weights of the products of values and of gradients, shape (q, 1 + d)."""
        return torch.cat([self.c[:, None], self.a[:, None].expand(-1, self.problem.dim)], 1)

    def product(self, u: Tensor, v: Tensor) -> Tensor:
        """Return a(u_i, v_j) for jets (q, 1 + d, n) and (q, 1 + d, m), shape (n, m)."""
        return (u * self.metric[..., None]).flatten(0, 1).T @ v.flatten(0, 1)

    def load(self, u: Tensor) -> Tensor:
        """Return the integrals of f times the functions, shape (n,)."""
        return self.f @ u[:, 0]

    def residual(self, u: Tensor, distance: BoxDistance | None) -> tuple[Tensor, Tensor]:
        """Return A (q,) and B (q, d) with a(u, D g) - int f D g = sum_q A g + B . grad g, for one jet u (q, 1 + d)."""
        A, B = self.c * u[:, 0] - self.f, self.a[:, None] * u[:, 1:]
        if distance is None:
            return A, B
        factor, slope, _ = distance.jet(self.quadrature.points)
        return A * factor + (B * slope).sum(-1), B * factor[:, None]


def energy_of(network: BarronNetwork, problem: VariationalProblem, quadrature: Quadrature) -> float:
    """Compute the energy J of a network by quadrature."""
    total = 0.0
    with torch.no_grad():
        for x, w in zip(quadrature.points.split(CHUNK_SIZE), quadrature.weights.split(CHUNK_SIZE)):
            total += float(w @ problem.integrand(x, network(x), network.gradient(x)))
    return total


def jet_of(network: BarronNetwork, x: Tensor) -> Tensor:
    """Evaluate the jet of a network, shape (q, 1 + d)."""
    with torch.no_grad():
        return torch.cat([network(x)[:, None], network.gradient(x)], 1)


def feature_jets(network: BarronNetwork, x: Tensor) -> Tensor:
    """Evaluate the jets of the features, which the outer weights multiply, shape (q, 1 + d, k)."""
    with torch.no_grad():
        return torch.cat([network.features(x)[:, None], network.feature_gradients(x).mT], 1)


def affine_jets(network: BarronNetwork, x: Tensor) -> Tensor:
    """Evaluate the jets of D, D x_1, ..., which offset and slope multiply, shape (q, 1 + d, 1 + d)."""
    q, d = x.shape
    values = torch.cat([torch.ones_like(x[:, :1]), x], 1)
    slopes = torch.cat([torch.zeros(q, d, 1).to(x), torch.eye(d).to(x).expand(q, d, d)], -1)
    if network.distance is None:
        return torch.cat([values[:, None], slopes], 1)
    factor, slope, _ = network.distance.jet(x)
    gradients = factor[:, None, None] * slopes + slope[:, :, None] * values[:, None]
    return torch.cat([(factor[:, None] * values)[:, None], gradients], 1)
