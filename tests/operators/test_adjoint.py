"""Implicit adjoints against autograd through a dense solve, which knows nothing of them."""

from __future__ import annotations

import pytest
import torch

from sciml_bounds.operators._adjoint import implicit_solve
from sciml_bounds.operators._lattice_operator import LatticeOperator

LATTICE = (1, 2, 3)
OFFSETS = ((0, 1, 0), (0, 0, 1))


def _random(*shape: int) -> torch.Tensor:
    """Positive numbers, so that the operator is definite."""
    return (0.5 + torch.rand(shape, dtype=torch.float64)).requires_grad_()


def _dense(T, c):
    """The matrices of a batch, built entry by entry so that autograd knows them; pairs that wrap round count too."""
    batch = max(T.shape[1], len(c))
    index = torch.arange(6).view(LATTICE)
    A = torch.diag_embed(c.flatten(1)).expand(batch, -1, -1)
    for t, offset in zip(T, OFFSETS):
        neighbour = torch.roll(index, [-o for o in offset], (0, 1, 2)).flatten()
        jump = torch.eye(6, dtype=torch.float64) - torch.eye(6, dtype=torch.float64)[neighbour]
        A = A + jump.T @ torch.diag_embed(t.flatten(1)) @ jump
    return A


def _through_dense(T, c, b):
    return torch.linalg.solve(_dense(T, c), b.flatten(1).unsqueeze(-1)).view(b.shape)


def _through_adjoint(T, c, b):
    matrices = _dense(T.detach(), c.detach())

    def run(right):
        return torch.linalg.solve(matrices, right.flatten(1).unsqueeze(-1)).view(right.shape)

    return implicit_solve(LatticeOperator(OFFSETS, T, c), b, run, run)


@pytest.mark.parametrize(("coefficients", "vectors"), [(1, 1), (3, 3), (1, 3)])
def test_first_and_second_derivatives_are_those_of_a_dense_solve(coefficients, vectors):
    T, c, b = _random(2, coefficients, *LATTICE), _random(coefficients, *LATTICE), _random(vectors, *LATTICE)
    probe = torch.randn(vectors, *LATTICE, dtype=torch.float64)
    results = []
    for solve in (_through_adjoint, _through_dense):
        first = torch.autograd.grad((solve(T, c, b) ** 2 * probe).sum(), (T, c, b), create_graph=True)
        second = torch.autograd.grad(sum((g**2).sum() for g in first), (T, c, b))
        results.append((*first, *second))
    for ours, theirs in zip(*results):
        # condition number below 100: both lose at most three digits
        torch.testing.assert_close(ours, theirs, rtol=1e-11, atol=1e-11)


def test_only_what_is_asked_for_is_differentiated():
    T, c, b = _random(2, 1, *LATTICE).detach(), _random(1, *LATTICE).detach(), _random(1, *LATTICE)
    _through_adjoint(T, c, b).sum().backward()
    assert T.grad is None
    assert c.grad is None
    # A is symmetric, so the gradient of the sum is A^-1 applied to ones
    torch.testing.assert_close(_dense(T, c) @ b.grad.flatten(), torch.ones(1, 6, dtype=torch.float64))


def test_gradients_come_from_the_solver_that_is_given_for_them():
    b = _random(1, *LATTICE)
    A = LatticeOperator(OFFSETS, torch.ones(2, 1, *LATTICE), torch.ones(1, *LATTICE))
    x = implicit_solve(A, b, lambda right: 2 * right, lambda right: 3 * right)
    torch.testing.assert_close(x, 2 * b)
    x.sum().backward()
    torch.testing.assert_close(b.grad, torch.full_like(b, 3.0))
