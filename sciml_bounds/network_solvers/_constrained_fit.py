"""Values on sides as equality constraints of the outer weights, for networks without a factor that vanishes there.

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

#: Constraints at most, as a part of the neurons.
CONSTRAINED = 0.5
#: Singular values of the constraints below this part of the largest are round-off: other constraints imply these.
IMPLIED = 1e-8


def side_points(network: BarronNetwork, sides: tuple[tuple[int, int], ...]) -> Tensor:
    """Return points on sides, equally far from each other and half as far from edges, (s, d)."""
    d = network.dimension
    if d > 3:
        raise InputError(f"sides='constraints' is for three dimensions at most, and there are {d}; leave it out.")
    count = max(1, int((CONSTRAINED * network.width / max(len(sides), 1)) ** (1 / max(d - 1, 1)))) if d > 1 else 1
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
    """Set the outer weights and affine part of least energy among those with values (s,) at places (s, d).

    Returns
    -------
    tuple
        How close the values are met, in words, and the residual of `minimize`, relative to the gradient at the start.
    """
    energy, transform, start = independent_functions(network, problem, rule)
    with torch.no_grad():
        features = torch.cat([torch.ones_like(values)[:, None], places, network.features(places)], 1) @ transform
    left, sizes, right = torch.linalg.svd(features, full_matrices=False)
    kept = sizes > IMPLIED * sizes[0]
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
