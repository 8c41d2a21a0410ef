"""Inverses by transforms against the matrices they invert, and scipy's transforms against dense bases."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
import torch
from refusals import refused

import sciml_bounds as sb
from sciml_bounds.operators._transform import AxisKind
from sciml_bounds.problems.discretization import cell_fluxes, node_system

ENDS = [*itertools.product(["dirichlet", "neumann"], repeat=2), ("periodic", "periodic")]
CONDITIONS = {"dirichlet": sb.Dirichlet(0.0), "neumann": sb.Neumann(0.0), "periodic": sb.Periodic()}
SHAPE = (5, 2, 3)


@pytest.mark.parametrize("n", [2, 3, 8])
@pytest.mark.parametrize("nodal", [True, False], ids=["nodes", "cells"])
@pytest.mark.parametrize("ends", ENDS, ids="-".join)
def test_transforms_are_products_with_an_orthogonal_basis(ends, nodal, n):
    axis = AxisKind(n, nodal, *ends)
    basis = axis.basis()
    count = basis.shape[1]
    torch.testing.assert_close(basis @ basis.mT, torch.eye(count, dtype=torch.float64), rtol=0, atol=1e-14)
    x = np.random.default_rng(0).standard_normal((3, count))
    y = axis.transform(x.copy(), 1, 1, back=False)
    np.testing.assert_allclose(y, x @ basis.numpy().T, rtol=0, atol=1e-13)
    np.testing.assert_allclose(axis.transform(y.copy(), 1, 1, back=True), x, rtol=0, atol=1e-13)


def _problem(kinds, reaction, batch=2):
    """Another constant for every sample and axis, unequal spacings."""
    dim = len(kinds)
    rng = np.random.default_rng(0)
    grid = sb.Grid(SHAPE[:dim], lengths=(1.0, 2.0, 0.5)[:dim])
    numbers = rng.uniform(0.5, 3.0, (dim + 1, batch, *(1,) * dim))
    a = tuple(np.broadcast_to(number, (batch, *grid.shape)).copy() for number in numbers[:dim])
    f = rng.standard_normal((batch, *grid.shape))
    f -= f.mean(tuple(range(1, dim + 1)), keepdims=True)
    sides = {f"{axis}{end}": CONDITIONS[kind[end]] for axis, kind in zip("xyz", kinds) for end in (0, 1)}
    c = np.broadcast_to(reaction * numbers[dim], (batch, *grid.shape)).copy()
    return sb.Diffusion(grid, a, f, boundary=sides, reaction=c)


@pytest.mark.parametrize("dim", [1, 2, pytest.param(3, marks=pytest.mark.slow)])
@pytest.mark.parametrize("reaction", [0.0, 1.0])
@pytest.mark.parametrize("lattice", ["nodes", "cells"])
def test_the_inverse_inverts_the_matrix_for_all_sides(dim, reaction, lattice):
    for kinds in itertools.product(ENDS, repeat=dim):
        problem = _problem(kinds, reaction)
        system = node_system(problem) if lattice == "nodes" else cell_fluxes(problem).system
        matrices = [system.operator.to_csr(sample).toarray() for sample in range(2)]
        inverse = system.inverse
        eye = torch.eye(inverse.shape[0], dtype=torch.float64)
        for sample, A in enumerate(matrices):
            columns = [inverse.matvec(torch.stack([column, column]))[sample] for column in eye]
            ours = torch.stack(columns).numpy().T
            if system.components is None:
                # condition numbers below 1e3 for so few cells
                np.testing.assert_allclose(A @ ours, np.eye(len(A)), rtol=0, atol=1e-11)
            else:  # A B A = A makes B a generalised inverse, whatever it does to constants
                np.testing.assert_allclose(A @ ours @ A, A, rtol=0, atol=1e-11 * np.abs(A).max())
            np.testing.assert_allclose(ours, ours.T, rtol=0, atol=1e-12 * np.abs(ours).max())


def test_dense_bases_serve_where_scipy_cannot():
    """What runs on accelerators, run on the CPU."""
    problem = _problem((("dirichlet", "neumann"), ("periodic", "periodic"), ("neumann", "neumann")), 0.0)
    inverse = node_system(problem).inverse
    x = torch.randn(2, inverse.shape[0], dtype=torch.float64)
    by_scipy = inverse @ x
    inverse._bases = [axis.basis() for axis in inverse.axes]
    torch.testing.assert_close(inverse @ x, by_scipy, rtol=1e-12, atol=1e-13)


def test_single_precision_stays_single():
    ones = np.ones((8, 8), dtype=np.float32)
    problem = sb.Diffusion(sb.Grid((8, 8)), ones, ones)
    solution = sb.solve(problem)
    assert solution.values.dtype == torch.float32
    exact = sb.solve(problem.to(torch.float64), method="direct").values
    torch.testing.assert_close(solution.values.double(), exact, rtol=1e-5, atol=1e-6)


VARYING = np.ones((4, 3))
VARYING[2, 1] = 1 + 1e-15
NO_TRANSFORM = {
    "a varying coefficient": {"coefficient": VARYING},
    "a varying component": {"coefficient": (VARYING, 1.0)},
    "a varying reaction": {"reaction": VARYING},
    "a sample that varies": {"coefficient": np.stack([np.ones((4, 3)), VARYING])},
    "solids": {"solid": VARYING != 1},
    "a Robin side": {"boundary": sb.Robin(1.0, 0.0)},
}


@pytest.mark.parametrize("name", NO_TRANSFORM)
def test_transforms_are_refused_where_they_do_not_apply(name):
    problem = sb.Diffusion(sb.Grid((4, 3)), **{"source": 1.0, **NO_TRANSFORM[name]})
    assert "multigrid" in sb.solve(problem).method
    refused("'transform' constant 'multigrid'", lambda: sb.solve(problem, method="transform"))


def test_transforms_are_what_is_taken_by_default():
    grid = sb.Grid((6, 5))
    for problem in (sb.Diffusion(grid, 2.0, 1.0), sb.Diffusion(grid, (1.0, 3.0), 1.0, reaction=2.0),
                    sb.Diffusion(grid, 1.0, 1.0, boundary=dict.fromkeys(grid.sides, sb.Dirichlet(1.0))
                                 | {"x0": sb.Robin(0.0, 1.0)})):  # fmt: skip
        solution = sb.solve(problem, rtol=1e-12)
        assert solution.method == "fast transforms"
        assert int(solution.iterations) <= 1
        direct = sb.solve(problem, method="direct").values
        torch.testing.assert_close(solution.values, direct, rtol=1e-11, atol=1e-12)
