"""What `scipy_api` does beyond scipy; that it does what scipy does is held in tests/peers/test_scipy.py."""

from __future__ import annotations

import warnings

import numpy as np
import pytest
import scipy.sparse.linalg
from refusals import refusals, refused

import sciml_bounds as sb
from sciml_bounds.scipy_api import cg, minres


def test_our_preconditioners_and_operators_are_taken_as_they_are():
    a = np.random.default_rng(0).lognormal(size=(20, 20))
    solver = sb.prepare(sb.Diffusion(sb.Grid((20, 20)), a, 1.0))
    b = solver.rhs[0].numpy()
    seen = []
    x, info = cg(solver.operator, b, M=solver.as_preconditioner(), rtol=1e-10, callback=seen.append)
    assert info == 0
    assert len(seen) <= 12
    np.testing.assert_allclose(solver.operator.to_csr() @ x, b, rtol=0, atol=1e-9 * np.abs(b).max())


def test_a_tolerance_that_round_off_does_not_allow_is_reported_where_scipy_trusts_its_recurrence():
    # condition 1e10: the attainable residual is about eps ||A|| ||x||, far above 1e-15 ||b||
    Q, _ = np.linalg.qr(np.random.default_rng(0).standard_normal((30, 30)))
    A = (Q * np.geomspace(1e-5, 1e5, 30)) @ Q.T
    A, b = (A + A.T) / 2, np.ones(30)
    ours, info = cg(A, b, rtol=1e-15, maxiter=2000)
    assert info > 0
    assert np.linalg.norm(b - A @ ours) > 1e-15 * np.linalg.norm(b)


def test_the_last_allowed_iteration_counts():
    A, b = np.diag([1.0, 2.0, 3.0]), np.ones(3)
    assert cg(A, b, M=np.linalg.inv(A), maxiter=1)[1] == 0
    assert cg(A, b, maxiter=2, rtol=1e-12)[1] == 2
    assert cg(A, b, maxiter=0)[1] == 1


@pytest.mark.parametrize("maxiter", [None, 5])
def test_what_is_not_positive_definite_is_not_called_solved(maxiter):
    x, info = cg(np.diag([1.0, -2.0, 3.0]), np.ones(3), maxiter=maxiter)
    assert info >= 1
    assert np.isfinite(x).all()


def test_what_is_not_finite_is_not_called_solved():
    for A, b in ((np.eye(2), [1.0, np.nan]), (np.diag([1.0, np.nan]), [1.0, 1.0])):
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            assert cg(A, b)[1] >= 1


def test_what_a_callback_returns_does_not_stop():
    A, b = np.diag(np.arange(1.0, 9.0)), np.ones(8)
    assert cg(A, b, rtol=1e-10, callback=lambda x: True)[1] == 0


def test_no_input_is_written_to():
    A, b, x0 = np.diag([1.0, 2.0, 3.0]), np.ones(3), np.full((3, 1), 2.0)
    before = A.copy(), b.copy(), x0.copy()
    x, _ = cg(A, b, x0)
    for now, then in zip((A, b, x0), before):
        np.testing.assert_array_equal(now, then)
    assert not np.shares_memory(x, x0)
    zero = np.zeros(3)
    x, _ = cg(A, zero)
    assert not np.shares_memory(x, zero)


def test_a_network_as_preconditioner_is_sent_to_the_flexible_loop():
    """Its answers need not descend: the iteration of scipy would give x = 0 and info = 1 after one step."""
    solver = sb.prepare(sb.Diffusion(sb.Grid((4, 4)), source=1.0))
    network = sb.LearnedDirections("multigrid", dim=2, levels=1)
    M = network.as_preconditioner(solver)
    refused("M DirectionPreconditioner linear symmetric", lambda: cg(solver.operator, solver.rhs[0].numpy(), M=M))
    cycle = sb.LearnedDirections("cycle", dim=2).as_preconditioner(solver)
    assert cg(solver.operator, solver.rhs[0].numpy(), M=cycle)[1] == 0


def test_infinite_tolerances_take_the_guess():
    for tolerance in ({"rtol": np.inf}, {"atol": np.inf}):
        x, info = cg(np.eye(3, dtype=np.float32), np.ones(3, np.float32), x0=[1, 2, 3], **tolerance)
        assert info == 0
        np.testing.assert_array_equal(x, [1, 2, 3])


def test_hermitian_systems_of_pde_kind():
    # a magnetic Laplacian: complex phases on the edges of a ring
    n = 50
    phase = np.exp(0.3j)
    A = scipy.sparse.diags_array(
        [np.full(n - 1, -phase), np.full(n, 2.1), np.full(n - 1, -phase.conj())], offsets=(-1, 0, 1)
    ).tocsr()
    b = np.random.default_rng(0).standard_normal(n)
    x, info = cg(A, b, rtol=1e-12)
    assert info == 0
    np.testing.assert_allclose(x, scipy.sparse.linalg.spsolve(A.tocsc(), b.astype(complex)), rtol=0, atol=1e-10)


@pytest.mark.parametrize("function", [cg, minres])
@pytest.mark.parametrize(("dtype", "exponent"), [("f", 60), ("f", 100), ("d", 550), ("d", 900), ("D", 550)])
def test_right_hand_sides_whose_norms_leave_the_range_are_solved_all_the_same(function, dtype, exponent):
    """Of 1e-18 to 1e-30 in single precision, of 1e-165 to 1e-270 in double: powers of two round nothing."""
    rng = np.random.default_rng(0)
    A = np.diag(np.arange(1.0, 21.0)).astype(dtype) + np.float32(0.1)
    b, x0 = (rng.standard_normal(20).astype(dtype) for _ in range(2))
    options = {"atol": 1e-3} if function is cg else {}  # absolute
    seen = []
    plain, _ = function(A, b, x0, **options)
    for scale in (2.0**-exponent, 2.0**exponent):
        scaled_options = {name: scale * value for name, value in options.items()}
        x, info = function(A, scale * b, scale * x0, callback=seen.append, **scaled_options)
        assert info == 0
        round_off = 100 * np.finfo(dtype).eps * np.abs(plain).max()  # of products whose order depends on alignment
        np.testing.assert_allclose(x / scale, plain, rtol=0, atol=round_off)
        np.testing.assert_array_equal(seen[-1], x)


@pytest.mark.parametrize("function", [cg, minres])
def test_a_guess_far_larger_than_the_right_hand_side_is_no_solution(function):
    A = np.diag(np.arange(1.0, 21.0)) + 0.1
    x, info = function(A, np.full(20, 1e-250), np.ones(20))
    assert np.isfinite(x).all()
    assert info > 0 or np.linalg.norm(A @ x * 1e250 - 1) < 1e-4


@pytest.mark.parametrize("function", [cg, minres])
@pytest.mark.parametrize("scale", [1e-300, 1e-160, 1e160, 1e300])
def test_operators_of_any_size_are_solved(function, scale):
    signs = [1.0, 1.0, 1.0] if function is cg else [1.0, -1.0, 1.0]
    x, info = function(np.diag([1.0, 2.0, 3.0] * np.array(signs)) * scale, np.ones(3))
    assert info == 0
    np.testing.assert_allclose(x * scale, np.array(signs) / [1, 2, 3], rtol=1e-5)


@pytest.mark.parametrize("function", [cg, minres])
def test_solutions_outside_the_range_of_numbers_are_not_called_solved(function):
    x, info = function(np.eye(3) * 1e-300, np.full(3, 1e20))
    assert not np.isfinite(x).any()
    assert info >= 1


@pytest.mark.parametrize("function", [cg, minres])
@pytest.mark.parametrize("maxiter", [1, None])
def test_residuals_of_zero_are_always_small_enough(function, maxiter):
    rng = np.random.default_rng(0)
    for _ in range(50):
        A, b = rng.integers(1, 9, (1, 1)) * 1.0, rng.standard_normal(1)
        x, info = function(A, b, rtol=0.0, maxiter=maxiter)
        assert (info == 0) == bool(b == A @ x)


# --- minres -----------------------------------------------------------------------------------------------------------


def test_minres_does_not_call_least_squares_a_solution():
    """What is left of b = (1, 1) is its part outside the range; the second unknown may be anything."""
    x, info = minres(np.diag([2.0, 0.0]), np.ones(2))
    assert info >= 1
    assert x[0] == pytest.approx(0.5, abs=1e-12)


def test_minres_looks_for_symmetry_only_where_it_is_asked(capsys):
    minres(NOT_SYMMETRIC, np.ones(2))
    assert capsys.readouterr().out == ""


def test_minres_shows_its_iterations_where_it_is_asked(capsys):
    _, info = minres(np.diag([1.0, -2.0, 3.0]), np.ones(3), show=True)
    assert info == 0
    assert [line.split()[1] for line in capsys.readouterr().out.splitlines()] == ["1:", "2:", "3:"]


@pytest.mark.parametrize(
    "b", [np.zeros(3), np.zeros(3, np.complex64), np.array([1.0, np.nan, 0.0]), np.zeros(0)], ids=str
)
def test_right_hand_sides_that_need_no_iteration(b):
    x, info = minres(np.eye(len(b)), b)
    assert x.shape == b.shape
    assert (info == 0) == bool(np.isfinite(b).all())
    assert np.isnan(x).all() if info else not x.any()


NOT_SYMMETRIC = np.array([[2.0, 1.0], [0.0, 3.0]])

test_bad_arguments = refusals(
    *[
        (words, lambda options=options: cg(np.eye(3), np.ones(3), **options))
        for words, options in [
            ("rtol -1.0", {"rtol": -1.0}), ("rtol nan", {"rtol": np.nan}), ("atol nan", {"atol": np.nan}),
            ("x0 'bM' 'Mb'", {"x0": "bM"}), ("maxiter -1", {"maxiter": -1}),
        ]
    ],
    ("A symmetric", lambda: minres(NOT_SYMMETRIC, np.ones(2), check=True)),
    ("M symmetric", lambda: minres(np.eye(2), np.ones(2), M=NOT_SYMMETRIC, check=True)),
    ("M positive definite", lambda: minres(np.diag([1.0, 2.0, 3.0]), np.ones(3), M=np.diag([1.0, -4.0, 1.0]))),
)  # fmt: skip
