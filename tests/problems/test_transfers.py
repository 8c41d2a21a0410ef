from __future__ import annotations

import itertools

import numpy as np
import pytest
import scipy.interpolate
import torch

from sciml_bounds.problems.transfers import (
    fold_periodic_copies,
    interpolate_nodes,
    node_average,
    repeat_cells,
    spread_side,
    sum_to_nodes,
    with_periodic_copies,
    without_periodic_copies,
)

SHAPE = (2, 3, 4)
EVERY = list(itertools.product([False, True], repeat=3))


def _nodes(periodic):
    return tuple(n if p else n + 1 for n, p in zip(SHAPE, periodic))


@pytest.mark.parametrize("periodic", EVERY, ids=str)
def test_nodes_sum_the_cells_around_them(periodic):
    cells = torch.randn(2, *SHAPE, dtype=torch.float64)
    expected = np.zeros((2, *_nodes(periodic)))
    for cell in np.ndindex(*SHAPE):
        for corner in itertools.product((0, 1), repeat=3):
            node = tuple((i + c) % n if p else i + c for i, c, n, p in zip(cell, corner, SHAPE, periodic))
            expected[(slice(None), *node)] += cells[(slice(None), *cell)].numpy()
    np.testing.assert_allclose(sum_to_nodes(cells, periodic), expected, rtol=0, atol=1e-14)


def test_sums_may_be_taken_along_some_axes_only():
    cells = torch.randn(1, 2, 3, dtype=torch.float64)
    along = sum_to_nodes(cells, (False, False), (1,))
    assert along.shape == (1, 2, 4)
    torch.testing.assert_close(along[..., 1:-1], cells[..., 1:] + cells[..., :-1])
    torch.testing.assert_close(along[..., [0, -1]], cells[..., [0, -1]])


@pytest.mark.parametrize("periodic", EVERY, ids=str)
def test_folding_is_the_transpose_of_copying(periodic):
    v = torch.randn(2, *_nodes(periodic), dtype=torch.float64)
    w = torch.randn(2, *(n + 1 for n in SHAPE), dtype=torch.float64)
    copied = with_periodic_copies(v, periodic)
    assert copied.shape == w.shape
    torch.testing.assert_close((copied * w).sum(), (v * fold_periodic_copies(w, periodic)).sum())
    assert torch.equal(without_periodic_copies(copied, periodic), v)


@pytest.mark.parametrize("periodic", EVERY, ids=str)
def test_interpolation_is_multilinear(periodic):
    v = torch.randn(*_nodes(periodic), dtype=torch.float64)
    full = with_periodic_copies(v, periodic)
    reference = scipy.interpolate.RegularGridInterpolator([np.arange(n + 1) for n in SHAPE], full.numpy())
    fine = interpolate_nodes(v.unsqueeze(0), 3, periodic)[0]
    at = np.stack(np.meshgrid(*[np.arange(3 * n + (not p)) / 3 for n, p in zip(SHAPE, periodic)], indexing="ij"), -1)
    np.testing.assert_allclose(fine, reference(at), rtol=0, atol=1e-14)
    assert torch.equal(interpolate_nodes(v.unsqueeze(0), 1, periodic)[0], v)


def test_repeating_divides_every_cell():
    cells = torch.arange(6.0).view(1, 2, 3)
    assert repeat_cells(cells, 2, 2).tolist() == np.kron(cells.numpy(), np.ones((1, 2, 2))).tolist()


def test_node_averages_are_means_of_neighbours():
    v = torch.tensor([[0.0, 2.0, 6.0], [4.0, 6.0, 10.0]])
    assert node_average(v, (1,)).tolist() == [[1.0, 4.0], [5.0, 8.0]]
    assert node_average(v, (0, 1)).tolist() == [[3.0, 6.0]]


@pytest.mark.parametrize(("axis", "end"), list(itertools.product((0, 1, 2), (0, 1))))
def test_a_side_is_spread_into_zeros(axis, end):
    side = torch.randn(2, *(n for a, n in enumerate(SHAPE) if a != axis))
    full = spread_side(side, axis, end, SHAPE)
    assert full.shape == (2, *SHAPE)
    assert torch.equal(full.select(1 + axis, -end), side)
    assert float(full.abs().sum()) == pytest.approx(float(side.abs().sum()))
