"""Stiffness matrices of free nodes: those of the equations that are solved, and cycles that approximate inverses."""

from __future__ import annotations

import numpy as np
import pytest
import scipy.sparse
import torch
from refusals import refusals

import sciml_bounds as sb
from sciml_bounds.control._constraint_equations import GridStiffness, MatrixStiffness

SIDES = {"x0": sb.Dirichlet(1.0), "x1": sb.Neumann(0.3), "y0": sb.Robin(2.0, 1.0), "y1": sb.Neumann(0.0)}


def problem(**changes):
    generator = torch.Generator().manual_seed(0)
    a = torch.rand(6, 5, generator=generator, dtype=torch.float64) + 0.5
    fields = {"coefficient": a, "source": 1.0, "reaction": 0.5, "boundary": SIDES}
    return sb.Diffusion(sb.Grid((6, 5), lengths=(1.0, 1.3)), **fields | changes)


def solid():
    mask = np.zeros((6, 5), dtype=bool)
    mask[2:4, 2] = True
    return mask


@pytest.mark.parametrize(
    "changes", [{}, {"solid": solid()}, {"boundary": sb.Dirichlet(2.0)}], ids=["sides", "solid", "held"]
)
def test_solutions_are_those_of_solve(changes):
    given = problem(**changes)
    stiffness = GridStiffness(given)
    u = scipy.sparse.linalg.spsolve(stiffness.to_csr().tocsc(), stiffness.load.numpy())
    expected = sb.solve(given, method="direct").values
    torch.testing.assert_close(stiffness.values(torch.from_numpy(u)), expected, rtol=1e-12, atol=1e-12)


def test_products_are_those_of_the_matrix():
    stiffness = GridStiffness(problem())
    u = torch.randn(len(stiffness.free), generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    torch.testing.assert_close(stiffness.matvec(u).numpy(), stiffness.to_csr() @ u.numpy(), rtol=1e-13, atol=1e-13)


def test_masses_sum_up_to_the_volume_of_free_nodes():
    whole = GridStiffness(problem(boundary=sb.Neumann(0.0)))
    assert float(whole.mass.sum()) == pytest.approx(1.3)
    held = GridStiffness(problem(boundary=sb.Dirichlet(0.0)))
    assert float(held.mass.sum()) == pytest.approx(1.3 * 5 / 6 * 4 / 5)  # without half a cell on every side


def of_matrix(n):
    ones = np.ones(n)
    matrix = scipy.sparse.diags_array([-ones[1:], 2 * ones, -ones[1:]], offsets=[-1, 0, 1])
    return MatrixStiffness(matrix, ones / n)


@pytest.mark.parametrize("stiffness", [GridStiffness(problem()), of_matrix(40)], ids=["grid", "matrix"])
def test_cycles_are_symmetric_positive_and_close_to_the_inverse(stiffness):
    n = len(stiffness.mass)
    diagonal = torch.linspace(0.0, 1.0, n, dtype=torch.float64)
    cycle = stiffness.cycle(diagonal)
    columns = torch.stack([cycle.matvec(unit) for unit in torch.eye(n, dtype=torch.float64)])
    torch.testing.assert_close(columns, columns.T, rtol=1e-5, atol=1e-5 * float(columns.abs().max()))  # in float32
    exact = torch.from_numpy(stiffness.to_csr().toarray()) + torch.diag(diagonal)
    spectrum = torch.linalg.eigvals(columns @ exact).real
    assert float(spectrum.min()) > 0.5
    assert float(spectrum.max()) < 1 + 1e-5  # cycles approximate inverses from below


test_bad_input = refusals(
    ("problem Grid", lambda: GridStiffness(sb.Grid((4, 4)))),
    ("batch (3,) problem", lambda: GridStiffness(sb.Diffusion(sb.Grid((4, 4)), source=torch.ones(3, 4, 4)))),
    ("(n, n) (n,)", lambda: MatrixStiffness(scipy.sparse.eye_array(3), np.ones(2))),
    ("mass positive", lambda: MatrixStiffness(scipy.sparse.eye_array(2), np.array([1.0, 0.0]))),
)
