"""The guaranteed lower bound of the energy error: |||u - v||| >= R(w) / |||w||| for any w, with R the residual of v.

Test functions are a correction on the same grid (a few conjugate-gradient steps with the multigrid cycle of the
vertex-centred lattice as preconditioner) and a hierarchical surplus on the grid of half the spacing, which sees what no
function of the same grid can. The best combination of the two is taken.
Bank, Smith, SIAM J. Numer. Anal. 30 (1993) 921-935, for the surplus as an error indicator; the bound itself is
Cauchy-Schwarz.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

from sciml_bounds._linear import Automatic, LinearSolver
from sciml_bounds.bounds.energy import EnergyForm
from sciml_bounds.krylov.loop import iterate
from sciml_bounds.operators.linear_operator import LinearOperator
from sciml_bounds.problems.diffusion import Diffusion
from sciml_bounds.problems.discretization import node_system
from sciml_bounds.problems.transfers import (
    fold_periodic_copies,
    interpolate_nodes,
    sum_to_nodes,
    with_periodic_copies,
    without_periodic_copies,
)

__all__ = ["minorant"]

#: Steps for the correction on the same grid; each costs a V-cycle.
COARSE_STEPS = 3


def minorant(problem: Diffusion, values: Tensor) -> Tensor:
    """Compute the lower bound for a node field (b, n + 1) with the right boundary values, shape (b,)."""
    with torch.no_grad():
        form = EnergyForm(problem)
        correction = _coarse_correction(problem, form, values)
        fine_problem = problem.refine(2)
        fine_form = EnergyForm(fine_problem)
        plain = (False,) * problem.grid.dim  # the copies of periodic nodes are there
        fine_values = interpolate_nodes(values, 2, plain)
        fine_correction = interpolate_nodes(correction, 2, plain)
        residual = fine_form.residual(fine_values)
        image = fine_form.apply(fine_correction)
        remainder = residual - fine_form.free(image)
        surplus = fine_form.free(remainder / _diagonal(fine_form))
        lower = _best_ratio(fine_form, residual, [fine_correction, surplus])
        return torch.where(torch.isfinite(lower), lower, 0.0)  # what overflowed bounds nothing


def _coarse_correction(problem: Diffusion, form: EnergyForm, values: Tensor) -> Tensor:
    """Approximate the discrete error on the grid itself, shape (b, n + 1)."""
    cycle = LinearSolver(node_system(problem), Automatic()).preconditioner
    residual = without_periodic_copies(form.residual(values), problem.periodic)
    found = iterate(_StiffnessOperator(form), residual.flatten(1), cycle, maxiter=COARSE_STEPS)
    return with_periodic_copies(found.x.view(-1, *problem.node_shape), problem.periodic)


class _StiffnessOperator(LinearOperator):
    """The stiffness matrix of multilinear elements between the free nodes, on vectors (b, nodes)."""

    symmetric = True

    def __init__(self, form: EnergyForm) -> None:
        self.form = form
        n = math.prod(form.problem.node_shape)
        self.shape = (n, n)
        self.dtype, self.device = form.problem.dtype, form.problem.device

    def matvec(self, x: Tensor) -> Tensor:
        """Apply the matrix."""
        problem = self.form.problem
        nodes = with_periodic_copies(x.reshape(-1, *problem.node_shape), problem.periodic)
        image = fold_periodic_copies(self.form.apply(nodes), problem.periodic)
        return torch.where(problem.active_nodes & ~problem.dirichlet_nodes, image, 0.0).reshape(x.shape)


def _diagonal(form: EnergyForm) -> Tensor:
    """Diagonal of the stiffness matrix, without Robin terms (it only scales a test function); one where it is zero."""
    dim = form.problem.grid.dim
    share = form.reaction / 3**dim
    for a, h in zip(form.coefficient, form.problem.grid.spacing):
        share = share + a / (h**2 * 3 ** (dim - 1))
    diagonal = sum_to_nodes(share * form.problem.grid.cell_volume, form.problem.periodic)
    return with_periodic_copies(torch.where(diagonal > 0, diagonal, 1.0), form.problem.periodic)


def _best_ratio(form: EnergyForm, residual: Tensor, functions: list[Tensor]) -> Tensor:
    """Maximise R(w) / |||w||| over the span of some functions."""
    images = [form.apply(w) for w in functions]
    right = torch.stack([form.pair(residual, w) for w in functions], -1)
    gram = torch.stack([torch.stack([(image * w).flatten(1).sum(1) for w in functions], -1) for image in images], -2)
    scale = gram.diagonal(dim1=-2, dim2=-1)
    scale = torch.where(scale > 0, scale, 1.0).rsqrt()
    scaled = scale.unsqueeze(-1) * gram * scale.unsqueeze(-2)
    weights = scale * (torch.linalg.pinv(scaled, rtol=1e-10, hermitian=True) @ (scale * right).unsqueeze(-1)).squeeze(
        -1
    )
    numerator = (weights * right).sum(-1)
    squared = (weights.unsqueeze(-2) @ gram @ weights.unsqueeze(-1)).squeeze(-1).squeeze(-1)
    positive = squared > 0
    return torch.where(positive, numerator / torch.where(positive, squared, 1.0).sqrt(), 0.0).clamp_min(0)
