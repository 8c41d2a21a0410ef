"""Sketched least squares: as accurate as a QR factorisation, and in few iterations whatever the matrix."""

from __future__ import annotations

import numpy as np
import pytest
import scipy.linalg
import torch
from refusals import refusals

import sciml_bounds as sb
from sciml_bounds.sketching import _least_squares as least_squares
from sciml_bounds.sketching._least_squares import _RestartedLSQR, sketched_least_squares
from sciml_bounds.sketching._sketches.count_sketch import CountSketch
from sciml_bounds.sketching._sketches.sparse_sign import SparseSign
from sciml_bounds.sketching._sketches.srht import SRHT

EPS = float(np.finfo(np.float64).eps)


def planted(rows, columns, condition, residual, seed=0, *, spikes=False):
    """A matrix with that condition number, the solution, and b with a residual of that length relative to A x.

    With `spikes` all but the last column live on one row each, which a sample of rows would miss.
    """
    generator = torch.Generator().manual_seed(seed)
    Q, _ = torch.linalg.qr(torch.randn((rows, columns + 1), generator=generator, dtype=torch.float64))
    if spikes:
        Q = torch.zeros_like(Q)
        Q[torch.arange(columns) * 7, torch.arange(columns)] = 1.0
        Q[-1, columns] = 1.0
    V, _ = torch.linalg.qr(torch.randn((columns, columns), generator=generator, dtype=torch.float64))
    A = (Q[:, :columns] * torch.logspace(0, -np.log10(condition), columns, dtype=torch.float64)) @ V.T
    x = torch.randn(columns, generator=generator, dtype=torch.float64)
    product = A @ x
    return A, x, product + residual * product.norm() * Q[:, columns]


@pytest.mark.parametrize("residual", [0.0, 1e-6, 1.0])
@pytest.mark.parametrize("condition", [1.0, 1e4, 1e8])
def test_errors_are_those_of_backward_stable_methods(condition, residual):
    """||x - x*|| <= c eps (k ||x|| + k^2 ||r|| / ||A||), k the condition number (Higham, 2002, theorem 20.1).

    ||A|| is one. The constant allows for 10 eps in the stop rule, and for norms of Frobenius there, up to sqrt(30)
    larger.
    """
    A, x, b = planted(3000, 30, condition, residual)
    s = sketched_least_squares(A, b, rtol=1e-14)
    assert bool(s.converged)
    r = b - A @ x
    stable = EPS * condition * float(x.norm()) + EPS * condition**2 * float(r.norm())
    assert float((s.x - x).norm()) <= 100 * stable
    assert float((b - A @ s.x).norm()) <= (1 + 1e-10) * float(r.norm()) + 100 * EPS * float(x.norm())


@pytest.mark.parametrize("spikes", [False, True])
@pytest.mark.parametrize("condition", [1.0, 1e8])
def test_iterations_depend_neither_on_the_condition_nor_on_where_the_rows_are(condition, spikes):
    """A factor of e = sqrt(1 / 8) = 0.35 each: ln(1e-10) / ln(0.35) = 22, and half as many more are allowed."""
    A, _, b = planted(3000, 30, condition, 1.0, spikes=spikes)
    s = sketched_least_squares(A, b, rtol=1e-10)
    assert bool(s.converged)
    assert int(s.iterations) <= 33


@pytest.mark.parametrize(
    "sketch", [CountSketch(400), SparseSign(100, 2), SRHT(100)], ids=lambda sketch: type(sketch).__name__
)
def test_any_sketch_with_enough_columns_will_do(sketch):
    A, x, b = planted(1000, 20, 1e3, 0.1)
    s = sketched_least_squares(A, b, sketch=sketch)
    assert bool(s.converged)
    torch.testing.assert_close(s.x, x, rtol=0, atol=1e-8)


@pytest.mark.parametrize("kind", ["transposed", "array", "float32"])
def test_matrices_may_come_in_any_form(kind):
    A, x, b = planted(1000, 20, 10.0, 0.1)
    given = {"transposed": A.T.contiguous().T, "array": A.numpy(), "float32": A.float()}[kind]
    s = sketched_least_squares(given, b.to(torch.float32) if kind == "float32" else b)
    assert bool(s.converged)
    assert s.x.dtype == (torch.float32 if kind == "float32" else torch.float64)
    torch.testing.assert_close(s.x.double(), x, rtol=0, atol=1e-4 if kind == "float32" else 1e-10)


def test_parts_of_the_matrix_are_as_good_as_the_whole(monkeypatch):
    A, _, b = planted(1000, 20, 1e3, 0.1)
    whole = sketched_least_squares(A, b)
    monkeypatch.setattr(least_squares, "CACHE_BLOCK_ENTRIES", 140)  # seven rows at a time
    parts = sketched_least_squares(A, b)
    assert int(parts.iterations) == int(whole.iterations)
    torch.testing.assert_close(parts.x, whole.x, rtol=0, atol=1e-10)


def test_multipliers_of_many_unknowns_are_those_of_lapack():
    """min ||g + G^T l||, where there are many more unknowns than constraints."""
    generator = torch.Generator().manual_seed(0)
    G = torch.randn((15, 2000), generator=generator, dtype=torch.float64)
    g = torch.randn(2000, generator=generator, dtype=torch.float64)
    s = sketched_least_squares(G.T, -g)
    exact, *_ = scipy.linalg.lstsq(G.T.numpy(), -g.numpy())
    np.testing.assert_allclose(s.x.numpy(), exact, rtol=0, atol=1e-12)


def test_square_systems_and_one_column_are_solved():
    A, x, b = planted(21, 20, 10.0, 0.0)
    torch.testing.assert_close(sketched_least_squares(A, b).x, x, rtol=0, atol=1e-12)
    s = sketched_least_squares(torch.ones((50, 1), dtype=torch.float64), torch.arange(50.0, dtype=torch.float64))
    assert float(s.x) == pytest.approx(24.5, rel=1e-12)


def test_a_right_hand_side_of_zero_has_a_solution_of_zero():
    s = sketched_least_squares(torch.eye(5, dtype=torch.float64)[:, :2], torch.zeros(5, dtype=torch.float64))
    assert bool(s.converged)
    assert torch.equal(s.x, torch.zeros(2, dtype=torch.float64))


def test_what_is_not_reached_is_said():
    A, _, b = planted(1000, 20, 1e3, 1.0)
    with pytest.warns(sb.ConvergenceWarning, match="maxiter reached.*more columns"):
        s = sketched_least_squares(A, b, maxiter=3)
    assert (s.reason, int(s.iterations)) == (sb.results.Reason.MAXITER, 3)
    assert float(s.residual_norm) < float(s.residual_norms[0])  # what was found is returned all the same


def test_a_correction_that_makes_it_worse_is_taken_back(monkeypatch):
    """From a start that is ten times as long, a correction that leads away is not kept."""
    A, _, b = planted(200, 5, 10.0, 0.1)
    R = torch.linalg.qr(A)[1]
    start = 10 * torch.linalg.lstsq(A, b.unsqueeze(1)).solution.squeeze(1)
    refined = _RestartedLSQR(A, b, R, start, 1e-12)
    before = refined.norm
    monkeypatch.setattr(refined, "_correction", lambda maxiter: 9 * start)
    refined.run(10)
    assert refined.reason is sb.results.Reason.STAGNATED
    assert torch.equal(refined.x, start)
    assert refined.norm == before


@pytest.mark.parametrize("scale", [1e-130, 1e-50, 1e50, 1e130])
def test_the_size_of_the_matrix_does_not_matter(scale):
    generator = torch.Generator().manual_seed(0)
    A, b = (torch.randn(shape, generator=generator, dtype=torch.float64) for shape in ((120, 5), (120,)))
    s = sketched_least_squares(scale * A, b)
    assert bool(s.converged)
    torch.testing.assert_close(scale * s.x, torch.linalg.lstsq(A, b.unsqueeze(1)).solution[:, 0], rtol=1e-9, atol=1e-9)


A, _, B = planted(100, 5, 10.0, 0.1)

test_bad_input_is_refused = refusals(
    ("rows columns", lambda: sketched_least_squares(A.T, B[:5])),
    ("b shape", lambda: sketched_least_squares(A, B[:3])),
    ("matrix A 500", lambda: sketched_least_squares(A * np.nan, B)),
    ("columns A", lambda: sketched_least_squares(torch.cat([A, A[:, :1] + A[:, 1:2]], 1), B)),
    ("columns A", lambda: sketched_least_squares(0 * A, B)),
    ("columns", lambda: sketched_least_squares(A[:, :0], B)),
    ("sketch 4 A 5", lambda: sketched_least_squares(A, B, sketch=CountSketch(4))),
    ("sketch 'srht'", lambda: sketched_least_squares(A, B, sketch="srht")),
    ("round-off float64", lambda: sketched_least_squares(A, B, rtol=1e-16)),
    ("maxiter -1", lambda: sketched_least_squares(A, B, maxiter=-1)),
    ("squares residuals range", lambda: sketched_least_squares(1e-150 * torch.eye(4, 2).double(), B[:4])),
    ("squares residuals range", lambda: sketched_least_squares(1e200 * torch.eye(4, 2).double(), B[:4])),
)
