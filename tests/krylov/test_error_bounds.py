"""Bounds of the A-norm error against the true error, which dense linear algebra gives."""

from __future__ import annotations

import warnings
from fractions import Fraction

import numpy as np
import pytest
import torch

import sciml_bounds as sb
from sciml_bounds.errors import ConvergenceWarning
from sciml_bounds.krylov._error_bounds import energy_lower_bounds, gauss_radau, residual_bound, smallest_ritz_value
from sciml_bounds.operators._linear_operator import CallableOperator, MatrixOperator

N, CASES = 24, 300


def _batch(seed=0, n=N, cases=CASES, spread=3.0):
    """Random symmetric positive definite matrices with spectra of many shapes, and right-hand sides."""
    generator = torch.Generator().manual_seed(seed)
    Q, _ = torch.linalg.qr(torch.randn(cases, n, n, generator=generator, dtype=torch.float64))
    exponents = spread * torch.rand(cases, 1, generator=generator, dtype=torch.float64)
    values = 10 ** (exponents * torch.rand(cases, n, generator=generator, dtype=torch.float64))
    A = Q @ torch.diag_embed(values) @ Q.mT
    A = (A + A.mT) / 2
    b = torch.randn(cases, n, generator=generator, dtype=torch.float64)
    return A, b, torch.linalg.eigvalsh(A)[:, 0]


def _run(A, b, **options):
    """All iterates, the true A-norm errors at each, and the solution."""
    iterates = [torch.zeros_like(b)]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)
        s = sb.cg(A, b, callback=lambda x: iterates.append(x.clone()), **options)
    matrix = A.matrix if isinstance(A, MatrixOperator) else A
    error = torch.linalg.solve(matrix, b) - torch.stack(iterates)
    return s, torch.einsum("kbi,bij,kbj->kb", error, matrix, error).clamp_min(0).sqrt()


def _jacobi_like(A, seed=1):
    """A symmetric positive definite preconditioner per sample, and the smallest eigenvalue of M A."""
    generator = torch.Generator().manual_seed(seed)
    scale = A.diagonal(dim1=-2, dim2=-1).rsqrt() * (0.5 + torch.rand(A.shape[:2], generator=generator))
    similar = scale.unsqueeze(-1) * A * scale.unsqueeze(-2)
    M = MatrixOperator(torch.diag_embed(scale**2), symmetric=True)
    return M, torch.linalg.eigvalsh(similar)[:, 0]


# Round-off: iterates carry errors of some eps times the condition number (1e3), relative to the first error.
SLACK = 1e-11


@pytest.mark.parametrize(
    "options",
    [{}, {"flexible": True}, {"memory": 5}, {"M": "linear"}, {"M": "nonlinear"}, {"M": "nonlinear", "memory": 4}],
    ids=str,
)
def test_the_lower_bound_holds_at_every_iterate_for_any_directions(options):
    A, b, _ = _batch()
    options = dict(options)
    if options.get("M") == "linear":
        options["M"] = _jacobi_like(A)[0]
    elif options.get("M") == "nonlinear":
        options["M"] = lambda r: r * (1 + 0.5 * torch.sin(20 * r / r.norm(dim=-1, keepdim=True)))
    s, error = _run(A, b, rtol=1e-8, maxiter=60, **options)
    assert s.error_lower.shape == error.shape
    assert bool((s.error_lower <= error + SLACK * error[0]).all())
    # and it is sharp: what is left at the end is small, so the first one is the error itself
    done = s.converged
    torch.testing.assert_close(s.error_lower[0][done], error[0][done], rtol=1e-6, atol=0)


def test_the_lower_bound_is_exact_on_a_hand_worked_example():
    # two steps of conjugate gradients solve a 2 x 2 system: the squares of the bounds are the energies to go
    A, b = torch.tensor([[4.0, 1.0], [1.0, 3.0]], dtype=torch.float64), torch.tensor([1.0, 2.0], dtype=torch.float64)
    s = sb.cg(A, b, rtol=1e-14)
    first = (b @ torch.linalg.solve(A, b)).sqrt()
    step = (b @ b) / (b @ A @ b)
    second = (first**2 - step * (b @ b)).sqrt()
    torch.testing.assert_close(s.error_lower, torch.stack([first, second, torch.zeros_like(first)]), rtol=1e-12, atol=0)


@pytest.mark.parametrize("preconditioned", [False, True])
@pytest.mark.parametrize("factor", [1.0 - 1e-6, 0.5, 0.01])
@pytest.mark.parametrize("steps", [1, 3, 8])
def test_gauss_radau_with_a_number_below_the_spectrum_is_an_upper_bound(preconditioned, factor, steps):
    A, b, smallest = _batch(seed=2)
    M, mu = _jacobi_like(A) if preconditioned else (None, smallest)
    s, error = _run(
        MatrixOperator(A, symmetric=True), b, M=M, rtol=1e-10, maxiter=steps, lambda_min_preconditioned=factor * mu
    )
    assert not s.flexible
    assert s.error_upper_kind == "bound"
    assert bool((s.error_upper >= error[-1] * (1 - 1e-9) - SLACK * error[0]).all())


def test_gauss_radau_is_sharper_the_nearer_the_number_and_much_sharper_than_the_residual():
    A, b, smallest = _batch(seed=3)
    ratios = []
    for factor in (0.999, 0.1, 0.001):
        s, error = _run(
            MatrixOperator(A, symmetric=True), b, rtol=1e-10, maxiter=6, lambda_min_preconditioned=factor * smallest
        )
        running = ~s.converged
        ratios.append(float((s.error_upper / error[-1])[running].median()))
    assert 1 <= ratios[0] < ratios[1] < ratios[2]
    by_residual, error = _run(MatrixOperator(A, symmetric=True), b, rtol=1e-10, maxiter=6, lambda_min=0.999 * smallest)
    assert ratios[0] < 0.8 * float((by_residual.error_upper / error[-1]).median())


def test_the_smallest_eigenvalue_of_a_alone_gives_no_bound_inside_a_preconditioned_loop():
    # This is why that number is taken for the residual bound only, and why without any the kind is "estimate":
    # a preconditioner that scales the spectrum up makes lambda_min(A) too large by that factor, or too small.
    A, b, smallest = _batch(seed=4)
    M = MatrixOperator(torch.diag_embed(torch.full_like(b, 0.01)), symmetric=True)  # M A = A / 100
    s, error = _run(
        MatrixOperator(A, symmetric=True), b, M=M, rtol=1e-10, maxiter=6, lambda_min_preconditioned=smallest
    )
    running = ~s.converged
    claimed = (s.error_upper / error[-1])[running]
    assert bool(((claimed < 1) | claimed.isinf()).all())  # infinity: the wrong number was found out
    honest, error = _run(MatrixOperator(A, symmetric=True), b, M=M, rtol=1e-10, maxiter=6, lambda_min=smallest)
    assert honest.error_upper_kind == "bound"
    assert bool((honest.error_upper >= error[-1]).all())


def test_without_any_number_below_the_spectrum_there_is_an_estimate():
    A, b, _ = _batch(seed=5)
    s, error = _run(MatrixOperator(A, symmetric=True), b, rtol=1e-4)
    assert s.error_upper_kind == "estimate"
    ratio = s.error_upper / error[-1]
    assert 0.9 <= float(ratio.median()) <= 30  # it is one of the right size
    flexible, _ = _run(MatrixOperator(A, symmetric=True), b, rtol=1e-4, memory=2)
    assert flexible.error_upper is None
    assert flexible.error_upper_kind is None


@pytest.mark.parametrize(
    "options", [{}, {"memory": 3}, {"M": lambda r: r + 0.5 * r.abs()}], ids=["plain", "memory", "M"]
)
@pytest.mark.parametrize("rtol", [1e-2, 1e-6, 1e-14])
def test_the_residual_over_the_root_of_the_smallest_eigenvalue_is_a_bound_down_to_round_off(options, rtol):
    A, b, smallest = _batch(seed=6)
    s, error = _run(A, b, rtol=rtol, maxiter=100, lambda_min=smallest * (1 - 1e-9), **options)
    assert s.error_upper_kind == "bound"
    # the reference error is itself known to eps times the condition number only
    assert bool((s.error_upper * (1 + 1e-9) + 1e-14 * error[0] >= error[-1]).all())


def test_the_bound_of_a_row_does_not_depend_on_the_rows_beside_it():
    A, b, smallest = _batch(seed=7, cases=6)
    together, _ = _run(MatrixOperator(A, symmetric=True), b, rtol=1e-3, lambda_min_preconditioned=0.9 * smallest)
    assert len(set(together.iterations.tolist())) > 1
    for k in range(6):
        part = slice(k, k + 1)
        alone, _ = _run(
            MatrixOperator(A[part], symmetric=True), b[part], rtol=1e-3, lambda_min_preconditioned=0.9 * smallest[part]
        )
        # products with one matrix and with six are rounded in different orders; the residual has lost three digits
        torch.testing.assert_close(alone.error_upper[0], together.error_upper[k], rtol=1e-9, atol=0)


def test_an_operator_that_knows_its_smallest_eigenvalue_needs_no_argument():
    A, b, smallest = _batch(seed=8, cases=1)
    operator = CallableOperator(lambda x: x @ A[0], N, symmetric=True, linear=True)
    operator.eigenvalue_lower, operator.norm_upper = smallest, torch.linalg.matrix_norm(A, torch.inf)
    s = sb.cg(operator, b)
    assert s.error_upper_kind == "bound"
    given = sb.cg(A[0], b, lambda_min=float(smallest))
    torch.testing.assert_close(s.error_upper, given.error_upper, rtol=1e-3, atol=0)


# --- the formulas by themselves ---------------------------------------------------------------------------------------


def test_energy_bounds_are_roots_of_tail_sums():
    decreases = torch.tensor([[9.0, 1.0], [4.0, 0.0], [3.0, 0.0]])
    expected = torch.tensor([[16.0, 1.0], [7.0, 0.0], [3.0, 0.0], [0.0, 0.0]]).sqrt()
    torch.testing.assert_close(energy_lower_bounds(decreases), expected)
    assert energy_lower_bounds(torch.zeros(0, 3)).tolist() == [[0.0, 0.0, 0.0]]


def test_gauss_radau_before_any_step_is_the_residual_over_the_root_of_mu():
    rz, mu = torch.tensor([[4.0]]), torch.tensor([0.25])
    assert gauss_radau(torch.zeros(0, 1), torch.zeros(0, 1), rz, mu).tolist() == [[4.0]]
    assert residual_bound(torch.tensor([2.0]), torch.tensor([0.5]), mu).tolist() == [5.0]


def test_gauss_radau_is_exact_when_the_node_is_the_eigenvalue_of_what_is_left():
    # A = diag(1, ..., n), a full run: at the last step the quadrature with the true smallest eigenvalue is exact
    n = 6
    A = torch.diag(torch.arange(1.0, n + 1, dtype=torch.float64))
    b = torch.ones(1, n, dtype=torch.float64)
    s, error = _run(MatrixOperator(A.unsqueeze(0), symmetric=True), b, maxiter=n - 1, lambda_min_preconditioned=1.0)
    torch.testing.assert_close(s.error_upper, error[-1], rtol=1e-8, atol=0)


def test_the_ritz_value_of_a_full_run_is_the_smallest_eigenvalue():
    n = 6
    values = torch.tensor([0.3, 1.0, 2.0, 5.0, 7.0, 9.0], dtype=torch.float64)
    r = d = torch.ones(n, dtype=torch.float64)
    alphas, betas = [], []
    for _ in range(n):  # textbook conjugate gradients on a diagonal matrix
        q = values * d
        alphas.append((r @ r) / (d @ q))
        new = r - alphas[-1] * q
        betas.append((new @ new) / (r @ r))
        d, r = new + betas[-1] * d, new
    columns = (torch.stack(q).unsqueeze(1) for q in (alphas, betas))
    found = smallest_ritz_value(*columns, torch.tensor([n]))
    assert float(found) == pytest.approx(0.3, rel=1e-8)
    assert smallest_ritz_value(torch.zeros(0, 1), torch.zeros(0, 1), torch.tensor([0])).tolist() == [1.0]


@pytest.mark.parametrize("seed", range(12))
def test_the_residual_bound_holds_where_rounding_hides_the_error(seed):
    """Eigenvalues 1 and 2e12 - 1: of the slow part nothing is left in a residual that is computed in double precision.

    The error comes from fractions.
    """
    t = 10**12
    A = torch.tensor([[t, t - 1], [t - 1, t]], dtype=torch.float64)
    generator = torch.Generator().manual_seed(seed)
    b = torch.randn(2, dtype=torch.float64, generator=generator)
    x0 = torch.tensor([0.7, -0.7 + 1e-12], dtype=torch.float64) if seed == 0 else None
    if seed == 0:
        b = A @ x0
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)
        s = sb.cg(A, b, x0=x0, lambda_min=1.0)
    assert s.error_upper_kind == "bound"
    right, found = ([Fraction(v) for v in vector.tolist()] for vector in (b, s.x))
    residual = [right[0] - t * found[0] - (t - 1) * found[1], right[1] - (t - 1) * found[0] - t * found[1]]
    total, difference = residual[0] + residual[1], residual[0] - residual[1]
    squared = total**2 / (2 * (2 * t - 1)) + difference**2 / 2
    assert float(s.error_upper) >= float(squared) ** 0.5


def test_of_a_function_the_residual_gives_an_estimate():
    A = torch.tensor([[2.0, 1.0], [1.0, 2.0]], dtype=torch.float64)
    s = sb.cg(CallableOperator(lambda x: x @ A, 2, symmetric=True, linear=True), torch.ones(2).double(), lambda_min=1.0)
    assert s.error_upper_kind == "estimate"


def test_a_number_at_the_smallest_eigenvalue_gives_no_bound_of_zero():
    """Differences of coefficients cancel there, and what is left is round-off."""
    bounded = 0
    for seed in range(40):
        rng = np.random.default_rng(seed)
        Q, _ = np.linalg.qr(rng.standard_normal((14, 14)))
        spectrum = 10.0 ** rng.uniform(0, 6, 14)
        A = (Q * spectrum) @ Q.T
        A = (A + A.T) / 2
        b = rng.standard_normal(14)
        below = float(np.linalg.eigvalsh(A)[0] * (1 - 1e-8))
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", ConvergenceWarning)
            s = sb.cg(A, b, lambda_min_preconditioned=below, maxiter=28, rtol=1e-12)
        if s.error_upper is None:  # the residual was replaced, and the coefficients are no longer those of one run
            continue
        bounded += 1
        e = np.linalg.solve(A, b) - s.x.numpy()
        # the reference itself is known up to the condition number 1e6 times eps
        assert float(s.error_upper) >= np.sqrt(e @ A @ e) - 1e-9 * np.sqrt(b @ np.linalg.solve(A, b))
    assert bounded >= 5
