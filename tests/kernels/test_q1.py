from __future__ import annotations

import functools

import numpy as np
import pytest
import torch

from sciml_bounds.kernels import use_backend
from sciml_bounds.kernels.q1 import energy, from_modes, modes, stiffness

SHAPES = [(7,), (5, 4), (2, 3, 4)]


def _cell_matrix(a, c, spacing):
    """Stiffness and mass of one cell as Kronecker products of those of a line."""
    K = [np.array([[1, -1], [-1, 1]]) / h for h in spacing]
    M = [np.array([[2, 1], [1, 2]]) * h / 6 for h in spacing]
    dim = len(spacing)
    total = c * functools.reduce(np.kron, M)
    for axis in range(dim):
        total = total + a[axis] * functools.reduce(np.kron, [K[i] if i == axis else M[i] for i in range(dim)])
    return total


def _matrix(coefficient, reaction, spacing):
    """Assemble one sample cell by cell."""
    shape = reaction.shape
    nodes = tuple(n + 1 for n in shape)
    A = np.zeros((int(np.prod(nodes)),) * 2)
    for cell in np.ndindex(*shape):
        corners = [
            np.ravel_multi_index(tuple(i + s for i, s in zip(cell, corner)), nodes)
            for corner in np.ndindex(*(2,) * len(shape))
        ]
        A[np.ix_(corners, corners)] += _cell_matrix(
            [float(a[cell]) for a in coefficient], float(reaction[cell]), spacing
        )
    return A


@pytest.mark.parametrize("backend", ["torch", "compiled"])
@pytest.mark.parametrize("dtype", [torch.float64, torch.float32], ids=["double", "single"])
@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_stiffness_and_energy_are_those_of_the_assembled_matrix(backend, dtype, shape):
    spacing = (0.3, 0.2, 0.5)[: len(shape)]
    for data, fields in ((1, 1), (1, 3), (3, 3)):
        a = tuple(torch.rand(data, *shape, dtype=dtype) for _ in shape)
        c = torch.rand(data, *shape, dtype=dtype) * (torch.rand(data, *shape) > 0.5)
        v = torch.randn(fields, *(n + 1 for n in shape), dtype=dtype)
        with use_backend(backend):
            product, energies = stiffness(a, c, v, spacing), energy(a, c, v, spacing)
        for sample in range(fields):
            k = sample if data > 1 else 0
            A = _matrix([q[k] for q in a], c[k], spacing)
            # rows have at most 27 entries; each product is exact to a few eps of the largest
            tolerance = 50 * torch.finfo(dtype).eps * np.abs(A).sum(1).max() * float(v.abs().max())
            expected = A @ v[sample].double().numpy().reshape(-1)
            np.testing.assert_allclose(product[sample].double().reshape(-1), expected, rtol=0, atol=tolerance)
            squared = float(v[sample].double().numpy().reshape(-1) @ expected)  # a sum of positive numbers in `energy`
            assert float(energies[sample]) == pytest.approx(squared, rel=200 * torch.finfo(dtype).eps)


def test_gradients_pass_through_whatever_backend_is_chosen():
    shape = (2, 3)
    a, c = torch.rand(2, 1, *shape, dtype=torch.float64)
    v = torch.randn(1, 3, 4, dtype=torch.float64)
    inputs = [t.requires_grad_() for t in (a, c, v)]
    assert torch.autograd.gradcheck(lambda a, c, v: stiffness((a, a), c, v, (0.5, 0.25)), inputs)


@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_modes_reproduce_the_multilinear_function_and_its_transpose_is_one(shape):
    dim = len(shape)
    v = torch.randn(2, *(n + 1 for n in shape), dtype=torch.float64)
    parts = modes(v, dim)
    assert set(parts) == set(np.ndindex(*(2,) * dim))
    for corner in np.ndindex(*(2,) * dim):  # xi = -1/2 or 1/2 along each axis
        value = sum(m * np.prod([(c - 0.5) ** b for c, b in zip(corner, bits)]) for bits, m in parts.items())
        there = v[(..., *[slice(c, c + n) for c, n in zip(corner, shape)])]
        torch.testing.assert_close(value, there, rtol=0, atol=1e-14)
    other = {bits: torch.randn_like(m) for bits, m in parts.items()}
    paired = sum((parts[bits] * other[bits]).sum() for bits in parts)
    torch.testing.assert_close((from_modes(other, dim) * v).sum(), paired, rtol=1e-13, atol=1e-13)
