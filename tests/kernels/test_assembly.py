from __future__ import annotations

import itertools

import numpy as np
import pytest
import torch

from sciml_bounds.kernels import assembly, use_backend


def _by_definition(cells, along, periodic, scale):
    """Give every cell to the nodes (edges) around it, one at a time."""
    out = np.zeros((len(cells), *[n + (not wraps) for n, wraps in zip(cells.shape[1:], periodic)]))
    for place in np.ndindex(*cells.shape):
        for step in itertools.product(*[(0, 1) if both else (0,) for both in along]):
            node = tuple((i + s) % n for i, s, n in zip(place[1:], step, out.shape[1:]))
            out[(place[0], *node)] += scale * cells[place]
    return out


@pytest.mark.parametrize("backend", ["torch", "compiled"])
@pytest.mark.parametrize("shape", [(5,), (4, 3), (3, 2, 4)])
def test_every_cell_counts_for_the_nodes_and_edges_around_it(backend, shape):
    cells = np.random.default_rng(0).standard_normal((2, *shape))
    for along, periodic in itertools.product(itertools.product((False, True), repeat=len(shape)), repeat=2):
        with use_backend(backend):
            found = assembly.cell_sums(torch.as_tensor(cells), along, periodic, 0.3)
        # sums of at most eight numbers of order one
        np.testing.assert_allclose(found, _by_definition(cells, along, periodic, 0.3), rtol=0, atol=1e-14)


@pytest.mark.parametrize("shape", [(1,), (5,), (4, 3), (3, 1, 4)])
def test_one_number_for_all_cells_is_summed_like_a_field(shape):
    number = torch.tensor([0.7, -2.0], dtype=torch.float64, requires_grad=True)
    cells = number.view(2, *(1,) * len(shape)).expand(2, *shape)
    for along, periodic in itertools.product(itertools.product((False, True), repeat=len(shape)), repeat=2):
        found = assembly.cell_sums(cells, along, periodic, 0.3)
        expected = _by_definition(cells.detach().numpy(), along, periodic, 0.3)
        np.testing.assert_allclose(found.detach(), expected, rtol=0, atol=1e-14)
        (gradient,) = torch.autograd.grad(found.sum(), number)
        np.testing.assert_allclose(gradient, expected.reshape(2, -1).sum(1) / number.detach(), rtol=1e-13)


def test_gradients_flow_through_the_sums():
    cells = torch.randn(1, 3, 4, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(lambda c: assembly.cell_sums(c, (True, False), (False, True), 0.5), (cells,))
