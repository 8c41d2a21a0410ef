from __future__ import annotations

import itertools

import numpy as np
import pytest
import scipy.sparse
import torch

from sciml_bounds.kernels import lattice, use_backend

#: Each entry is a sum of at most 27 products of numbers of order one, in any order: 27 eps with room for cancellation.
ROUND_OFF = {torch.float64: 1e-14, torch.float32: 5e-6}


def _sweeps(offsets, T, c, s, u, b):
    out = [torch.full_like(u, torch.nan) for _ in range(3)]  # whatever stood there must not matter
    lattice.apply(offsets, T, c, u, out[0])
    lattice.residual(offsets, T, c, u, b, out[1])
    lattice.relax(offsets, T, c, s, u, b, 0.7, out[2])
    return out


@pytest.mark.parametrize("backend", ["torch", "compiled"])
@pytest.mark.parametrize("stencil", ["cross", "box"])
@pytest.mark.parametrize("dtype", [torch.float64, torch.float32], ids=["double", "single"])
def test_sweeps_are_products_with_the_assembled_matrix(lattice_case, oracle, backend, stencil, dtype):
    shape, periodic = lattice_case
    offsets = getattr(oracle, stencil)(shape)
    for coefficients, vectors in ((1, 1), (1, 3), (3, 3)):
        T, c = oracle.random_operator(shape, offsets, periodic, coefficients, dtype)
        u, b = torch.randn(2, vectors, *shape, dtype=dtype)
        s = torch.rand_like(c)
        with use_backend(backend):
            found = _sweeps(offsets, T, c, s, u, b)
        for sample in range(vectors):
            m = sample if coefficients > 1 else 0
            A = torch.as_tensor(oracle.dense(offsets, T[:, m], c[m]))
            v, w, scale = (q.double().reshape(-1) for q in (u[sample], b[sample], s[m]))
            expected = (A @ v, w - A @ v, v + 0.7 * scale * (w - A @ v))
            size = float(A.abs().sum(1).max())
            for one, other in zip(found, expected):
                gap = (one[sample].double().reshape(-1) - other).abs().max()
                assert gap <= ROUND_OFF[dtype] * size * float(v.abs().max() + w.abs().max())


@pytest.mark.parametrize("ends", ["dirichlet", "neumann", "periodic"])
@pytest.mark.parametrize("shape", [(9,), (5, 6), (4, 5, 6)], ids=str)
def test_constant_coefficients_give_the_kronecker_sum_of_one_dimensional_matrices(shape, ends):
    matrices = []
    for n in shape:
        line = scipy.sparse.diags_array([-np.ones(n - 1), 2 * np.ones(n), -np.ones(n - 1)], offsets=(-1, 0, 1)).tolil()
        if ends == "neumann":
            line[0, 0] = line[n - 1, n - 1] = 1
        if ends == "periodic":
            line[0, n - 1] = line[n - 1, 0] = -1
        matrices.append(line.tocsr())
    identities = [scipy.sparse.eye_array(n) for n in shape]
    expected = 0
    for axis in range(len(shape)):
        term = scipy.sparse.eye_array(1)
        for other in range(len(shape)):
            term = scipy.sparse.kron(term, matrices[other] if other == axis else identities[other])
        expected = expected + term
    padded = (1,) * (3 - len(shape)) + shape
    offsets = tuple(tuple(int(i == a) for i in range(3)) for a in range(3 - len(shape), 3))
    T = torch.ones(len(shape), 1, *padded, dtype=torch.float64)
    c = torch.zeros(1, *padded, dtype=torch.float64)
    for k, axis in enumerate(range(3 - len(shape), 3)):
        if ends != "periodic":
            T[k].select(1 + axis, -1).zero_()
        if ends == "dirichlet":
            c.select(1 + axis, 0).add_(1)
            c.select(1 + axis, -1).add_(1)
    u = torch.randn(1, *padded, dtype=torch.float64)
    product = lattice.apply(offsets, T, c, u, torch.empty_like(u))
    # sums of at most 7 products of numbers below about 12
    np.testing.assert_allclose(product.reshape(-1), expected @ u.reshape(-1).numpy(), rtol=0, atol=1e-13)


@pytest.mark.parametrize("backend", ["torch", "compiled"])
def test_constants_are_in_the_null_space_without_round_off(backend, oracle):
    # the difference form: with T u_i - T u_j kept as T (u_i - u_j) nothing is left to cancel, for any numbers
    shape = (3, 4, 5)
    offsets = oracle.box(shape)
    T, c = oracle.random_operator(shape, offsets, (False, True, False))
    with use_backend(backend):
        u = torch.full((2, *shape), 1 / 3, dtype=torch.float64)
        product = lattice.apply(offsets, 1e8 * T, torch.zeros_like(c), u, torch.empty_like(u))
    assert torch.equal(product, torch.zeros_like(product))


def test_a_sweep_writes_into_the_given_buffer_and_repeats_bit_for_bit(oracle):
    shape = (1, 7, 9)
    offsets = oracle.box(shape)
    T, c = oracle.random_operator(shape, offsets, (False, False, False))
    u, b = torch.randn(2, 2, *shape, dtype=torch.float64)
    first = _sweeps(offsets, T, c, torch.ones_like(c), u, b)
    again = _sweeps(offsets, T, c, torch.ones_like(c), u, b)
    assert all(torch.equal(p, q) for p, q in zip(first, again))
    out = torch.empty_like(u)
    assert lattice.apply(offsets, T, c, u, out) is out


def test_the_reference_carries_gradients_of_coefficients_and_field(oracle):
    shape = (1, 2, 3)
    offsets = oracle.cross(shape)
    T, c = oracle.random_operator(shape, offsets, (False, False, True), batch=1)
    u = torch.randn(2, *shape, dtype=torch.float64)
    inputs = [t.requires_grad_() for t in (T, c, u)]
    assert torch.autograd.gradcheck(lambda T, c, u: lattice.lattice_product(offsets, T, c, u), inputs)


def test_shifted_looks_up_the_neighbour_modulo_the_lattice():
    u = torch.arange(2 * 3 * 4.0).view(1, 2, 3, 4)
    for offset in itertools.product((-1, 0, 1), repeat=3):
        moved = lattice.shifted(u, offset)
        for point in np.ndindex(2, 3, 4):
            there = tuple((p + o) % n for p, o, n in zip(point, offset, (2, 3, 4)))
            assert moved[(0, *point)] == u[(0, *there)]
