"""Sketch-and-project: the steps are projections, expected rates hold over many runs, and what the result says."""

from __future__ import annotations

import numpy as np
import pytest
import scipy.sparse
import torch
from refusals import refusals

import sciml_bounds as sb
from sciml_bounds.sketching._sketch_and_project import CHUNK_SIZE, expected_rate, sketch_and_project
from sciml_bounds.sketching._sketches.count_sketch import CountSketch
from sciml_bounds.sketching._sketches.gaussian_block import GaussianBlock
from sciml_bounds.sketching._sketches.gaussian_vector import GaussianVector
from sciml_bounds.sketching._sketches.row_block import RowBlock
from sciml_bounds.sketching._sketches.rows import Rows
from sciml_bounds.sketching._sketches.sparse_sign import SparseSign
from sciml_bounds.sketching._sketches.srht import SRHT

SKETCHES = {
    "gaussian vector": GaussianVector(),
    "rows": Rows(),
    "rows by norms": Rows("norms"),
    "gaussian block": GaussianBlock(3),
    "row block": RowBlock(3),
    "count sketch": CountSketch(3),
    "sparse sign": SparseSign(3, 2),
    "srht": SRHT(3),
}
ESTIMATED = ("gaussian block", "count sketch", "sparse sign", "srht")


def kkt_matrix():
    """The symmetric indefinite matrix of a small problem, condition number about 5."""
    generator = torch.Generator().manual_seed(1)
    G = torch.randn((2, 5), generator=generator, dtype=torch.float64)
    H = torch.diag(torch.tensor([1.0, 2.0, 1.5, 1.0, 2.0], dtype=torch.float64))
    return torch.cat([torch.cat([H, G.T], 1), torch.cat([G, torch.zeros(2, 2)], 1)])


A = kkt_matrix()
EXACT = torch.linspace(-1.0, 1.0, 7, dtype=torch.float64)
B = A @ EXACT


@pytest.mark.filterwarnings("ignore::sciml_bounds.ConvergenceWarning")
@pytest.mark.parametrize("name", SKETCHES)
def test_steps_of_a_chunk_are_those_of_the_definition(name):
    """z+ = z - A^T S (S^T A A^T S)^+ S^T (A z - b), one after the other."""
    steps = CHUNK_SIZE + 7
    generator = torch.Generator().manual_seed(5)
    z = torch.zeros(7, dtype=torch.float64)
    for count in (CHUNK_SIZE, 7):
        rows, values = SKETCHES[name].draw(A, B, count, generator)
        for W, beta in zip(rows, values):
            z = z - W.T @ torch.linalg.pinv(W @ W.T) @ (W @ z - beta)
    s = sketch_and_project(A, B, SKETCHES[name], maxiter=steps, seed=5, rtol=1e-15)
    assert int(s.iterations) == steps
    torch.testing.assert_close(s.x, z, rtol=0, atol=1e-12)  # an error is not enlarged by a projection


@pytest.mark.filterwarnings("ignore::sciml_bounds.ConvergenceWarning")
@pytest.mark.parametrize("name", SKETCHES)
def test_mean_square_errors_fall_as_expected(name):
    """E ||z_t - z*||^2 <= (1 - gamma)^t ||z*||^2, over 400 runs.

    An error never grows, so that the mean of 400 has a standard deviation of at most ||z*||^2 / 40 while it is large;
    below that the spread of a run is about its mean, and five standard deviations are 5 / 20 of it.
    """
    rate = expected_rate(A, SKETCHES[name])
    for steps in (4, 24):
        runs = [sketch_and_project(A, B, SKETCHES[name], maxiter=steps, seed=seed, rtol=1e-14) for seed in range(400)]
        errors = torch.stack([(s.x - EXACT).square().sum() for s in runs])
        bound = (1 - rate.gamma) ** steps * float(EXACT.square().sum())
        assert float(errors.mean()) <= 1.25 * bound
    assert 0 < rate.gamma < 1
    assert rate.kind == ("estimate" if name in ESTIMATED else "bound")


@pytest.mark.parametrize("name", SKETCHES)
def test_solutions_are_reached_and_residuals_recomputed(name):
    s = sketch_and_project(A, B, SKETCHES[name], rtol=1e-10)
    assert bool(s.converged)
    assert float(s.residual_norm) == pytest.approx(float((A @ s.x - B).norm()), rel=1e-3)
    smallest = float(torch.linalg.svdvals(A)[-1])
    assert float((s.x - EXACT).norm()) <= float(s.residual_norm) / smallest
    assert int(s.iterations) % CHUNK_SIZE == 0
    assert len(s.residual_norms) == int(s.iterations) // CHUNK_SIZE + 1


@pytest.mark.parametrize(
    "matrix",
    [A, A.numpy(), scipy.sparse.csr_array(A.numpy()), scipy.sparse.coo_matrix(A.numpy())],
    ids=["tensor", "array", "csr", "coo"],
)
def test_matrices_may_come_in_any_form(matrix):
    s = sketch_and_project(matrix, B.numpy(), Rows(), rtol=1e-10)
    torch.testing.assert_close(s.x, EXACT, rtol=0, atol=1e-8)


@pytest.mark.parametrize("name", SKETCHES)
def test_tall_systems_are_solved_if_they_are_consistent(name):
    generator = torch.Generator().manual_seed(2)
    tall = torch.randn((30, 7), generator=generator, dtype=torch.float64)
    s = sketch_and_project(tall, tall @ EXACT, SKETCHES[name], rtol=1e-10)
    torch.testing.assert_close(s.x, EXACT, rtol=0, atol=1e-8)
    rate = expected_rate(tall, SKETCHES[name]).gamma
    assert 0 < rate <= 1
    # a step of q vectors projects on at most q of 7 dimensions, and the smallest eigenvalue is at most the mean
    assert rate <= SKETCHES[name].draw(tall, tall[:, 0], 1, generator)[0].shape[1] / 7


def test_rows_of_zeros_change_nothing():
    """As where a constraint has no gradient; with b zero there too the system is consistent."""
    matrix, b = A.clone(), B.clone()
    matrix[3], b[3] = 0.0, 0.0
    for sketch in (Rows(), RowBlock(2)):
        s = sketch_and_project(matrix, b, sketch, rtol=1e-9)
        assert bool(s.converged)


def test_what_is_not_reached_is_said():
    with pytest.warns(sb.ConvergenceWarning, match=r"maxiter reached.*cond\(A\)\^2 steps"):
        s = sketch_and_project(A, B, Rows(), maxiter=10)
    assert s.reason is sb.results.Reason.MAXITER
    assert int(s.iterations) == 10


test_bad_input_is_refused = refusals(
    ("rows columns", lambda: sketch_and_project(A[:3], B, Rows())),
    ("b shape", lambda: sketch_and_project(A, B[:3], Rows())),
    ("NaN infinite", lambda: sketch_and_project(A, np.full(7, np.nan), Rows())),
    ("matrix 49 entries", lambda: sketch_and_project(A * np.nan, B, Rows())),
    ("maxiter -1", lambda: sketch_and_project(A, B, Rows(), maxiter=-1)),
    ("x0 shape", lambda: sketch_and_project(A, B, Rows(), x0=[1.0])),
    ("sciml_bounds", lambda: sketch_and_project(A, B, "rows")),
    ("sciml_bounds", lambda: sketch_and_project(A, B, Rows)),
    ("sciml_bounds", lambda: expected_rate(A, "rows")),
    ("sciml_bounds", lambda: expected_rate(A, Rows)),
)
