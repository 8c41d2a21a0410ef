"""Sums along the branches of a forest, against the dense matrix of descendants."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from sciml_bounds.kernels import _backend, use_backend
from sciml_bounds.kernels.spanning_tree import add_to_children, add_to_parents

CELLS = 60


def _forest(kind: str) -> tuple[np.ndarray, np.ndarray]:
    """Return the order of a breadth-first search and the parents; cells outside all trees are not in the order."""
    rng = np.random.default_rng(0)
    names = rng.permutation(CELLS)  # cells are numbered in any way
    outside = 7 if kind == "random" else 0
    count = CELLS - outside
    # parents of later cells come no earlier: what makes an order breadth-first
    places = {
        "random": np.r_[[-1] * 3, np.sort([rng.integers(max(0, k // 2 - 2), k // 2 + 1) for k in range(3, count)])],
        "chain": np.arange(count) - 1,
        "roots": np.full(count, -1),
        "star": np.r_[-1, np.zeros(count - 1, dtype=np.int64)],
    }[kind].astype(np.int64)
    parent = np.full(CELLS, -1, dtype=np.int64)
    parent[names[:count]] = np.where(places >= 0, names[places], -1)
    return names[:count], parent


def _descendants(order: np.ndarray, parent: np.ndarray) -> np.ndarray:
    """Return the matrix whose entry (i, j) is one where j is i or a descendant of i."""
    matrix = np.eye(CELLS)
    for cell in order:
        above = parent[cell]
        while above >= 0:
            matrix[above, cell] = 1.0
            above = parent[above]
    return matrix


@pytest.mark.parametrize("backend", ["torch", *_backend.instruction_sets()])
@pytest.mark.parametrize("kind", ["random", "chain", "roots", "star"])
@pytest.mark.parametrize("dtype", [torch.float64, torch.float32], ids=["double", "single"])
def test_sums_are_those_over_descendants_and_ancestors(backend, kind, dtype, monkeypatch):
    order, parent = _forest(kind)
    matrix = _descendants(order, parent)
    values = np.random.default_rng(1).integers(-9, 9, CELLS)  # sums of integers have no round-off
    if backend != "torch":
        monkeypatch.setattr(_backend, "_functions", _backend.instruction_sets()[backend])
    for function, expected in ((add_to_parents, matrix @ values), (add_to_children, matrix.T @ values)):
        given = torch.tensor(values, dtype=dtype)
        with use_backend("torch" if backend == "torch" else "compiled"):
            found = function(order, parent, given)
        assert found is given
        np.testing.assert_array_equal(found, expected)
