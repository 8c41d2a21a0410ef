"""What the tests of this folder compare: one matrix from elsewhere, one problem, and one method at a time."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pyamg
import pytest
import scipy.sparse

import sciml_bounds as sb
from sciml_bounds.comparison import Comparison, Equations, Result, from_matrix


@pytest.fixture
def matrix() -> scipy.sparse.csr_array:
    """Five points on 12 x 11 nodes."""
    return scipy.sparse.csr_array(pyamg.gallery.poisson((12, 11)))


@pytest.fixture
def equations(matrix) -> Equations:
    """That matrix with a random right-hand side."""
    return from_matrix(matrix, np.random.default_rng(0).standard_normal(matrix.shape[0]))


@pytest.fixture
def problem() -> sb.Diffusion:
    """A random coefficient on 12 x 9 cells."""
    return sb.Diffusion(sb.Grid((12, 9)), np.random.default_rng(0).lognormal(size=(12, 9)), 1.0)


def _run_one(equations: Equations, name: str, **options: float) -> Result:
    comparison = Comparison(equations, [name], **options)
    comparison.run(repeat=1, histories=True)
    (result,) = comparison.results
    return result


@pytest.fixture
def run_one() -> Callable[..., Result]:
    """Run one method once: `run_one(equations, name, rtol=..., maxiter=...)`."""
    return _run_one
