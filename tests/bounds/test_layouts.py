"""Which nodal field is certified for a field of each layout."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from refusals import refused

import sciml_bounds as sb


def problem_of(batch: tuple[int, ...] = (), *, solids: bool = False) -> sb.Diffusion:
    sides = {"x0": sb.Dirichlet(0.0), "x1": sb.Neumann(0.0), "y0": sb.Periodic(), "y1": sb.Periodic()}
    solid = np.zeros((*batch, 4, 6), dtype=bool)
    solid[..., 1, 2:4] = True
    return sb.Diffusion(sb.Grid((4, 6)), np.ones((*batch, 4, 6)), 1.0, boundary=sides, solid=solid if solids else None)


def certified(problem: sb.Diffusion, field, layout: str) -> np.ndarray:
    certificate = sb.certify(problem, field, layout=layout, lower=False)
    assert certificate.layout == layout
    return certificate.values.numpy()


def test_nodes_are_taken_as_they_are():
    v = np.random.default_rng(0).standard_normal((5, 6))
    np.testing.assert_array_equal(certified(problem_of(), v, "nodes"), v)


def test_cells_are_averaged_to_the_nodes_around_them():
    """Over the fluid cells that touch the node, also around the seam; Dirichlet nodes get their prescribed value."""
    field = np.random.default_rng(0).standard_normal((4, 6))
    for solids in (False, True):
        problem = problem_of(solids=solids)
        fluid = problem.fluid[0].numpy()
        expected = np.zeros((5, 6))
        for i in range(1, 5):
            for k in range(6):
                around = [(x, y) for x in (i - 1, i) if x < 4 for y in ((k - 1) % 6, k) if fluid[x, y]]
                expected[i, k] = np.mean([field[cell] for cell in around]) if around else 0.0
        # In each form three sums of numbers below 4 x 2.5, in some order, and a division.
        assert abs(field).max() < 2.5
        np.testing.assert_allclose(certified(problem, field, "cells"), expected, rtol=0, atol=2 * 4 * 10 / 2**53)


def test_cells_of_a_batch_of_domains():
    """One field for domains with different solids, and a field for each."""
    solid = np.zeros((2, 3, 3), dtype=bool)
    solid[1, 1, 1] = True
    problem = sb.Diffusion(sb.Grid((3, 3)), 1.0, 1.0, boundary=sb.Robin(1.0), solid=solid)
    field = np.random.default_rng(0).standard_normal((2, 3, 3))
    each = certified(problem, field, "cells")
    for i in range(2):
        one = sb.Diffusion(sb.Grid((3, 3)), 1.0, 1.0, boundary=sb.Robin(1.0), solid=solid[i])
        np.testing.assert_array_equal(each[i], certified(one, field[i], "cells"))
        np.testing.assert_array_equal(certified(problem, field[0], "cells")[i], certified(one, field[0], "cells"))


def test_linear_functions_survive_the_average_inside():
    problem = sb.Diffusion(sb.Grid((5, 4)), boundary=sb.Dirichlet(lambda x, y: 2 * x - y))
    x, y = torch.meshgrid(problem.grid.centers(0), problem.grid.centers(1), indexing="ij")
    nodes = torch.meshgrid(problem.grid.nodes(0), problem.grid.nodes(1), indexing="ij")
    np.testing.assert_allclose(certified(problem, 2 * x - y, "cells"), 2 * nodes[0] - nodes[1], atol=1e-15)


def test_interior_is_padded_with_the_prescribed_values():
    """x0 is a Dirichlet side, x1 is not, y is periodic: only the nodes at x0 are missing."""
    problem = problem_of().replace(boundary=problem_of().boundary | {"x0": sb.Dirichlet(2.0)})
    field = np.random.default_rng(0).standard_normal((4, 6))
    expected = np.concatenate([np.full((1, 6), 2.0), field])
    np.testing.assert_array_equal(certified(problem, field, "interior"), expected)
    box = sb.Diffusion(sb.Grid((4, 6)), boundary=sb.Dirichlet(lambda x, y: x + y))
    inner = certified(box, np.zeros((3, 5)), "interior")
    assert np.array_equal(inner[1:-1, 1:-1], np.zeros((3, 5)))
    assert inner[-1, -1] == 2.0


@pytest.mark.parametrize("factor", [2, 3])
def test_coarser_grids_are_interpolated(factor):
    """Multilinear functions of the coarse grid are kept exactly."""
    rng = np.random.default_rng(0)
    problem = sb.Diffusion(sb.Grid((2 * factor, 3 * factor)), boundary=sb.Neumann(0.0), reaction=1.0)
    field = rng.standard_normal((3, 4))
    x = np.arange(2 * factor + 1) / factor
    y = np.arange(3 * factor + 1) / factor
    rows = np.stack([np.interp(x, np.arange(3), field[:, k]) for k in range(4)], 1)
    expected = np.stack([np.interp(y, np.arange(4), row) for row in rows])
    np.testing.assert_allclose(certified(problem, field, "coarse"), expected, rtol=0, atol=1e-14)


def test_coarser_grids_wrap_around():
    problem = sb.Diffusion(sb.Grid(6), boundary=sb.Periodic(), reaction=1.0)
    found = certified(problem, np.array([1.0, 4.0, 7.0]), "coarse")
    np.testing.assert_allclose(found, [1.0, 2.5, 4.0, 5.5, 7.0, 4.0])


@pytest.mark.parametrize("batch", [(), (2,), (3, 2)])
@pytest.mark.parametrize("layout", ["nodes", "cells", "interior"])
def test_batches_and_a_channel_axis_of_size_one(batch, layout):
    problem = problem_of(batch)
    shape = {"nodes": (5, 6), "cells": (4, 6), "interior": (4, 6)}[layout]
    field = np.random.default_rng(0).standard_normal((*(batch or (2,)), *shape))
    plain = certified(problem, field, layout)
    assert plain.shape == (*(batch or (2,)), 5, 6)
    network = np.expand_dims(field, -3)  # (batch, channel, x, y)
    np.testing.assert_array_equal(certified(problem, network, layout), plain)


@pytest.mark.parametrize("layout", ["nodes", "coarse"])
def test_an_axis_of_size_one_stays_where_only_with_it_the_batches_broadcast(layout):
    """(8, 1) broadcast with (5,) is a batch of (8, 5), not a channel."""
    problem = problem_of((5,))
    rng = np.random.default_rng(0)
    field = rng.standard_normal((8, 1, 5, 6) if layout == "nodes" else (8, 1, 3, 3))
    every = certified(problem, field, layout)
    assert every.shape == (8, 5, 5, 6)
    np.testing.assert_array_equal(every, certified(problem, np.repeat(field, 5, 1), layout))


@pytest.mark.parametrize("solids", [False, True])
@pytest.mark.parametrize(
    ("layout", "shape"), [("nodes", (5, 6)), ("cells", (4, 6)), ("interior", (4, 6)), ("coarse", (3, 3))]
)
def test_batches_that_do_not_fit_are_refused(layout, shape, solids):
    refused(
        "values batch (3,) problem (2,)",
        lambda: sb.certify(problem_of((2,), solids=solids), np.zeros((3, *shape)), layout=layout),
    )
    refused("values batch (2, 5)", lambda: sb.certify(problem_of((2,)), np.zeros((2, 5, *shape)), layout=layout))


@pytest.mark.parametrize(
    ("shape", "layout", "message"),
    [
        ((4, 5), "nodes", "(4, 5) layout 'nodes' batch 5 6) grid"),
        ((4, 6), "nodes", "batch 5 6) layout 'cells'"),
        ((5, 6), "cells", "batch 4 6) layout 'nodes'"),
        ((5, 6), "interior", "batch 4 6) layout 'nodes'"),
        ((6,), "nodes", "(6,) layout 'nodes'"),
        ((4, 4), "coarse", "layout 'coarse' nodes grid"),
        ((3, 2), "coarse", "axes [2 3])"),
        ((0, 0), "coarse", "layout 'coarse'"),
        ((0, 5, 6), "nodes", "values shape (0, 5, 6) empty batch"),
        ((), "coarse", "values shape layout 'coarse'"),
        ((3,), "coarse", "values shape (3,) layout 'coarse'"),
    ],
)
def test_wrong_shapes_are_refused_with_a_hint(shape, layout, message):
    refused(message, lambda: sb.certify(problem_of(), np.zeros(shape), layout=layout))
