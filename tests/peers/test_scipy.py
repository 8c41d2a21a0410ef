"""Ours in the place of scipy's: scipy's own tests of `cg` and `minres`, and the same iterates from the same call."""

from __future__ import annotations

import inspect
import os
import re
import subprocess
import sys
import warnings
from pathlib import Path

import numpy as np
import pytest
import scipy.sparse
import scipy.sparse.linalg

from sciml_bounds import scipy_api


@pytest.mark.slow
def test_the_tests_that_scipy_ships_pass_with_ours(tmp_path):
    (tmp_path / "pytest.ini").write_text("[pytest]\n")  # neither our options nor scipy's
    command = [sys.executable, "-m", "pytest", "-q", "-p", "scipy_plugin", "-p", "no:cacheprovider", "--pyargs"]
    folders = [str(Path(__file__).parent), *filter(None, [os.environ.get("PYTHONPATH")])]
    done = subprocess.run(
        [*command, *(f"scipy.sparse.linalg._isolve.tests.{name}" for name in ("test_iterative", "test_minres"))],
        cwd=tmp_path, env={**os.environ, "PYTHONPATH": os.pathsep.join(folders)}, capture_output=True, text=True,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout
    passed = int(re.search(r"(\d+) passed", done.stdout)[1])
    calls = {name: int(count) for name, count in re.findall(r"scipy_api.(\w+) was called (\d+) times", done.stdout)}
    assert passed >= 55  # of 1.17: 43 of cg, 15 of minres alone; those left out ask for another solver or matrix
    assert calls["cg"] > 200  # one of them tries 240 pairs of tolerances
    assert calls["minres"] >= 19


@pytest.mark.parametrize("name", ["cg", "minres"])
def test_the_signature_is_scipys(name):
    ours, theirs = (inspect.signature(getattr(m, name)).parameters.values() for m in (scipy_api, scipy.sparse.linalg))
    assert [(p.name, p.kind, p.default) for p in ours] == [(p.name, p.kind, p.default) for p in theirs]


def _matrix(n, dtype):
    """Hermitian, with eigenvalues from 1 to 50."""
    rng = np.random.default_rng(0)
    random = rng.standard_normal((n, n)) + (1j * rng.standard_normal((n, n)) if np.dtype(dtype).kind == "c" else 0)
    Q, _ = np.linalg.qr(random)
    A = (Q * np.linspace(1, 50, n)) @ Q.conj().T
    return ((A + A.conj().T) / 2).astype(dtype)


@pytest.mark.parametrize("dtype", ["f", "d", "F", "D"])
@pytest.mark.parametrize("preconditioned", [False, True], ids=["plain", "preconditioned"])
@pytest.mark.parametrize("guessed", [False, True], ids=["from zero", "from a guess"])
def test_iterates_are_those_of_scipy(dtype, preconditioned, guessed):
    n = 40
    A = _matrix(n, dtype)
    rng = np.random.default_rng(1)
    b = (rng.standard_normal(n) + 1j * rng.standard_normal(n)).astype(dtype) if dtype in "FD" else rng.random(n, dtype)
    M = np.linalg.inv(A + np.eye(n, dtype=dtype)) if preconditioned else None
    options = {"M": M, "x0": np.arange(n) / n if guessed else None, "rtol": 1e-5 if dtype in "fF" else 1e-10}
    iterates = {scipy_api.cg: [], scipy.sparse.linalg.cg: []}
    results = [f(A, b, callback=lambda x, seen=seen: seen.append(x.copy()), **options) for f, seen in iterates.items()]
    assert results[0][1] == results[1][1] == 0
    assert results[0][0].dtype == results[1][0].dtype == np.dtype(dtype)
    ours, theirs = (np.array(seen) for seen in iterates.values())
    assert len(ours) == len(theirs) > 2
    # the condition number 50 times the round-off that some ten steps leave
    np.testing.assert_allclose(ours, theirs, rtol=0, atol=5e3 * np.finfo(dtype).eps * np.abs(theirs).max())


@pytest.mark.parametrize("dtype", ["d", "D"])
@pytest.mark.parametrize("preconditioned", [False, True], ids=["plain", "preconditioned"])
@pytest.mark.parametrize("guessed", [False, True], ids=["from zero", "from a guess"])
def test_iterates_of_minres_are_those_of_scipy(dtype, preconditioned, guessed):
    """An indefinite matrix with the condition number 50, where ten steps leave 1e3 round-offs times that.

    Later ones differ more, as Lanczos vectors lose their orthogonality, and they stop elsewhere. From a guess, scipy's
    first residual leaves the shift out (scipy 1.17), so that there is none.
    """
    n = 40
    A, rng = _matrix(n, dtype), np.random.default_rng(1)
    A = A - 20.3 * np.eye(n)
    b = rng.standard_normal(n) + (1j * rng.standard_normal(n) if dtype == "D" else 0)
    M = np.linalg.inv(A @ A.conj().T + np.eye(n)) if preconditioned else None
    options = {"M": M, "x0": np.arange(n) / n if guessed else None, "rtol": 1e-10, "shift": 0.0 if guessed else 0.25}
    iterates = {scipy_api.minres: [], scipy.sparse.linalg.minres: []}
    for f, seen in iterates.items():
        x, info = f(A, b, callback=lambda x, seen=seen: seen.append(x.copy()), **options)
        assert info == 0
        assert np.linalg.norm(A @ x - options["shift"] * x - b) < 1e-7 * np.linalg.norm(b)
    ours, theirs = (np.array(seen[:10]) for seen in iterates.values())
    np.testing.assert_allclose(ours, theirs, rtol=0, atol=5e4 * np.finfo(float).eps * np.abs(theirs).max())


@pytest.mark.parametrize("left", ["f", "d", "F", "D", "i", "?"])
@pytest.mark.parametrize("right", ["f", "d", "F", "D", "i", "e"])
def test_the_dtype_of_the_answer_is_scipys(left, right):
    A, b = np.diag([1, 2, 4]).astype(left), np.array([1, 0, 1]).astype(right)
    A = A + A.astype(left) if left == "?" else A
    theirs, _ = scipy.sparse.linalg.cg(A, b, maxiter=1)
    ours, _ = scipy_api.cg(A, b, maxiter=1)
    assert ours.dtype == theirs.dtype
    np.testing.assert_allclose(ours, theirs, rtol=1e-5)


FORMS = {
    "array": lambda A: A,
    "matrix": np.matrix,
    "csr": scipy.sparse.csr_array,
    "old csc": scipy.sparse.csc_matrix,
    "operator": scipy.sparse.linalg.aslinearoperator,
    "no dtype": lambda A: scipy.sparse.linalg.LinearOperator(A.shape, matvec=lambda x: A @ x),
    "read-only": lambda A: np.broadcast_to(A, A.shape),
}


@pytest.mark.filterwarnings("ignore:the matrix subclass")
@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("shape", [(12,), (12, 1)], ids=str)
def test_operators_and_vectors_come_in_the_forms_of_scipy(form, shape):
    A = _matrix(12, "d")
    b = np.random.default_rng(0).standard_normal(shape)
    given = FORMS[form](A)
    M = FORMS[form](np.diag(1 / A.diagonal()))
    ours, info = scipy_api.cg(given, b, np.ones(shape), rtol=1e-10, M=M)
    theirs, _ = scipy.sparse.linalg.cg(given, b, np.ones(shape), rtol=1e-10, M=M)
    assert info == 0
    assert ours.shape == theirs.shape == (12,)
    assert type(ours) is np.ndarray
    np.testing.assert_allclose(ours, theirs, rtol=0, atol=1e-9)


BAD = {
    "not square": (np.ones((3, 4)), np.ones(3), {}),
    "right-hand side too long": (np.eye(3), np.ones(4), {}),
    "two right-hand sides": (np.eye(3), np.ones((3, 2)), {}),
    "guess too long": (np.eye(3), np.ones(3), {"x0": np.ones(4)}),
    "preconditioner too large": (np.eye(3), np.ones(3), {"M": np.eye(4)}),
    "negative tolerance": (np.eye(3), np.ones(3), {"atol": -1.0}),
    "no tolerance": (np.eye(3), np.ones(3), {"atol": None}),
    "words": (np.eye(3), np.ones(3), {"atol": "legacy"}),
}


@pytest.mark.parametrize("case", BAD)
def test_what_scipy_refuses_is_refused_with_the_class_of_scipy(case):
    A, b, options = BAD[case]
    for f in (scipy.sparse.linalg.cg, scipy_api.cg):
        with pytest.raises(ValueError):  # noqa: PT011 - the words are not scipy's
            f(A, b, **options)


@pytest.mark.parametrize("name", ["cg", "minres"])
@pytest.mark.parametrize("maxiter", [None, 5, 0])
@pytest.mark.parametrize("x0", [None, np.full(3, 2.0)], ids=["from zero", "from a guess"])
@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_a_right_hand_side_that_is_not_finite(name, bad, x0, maxiter):
    """NaN after an iteration; the guess where none is allowed, which scipy calls solved and ours does not."""
    A, b = np.diag([1.0, 2.0, 3.0]), np.array([1.0, bad, 0.0])
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        theirs, their_info = getattr(scipy.sparse.linalg, name)(A, b, x0, maxiter=maxiter)
    x, info = getattr(scipy_api, name)(A, b, x0, maxiter=maxiter)
    np.testing.assert_array_equal(x, theirs)
    assert info == max(their_info, 1)


def test_a_system_without_unknowns():
    A, b = np.zeros((0, 0), np.float32), np.zeros(0, np.float32)
    x, info = scipy_api.cg(A, b)
    theirs, their_info = scipy.sparse.linalg.cg(A, b)
    assert (x.shape, x.dtype, info) == (theirs.shape, theirs.dtype, their_info)
