"""A cycle of convolutions with weights set by hand is geometric multigrid, to round-off.

The other side is written here with scipy's sparse matrices in the plainest way, one axis at a time, and shares nothing
with the package but the dampings, which are written out.
"""

from __future__ import annotations

import functools
import itertools
import math

import numpy as np
import pytest
import scipy.sparse as sp
import torch

from sciml_bounds.multigrid._poisson_cycle import poisson_cycle, poisson_operator

# --- multigrid with matrices ------------------------------------------------------------------------------------------


def second_difference(cells, boundary):
    h = 1 / cells
    n = {"dirichlet": cells - 1, "neumann": cells + 1, "periodic": cells}[boundary]
    matrix = np.zeros((n, n))
    for i in range(n):
        for j, weight in ((i, 2.0), (i - 1, -1.0), (i + 1, -1.0)):
            if boundary == "periodic":
                j %= n
            if boundary == "neumann":
                j = abs(j) if j < n else 2 * (n - 1) - j
            if 0 <= j < n:
                matrix[i, j] += weight / h**2
    return matrix


def full_weighting(cells, boundary):
    """From the unknowns of `cells` cells to those of half as many."""
    n = {"dirichlet": cells - 1, "neumann": cells + 1, "periodic": cells}[boundary]
    half = cells // 2
    coarse = {"dirichlet": half - 1, "neumann": half + 1, "periodic": half}[boundary]
    matrix = np.zeros((coarse, n))
    for i in range(coarse):
        center = 2 * i + (boundary == "dirichlet")
        for offset, weight in ((0, 0.5), (-1, 0.25), (1, 0.25)):
            j = center + offset
            if boundary == "periodic":
                j %= n
            if boundary == "neumann":
                j = abs(j) if j < n else 2 * (n - 1) - j
            matrix[i, j] += weight
    return matrix


def interpolation(cells, boundary):
    """From the unknowns of half as many cells: the value at a coarse node, the mean of two between them."""
    n = {"dirichlet": cells - 1, "neumann": cells + 1, "periodic": cells}[boundary]
    half = cells // 2
    coarse = {"dirichlet": half - 1, "neumann": half + 1, "periodic": half}[boundary]
    first = int(boundary == "dirichlet")  # index of the node to which unknown 0 belongs
    matrix = np.zeros((n, coarse))
    for i in range(n):
        node = i + first
        ends = [node // 2] if node % 2 == 0 else [node // 2, node // 2 + 1]
        for end in ends:
            j = (end % half if boundary == "periodic" else end) - first
            if 0 <= j < coarse:
                matrix[i, j] += 1 / len(ends)
    return matrix


def kron(matrices):
    return functools.reduce(sp.kron, [sp.csr_array(m) for m in matrices]).tocsr()


def laplacian(cells, dim, boundary):
    one = second_difference(cells, boundary)
    eye = np.eye(len(one))
    return sum(kron([one if k == axis else eye for k in range(dim)]) for axis in range(dim))


DAMPINGS = {  # for eigenvalues in [1 / dim, 2], steps 1 and 2: 1 / (middle + radius cos(pi (2 k + 1) / (2 steps)))
    ("richardson", 1): lambda low: [2 / (2 + low)],
    ("richardson", 2): lambda low: [2 / (2 + low)] * 2,
    ("chebyshev", 2): lambda low: [
        1 / ((2 + low) / 2 + (2 - low) / 2 * math.cos(math.pi / 4)),
        1 / ((2 + low) / 2 - (2 - low) / 2 * math.cos(math.pi / 4)),
    ],
}


def reference(cells, dim, boundary, pre, post, smoother, f):
    """One V-cycle from zero for A u = f; the coarsest level is solved by a pseudo-inverse."""
    A = laplacian(cells, dim, boundary)
    if cells == (1 if boundary == "neumann" else 2):
        return np.linalg.pinv(A.toarray()) @ f if boundary != "dirichlet" else np.linalg.solve(A.toarray(), f)
    diagonal = 2 * dim * cells**2
    u = np.zeros_like(f)
    for w in DAMPINGS[smoother, pre](1 / dim):
        u = u + w / diagonal * (f - A @ u)
    R, P = (kron([transfer(cells, boundary)] * dim) for transfer in (full_weighting, interpolation))
    u = u + P @ reference(cells // 2, dim, boundary, pre, post, smoother, R @ (f - A @ u))
    for w in DAMPINGS[smoother, post](1 / dim):
        u = u + w / diagonal * (f - A @ u)
    return u


def unknowns(cells, boundary):
    return {"dirichlet": cells - 1, "neumann": cells + 1, "periodic": cells}[boundary]


def compatible(cells, dim, boundary, generator):
    """A right-hand side in the range of A: with derivatives prescribed, its integral by the trapezoidal rule is 0."""
    n = unknowns(cells, boundary)
    f = generator.standard_normal((n,) * dim)
    if boundary == "dirichlet":
        return f
    weight = np.ones(n)
    if boundary == "neumann":
        weight[[0, -1]] = 0.5
    weights = functools.reduce(np.multiply.outer, [weight] * dim)
    return f - (weights * f).sum() / weights.sum()


SIZES = {1: 32, 2: 16, 3: 8}
CASES = list(itertools.product((1, 2, 3), ("dirichlet", "neumann", "periodic")))


@pytest.mark.parametrize("smoother", ["richardson", "chebyshev"])
@pytest.mark.parametrize(("dim", "boundary"), CASES)
def test_the_cycle_is_geometric_multigrid(dim, boundary, smoother):
    cells = SIZES[dim]
    f = compatible(cells, dim, boundary, np.random.default_rng(dim))
    cycle = poisson_cycle(cells, dim=dim, boundary=boundary, pre=2, post=2, smoother=smoother)
    found = cycle(torch.from_numpy(f)[None, None]).detach()[0, 0].numpy()
    expected = reference(cells, dim, boundary, 2, 2, smoother, f.reshape(-1)).reshape(f.shape)
    # without Dirichlet sides both are determined up to a constant: the pseudo-inverse takes out its own
    if boundary != "dirichlet":
        found, expected = found - found.mean(), expected - expected.mean()
    # some ten sums of numbers of the size of u a level
    np.testing.assert_allclose(found, expected, rtol=0, atol=1e-13 * np.abs(expected).max())


@pytest.mark.parametrize(("dim", "boundary"), CASES)
def test_the_operator_is_the_laplacian(dim, boundary):
    u = torch.randn(1, 1, *(unknowns(8, boundary),) * dim, dtype=torch.float64)
    found = poisson_operator(8, dim=dim, boundary=boundary)(u).detach()
    expected = laplacian(8, dim, boundary) @ u.numpy().reshape(-1)
    np.testing.assert_allclose(found.numpy().reshape(-1), expected, rtol=0, atol=1e-13 * np.abs(expected).max())


@pytest.mark.parametrize(("dim", "boundary"), CASES)
def test_iterating_solves_poisson_with_the_textbook_contraction(dim, boundary):
    # the smoothing factor of one best-damped Jacobi step is (2 dim - 1) / (2 dim + 1), and its square is the factor of
    # two grids with two steps; a V-cycle solves the coarse level inexactly, which costs less than a tenth more
    cells, factor = {1: 128, 2: 64, 3: 16}[dim], (2 * dim - 1) / (2 * dim + 1)
    f = torch.from_numpy(compatible(cells, dim, boundary, np.random.default_rng(7)))[None, None]
    cycle = poisson_cycle(cells, dim=dim, boundary=boundary, pre=1, post=1)
    operator = poisson_operator(cells, dim=dim, boundary=boundary)
    u, norms = torch.zeros_like(f), []
    with torch.no_grad():
        for _ in range(12):
            residual = f - operator(u)
            norms.append(float(residual.norm()))
            u = u + cycle(residual)
    contraction = (norms[-1] / norms[5]) ** (1 / 6)
    assert contraction < factor**2 + 0.1, contraction
    assert contraction > 0.5 * factor**2  # nor does it do better than theory, which would be another method
