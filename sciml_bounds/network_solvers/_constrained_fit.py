"""Dirichlet values as equality constraints of the outer weights, for networks without a factor that vanishes there.

Legend: s points on sides, m independent functions, d axes.
"""

from __future__ import annotations

import torch
from torch import Tensor

from sciml_bounds.barron._barron_network import BarronNetwork
from sciml_bounds.errors import InputError
from sciml_bounds.network_solvers._outer_fit import independent_functions, set_outer
from sciml_bounds.network_solvers._quadrature import Quadrature
from sciml_bounds.optimize._minimize import minimize
from sciml_bounds.problems.variational_problem import VariationalProblem

__all__ = ["fit_with_constraints", "side_points"]

#: Maximum number of constraints per neuron.
MAX_CONSTRAINT_RATIO = 0.5
#: Constraints with singular values below this fraction of the largest one depend on other constraints.
DEPENDENCE_TOL = 1e-8


def side_points(network: BarronNetwork, sides: tuple[tuple[int, int], ...]) -> Tensor:
    """Return equally spaced points on sides, at half the spacing from edges, shape (s, d)."""
    d = network.dimension
    if d > 3:
        raise InputError(
            f"sides='constraints' is available in up to three dimensions, but the problem has {d}; use sides='factor'."
        )
    count = (
        max(1, int((MAX_CONSTRAINT_RATIO * network.width / max(len(sides), 1)) ** (1 / max(d - 1, 1)))) if d > 1 else 1
    )
    along = (torch.arange(count, dtype=torch.float64) + 0.5) / count
    face = torch.stack(torch.meshgrid(*[along] * (d - 1), indexing="ij"), -1).reshape(-1, d - 1) if d > 1 else None
    corner, lengths = (torch.tensor(part, dtype=torch.float64) for part in (network.origin, network.lengths))
    points = []
    for axis, end in sides:
        unit = torch.full((1 if face is None else len(face), d), float(end), dtype=torch.float64)
        if face is not None:
            unit[:, [i for i in range(d) if i != axis]] = face
        points.append(corner + lengths * unit)
    return torch.cat(points) if points else torch.zeros((0, d), dtype=torch.float64)


def fit_with_constraints(
    network: BarronNetwork, problem: VariationalProblem, rule: Quadrature, places: Tensor, values: Tensor
) -> tuple[str, float]:
    """Set outer weights and affine part to minimise the energy, subject to values (s,) at places (s, d).

    Returns
    -------
    tuple of str and float
        A description with the largest deviation from the values, and the KKT residual of `minimize` relative to the
        gradient at the start.
    """
    energy, transform, start = independent_functions(network, problem, rule)
    with torch.no_grad():
        features = torch.cat([torch.ones_like(values)[:, None], places, network.features(places)], 1) @ transform
    left, sizes, right = torch.linalg.svd(features, full_matrices=False)
    kept = sizes > DEPENDENCE_TOL * sizes[0]
    rows, wanted = right[kept], (left[:, kept].T @ values) / sizes[kept]
    scale = max(1.0, float(energy.gradient(start).norm()))
    result = minimize(
        energy.value,
        start,
        jac=energy.gradient,
        hess=energy.hessian,
        constraints=lambda z: rows @ z - wanted,
        atol=1e-9 * scale,
    )
    set_outer(network, transform @ result.x)
    with torch.no_grad():
        missed = float((network(places) - values).abs().max())
    words = f"values at {len(values)} points of the sides as constraints, met to {missed:.1e}"
    return words, float(result.kkt_residual) / scale
