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
from sciml_bounds.operators.lattice import to_lattice
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

#: Round-offs that the sums of one row of the stiffness matrix may collect: 3^d products, and the modes behind them.
ROUND_OFF = 64

#: Steps for the correction on the same grid; each costs a V-cycle.
COARSE_STEPS = 3


def minorant(problem: Diffusion, values: Tensor) -> Tensor:
    """Compute the lower bound for a node field (b, n + 1) with the right boundary values, shape (b,)."""
    with torch.no_grad():
        correction = _coarse_correction(problem, EnergyForm(problem), values)
        form = EnergyForm(problem.refine(2))
        plain = (False,) * problem.grid.dim  # the copies of periodic nodes are there
        fine_values = interpolate_nodes(values, 2, plain)
        fine_correction = interpolate_nodes(correction, 2, plain)
        diagonal = _diagonal(form)
        residual = form.residual(fine_values)
        remainder = residual - form.free(form.apply(fine_correction))
        surplus = form.free(remainder / diagonal)
        w = _best_combination(form, residual, [fine_correction, surplus])
        lower = _safe_ratio(form, residual, w, _round_off(form, fine_values, diagonal), diagonal)
        return torch.where(torch.isfinite(lower), lower, 0.0)  # what overflowed bounds nothing


def _coarse_correction(problem: Diffusion, form: EnergyForm, values: Tensor) -> Tensor:
    """Approximate the discrete error on the grid itself, shape (b, n + 1)."""
    system = node_system(problem)
    cycle = LinearSolver(system, Automatic()).preconditioner
    residual = form.residual(values)
    noise = _round_off(form, values, _diagonal(form))
    residual = residual.sign() * (residual.abs() - noise).clamp_min(0)  # what may be round-off is no residual
    right = to_lattice(without_periodic_copies(residual, problem.periodic), problem.grid.dim)
    found = iterate(_StiffnessOperator(form), system.into_range(right).flatten(1), cycle, maxiter=COARSE_STEPS)
    correction = system.fix_mean(found.x.view(right.shape)).view(-1, *problem.node_shape)
    return with_periodic_copies(correction, problem.periodic)


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


def _round_off(form: EnergyForm, values: Tensor, diagonal: Tensor) -> Tensor:
    """Bound what round-off adds to the entries of a residual, shape (b, n + 1)."""
    level = values.abs().flatten(1).amax(1).view(-1, *(1,) * form.problem.grid.dim)
    row_sums = 2**form.problem.grid.dim * diagonal  # at least the absolute sum of a row of the stiffness matrix
    noise: Tensor = ROUND_OFF * torch.finfo(values.dtype).eps * (form.load.abs() + row_sums * level)
    return noise


def _best_combination(form: EnergyForm, residual: Tensor, functions: list[Tensor]) -> Tensor:
    """Maximise R(w) / |||w||| over the span of some functions, up to round-off."""
    images = [form.apply(w) for w in functions]
    right = torch.stack([form.pair(residual, w) for w in functions], -1)
    gram = torch.stack([torch.stack([(image * w).flatten(1).sum(1) for w in functions], -1) for image in images], -2)
    scale = gram.diagonal(dim1=-2, dim2=-1)
    scale = torch.where(scale > 0, scale, 1.0).rsqrt()
    scaled = scale.unsqueeze(-1) * gram * scale.unsqueeze(-2)
    weights = torch.linalg.pinv(scaled, rtol=1e-10, hermitian=True) @ (scale * right).unsqueeze(-1)
    weights = (scale * weights.squeeze(-1)).view(-1, len(functions), *(1,) * form.problem.grid.dim)
    return sum((weights[:, k] * w for k, w in enumerate(functions)), torch.zeros(()))


def _safe_ratio(form: EnergyForm, residual: Tensor, w: Tensor, noise: Tensor, diagonal: Tensor) -> Tensor:
    """Compute R(w) / |||w||| from below: whatever w is, round-off in neither of the two can make it too large."""
    size = w.abs()
    right = form.pair(residual, w) - form.pair(form.free(noise), size)
    lost = ROUND_OFF * torch.finfo(w.dtype).eps * (diagonal * size**2).flatten(1).sum(1).sqrt()
    norm = form.norm(w) + lost
    return torch.where(norm > 0, right / torch.where(norm > 0, norm, 1.0), 0.0).clamp_min(0)
