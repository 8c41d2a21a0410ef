"""Between cells and interior nodes."""

from __future__ import annotations

import itertools

import pytest
import torch

from sciml_bounds.multigrid._node_lattice import average_to_interior_nodes, interior_of, with_zero_boundary


@pytest.mark.parametrize("dim", [1, 2, 3])
def test_an_interior_node_has_the_mean_of_the_cells_around_it(dim):
    cells = torch.randn(2, 3, *(5, 4, 6)[:dim], dtype=torch.float64)
    nodes = average_to_interior_nodes(cells, dim)
    assert nodes.shape == (2, 3, *(4, 3, 5)[:dim])
    for index in itertools.product(*map(range, nodes.shape[2:])):
        around = cells[(..., *(slice(i, i + 2) for i in index))]
        expected = around.flatten(2).mean(2)
        torch.testing.assert_close(nodes[(..., *index)], expected)


@pytest.mark.parametrize("dim", [1, 2, 3])
def test_zeros_are_put_on_the_boundary_and_taken_off(dim):
    inner = torch.randn(2, 1, *(3, 4, 5)[:dim])
    whole = with_zero_boundary(inner, dim)
    assert whole.shape == (2, 1, *(5, 6, 7)[:dim])
    assert torch.equal(interior_of(whole, dim), inner)
    assert float(whole.abs().sum()) == pytest.approx(float(inner.abs().sum()))
