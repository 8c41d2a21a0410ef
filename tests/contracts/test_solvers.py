"""The contract that every linear solver keeps, one test a clause; a new one is entered in SOLVERS and inherits them.

The clauses are those of scipy's suite for iterative solvers, and the ones that batches and null spaces add. Each solver
is brought into one form: `prepare(system)` sets it up and gives a function of right-hand sides (batch, n), an initial
guess and a stop rule.
"""

from __future__ import annotations

import functools
import typing
import warnings
from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np
import pytest
import scipy.sparse.linalg
import torch
from torch import Tensor

import sciml_bounds as sb
from sciml_bounds import _linear, _linear_methods, scipy_api
from sciml_bounds._linear import LinearSolver
from sciml_bounds._linear_methods import Algebraic, Multigrid, as_method
from sciml_bounds.operators._lattice_operator import LatticeOperator, LatticeSystem
from sciml_bounds.problems.discretization import node_system
from sciml_bounds.stopping import StoppingCriteria

EPS = torch.finfo(torch.float64).eps


@dataclass(frozen=True)
class Outcome:
    """What a solver says, one entry a row of the batch."""

    x: Tensor
    converged: list[bool]
    iterations: list[int]


Solve = Callable[..., Outcome]  # (b, x0=None, *, rtol, atol, maxiter, callback)


@dataclass(frozen=True)
class Entry:
    """One solver.

    Attributes
    ----------
    prepare
        Sets up for a system.
    over
        Solves with any matrix and preconditioner, for the clauses about those; None for methods that choose their own.
    varying
        Whether it solves with varying coefficients.
    iterative
        Whether it iterates from a guess.
    absolute
        Whether it takes an absolute tolerance; scipy's MINRES has none.
    """

    prepare: Callable[[LatticeSystem], Solve]
    over: Callable[..., Solve] | None = None
    varying: bool = True
    iterative: bool = True
    absolute: bool = True


# --- the table --------------------------------------------------------------------------------------------------------


def _method(method, **facts) -> Entry:
    """A method of `sb.solve`, by name or as an object."""

    def prepare(system: LatticeSystem) -> Solve:
        solver = LinearSolver(system, as_method(method))

        def solve(b, x0=None, *, callback=None, **stop):
            monitor = None if callback is None else lambda iteration, x, norm: callback(x)
            fields = [None if q is None else q.view(-1, *system.operator.lattice) for q in (b, x0)]
            s = solver.solve(*fields, StoppingCriteria(**stop, callback=monitor))
            return Outcome(s.x, s.converged.tolist(), s.iterations.tolist())

        return solve

    return Entry(prepare, **facts)


def _krylov(function=sb.cg, **options) -> Entry:
    """`sb.cg` and its like, which warn where they do not converge; that they do is held in tests/krylov."""

    def over(A, M=None) -> Solve:
        def solve(b, x0=None, **rest):
            with warnings.catch_warnings():
                warnings.simplefilter("ignore", sb.ConvergenceWarning)
                s = function(A, b, M=M, x0=x0, **options, **rest)
            return Outcome(s.x, s.converged.tolist(), s.iterations.tolist())

        return solve

    return Entry(lambda system: over(system.operator.to_csr()), over)


def _like_scipy(function, *, absolute: bool = True) -> Entry:
    """A function with scipy's signature, one row at a time."""

    def over(A, M=None) -> Solve:
        def solve(b, x0=None, *, callback=None, rtol=1e-8, **rest):
            rows = []
            for k in range(len(b)):
                seen = []

                def note(x, seen=seen):
                    seen.append(x)
                    if callback is not None:
                        callback(torch.from_numpy(x).unsqueeze(0))

                x, info = function(
                    A, b[k].numpy(), None if x0 is None else x0[k].numpy(), M=M, rtol=rtol, callback=note, **rest
                )
                rows.append((torch.from_numpy(x), info == 0, len(seen)))
            x, converged, iterations = zip(*rows)
            return Outcome(torch.stack(x), list(converged), list(iterations))

        return solve

    return Entry(lambda system: over(system.operator.to_csr()), over, absolute=absolute)


SOLVERS = {
    "auto": _method("auto"),
    "transform": _method("transform", varying=False),
    "multigrid": _method("multigrid"),
    "multigrid, V-cycles": _method(Multigrid(cycle="V")),
    "multigrid, cycles alone": _method(Multigrid(accelerate=False)),
    "multigrid, V-cycles alone": _method(Multigrid(cycle="V", accelerate=False)),
    "algebraic": _method("algebraic"),
    "algebraic, aggregation": _method(Algebraic(kind="smoothed-aggregation")),
    "cg": _method("cg"),
    "direct": _method("direct", iterative=False),
    "sb.cg": _krylov(),
    "sb.cg, flexible": _krylov(flexible=True),
    "sb.cg, memory 4": _krylov(memory=4),
    "sb.minres": _krylov(sb.minres),
    "scipy_api.cg": _like_scipy(scipy_api.cg),
    "scipy_api.minres": _like_scipy(scipy_api.minres, absolute=False),
}
ITERATIVE = [name for name, entry in SOLVERS.items() if entry.iterative]
ABSOLUTE = [name for name, entry in SOLVERS.items() if entry.absolute]
OVER_MATRICES = [name for name, entry in SOLVERS.items() if entry.over]


def test_every_solver_of_the_package_is_in_the_table(monkeypatch):
    made = []
    monkeypatch.setattr(_linear.LinearSolver, "_set_up", lambda self: made.append(self.method))
    monkeypatch.setattr(_linear, "_resolved", lambda method, system: method)
    for entry in SOLVERS.values():
        entry.prepare(_system("constant"))
    assert {*_linear_methods.NAMED_METHODS.values()} <= {*made}
    assert {*typing.get_args(_linear_methods.Method)} == {type(method) for method in made}
    assert all(any(name.startswith(f"scipy_api.{function}") for name in SOLVERS) for function in scipy_api.__all__)


# --- systems ----------------------------------------------------------------------------------------------------------


@functools.cache
def _system(kind: str, dtype: torch.dtype = torch.float64) -> LatticeSystem:
    """A system that is "constant", "varying" or (two parts of a domain that nothing holds) "floating"; or "free"."""
    grid = sb.Grid((13, 10))
    a = 1.0 if kind in ("constant", "free") else np.random.default_rng(0).lognormal(sigma=0.7, size=grid.shape)
    solid = None
    if kind == "floating":
        solid = np.zeros(grid.shape, dtype=bool)
        solid[5] = True
    sides = sb.Neumann() if kind in ("floating", "free") else sb.Dirichlet(0.0)
    return node_system(sb.Diffusion(grid, a, boundary=sides, solid=solid).to(dtype))


@pytest.fixture(params=SOLVERS)
def entry(request) -> Entry:
    """One solver of the table."""
    return SOLVERS[request.param]


@pytest.fixture(params=ITERATIVE)
def iterative(request) -> Entry:
    """One that iterates."""
    return SOLVERS[request.param]


@pytest.fixture(params=OVER_MATRICES)
def over(request) -> Callable[..., Solve]:
    """One that takes any matrix."""
    return SOLVERS[request.param].over


def _regular(entry: Entry) -> LatticeSystem:
    return _system("varying" if entry.varying else "constant")


def _rhs(system: LatticeSystem, batch: int = 1, seed: int = 0) -> Tensor:
    """Random numbers in the range of A."""
    generator = torch.Generator().manual_seed(seed)
    b = torch.randn((batch, *system.operator.lattice), generator=generator, dtype=torch.float64)
    return system.into_range(b.to(system.operator.dtype)).flatten(1)


def _residuals(system: LatticeSystem, x: Tensor, b: Tensor) -> np.ndarray:
    A = system.operator.to_csr().astype(np.float64)
    return np.linalg.norm(b.double().numpy() - (A @ x.double().numpy().T).T, axis=1)


def _size(b: Tensor) -> np.ndarray:
    return b.double().norm(dim=1).numpy()


def _round_off(system: LatticeSystem, x: Tensor) -> np.ndarray:
    """Level below which a residual means nothing, where every solver may stop."""
    eps = torch.finfo(system.operator.dtype).eps
    return 10 * eps * float(system.operator.norm_upper) * _size(x)


def _unless_refused(solve: Solve, b: Tensor) -> Outcome | None:
    try:
        return solve(b, rtol=1e-8)
    except sb.InputError:
        return None


# --- the stop rule ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("rtol", [1e-3, 1e-8, 1e-12])
def test_the_relative_residual_is_reached(entry, rtol):
    system = _regular(entry)
    b = _rhs(system)
    outcome = entry.prepare(system)(b, rtol=rtol)
    assert outcome.converged == [True]
    limit = np.maximum(rtol * _size(b), _round_off(system, outcome.x))
    assert (_residuals(system, outcome.x, b) <= limit * (1 + 1e-9)).all()


def test_no_more_is_done_than_asked(iterative):
    system = _regular(iterative)
    solve = iterative.prepare(system)
    counts = [solve(_rhs(system), rtol=10.0**-k).iterations[0] for k in range(1, 12, 2)]
    assert counts == sorted(counts)
    if iterative.varying:  # a transform is there at once
        assert counts[0] < counts[-1]


@pytest.mark.parametrize("entry", ABSOLUTE, indirect=True)
def test_an_absolute_tolerance_takes_over_where_it_is_larger(entry):
    system = _regular(entry)
    solve, b = entry.prepare(system), _rhs(system)
    for part in (0.9, 1e-3, 1e-6):
        outcome = solve(b, rtol=1e-13, atol=part * float(b.norm()))
        assert outcome.converged == [True]
        assert (_residuals(system, outcome.x, b) <= part * _size(b)).all()
    assert solve(b, rtol=0.0, atol=1e-6).converged == [True]
    assert solve(b, rtol=1e-12, atol=2 * float(b.norm())).iterations == [0]


@pytest.mark.parametrize("entry", OVER_MATRICES, indirect=True)  # `sb.solve` checks for the others
@pytest.mark.parametrize("tolerance", [-1e-3, float("nan")])
def test_tolerances_that_mean_nothing_are_refused(entry, tolerance):
    system = _regular(entry)
    for name in ("rtol", "atol") if entry.absolute else ("rtol",):
        with pytest.raises(sb.InputError, match="negative"):
            entry.prepare(system)(_rhs(system), **{name: tolerance})


@pytest.mark.parametrize("maxiter", [0, 1, 2])
def test_no_more_iterations_are_done_than_allowed_and_what_is_missed_is_said(entry, maxiter):
    system = _regular(entry)
    b, x0 = _rhs(system), _rhs(system, seed=1)
    outcome = entry.prepare(system)(b, x0, rtol=1e-10, maxiter=maxiter)
    assert outcome.iterations[0] <= maxiter
    reached = _residuals(system, outcome.x, b) <= 1e-10 * _size(b) * (1 + 1e-9)
    assert outcome.converged == reached.tolist()
    if entry.iterative and maxiter == 0:
        assert torch.equal(outcome.x, x0)
        assert outcome.converged == [False]


@pytest.mark.parametrize("entry", OVER_MATRICES, indirect=True)
def test_a_negative_maxiter_is_refused(entry):
    system = _regular(entry)
    with pytest.raises(sb.InputError, match="maxiter is -1"):
        entry.prepare(system)(_rhs(system), maxiter=-1)


def test_the_callback_sees_every_iterate(iterative):
    system, seen = _regular(iterative), []
    outcome = iterative.prepare(system)(_rhs(system), rtol=1e-8, callback=lambda x: seen.append(x.clone()))
    assert len(seen) == outcome.iterations[0] > 0
    torch.testing.assert_close(seen[-1], outcome.x, rtol=0, atol=1e-14 * float(outcome.x.abs().max()))


# --- right-hand side and initial guess --------------------------------------------------------------------------------


@pytest.mark.parametrize("guessed", [False, True])
def test_a_zero_right_hand_side_has_the_zero_solution_at_once(entry, guessed):
    system = _regular(entry)
    b = torch.zeros_like(_rhs(system))
    outcome = entry.prepare(system)(b, _rhs(system) if guessed else None)
    assert (outcome.converged, outcome.iterations) == ([True], [0])
    assert not outcome.x.any()


def test_an_exact_guess_is_left_as_it_is(entry):
    system = _regular(entry)
    x0 = _rhs(system, seed=1)
    outcome = entry.prepare(system)(system.operator.matvec(x0), x0)
    assert (outcome.converged, outcome.iterations) == ([True], [0])
    if entry.iterative:
        assert torch.equal(outcome.x, x0)


def test_any_guess_leads_to_the_solution_and_no_input_is_written_to(entry):
    system = _regular(entry)
    b, x0 = _rhs(system), _rhs(system, seed=1)
    before = b.clone(), x0.clone()
    outcome = entry.prepare(system)(b, x0, rtol=1e-11)
    exact = scipy.sparse.linalg.spsolve(system.operator.to_csr().tocsc(), b[0].numpy())
    # the smallest eigenvalue is above 0.1, the norm of b about 14
    np.testing.assert_allclose(outcome.x[0], exact, rtol=0, atol=1e-8)
    assert torch.equal(b, before[0])
    assert torch.equal(x0, before[1])


@pytest.mark.parametrize("scale", [2.0**-300, 2.0**300])  # powers of two: no rounding anywhere
def test_the_size_of_the_numbers_does_not_matter(entry, scale):
    system = _regular(entry)
    solve, b = entry.prepare(system), _rhs(system)
    plain, scaled = solve(b, rtol=1e-8), solve(scale * b, rtol=1e-8)
    assert plain.iterations == scaled.iterations
    torch.testing.assert_close(scaled.x / scale, plain.x, rtol=0, atol=1e-13 * float(plain.x.abs().max()))


def test_single_precision_stays_single(entry):
    system = _system("varying" if entry.varying else "constant", torch.float32)
    b = _rhs(system)
    outcome = entry.prepare(system)(b, rtol=1e-5)
    assert outcome.x.dtype == torch.float32
    assert outcome.converged == [True]
    assert (_residuals(system, outcome.x, b) <= np.maximum(1.1e-5 * _size(b), _round_off(system, outcome.x))).all()


# --- batches ----------------------------------------------------------------------------------------------------------


def test_rows_of_a_batch_do_not_notice_each_other(entry):
    """One row whose guess is exact, one of zeros, a tiny one, and two like any other."""
    system = _regular(entry)
    b, x0 = _rhs(system, 5), _rhs(system, 5, seed=1)
    b[0] = system.operator.matvec(x0[0])
    b[1] = 0.0
    b[2:3] *= 1e-9
    solve = entry.prepare(system)
    together = solve(b, x0, rtol=1e-9)
    assert together.converged == [True] * 5
    assert together.iterations[:2] == [0, 0]
    assert not together.x[1].any()
    for k in range(5):
        alone = solve(b[k : k + 1], x0[k : k + 1], rtol=1e-9)
        # products on the coarsest level are rounded as the number of rows has it, which may cost the tiny row one more
        assert abs(alone.iterations[0] - together.iterations[k]) <= 1
        size = max(float(alone.x.abs().max()), float(x0[k].abs().max()))
        torch.testing.assert_close(together.x[k], alone.x[0], rtol=0, atol=1e-12 * size)


def test_a_row_that_cannot_be_solved_does_not_spoil_the_others(entry):
    system = _regular(entry)
    b = _rhs(system, 2)
    b[1, 5] = torch.nan
    outcome = _unless_refused(entry.prepare(system), b)
    if outcome is None:
        return
    assert outcome.converged == [True, False]
    assert outcome.iterations[1] <= outcome.iterations[0]  # what is not finite is given up
    assert (_residuals(system, outcome.x[:1], b[:1]) <= 1.1e-8 * _size(b[:1])).all()


# --- null spaces, and what cannot be solved ---------------------------------------------------------------------------


def test_a_consistent_singular_system_is_solved(entry):
    system = _system("floating" if entry.varying else "free")
    b = _rhs(system)
    outcome = entry.prepare(system)(b, rtol=1e-9)
    assert outcome.converged == [True]
    assert (_residuals(system, outcome.x, b) <= 1.1e-9 * _size(b)).all()


def _indefinite(system: LatticeSystem) -> LatticeSystem:
    """Take so much from the diagonal in half of the domain that eigenvalues of both signs are there."""
    A = system.operator
    absorption = A.absorption.clone()
    absorption[:, :, :7] -= 0.5 * A.diagonal()[:, :, :7]
    return replace(system, operator=LatticeOperator(A.offsets, A.conductance, absorption), inverse=None)


@pytest.mark.filterwarnings("ignore::RuntimeWarning")
def test_an_indefinite_operator_is_not_called_solved_unless_it_is(entry):
    if not entry.varying:
        return  # transforms are made for their own definite matrices
    system = _indefinite(_system("varying"))
    assert np.linalg.eigvalsh(system.operator.to_csr().toarray())[0] < -0.01
    b = _rhs(system)
    outcome = entry.prepare(system)(b, rtol=1e-8, maxiter=100)
    level = np.minimum(_round_off(system, outcome.x), _size(b))  # x may have exploded
    if outcome.converged[0]:
        assert (_residuals(system, outcome.x, b) <= np.maximum(1.1e-8 * _size(b), level)).all()


def test_a_matrix_that_is_not_symmetric_is_refused_or_not_called_solved(over):
    rng = np.random.default_rng(0)
    A = np.eye(30) * 3 + np.triu(rng.standard_normal((30, 30)), 1)
    b = torch.as_tensor(rng.standard_normal((1, 30)))
    outcome = _unless_refused(over(A), b)
    if outcome is not None and outcome.converged[0]:
        assert np.linalg.norm(b.numpy()[0] - A @ outcome.x[0].numpy()) <= 1.1e-8 * float(b.norm())


@pytest.mark.parametrize("where", ["A", "M"])
def test_not_a_number_is_not_called_solved(over, where):
    spoilt = np.diag([1.0, np.nan, 2.0])
    solve = over(spoilt) if where == "A" else over(np.eye(3), spoilt)
    assert solve(torch.ones(1, 3, dtype=torch.float64), rtol=1e-8).converged == [False]


# --- preconditioners --------------------------------------------------------------------------------------------------


def test_the_identity_as_preconditioner_changes_nothing(over):
    A = _system("varying").operator.to_csr()
    b = _rhs(_system("varying"))
    plain, with_identity = (over(A, M)(b, rtol=1e-6) for M in (None, scipy.sparse.eye_array(len(b[0])).tocsr()))
    assert plain.converged == with_identity.converged == [True]
    # where M is not known to be symmetric the loop orthogonalises, with other round-off: one step more at most
    assert abs(plain.iterations[0] - with_identity.iterations[0]) <= 1
    torch.testing.assert_close(plain.x, with_identity.x, rtol=0, atol=1e-5 * float(plain.x.abs().max()))


def test_the_inverse_as_preconditioner_needs_one_step(over):
    A = _system("varying").operator.to_csr()
    factors = scipy.sparse.linalg.splu(A.tocsc())
    inverse = scipy.sparse.linalg.LinearOperator(A.shape, matvec=factors.solve, dtype=np.float64)
    outcome = over(A, inverse)(_rhs(_system("varying")), rtol=1e-8)
    assert (outcome.converged, outcome.iterations) == ([True], [1])
