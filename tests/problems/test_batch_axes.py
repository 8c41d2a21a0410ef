"""A leading axis of a coefficient whose length is the dimension: a batch, and the user is told."""

import warnings

import numpy as np
import pytest

import sciml_bounds as sb

PARTS = np.stack([np.full((4, 3), 1.0), np.full((4, 3), 2.0)])
GRID = sb.Grid((4, 3))


def test_a_coefficient_with_one_entry_per_axis_is_said_to_be_a_batch():
    with pytest.warns(sb.InputWarning, match=r"\(2, 4, 3\).*batch of 2 isotropic.*tuple") as seen:
        assert sb.Diffusion(GRID, PARTS).batch_shape == (2,)
    assert seen[0].filename == __file__
    with pytest.warns(sb.InputWarning, match="batch of 2"):
        sb.Diffusion(GRID, 1.0).replace(coefficient=PARTS)


def test_a_known_meaning_is_not_said():
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert not sb.Diffusion(GRID, tuple(PARTS)).has_scalar_coefficient
        sb.Diffusion(GRID, PARTS, source=np.ones((2, 4, 3)))  # another field has the batch
        sb.Diffusion(GRID, np.ones((3, 4, 3)))
        sb.Diffusion(sb.Grid((4,)), np.ones((1, 4)))


def test_a_batch_is_said_once():
    with pytest.warns(sb.InputWarning):
        problem = sb.Diffusion(GRID, PARTS, source=1.0)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        problem.replace(coefficient=2 * PARTS).replace(boundary=sb.Dirichlet(1.0))
        sb.certify(problem, sb.solve(problem))
