"""What a reading of a lattice operator tells, against its matrix."""

from __future__ import annotations

import numpy as np
import pytest
import torch

import sciml_bounds as sb
from sciml_bounds.kernels import use_backend
from sciml_bounds.kernels.coarsen import half_stencil
from sciml_bounds.kernels.lattice import shifted
from sciml_bounds.kernels.survey import survey
from sciml_bounds.operators._lattice_operator import LatticeOperator
from sciml_bounds.problems.discretization import cell_fluxes


@pytest.mark.parametrize("backend", ["torch", "compiled"])
@pytest.mark.parametrize("shape", [(1, 1, 9), (1, 6, 5), (4, 3, 5)], ids=str)
def test_sums_are_those_of_the_matrix(backend, shape):
    offsets = half_stencil(tuple(n > 1 for n in shape))
    draw = torch.Generator().manual_seed(0)
    T = torch.randn((len(offsets), 1, *shape), generator=draw, dtype=torch.float64)
    c = torch.randn((1, *shape), generator=draw, dtype=torch.float64)
    matrix = LatticeOperator(offsets, T, c).to_csr()
    with use_backend(backend):
        found = survey(offsets, T, c)
    np.testing.assert_allclose(found.diagonal.numpy().ravel(), matrix.diagonal(), rtol=1e-13, atol=1e-13)
    sizes = np.abs(matrix.toarray()).sum(1)  # no axis has two points, whose two couplings the matrix holds as one
    np.testing.assert_allclose(found.absolute.numpy().ravel(), sizes, rtol=1e-13)
    flat = T.flatten(2)[:, 0]
    torch.testing.assert_close(found.conductances[0, :, 0], flat.sum(1))
    torch.testing.assert_close(found.conductances[0, :, 1], (flat != 0).sum(1).double())
    torch.testing.assert_close(found.conductances[0, :, 2], torch.where(flat > 0, flat, torch.inf).amin(1))
    torch.testing.assert_close(found.conductances[0, :, 3], flat.amax(1))
    torch.testing.assert_close(found.excess, c.flatten(1).sum(1))
    assert not found.isolated.any()


@pytest.mark.parametrize("backend", ["torch", "compiled"])
@pytest.mark.parametrize("shape", [(1, 1, 9), (1, 6, 5), (4, 3, 5)], ids=str)
def test_points_without_neighbours_are_counted_where_they_lie_on_no_side(backend, shape):
    """One inside, and all of the sides across the last axis, as where values are prescribed."""
    offsets = half_stencil(tuple(n > 1 for n in shape))
    T, c = torch.ones(len(offsets), 1, *shape, dtype=torch.float64), torch.ones(1, *shape, dtype=torch.float64)
    alone = torch.zeros(shape, dtype=torch.bool)
    alone[..., 0] = alone[..., -1] = True
    alone[tuple(n // 2 for n in shape)] = True
    for k, offset in enumerate(offsets):
        T[k, 0][alone | shifted(alone, offset)] = 0.0
    with use_backend(backend):
        assert survey(offsets, T, c).isolated.tolist() == [1]


@pytest.mark.parametrize("backend", ["torch", "compiled"])
def test_the_contrast_of_a_survey_is_the_largest_ratio_of_neighbouring_conductances(backend):
    a = np.random.default_rng(3).lognormal(size=(5, 6, 7))
    A = cell_fluxes(sb.Diffusion(sb.Grid((5, 6, 7)), a)).system.operator
    expected = 1.0
    for offset, T in zip(A.offsets, A.conductance[:, 0].numpy()):
        line = np.moveaxis(T, offset.index(1), 0)
        ratio = line[1:-1] / line[:-2]  # the last is zero: nothing is behind it
        expected = max(expected, ratio.max(), (1 / ratio).max())
    with use_backend(backend):
        assert float(A.survey().contrast) == pytest.approx(expected, rel=1e-14)
