"""Corrections that bring a field closer to the discrete solution: the test functions of the lower bound.

The cheapest correction uses the cell pressures of the flux solve. Averaged to the nodes, they are another approximation
of the solution. Without pressures, a few conjugate-gradient steps are taken on the multilinear elements, preconditioned
with the multigrid cycle of the vertex-centred lattice.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

from sciml_bounds._linear import LinearSolver
from sciml_bounds.bounds._energy import EnergyForm
from sciml_bounds.bounds._flux import THREE_DIGIT_SOLVER
from sciml_bounds.grid import Dirichlet, side_axis
from sciml_bounds.kernels.assembly import cell_sums
from sciml_bounds.kernels.field_memory import elementwise
from sciml_bounds.krylov._loop import iterate
from sciml_bounds.operators._lattice_operator import to_lattice
from sciml_bounds.operators._linear_operator import LinearOperator
from sciml_bounds.problems.diffusion import Diffusion
from sciml_bounds.problems.discretization import node_system
from sciml_bounds.problems.transfers import (
    fold_periodic_copies,
    node_average,
    sum_to_nodes,
    with_periodic_copies,
    without_periodic_copies,
)

__all__ = ["correction_by_cycles", "correction_from_pressure"]

#: Round-off of a product of one row of the stiffness matrix and a vector, in machine epsilons: 3^d terms and their
#: modes.
ROUND_OFF = 64

#: Number of conjugate-gradient steps; each costs one V-cycle.
CG_STEPS = 3


def correction_from_pressure(problem: Diffusion, values: Tensor, pressure: Tensor) -> Tensor:
    """Average cell pressures (b, n) to the nodes, weighted with the coefficient, and subtract the field (b, n + 1)."""
    with torch.no_grad():
        dim, periodic = problem.grid.dim, problem.periodic
        pressure = _with_matching_means(problem, values, pressure)
        first, *others = problem.coefficient
        a = problem.samples(first)
        for other in others:
            if other is not first:
                a = a + problem.samples(other)
        if problem.solid is not None:
            a, pressure = torch.where(problem.fluid, a, 0.0), torch.where(problem.fluid, pressure, 0.0)
        everywhere = (True,) * dim
        weights = cell_sums(a, everywhere, periodic, 1.0)
        if problem.solid is not None:
            weights = torch.where(weights > 0, weights, 1.0)
        sums = cell_sums(elementwise(torch.mul, a, pressure), everywhere, periodic, 1.0)
        nodes = with_periodic_copies(elementwise(torch.div, sums, weights), periodic)
        correction = elementwise(torch.sub, nodes, values)
        for name, condition in problem.boundary.items():
            if isinstance(condition, Dirichlet):
                axis, end = side_axis(name)
                correction.select(1 + axis, -end).zero_()
        return correction


def _with_matching_means(problem: Diffusion, values: Tensor, pressure: Tensor) -> Tensor:
    """Shift the pressures on each floating component to the mean of the field.

    Constants on a floating component have no energy, but a large shift would add round-off.
    """
    if not problem.floats:
        return pressure
    found = problem.components.for_batch(len(pressure))
    labels = found.labels
    floats = (labels >= 0) & found.floating[labels.clamp_min(0)]
    labels = torch.where(floats, labels, len(found.floating)).flatten()
    gap = node_average(values, tuple(range(1, values.ndim))) - pressure
    sums, counts = (gap.new_zeros(len(found.floating) + 1) for _ in range(2))
    sums.index_add_(0, labels, gap.flatten())
    counts.index_add_(0, labels, torch.ones_like(gap).flatten())
    means = (sums / counts.clamp_min(1))[labels].view(gap.shape)
    return torch.where(floats, pressure + means, pressure)


def correction_by_cycles(problem: Diffusion, values: Tensor) -> Tensor:
    """Return an approximation of the discrete solution minus a field (b, n + 1) with prescribed boundary values."""
    with torch.no_grad():
        form, system = EnergyForm(problem), node_system(problem)
        cycle = LinearSolver(system, THREE_DIGIT_SOLVER).preconditioner
        residual = form.residual(values)
        noise = _round_off(form, values, _diagonal(form))
        residual = residual.sign() * (residual.abs() - noise).clamp_min(0)  # drop what may be round-off
        right = to_lattice(without_periodic_copies(residual, problem.periodic), problem.grid.dim)
        found = iterate(_StiffnessOperator(form), system.into_range(right).flatten(1), cycle, maxiter=CG_STEPS)
        correction = system.fix_mean(found.x.view(right.shape)).view(-1, *problem.node_shape)
        return with_periodic_copies(correction, problem.periodic)


class _StiffnessOperator(LinearOperator):
    """Stiffness matrix of multilinear elements restricted to the free nodes, for vectors (b, nodes)."""

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
        return torch.where(problem.free_nodes, image, 0.0).reshape(x.shape)


def _diagonal(form: EnergyForm) -> Tensor:
    """Return the diagonal of the stiffness matrix without Robin terms, with 1 for 0; it only scales test functions."""
    dim = form.problem.grid.dim
    share = form.reaction / 3**dim
    for a, h in zip(form.coefficient, form.problem.grid.spacing):
        share = share + a / (h**2 * 3 ** (dim - 1))
    diagonal = sum_to_nodes(share * form.problem.grid.cell_volume, form.problem.periodic)
    return with_periodic_copies(torch.where(diagonal > 0, diagonal, 1.0), form.problem.periodic)


def _round_off(form: EnergyForm, values: Tensor, diagonal: Tensor) -> Tensor:
    """Bound the round-off in the entries of a residual, shape (b, n + 1)."""
    level = values.abs().flatten(1).amax(1).view(-1, *(1,) * form.problem.grid.dim)
    row_sums = 2**form.problem.grid.dim * diagonal  # at least the absolute sum of a row of the stiffness matrix
    noise: Tensor = ROUND_OFF * torch.finfo(values.dtype).eps * (form.load.abs() + row_sums * level)
    return noise
