"""Methods and the solver of lattice systems: batches, null spaces, stop rules, and what is kept between solves."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
import scipy.sparse.linalg
import torch

import sciml_bounds as sb
from sciml_bounds import _linear
from sciml_bounds._linear import LinearSolver
from sciml_bounds._linear_methods import (
    Algebraic,
    ConjugateGradients,
    Direct,
    Multigrid,
)
from sciml_bounds.problems.discretization import node_system
from sciml_bounds.results import Reason
from sciml_bounds.stopping import StoppingCriteria

METHODS = {
    "multigrid": Multigrid(),
    "V-cycles": Multigrid(cycle="V"),
    "cycles": Multigrid(accelerate=False),
    "algebraic": Algebraic(),
    "aggregation": Algebraic(kind="smoothed-aggregation"),
    "cg": ConjugateGradients(),
    "direct": Direct(),
}
ITERATIVE = [name for name in METHODS if name != "direct"]
CYCLES = Multigrid(cycle="V", accelerate=False)

EPS = torch.finfo(torch.float64).eps


@pytest.fixture(params=METHODS)
def method(request):
    """One method of the table."""
    return METHODS[request.param]


def _system(*batch, source=1.0):
    """A regular system with random coefficients, large enough for two levels."""
    a = np.random.default_rng(0).lognormal(sigma=0.7, size=(*batch, 15, 12))
    return node_system(sb.Diffusion(sb.Grid((15, 12)), a, source))


def _chambers(*batch):
    """Two chambers that float, and one between them that is held from below; all three end at walls."""
    solid = np.zeros((17, 10), dtype=bool)
    solid[[5, 11]] = True
    alpha = np.zeros(17)
    alpha[6:11] = 1.0
    sides = {"x0": sb.Neumann(), "x1": sb.Neumann(), "y0": sb.Robin(alpha, 0.0), "y1": sb.Neumann()}
    a = np.random.default_rng(0).lognormal(sigma=0.7, size=(*batch, 17, 10))
    return node_system(sb.Diffusion(sb.Grid((17, 10)), a, boundary=sides, solid=solid))


def _matrix(system, sample=0):
    return torch.as_tensor(system.operator.to_csr(sample).toarray())


def _random(*shape):
    return torch.randn(shape, dtype=torch.float64)


def _error(matrix, b, rtol):
    """Largest error that a residual below rtol ||b|| leaves."""
    return rtol * float(b.norm()) / float(torch.linalg.eigvalsh(matrix)[0])


# --- methods ----------------------------------------------------------------------------------------------------------


def test_each_method_says_what_it_did():
    solutions = {name: LinearSolver(_system(), method).solve() for name, method in METHODS.items()}
    words = {
        "multigrid": "conjugate gradients with geometric multigrid (full multigrid, then V-cycles)",
        "V-cycles": "(V-cycles)",
        "cycles": "geometric multigrid",
        "algebraic": "(ruge-stuben)",
        "aggregation": "(smoothed-aggregation)",
        "cg": "with the diagonal",
        "direct": "sparse LU",
    }
    assert all(words[name] in solution.method for name, solution in solutions.items())
    assert len({solution.method for solution in solutions.values()}) == len(METHODS)
    assert "conjugate gradients" not in solutions["cycles"].method


@pytest.mark.parametrize("kind", [Multigrid, Algebraic])
def test_more_sweeps_take_fewer_iterations(kind):
    few, many = (LinearSolver(_system(), kind(sweeps=sweeps)).solve() for sweeps in (1, 4))
    assert int(many.iterations) < int(few.iterations)


# --- batches ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("matrices", "vectors"), [(1, 1), (3, 3), (1, 3), (3, 1)])
def test_matrices_and_right_hand_sides_may_each_be_a_batch(method, matrices, vectors):
    system = _system(*([matrices] if matrices > 1 else []))
    b = _random(vectors, 1, 16, 13)
    guess = _random(max(matrices, vectors), 1, 16, 13)
    solver = LinearSolver(system, method)
    for x0 in (None, guess, guess[:1]):
        s = solver.solve(b, x0, StoppingCriteria(rtol=1e-11))
        batch = max(matrices, vectors)
        assert s.x.shape == (batch, 208)
        assert s.residual_norms.shape == (int(s.iterations.max()) + 1 if int(s.iterations.max()) else 2, batch)
        assert {len(q) for q in (s.reason, s.converged, s.iterations, s.residual_norm, s.tolerance)} == {batch}
        for k in range(batch):
            A, right = _matrix(system, k % matrices), b[k % vectors].flatten()
            x = torch.linalg.solve(A, right)
            torch.testing.assert_close(s.x[k], x, rtol=0, atol=_error(A, right, 1.1e-11))
            residual = float((right - A @ s.x[k]).norm())
            assert float(s.residual_norm[k]) == pytest.approx(residual, abs=100 * EPS * float(A.norm() * x.norm()))
            assert float(s.tolerance[k]) == pytest.approx(1e-11 * float(right.norm()))


@pytest.mark.parametrize("name", ITERATIVE)
def test_samples_go_their_own_way(name):
    """An easy sample, one that is zero, and a hard one: each takes the iterations it takes alone, and no more."""
    system = _system(3)
    exact = _random(3, 1, 16, 13)
    b = system.operator.matvec(exact.flatten(1)).view(exact.shape)
    b[1] = 0.0
    solver = LinearSolver(system, METHODS[name])
    guess = torch.cat([exact[:1] * (1 + 1e-5), torch.zeros_like(exact[:1]), torch.zeros_like(exact[:1])])
    s = solver.solve(b, guess, StoppingCriteria(rtol=1e-8))
    assert 0 < s.iterations[0] < s.iterations[2]
    assert s.iterations[1] == 0
    assert not s.x[1].any()
    assert bool(s.converged.all())
    for k in range(3):
        last = int(s.iterations[k])
        assert bool((s.residual_norms[:last, k] > s.tolerance[k]).all())
        # a sample that is done is left alone; the residual of the recurrence and the true one differ by round-off
        rest = s.residual_norms[last:, k]
        torch.testing.assert_close(rest, rest[:1].expand_as(rest), rtol=1e-3, atol=0)
        assert bool((rest <= s.tolerance[k]).all())


@pytest.mark.parametrize("name", ["algebraic", "aggregation", "direct"])
def test_methods_for_one_sample_at_a_time_do_to_each_what_they_do_to_it_alone(name):
    together, b = _system(3), _random(3, 1, 16, 13)
    s = LinearSolver(together, METHODS[name]).solve(b)
    a = np.random.default_rng(0).lognormal(sigma=0.7, size=(3, 15, 12))
    for k in range(3):
        alone = LinearSolver(node_system(sb.Diffusion(sb.Grid((15, 12)), a[k])), METHODS[name]).solve(b[k : k + 1])
        assert alone.iterations[0] == s.iterations[k]
        # PyAMG estimates spectral radii from random vectors, so that no two of its hierarchies are quite the same
        tolerance = _error(_matrix(together, k), b[k], 2e-8)
        torch.testing.assert_close(alone.x[0], s.x[k], rtol=0, atol=tolerance)


def test_the_monitor_hears_of_every_sample_of_an_algebraic_batch():
    calls = []
    LinearSolver(_system(3), Algebraic()).solve(stop=StoppingCriteria(callback=lambda *state: calls.append(state)))
    assert calls


# --- null spaces ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("batch", [(), (2,)], ids=["one", "two"])
def test_each_floating_part_has_weighted_mean_zero(method, batch):
    system = _chambers(*batch)
    labels, weights = (t.expand(2, 1, 18, 11).flatten(1) for t in (system.components, system.weights))
    b = system.into_range(_random(2, 1, 18, 11))
    s = LinearSolver(system, method).solve(b, _random(2, 1, 18, 11), StoppingCriteria(rtol=1e-11))
    assert bool(s.converged.all())
    for k in range(2):
        numbers = [n for n in labels[k].unique().tolist() if n >= 0]
        assert len(numbers) == 2
        for n in numbers:
            here = labels[k] == n
            weighted = (s.x[k] * weights[k])[here]
            assert abs(float(weighted.sum())) <= 1e3 * EPS * float(weighted.abs().sum())
        A, right = _matrix(system, k if batch else 0), b[k].flatten()
        x = torch.linalg.pinv(A, hermitian=True) @ right
        for n in numbers:
            here = labels[k] == n
            x[here] -= (x * weights[k])[here].sum() / weights[k][here].sum()
        smallest = float(torch.linalg.eigvalsh(A)[2])
        torch.testing.assert_close(s.x[k], x, rtol=0, atol=4e-11 * float(right.norm()) / smallest)


def test_what_round_off_leaves_outside_the_range_is_dropped(method):
    """By far more than round-off here, so that it shows."""
    system = _chambers()
    b = _random(1, 1, 18, 11)
    solver = LinearSolver(system, method)
    as_it_is, projected = (
        solver.solve(right, stop=StoppingCriteria(rtol=1e-11)) for right in (b, system.into_range(b))
    )
    assert bool(as_it_is.converged.all())
    torch.testing.assert_close(as_it_is.x, projected.x, rtol=0, atol=1e-8 * float(projected.x.abs().max()))


# --- the stop rule ----------------------------------------------------------------------------------------------------


def test_multigrid_gives_up_after_its_own_number_of_iterations(monkeypatch):
    monkeypatch.setattr(_linear, "MAXITER_MULTIGRID", 2)
    for name in ITERATIVE:
        solver = LinearSolver(_system(), METHODS[name])
        s = solver.solve(stop=StoppingCriteria(rtol=1e-12))
        if name == "cg":
            assert bool(s.converged)
        else:
            assert (s.reason, s.iterations.tolist()) == ((Reason.MAXITER,), [2])
            assert bool(solver.solve(stop=StoppingCriteria(rtol=1e-12, maxiter=60)).converged)


def test_the_direct_method_reports_both_residuals():
    s = LinearSolver(_system(), Direct()).solve(b := _random(1, 1, 16, 13))
    assert (s.iterations.tolist(), s.reason) == ([0], (Reason.CONVERGED,))
    assert float(s.residual_norms[0]) == pytest.approx(float(b.norm()))
    assert float(s.residual_norms[1]) == float(s.residual_norm) <= 1e-12 * float(b.norm())


# --- cycles by themselves ---------------------------------------------------------------------------------------------


def test_cycles_by_themselves_converge_at_their_own_rate():
    """Each is x <- x + M (b - A x), and contracts by more than two for this coefficient."""
    system, b = _system(), _random(1, 1, 16, 13)
    solver = LinearSolver(system, CYCLES)
    stop = StoppingCriteria(rtol=1e-10)
    s = solver.solve(b, stop=stop)
    assert bool(s.converged)
    assert int(s.iterations) >= int(LinearSolver(system, Multigrid()).solve(b, stop=stop).iterations)
    x, norms = torch.zeros(1, 208, dtype=torch.float64), []
    for _ in range(int(s.iterations) + 1):
        residual = b.flatten(1) - system.operator.matvec(x)
        norms.append(float(residual.norm()))
        x = x + solver.preconditioner.matvec(residual)
    np.testing.assert_allclose(s.residual_norms[:, 0], norms, rtol=1e-10, atol=1e-13)
    assert max(after / before for before, after in itertools.pairwise(norms)) <= 0.5


def test_cycles_end_at_round_off_where_the_tolerance_is_beyond():
    system, b = _system(), _random(1, 1, 16, 13)
    s = LinearSolver(system, CYCLES).solve(b, stop=StoppingCriteria(rtol=0.0, atol=1e-300))
    assert s.reason == (Reason.ROUND_OFF,)
    assert bool(s.converged)
    level = 10 * EPS * float(system.operator.norm_upper) * float(s.x.norm())
    assert float(s.residual_norms[-1]) <= level < float(s.residual_norms[-2])


def _decades(field, seed=0):
    """Systems whose rows differ by up to 16 decades: 10 eps ||A|| ||x|| may be as large as ||b||."""
    rng = np.random.default_rng(seed)
    ramp = np.logspace(-8, 8, 12)[:, None] * np.ones((12, 12))
    through = dict(zip(("x0", "x1", "y0", "y1"), (sb.Dirichlet(1.0), sb.Dirichlet(0.0), sb.Neumann(), sb.Neumann())))
    options = {
        "ramp": {"coefficient": ramp},
        "two phases": {"coefficient": np.where(rng.random((12, 12)) < 0.5, 1e8, 1e-8)},
        "reaction": {"reaction": 10 ** rng.uniform(-12, 12, (12, 12)), "source": rng.standard_normal((12, 12))},
        "through": {"coefficient": ramp, "source": 0.0, "boundary": through},
    }[field]
    return node_system(sb.Diffusion(sb.Grid((12, 12)), **{"source": 1.0, **options}))


@pytest.mark.parametrize("field", ["ramp", "two phases", "reaction", "through"])
def test_round_off_is_that_of_the_rows(method, field):
    """What stagnates may leave ten times the level of the rows.

    These are M-matrices, of which sparse LU loses next to no digits. Errors of x are about the tolerance of 1e-8 here,
    and 1e-6 leaves a factor of a hundred; with the level of norms they were 1e-4 to 1e-2.
    """
    system = _decades(field)
    s = LinearSolver(system, method).solve()
    assert set(s.reason) <= {Reason.CONVERGED, Reason.ROUND_OFF}
    A, b, x = system.operator.to_csr(), system.rhs.reshape(-1).numpy(), s.x[0].numpy()
    level = 10 * EPS * np.linalg.norm(abs(A) @ abs(x) + abs(b))
    assert np.linalg.norm(b - A @ x) <= max(1.01e-8 * np.linalg.norm(b), 10 * level)
    exact = scipy.sparse.linalg.spsolve(A.tocsc(), b)
    assert np.linalg.norm(x - exact) <= 1e-6 * np.linalg.norm(exact)


@pytest.mark.parametrize("method", [METHODS["multigrid"], CYCLES, METHODS["cg"]], ids=["multigrid", "cycles", "cg"])
@pytest.mark.parametrize("seed", [0, 3, 5])
def test_round_off_is_that_of_the_rows_where_maxiter_ends_too(method, seed):
    """The tolerance is out of reach; twice the level is what a recomputed residual may leave of what had stagnated."""
    decades = torch.rand(24, 24, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
    system = node_system(sb.Diffusion(sb.Grid((24, 24)), coefficient=10 ** (14 * decades - 7), source=1.0))
    A, b = system.operator.to_csr(), system.rhs.reshape(-1).numpy()
    solver = LinearSolver(system, method)
    for maxiter in (4, 8, 12, 20, 50):
        s = solver.solve(stop=StoppingCriteria(rtol=3e-15, maxiter=maxiter))
        x = s.x[0].numpy()
        level = 10 * EPS * np.linalg.norm(abs(A) @ abs(x) + abs(b))
        assert s.reason != (Reason.ROUND_OFF,) or np.linalg.norm(b - A @ x) <= 21 * level


@pytest.mark.parametrize("maxiter", [0, 1, 3])
def test_cycles_end_at_maxiter(maxiter):
    s = LinearSolver(_system(), CYCLES).solve(_random(1, 1, 16, 13), stop=StoppingCriteria(rtol=1e-12, maxiter=maxiter))
    assert (s.reason, s.iterations.tolist()) == ((Reason.MAXITER,), [maxiter])
    assert not bool(s.converged)
    assert len(s.residual_norms) == maxiter + 1


def test_the_monitor_follows_cycles_and_stops_them():
    seen = []

    def monitor(iteration, x, norm):
        seen.append((iteration, x.clone()))
        return iteration == 3

    b = torch.cat([_random(1, 1, 16, 13), torch.zeros(1, 1, 16, 13, dtype=torch.float64)])
    s = LinearSolver(_system(), CYCLES).solve(b, stop=StoppingCriteria(rtol=1e-12, callback=monitor))
    assert [iteration for iteration, _ in seen] == [1, 2, 3]
    assert s.reason == (Reason.STOPPED, Reason.CONVERGED)
    assert s.iterations.tolist() == [3, 0]
    assert torch.equal(seen[-1][1], s.x)


def test_the_monitor_of_cycles_is_told_the_residual_of_its_iterate():
    norms = []
    solver = LinearSolver(_system(), CYCLES)
    s = solver.solve(
        _random(1, 1, 16, 13), stop=StoppingCriteria(callback=lambda iteration, x, norm: norms.append(norm))
    )
    torch.testing.assert_close(torch.stack(norms), s.residual_norms[1:])


def test_cycles_know_the_solution_for_zero():
    s = LinearSolver(_system(), CYCLES).solve(torch.zeros(1, 1, 16, 13, dtype=torch.float64), _random(1, 1, 16, 13))
    assert s.iterations.tolist() == [0]
    assert not s.x.any()


@pytest.mark.parametrize("method", [CYCLES, Direct()], ids=["cycles", "direct"])
def test_numbers_too_large_to_square_are_not_called_solved(method):
    s = LinearSolver(_system(), method).solve(1e200 * _random(1, 1, 16, 13))
    assert not bool(s.converged)


# --- what is kept -----------------------------------------------------------------------------------------------------


def test_another_system_with_the_same_matrix_keeps_the_set_up(method, monkeypatch):
    solver = LinearSolver(_system(), method)
    other_system = _system(source=lambda x, y: x - y)
    monkeypatch.setattr(LinearSolver, "_set_up", None)  # would be called
    other = solver.with_system(other_system)
    b = other_system.rhs.flatten()
    A = _matrix(other_system)
    torch.testing.assert_close(
        other.solve(stop=StoppingCriteria(rtol=1e-11)).x[0],
        torch.linalg.solve(A, b),
        rtol=0,
        atol=_error(A, b, 1.1e-11),
    )
    assert solver.system is not other.system is other_system
    before = solver.system.rhs.flatten()
    torch.testing.assert_close(A @ solver.solve(stop=StoppingCriteria(rtol=1e-11)).x[0], before, rtol=0, atol=1e-10)


def test_gradients_of_a_kept_set_up_are_those_of_the_new_system():
    a = torch.rand(15, 12, dtype=torch.float64).add_(0.5).requires_grad_()
    first, second = (node_system(sb.Diffusion(sb.Grid((15, 12)), a, f)) for f in (1.0, 2.0))
    solver = LinearSolver(first, Multigrid()).with_system(second)
    (ours,) = torch.autograd.grad(solver.solve().x.sum(), a, retain_graph=True)
    (plain,) = torch.autograd.grad(LinearSolver(second, Direct()).solve().x.sum(), a)
    torch.testing.assert_close(ours, plain, rtol=1e-6, atol=1e-8)


@pytest.mark.parametrize("name", ITERATIVE)
def test_a_preconditioner_is_an_approximate_inverse(name):
    system = _system()
    M = LinearSolver(system, METHODS[name]).preconditioner
    assert M.symmetric
    dense = M.matvec(torch.eye(208, dtype=torch.float64)).T
    root = torch.linalg.cholesky(_matrix(system))
    eigenvalues = torch.linalg.eigvalsh(root.T @ dense @ root)
    assert eigenvalues[0] > 0
    assert eigenvalues[-1] <= (2.0 if name == "cg" else 1 + 1e-6)  # cycles are in single precision


def test_the_preconditioners_of_a_batch_come_as_one():
    for method in (Multigrid(), ConjugateGradients(), Algebraic()):
        assert LinearSolver(_system(2), method).preconditioner.batch == 2
