from __future__ import annotations

import numpy as np
import pytest
import torch
from refusals import refused

import sciml_bounds as sb


def _problem():
    rng = np.random.default_rng(0)
    sides = {
        "x0": sb.Robin(rng.random(3), rng.standard_normal(3)),
        "x1": sb.Dirichlet(rng.standard_normal(4)),
        "y0": sb.Neumann(rng.standard_normal((2, 4))),
        "y1": sb.Neumann(1.0),
    }
    solid = np.zeros((4, 3), dtype=bool)
    solid[1, 1] = True
    return sb.Diffusion(
        sb.Grid((4, 3), lengths=(2.0, 1.0), origin=(1.0, 0.0)),
        (1 + rng.random((4, 3)), 1 + rng.random((4, 3))),
        rng.standard_normal((4, 3)),
        boundary=sides,
        reaction=rng.random((4, 3)),
        solid=solid,
    )


@pytest.mark.parametrize("factor", [1, 2, 3])
def test_every_cell_is_divided_and_the_data_stay(factor):
    coarse, fine = _problem(), _problem().refine(factor)
    assert fine.grid.shape == (4 * factor, 3 * factor)
    assert fine.grid.lengths == coarse.grid.lengths
    assert fine.grid.origin == coarse.grid.origin
    assert fine.batch_shape == coarse.batch_shape == (2,)
    block = np.ones((factor, factor))
    for one, other in zip((*fine.coefficient, fine.source, fine.reaction),
                          (*coarse.coefficient, coarse.source, coarse.reaction)):  # fmt: skip
        np.testing.assert_array_equal(one, np.kron(other, block))
    np.testing.assert_array_equal(fine.solid, np.kron(coarse.solid, block).astype(bool))
    np.testing.assert_array_equal(fine.boundary["x0"].alpha, np.repeat(coarse.boundary["x0"].alpha.numpy(), factor))
    np.testing.assert_array_equal(
        fine.boundary["y0"].flux, np.repeat(coarse.boundary["y0"].flux.numpy(), factor, axis=1)
    )
    nodes, values = np.linspace(0, 1, 3 * factor + 1), coarse.boundary["x1"].value.numpy()
    expected = np.interp(nodes, np.linspace(0, 1, 4), values)
    np.testing.assert_allclose(fine.boundary["x1"].value, expected, rtol=0, atol=1e-14)


def test_scalar_stays_scalar_and_periodic_stays_periodic():
    fine = sb.Diffusion(sb.Grid((4, 4)), torch.rand(4, 4) + 1, boundary=sb.Periodic()).refine()
    assert fine.has_scalar_coefficient
    assert fine.dtype == torch.float32
    assert fine.periodic == (True, True)
    assert fine.node_shape == (8, 8)


def test_the_factor_is_a_positive_integer():
    refused("refinement factor 0 positive", lambda: _problem().refine(0))
