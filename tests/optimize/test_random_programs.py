"""`minimize` on random programs, with derivatives in every form, against what is known of their solutions.

Whatever is called solved has to be: the first-order conditions are computed anew, in numpy, from formulas; the Hessian
of the Lagrangian has no negative curvature on the null space of the Jacobian; and the solution of a convex quadratic
program is the closed one. Constraints that contradict each other are never solved, and where that is said, the point
is one of least violation.

A few cases by default; the full count, with a table of reasons:

    SCIML_BOUNDS_CASES=2000 pytest tests/optimize/test_random_programs.py -s
"""

from __future__ import annotations

import os
import warnings
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import pytest
import scipy.sparse
import scipy.sparse.linalg
import torch
from scipy.optimize import NonlinearConstraint

import sciml_bounds as sb

CASES = int(os.environ.get("SCIML_BOUNDS_CASES", "60"))
BATCH = 20  # cases of one test

KINDS = ("regular", "dependent", "inconsistent", "sphere", "quartic")
FORMS = ("torch", "torch of an array", "dense", "sparse", "operators", "BFGS", "differences")
EXACT = FORMS[:5]

#: Round-off of a residual of a few hundred terms, relative to the sum of their sizes.
SLACK = 1e-13

#: Differences of functions carry sqrt(eps) = 1.5e-8 of second derivatives, and as much of values; a few of them here.
DIFFERENCES = 1e-6

#: What may pass for no negative curvature, relative to the Hessian: `escape` looks at no less.
CURVATURE = 1e-5


@dataclass
class Drawn:
    """f = x.Px/2 + q.x + w sum x^4/4 under Ax = b and, with `round`, also x.x/2 = 1/2, and where to start."""

    P: np.ndarray
    q: np.ndarray
    w: float
    A: np.ndarray
    b: np.ndarray
    round: bool
    start: np.ndarray

    def fun(self, x):
        """f, in numpy or torch."""
        P, q = (torch.from_numpy(self.P), torch.from_numpy(self.q)) if isinstance(x, torch.Tensor) else (self.P, self.q)
        return x @ (P @ x) / 2 + q @ x + self.w * (x**4).sum() / 4

    def gradient(self, x):
        """Of f."""
        return self.P @ x + self.q + self.w * x**3

    def hessian(self, x):
        """Of f."""
        return self.P + 3 * self.w * np.diag(x**2)

    def constraints(self, x):
        """c, in numpy or torch."""
        if not isinstance(x, torch.Tensor):
            return np.append(self.A @ x - self.b, (x @ x - 1) / 2) if self.round else self.A @ x - self.b
        linear = torch.from_numpy(self.A) @ x - torch.from_numpy(self.b)
        return torch.cat([linear, (x @ x - 1).view(1) / 2]) if self.round else linear

    def jacobian(self, x):
        """Of c."""
        return np.vstack([self.A, x]) if self.round else self.A

    def curvature(self, x, weights):
        """Hessian of weights.c."""
        return (weights[-1] if self.round else 0.0) * np.eye(len(x))

    def size(self, x, l):
        """The size of what the first-order conditions are the sum of."""
        squares = np.linalg.norm(self.P) * np.linalg.norm(x) + np.linalg.norm(self.q) + self.w * np.linalg.norm(x) ** 3
        of_c = np.linalg.norm(self.jacobian(x)) * (np.linalg.norm(x) + np.linalg.norm(l)) + np.linalg.norm(self.b)
        return squares + of_c + 1


def symmetric(rng, eigenvalues):
    Q, _ = np.linalg.qr(rng.standard_normal((len(eigenvalues), len(eigenvalues))))
    P = (Q * eigenvalues) @ Q.T
    return (P + P.T) / 2


def draw(rng, kind, mild):
    """Draw a program; a mild one is small and well conditioned, for solvers that need that."""
    curved = kind in ("sphere", "quartic")
    n = int(rng.integers(2, 9 if mild else 13 if curved else 61))
    m = int(rng.integers(0, n - 1)) if curved else int(rng.integers(2 if kind != "regular" else 0, n + 1))
    spread = 10 ** rng.uniform(0, 1 if mild else 4)
    eigenvalues = (
        rng.uniform(-3, 3, n) if curved else np.geomspace(1, spread, n) * (1 if mild else 10 ** rng.uniform(-2, 2))
    )
    A = rng.standard_normal((m, n)) * (1 if mild else 10 ** rng.uniform(-1, 1))
    if kind in ("dependent", "inconsistent"):
        rank = int(rng.integers(1, m))
        A[rank:] = rng.standard_normal((m - rank, rank)) @ A[:rank] / np.sqrt(rank)
    inside = rng.standard_normal(n)
    b = A @ (0.5 * inside / np.linalg.norm(inside) if curved else inside)  # inside the ball, so that the sphere is met
    if kind == "inconsistent":
        outside = np.linalg.svd(A)[0][:, -1]  # orthogonal to the range
        b = b + (1 + np.linalg.norm(b)) * outside
    w = float(kind == "quartic")
    return Drawn(symmetric(rng, eigenvalues), rng.standard_normal(n), w, A, b, curved, rng.standard_normal(n))


WRAPPED: dict[str, Callable] = {
    "dense": np.array, "sparse": scipy.sparse.csr_array, "operators": scipy.sparse.linalg.aslinearoperator,
}  # fmt: skip


def solve(drawn, form, **options):
    start = drawn.start.copy()
    if form.startswith("torch"):
        # an array is first tried as one, which torch's own functions refuse
        fun = drawn.fun if form == "torch" else lambda x: drawn.fun(torch.clone(x))
        c = drawn.constraints if form == "torch" else lambda x: drawn.constraints(torch.clone(x))
        x0 = torch.from_numpy(start) if form == "torch" else start
        result = sb.minimize(fun, x0, constraints=c, **options)
    elif form in WRAPPED:
        wrap = WRAPPED[form]
        c = NonlinearConstraint(
            drawn.constraints,
            0.0,
            0.0,
            jac=lambda x: wrap(drawn.jacobian(x)),
            hess=lambda x, v: wrap(drawn.curvature(x, v)),
        )
        hess = lambda x: wrap(drawn.hessian(x))  # noqa: E731
        result = sb.minimize(drawn.fun, start, jac=drawn.gradient, hess=hess, constraints=c, **options)
    elif form == "BFGS":
        c = {"type": "eq", "fun": drawn.constraints, "jac": drawn.jacobian}
        result = sb.minimize(drawn.fun, start, jac=drawn.gradient, constraints=c, **options)
    else:
        result = sb.minimize(drawn.fun, start, constraints=drawn.constraints, **options)
    assert np.array_equal(start, drawn.start), "the start was written to"
    assert type(result.x) is (torch.Tensor if form == "torch" else np.ndarray)
    return result


def choose(rng):
    """Choose a kind, a form, a method and an inner solver that go together."""
    kind, form = str(rng.choice(KINDS)), str(rng.choice(FORMS))
    method = "sketched" if rng.random() < 0.3 and form != "operators" else "auto"
    inners = ["auto", "direct", "minres", "accelerated"] if form != "operators" else ["auto", "minres"]
    return kind, form, method, str(rng.choice(inners))


def check_solved(drawn, kind, form, method, result):
    """Hold what is called solved to the conditions of a solution."""
    x, l = np.asarray(result.x), np.asarray(result.multipliers)
    G = drawn.jacobian(x)
    residual = np.append(drawn.gradient(x) + G.T @ l, drawn.constraints(x))
    allowed = result.tolerance + (DIFFERENCES if form == "differences" else SLACK) * drawn.size(x, l)
    assert np.linalg.norm(residual) <= allowed
    assert abs(result.fun - drawn.fun(x)) <= SLACK * drawn.size(x, l) * (1 + np.linalg.norm(x))
    _, sizes, rows = np.linalg.svd(G) if len(G) else (None, np.zeros(0), np.eye(len(x)))
    rank = int((sizes > 1e-8 * sizes.max(initial=0)).sum())
    free, H = rows[rank:].T, drawn.hessian(x) + drawn.curvature(x, l)
    if free.shape[1] and form in EXACT[:4] and method == "auto":
        assert np.linalg.eigvalsh(free.T @ H @ free)[0] >= -CURVATURE * np.linalg.norm(H)
    if kind in ("regular", "dependent"):  # ||x - x*|| <= ||c|| / s_min + (||P|| ||c|| / s_min + residual) / lambda_min
        particular = np.linalg.pinv(drawn.A, rcond=1e-8) @ drawn.b
        inner = np.linalg.solve(free.T @ drawn.P @ free, -free.T @ (drawn.P @ particular + drawn.q))
        least = np.linalg.eigvalsh(free.T @ drawn.P @ free)[0] if free.shape[1] else np.inf
        beside = allowed / sizes[rank - 1] if rank else 0.0
        away = beside + (np.linalg.norm(drawn.P) * beside + allowed) / least
        assert np.linalg.norm(x - particular - free @ inner) <= 1.1 * away + 1e-9 * np.linalg.norm(particular)


@pytest.mark.parametrize("batch", range(max(1, CASES // BATCH)))
def test_what_is_called_solved_is(batch):
    reasons: Counter[tuple[str, ...]] = Counter()
    for case in range(batch * BATCH, (batch + 1) * BATCH):
        rng = np.random.default_rng(case)
        kind, form, method, inner = choose(rng)
        mild = (
            form in ("operators", "BFGS", "differences") or inner in ("minres", "accelerated") or method == "sketched"
        )
        drawn = draw(rng, kind, mild)
        options = {"method": method, "inner": inner, "seed": case, "maxiter": 200}
        name = f"case {case}: {kind}, {form}, {method}, {inner}"
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", sb.ConvergenceWarning)
            result = solve(drawn, form, **options)
            again = solve(drawn, form, **options) if case % 10 == 0 else result
        assert np.array_equal(np.asarray(result.x), np.asarray(again.x)), name
        reasons[kind, method, form if form not in EXACT else "exact", str(result.reason)] += 1
        if kind == "inconsistent":
            assert not result.success, name
            best = np.linalg.norm(drawn.b - drawn.A @ np.linalg.pinv(drawn.A, rcond=1e-8) @ drawn.b)
            if result.reason is sb.results.Reason.INFEASIBLE:
                assert result.constraint_violation <= 1.01 * best, name
        elif result.success:
            try:
                check_solved(drawn, kind, form, method, result)
            except AssertionError as error:
                raise AssertionError(name) from error
        else:
            assert not (kind == "regular" and form in EXACT and method == "auto" and inner in ("auto", "direct")), name
    for key, count in sorted(reasons.items()):
        print(*key, count, sep=", ")
