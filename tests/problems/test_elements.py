"""Multilinear elements at points: exact integrals, and the transpose."""

from __future__ import annotations

import pytest
import torch

import sciml_bounds as sb
from sciml_bounds.kernels.q1 import stiffness
from sciml_bounds.problems.elements import Elements, corners, sum_corners

GRIDS = {
    1: sb.Grid(5, lengths=2.0, origin=-1.0),
    2: sb.Grid((4, 3), lengths=(1.0, 0.5)),
    3: sb.Grid((2, 3, 4), lengths=(1.0, 2.0, 0.5)),
}


def rand(*shape: int) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(sum(shape)), dtype=torch.float64)


def nodes(grid: sb.Grid) -> torch.Tensor:
    return rand(*(n + 1 for n in grid.shape))


@pytest.mark.parametrize("dim", GRIDS)
def test_a_multilinear_function_is_reproduced_with_its_gradient(dim):
    grid = GRIDS[dim]
    mesh = torch.meshgrid(*[grid.nodes(a) for a in range(dim)], indexing="ij")
    elements = Elements(grid)
    x = elements.coordinates()
    u, p = elements.at(1 + 2 * torch.stack(mesh).prod(0))
    torch.testing.assert_close(u, 1 + 2 * x.prod(-1))
    for axis in range(dim):
        others = [x[..., a] for a in range(dim) if a != axis]
        expected = 2 * torch.stack(others).prod(0) if others else torch.full_like(u, 2.0)
        torch.testing.assert_close(p[..., axis], expected)
    torch.testing.assert_close(elements.integrate(torch.ones_like(u)), torch.tensor(grid.box.volume).double())


@pytest.mark.parametrize("dim", GRIDS)
def test_two_gauss_points_give_the_stiffness_matrix(dim):
    """Against the kernel, which sums squares of modes."""
    grid = GRIDS[dim]
    elements, v = Elements(grid), nodes(grid)
    a, c = rand(*grid.shape).exp(), rand(*grid.shape).exp()
    u, p = elements.at(v)
    ours = elements.tested(c * u, a.unsqueeze(-1) * p)
    theirs = stiffness((a.unsqueeze(0),) * dim, c.unsqueeze(0), v.unsqueeze(0), grid.spacing)[0]
    torch.testing.assert_close(ours, theirs)


@pytest.mark.parametrize("dim", GRIDS)
def test_corners_have_the_sum_as_their_transpose(dim):
    grid = GRIDS[dim]
    v = nodes(grid)
    w = rand(2**dim, *grid.shape)
    torch.testing.assert_close((corners(v, dim) * w).sum(), (v * sum_corners(w, dim)).sum())
