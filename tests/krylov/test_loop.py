"""The loop against scipy's, and what it does beyond: flexible directions, memory, directions that fail."""

from __future__ import annotations

import itertools
import re

import numpy as np
import pyamg
import pytest
import scipy.sparse
import scipy.sparse.linalg
import torch

import sciml_bounds as sb
from sciml_bounds.errors import ConvergenceWarning
from sciml_bounds.krylov._loop import iterate
from sciml_bounds.multigrid._geometric import lattice_cycle
from sciml_bounds.operators._lattice_operator import LatticeOperator
from sciml_bounds.operators._linear_operator import CallableOperator, LinearOperator, MatrixOperator
from sciml_bounds.results import Reason

A = pyamg.gallery.poisson((12, 12), format="csr")
N = A.shape[0]
B = np.random.default_rng(0).standard_normal(N)
EXACT = scipy.sparse.linalg.spsolve(A.tocsc(), B)


def _symmetric(matrix):
    """An operator that says it is symmetric, so that the plain loop runs."""
    return MatrixOperator(torch.as_tensor(matrix.toarray()), symmetric=True)


def _learned(function, n=N):
    """A preconditioner that may answer anything."""
    M = CallableOperator(function, n)
    M.safeguard = True
    return M


def _scipy_iterates(A, b, M, count):
    iterates = []
    scipy.sparse.linalg.cg(A, b, M=M, rtol=1e-30, maxiter=count, callback=lambda x: iterates.append(x.copy()))
    return np.array(iterates)


# --- against scipy ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("options", [{}, {"flexible": True}], ids=["plain", "flexible"])
@pytest.mark.parametrize("preconditioned", [False, True])
def test_iterates_are_those_of_scipy(options, preconditioned):
    # Symmetric Gauss-Seidel. In exact arithmetic all forms give the same iterates; over the 20 first ones the
    # round-off that the directions collect stays below 1e-10 of the solution.
    lower, diagonal = scipy.sparse.tril(A).toarray(), A.diagonal()
    M = np.linalg.inv(lower @ np.diag(1 / diagonal) @ lower.T) if preconditioned else np.eye(N)
    M = scipy.sparse.csr_array((M + M.T) / 2)
    ours = []
    with pytest.warns(ConvergenceWarning):
        s = sb.cg(
            A, B, M=_symmetric(M), rtol=1e-14, maxiter=20, callback=lambda x: ours.append(x.numpy().copy()), **options
        )
    assert s.flexible is options.get("flexible", False)
    theirs = _scipy_iterates(A, B, M, 20)
    np.testing.assert_allclose(ours, theirs, rtol=0, atol=1e-10 * np.abs(EXACT).max())


# --- flexible directions ----------------------------------------------------------------------------------------------


def test_the_flexible_form_follows_from_the_flags_of_the_preconditioner():
    known = _symmetric(scipy.sparse.eye_array(N))
    unknown = MatrixOperator(torch.eye(N, dtype=torch.float64))
    network = CallableOperator(lambda r: r, N, symmetric=True, linear=False)
    assert [sb.cg(A, B, M=M).flexible for M in (None, known, unknown, network)] == [False, False, True, True]
    assert sb.cg(A, B, M=unknown, flexible=False).flexible is False
    assert sb.cg(A, B, memory=2).flexible is True
    assert "flexible" in sb.cg(A, B, memory=2).method


def test_a_longer_memory_helps_where_orthogonality_is_lost():
    # A preconditioner that changes with the residual: the more directions are kept, the nearer to full orthogonality.
    scale = torch.as_tensor(1 / A.diagonal())

    def wobbling(r):
        return scale * r * (1 + 0.5 * torch.sin(50 * r / r.norm(dim=-1, keepdim=True)))

    counts = [int(sb.cg(A, B, M=wobbling, memory=K, rtol=1e-10).iterations) for K in (1, 5, 40)]
    assert counts[0] > counts[1] > counts[2]


def test_a_nonlinear_preconditioner_converges():
    # A network with random weights around one Jacobi step, scaled by the size of the residual as learned ones are.
    torch.manual_seed(0)
    network = torch.nn.Sequential(torch.nn.Linear(N, 32), torch.nn.Tanh(), torch.nn.Linear(32, N)).double()
    scale = torch.as_tensor(1 / A.diagonal())

    @torch.no_grad()
    def M(r):
        size = r.norm(dim=-1, keepdim=True)
        return scale * r + 0.1 * scale * size * network(r / size)

    b = torch.as_tensor(np.stack([B, np.zeros(N), 1e-7 * B]))
    s = sb.cg(A, b, M=M, memory=3, rtol=1e-9)
    assert s.flexible
    assert bool(s.converged.all())
    assert not s.x[1].any()  # where the network sees 0 / 0
    np.testing.assert_allclose(s.x[0], EXACT, rtol=0, atol=1e-6)
    np.testing.assert_allclose(1e7 * s.x[2], EXACT, rtol=0, atol=1e-6)


def test_directions_are_conjugate_to_those_in_memory():
    directions = []

    class Spy(MatrixOperator):
        def matvec(self, x):
            directions.append(x.clone().reshape(-1))
            return super().matvec(x)

    operator = Spy(torch.as_tensor(A.toarray()), symmetric=True)
    with pytest.warns(ConvergenceWarning):
        sb.cg(operator, B, M=lambda r: r * (1 + 0.3 * torch.sin(r)), memory=3, rtol=1e-12, maxiter=8)
    D = torch.stack(directions[:8])
    products = D @ torch.as_tensor(A.toarray()) @ D.T
    sizes = products.diagonal().sqrt()
    cosines = (products / sizes / sizes.unsqueeze(1)).abs()
    near = torch.tensor([[0 < i - j <= 3 for j in range(8)] for i in range(8)])
    assert float(cosines[near].max()) <= 1e-12  # modified Gram-Schmidt on well-conditioned directions
    far = torch.tensor([[i - j > 3 for j in range(8)] for i in range(8)])
    assert float(cosines[far].max()) > 1e-6


def test_a_preconditioner_without_new_directions_is_reported():
    ones = MatrixOperator(torch.full((N, N), 1 / N, dtype=torch.float64))
    with pytest.warns(ConvergenceWarning, match="direction"):
        s = sb.cg(A, B, M=ones)
    assert s.reason is Reason.NO_NEW_DIRECTION
    assert s.dropped_directions is None
    with pytest.warns(ConvergenceWarning, match="zeros"):
        assert sb.cg(A, B, M=torch.zeros_like).reason is Reason.NO_NEW_DIRECTION


def test_an_indefinite_preconditioner_is_reported_in_the_plain_form():
    signs = scipy.sparse.diags_array(np.where(np.arange(N) % 2, 1.0, -1.0))
    with pytest.warns(ConvergenceWarning, match="preconditioner"):
        s = sb.cg(A, B, M=_symmetric(-signs @ signs))
    assert s.reason is Reason.INDEFINITE_PRECONDITIONER
    assert int(s.iterations) == 0


# --- learned directions -----------------------------------------------------------------------------------------------


def _network(n, seed=0, gain=1.0):
    """Random weights around nothing: a direction that has little to do with the residual."""
    torch.manual_seed(seed)
    layers = torch.nn.Sequential(torch.nn.Linear(n, 24), torch.nn.Tanh(), torch.nn.Linear(24, n)).double()

    @torch.no_grad()
    def f(r):
        size = r.norm(dim=-1, keepdim=True)
        return gain * layers(r / torch.where(size > 0, size, 1.0))

    return f


def _iterates(A, b, **options):
    """The iterates of a solve, (iterations, ...), and its result."""
    seen = []
    s = sb.cg(A, b, callback=lambda x: seen.append(x.clone()), **options)
    return s, torch.stack(seen)


@pytest.mark.parametrize("memory", [1, 2, 4])
def test_the_identity_as_a_network_is_conjugate_gradients(memory):
    # In exact arithmetic all iterates agree: the residual is nothing new beside the identity, and the longer memory
    # changes nothing. The bound is that of the comparison with scipy above.
    plain, expected = _iterates(A, B, rtol=1e-8)
    s, found = _iterates(A, B, M=_learned(lambda r: r), memory=memory, rtol=1e-8)
    assert s.flexible
    assert int(s.dropped_directions) == 0
    assert int(s.iterations) == int(plain.iterations)
    torch.testing.assert_close(found, expected, rtol=0, atol=1e-10 * float(np.abs(EXACT).max()))


@pytest.mark.parametrize("dim", [2, 3])
def test_a_cycle_in_place_of_the_network_takes_the_iterations_of_its_plain_form(dim):
    rng = np.random.default_rng(1)
    n = {2: 32, 3: 12}[dim]
    coefficient = np.exp(rng.standard_normal((n,) * dim))
    solver = sb.prepare(sb.Diffusion(sb.Grid((n,) * dim), coefficient, 1.0))
    operator, b = solver.operator, torch.as_tensor(rng.standard_normal((3, solver.operator.shape[0])))
    cycle = lattice_cycle(operator, 1, precision="double")
    plain = sb.cg(operator, b, M=cycle, rtol=1e-8)
    assert not plain.flexible
    for memory in (1, 2, 4):
        alone = sb.cg(operator, b, M=cycle.matvec, memory=memory)
        assert alone.flexible
        assert alone.iterations.tolist() == plain.iterations.tolist()
        # With the residual in the span each step is better than its own, but the directions are not quite those of the
        # plain form, so a count may be one more or one less.
        found = sb.cg(operator, b, M=_learned(cycle.matvec, operator.shape[0]), memory=memory)
        assert set((plain.iterations - found.iterations).tolist()) <= {-1, 0, 1}


@pytest.mark.parametrize("gain", [-3.7, 1e-200, 1e200], ids=str)
def test_scaling_the_directions_of_a_network_changes_nothing(gain):
    # What the network answers to a residual that differs by round-off differs by round-off too; fifteen steps leave
    # five digits for the growth of that.
    options = {"rtol": 1e-12, "maxiter": 15}
    with pytest.warns(ConvergenceWarning):
        _, expected = _iterates(A, B, M=_learned(_network(N)), **options)
    with pytest.warns(ConvergenceWarning):
        s, found = _iterates(A, B, M=_learned(_network(N, gain=gain)), **options)
    assert int(s.dropped_directions) == 0
    torch.testing.assert_close(found, expected, rtol=0, atol=1e-10 * float(np.abs(EXACT).max()))


def _random_problems(count, n, seed):
    """Random positive definite matrices (count, n, n) of conditions up to 1e5, and right-hand sides."""
    generator = torch.Generator().manual_seed(seed)
    Q = torch.linalg.qr(torch.randn(count, n, n, generator=generator, dtype=torch.float64))[0]
    exponents = torch.rand(count, 1, generator=generator, dtype=torch.float64) * 5
    eigenvalues = 10 ** (exponents * torch.rand(count, n, generator=generator, dtype=torch.float64))
    matrices = (Q * eigenvalues.unsqueeze(1)) @ Q.mT
    return (matrices + matrices.mT) / 2, torch.randn(count, n, generator=generator, dtype=torch.float64)


@pytest.mark.parametrize("memory", [1, 2, 5])
def test_no_step_along_any_network_is_worse_than_one_of_steepest_descent(memory):
    """Checked with the true error of 300 random problems at every step, each with random weights."""
    matrices, b = _random_problems(300, 24, seed=memory)
    exact = torch.linalg.solve(matrices, b)
    seeds = iter(range(10**6))

    def moody(r):  # other weights each time, and so neither linear nor the same map twice
        return _network(24, seed=next(seeds))(r)

    def energy(x):
        e = (x - exact).unsqueeze(2)
        return (e.mT @ matrices @ e).view(-1) / 2

    with pytest.warns(ConvergenceWarning):
        _, iterates = _iterates(matrices, b, M=_learned(moody, 24), memory=memory, rtol=1e-13, maxiter=40)
    iterates = torch.cat([torch.zeros_like(b)[None], iterates])
    start = energy(iterates[0])
    for x, after in itertools.pairwise(iterates):
        r = b - (matrices @ x.unsqueeze(2)).squeeze(2)
        curvature = (r.unsqueeze(1) @ matrices @ r.unsqueeze(2)).view(-1)
        descent = energy(x) - r.square().sum(1).square() / (2 * curvature)
        # round-off of the energies, in which the condition of 1e5 stands
        assert bool((energy(after) <= descent + 1e-10 * start).all())
        assert bool((energy(after) <= energy(x) + 1e-14 * start).all())


def test_random_networks_take_no_more_iterations_than_steepest_descent_and_hardly_more_than_none():
    plain = sb.cg(A, B, rtol=1e-6)
    found = [sb.cg(A, B, M=_learned(_network(N, seed)), rtol=1e-6) for seed in range(10)]
    assert all(bool(s.converged) for s in found)
    x, descent = np.zeros(N), 0
    while np.linalg.norm(r := B - A @ x) > 1e-6 * np.linalg.norm(B):
        x, descent = x + r * (r @ r) / (r @ (A @ r)), descent + 1
    assert max(int(s.iterations) for s in found) < descent
    # the residual and two directions behind it span those of conjugate gradients; what the network adds bends them
    assert max(int(s.iterations) for s in found) <= 1.5 * int(plain.iterations)


BAD = {"zero": 0.0, "NaN": float("nan"), "infinity": float("inf"), "one entry": None}


@pytest.mark.parametrize("kind", BAD)
def test_invalid_directions_are_dropped_and_counted(kind):
    """A third of those of the first sample; without any direction at all the loop is conjugate gradients."""
    network, calls = _network(N), []

    def sometimes(r):
        z = network(r)
        calls.append(len(calls))
        if len(calls) % 3 == 0:
            z[0] = torch.where(torch.arange(N) == 5, torch.nan, z[0]) if BAD[kind] is None else BAD[kind]
        return z

    b = torch.as_tensor(np.stack([B, B[::-1].copy()]))
    s = sb.cg(A, b, M=_learned(sometimes), rtol=1e-9)
    assert bool(s.converged.all())
    assert s.dropped_directions.tolist() == [int(s.iterations[0]) // 3, 0]
    assert re.search(r"dropped directions +0 \.\.\. \d+", repr(s))
    np.testing.assert_allclose(s.x[0], EXACT, rtol=0, atol=1e-6)
    none = sb.cg(A, B, M=_learned(torch.zeros_like), rtol=1e-8)
    assert int(none.dropped_directions) == int(none.iterations) == int(sb.cg(A, B, rtol=1e-8).iterations)


def test_directions_in_memory_are_dropped():
    iterates = [torch.zeros(N, dtype=torch.float64)]
    with pytest.warns(ConvergenceWarning):  # nothing, and then the first direction, which is the first iterate
        s = sb.cg(
            A,
            B,
            M=_learned(lambda r: iterates[-1].view(r.shape)),
            callback=lambda x: iterates.append(x.clone()),
            maxiter=2,
        )
    assert int(s.dropped_directions) == 2
    with pytest.warns(ConvergenceWarning):
        two = sb.cg(A, B, maxiter=2)
    torch.testing.assert_close(s.x, two.x, rtol=1e-12, atol=0)


@pytest.mark.parametrize("value", [0.0, float("nan"), float("inf")], ids=str)
def test_in_the_published_span_a_dropped_direction_ends_its_sample(value):
    network = _network(N)

    def fails(r):
        z = r + 0.01 * network(r) * r.norm(dim=-1, keepdim=True)
        z[1] = value
        return z

    with pytest.warns(ConvergenceWarning, match="direction"):
        s = sb.cg(A, torch.as_tensor(np.stack([B, B])), M=fails, rtol=1e-9)
    assert s.dropped_directions.tolist() == [0, 1]
    np.testing.assert_allclose(s.x[0], EXACT, rtol=0, atol=1e-6)
    assert not s.x[1].any()


@pytest.mark.parametrize("size", [1e-309, 1e-150, 1e150, 1e307], ids=str)
@pytest.mark.parametrize("safeguard", [True, False])
def test_complex_directions_may_have_any_size(size, safeguard):
    """A Hermitian matrix with a phase on each edge of a ring, and as the preconditioner a number of that size."""
    ring = np.roll(np.eye(8), 1, axis=1) * np.exp(0.3j)
    H = torch.as_tensor(3 * np.eye(8) - ring - ring.conj().T)
    b = torch.as_tensor(np.random.default_rng(0).standard_normal((1, 8)) * (1 + 0.5j))
    M = CallableOperator(lambda r: size * r, 8, torch.complex128)
    M.safeguard = safeguard
    s = iterate(MatrixOperator(H, symmetric=True), b, M, rtol=1e-10)
    assert s.reason == (Reason.CONVERGED,)
    np.testing.assert_allclose(s.x[0], np.linalg.solve(H.numpy(), b[0].numpy()), rtol=0, atol=1e-9)


@pytest.mark.parametrize("safeguard", [True, False])
def test_learned_directions_of_a_batch_are_independent(safeguard):
    network = _network(N)
    M = CallableOperator(lambda r: torch.stack([row + 0.02 * network(row) * row.norm() for row in r]), N)
    M.safeguard = safeguard
    dense = torch.as_tensor(A.toarray())
    operator = CallableOperator(lambda x: torch.stack([dense @ row for row in x]), N, symmetric=True, linear=True)
    rows = torch.as_tensor(np.stack([B, np.zeros(N), 1e-9 * B[::-1], A @ np.ones(N)]))
    together = sb.cg(operator, rows, M=M, rtol=1e-9)
    assert bool(together.converged.all())
    for k, row in enumerate(rows):
        alone = sb.cg(operator, row[None], M=M, rtol=1e-9)
        assert int(alone.iterations) == int(together.iterations[k])
        assert int(alone.dropped_directions) == int(together.dropped_directions[k])
        assert torch.equal(alone.x[0], together.x[k])


def _dcdm(A, b, f, tol, maxiter, K=2):
    """The published algorithm, with the residual recomputed in every step."""
    x, r, P, AP, iterates = np.zeros_like(b), b.copy(), [], [], []
    while len(iterates) < maxiter and np.linalg.norm(r) > tol * np.linalg.norm(b):
        d = f(r / np.linalg.norm(r))
        for p, Ap in zip(P[::-1], AP[::-1]):
            d = d - p * (d @ Ap) / (p @ Ap)
        Ad = A @ d
        x = x + d * (r @ d) / (d @ Ad)
        r = b - A @ x
        P, AP = [*P, d][-K:], [*AP, Ad][-K:]
        iterates.append(x)
    return np.array(iterates)


def test_the_published_span_is_the_published_algorithm():
    network = _network(N)
    jacobi = torch.as_tensor(1 / A.diagonal())

    def f(r):
        return jacobi * r + 0.02 * network(r)

    theirs = _dcdm(A, B, lambda r: f(torch.as_tensor(r)).numpy(), 1e-6, 200)
    s, ours = _iterates(A, B, M=lambda r: f(r / r.norm(dim=-1, keepdim=True)), rtol=1e-6)
    assert int(s.iterations) == len(theirs)
    # both are the same in exact arithmetic; round-off is amplified by the network over as many steps
    np.testing.assert_allclose(ours, theirs, rtol=0, atol=1e-7 * np.abs(EXACT).max())


def test_a_network_in_single_precision_reaches_the_round_off_of_double():
    network = _network(N)

    def single(r):
        return (r + network(r) * r.norm(dim=-1, keepdim=True)).float().double()

    s = sb.cg(A, B, M=_learned(single), rtol=1e-13)
    assert bool(s.converged)
    assert float(np.linalg.norm(B - A @ s.x.numpy())) <= 1e-13 * np.linalg.norm(B) * (1 + 1e-3)


def test_learned_directions_follow_their_device(device):
    # Round-off grows in fifteen steps as in the test of sizes and signs above.
    matrices, b = _random_problems(20, 24, seed=0)
    f, found = _network(24), []
    for place in ("cpu", device):
        M = _learned(lambda r: f(r.cpu()).to(r), 24)
        M.device = torch.device(place)
        with pytest.warns(ConvergenceWarning):
            found.append(sb.cg(matrices.to(place), b.to(place), M=M, rtol=1e-12, maxiter=15))
    assert found[1].x.device == found[1].dropped_directions.device == device
    torch.testing.assert_close(found[1].x.cpu(), found[0].x, rtol=0, atol=1e-10 * float(found[0].x.abs().max()))


def test_an_undeclared_linear_map_takes_the_iterations_of_the_plain_form():
    # Searched along the residual too, Jacobi's directions would lose what makes them conjugate: 136 iterations for 75.
    scale = torch.as_tensor(10.0 ** np.random.default_rng(0).uniform(-2, 2, N))
    operator = MatrixOperator(scale[:, None] * torch.as_tensor(A.toarray()) * scale, symmetric=True)
    inverse = (torch.as_tensor(A.diagonal()) * scale**2).reciprocal()
    plain = sb.cg(operator, B, M=MatrixOperator(torch.diag(inverse), symmetric=True))
    found = sb.cg(operator, B, M=lambda r: inverse * r)
    assert found.flexible
    assert abs(int(found.iterations) - int(plain.iterations)) <= 1


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64], ids=str)
def test_a_rounded_residual_is_not_a_new_direction(dtype):
    # What rounding leaves of the residual would be a direction at random: 1,400 iterations for 256.
    n = 256
    operator = scipy.sparse.diags_array([-1.0, 2.0, -1.0], offsets=[-1, 0, 1], shape=(n, n)).tocsr()
    b = np.random.default_rng(0).standard_normal(n)
    plain = sb.cg(operator, b)
    found = sb.cg(operator, b, M=_learned(lambda r: r.to(dtype).double(), n))
    assert int(found.iterations) <= 1.1 * int(plain.iterations)


def test_directions_in_the_null_space_are_dropped():
    n = 32
    ring = 2 * torch.eye(n).double() - torch.roll(torch.eye(n), 1, 0) - torch.roll(torch.eye(n), -1, 0)
    b = torch.as_tensor(np.random.default_rng(0).standard_normal(n))
    s = sb.cg(MatrixOperator(ring, symmetric=True), b - b.mean(), M=_learned(torch.ones_like, n), rtol=1e-8)
    assert bool(s.converged)
    assert float((ring @ s.x - b + b.mean()).norm()) <= 1e-8 * float((b - b.mean()).norm()) * 1.01


class _Rounding(MatrixOperator):
    """Its products in the recurrence are off by a part, as those of a nearly singular system in single precision."""

    def energy_into(self, x, out):
        energy = super().energy_into(x, out)
        out *= 1 + 1e-3
        return energy


class _Turning(LinearOperator):
    """The identity at its first use, and its negative from then on."""

    symmetric, linear = True, True

    def __init__(self, n):
        self.shape, self.dtype, self.device, self.uses = (n, n), torch.float64, torch.device("cpu"), 0

    def matvec(self, x):
        self.uses += 1
        return x.clone() if self.uses == 1 else -x


@pytest.mark.parametrize("part", [0.0, 1e-2])
def test_a_breakdown_with_nothing_left_is_convergence(part):
    """The first step solves the part of b along which A is 2, and the second breaks down."""
    A = _Rounding(torch.diag(torch.tensor([2.0, 2.0, 1.0], dtype=torch.float64)), symmetric=True)
    b = torch.tensor([[1.0, 1.0, part]], dtype=torch.float64)
    s = iterate(A, b, _Turning(3), rtol=1e-6)
    assert s.reason == (Reason.INDEFINITE_PRECONDITIONER if part else Reason.CONVERGED,)
    assert s.converged.tolist() == [part == 0]
    assert int(s.iterations) == 1


@pytest.mark.parametrize("reaction", [1e-4, 1e-6, 1e-8])
def test_round_off_in_single_precision_is_reported(reaction):
    """Coarse grids lose a tiny reaction to rounding, so that cycles are not definite there."""
    grid = sb.Grid((16, 16))
    for source in (1.0, torch.randn(16, 16, generator=torch.Generator().manual_seed(1))):
        problem = sb.Diffusion(grid, torch.ones(16, 16), source, boundary=sb.Neumann(), reaction=reaction)
        solver = sb.prepare(problem, method="multigrid")
        A, b = solver.operator, solver.rhs.flatten(1)
        s = iterate(A, b, solver.as_preconditioner())
        level = 10 * torch.finfo(torch.float32).eps * A.norm_upper * s.x.norm(dim=1)
        reached = s.residual_norm <= torch.maximum(s.tolerance, torch.minimum(level, b.norm(dim=1)))
        assert bool(s.converged.all()) or not bool(reached.all())


class _Inexact(LatticeOperator):
    """Its residuals are off by random numbers of a given size."""

    error = 0.0
    generator = torch.Generator().manual_seed(0)

    def residual_into(self, x, b, out):
        return super().residual_into(x, b, out).add_(self.error * torch.randn(b.shape, generator=self.generator))


@pytest.mark.parametrize(("part", "reason"), [(0.0, Reason.ROUND_OFF), (1e-3, Reason.STAGNATED)])
def test_stagnation_above_the_round_off_of_the_rows_is_not_convergence(part, reason):
    """Of 10 eps ||A|| ||x||, the level of norms, which is 1e6 times that of the rows."""
    ramp = np.logspace(-4, 4, 12)[:, None] * np.ones((12, 12))
    solver = sb.prepare(sb.Diffusion(sb.Grid((12, 12)), ramp, 1.0), method="multigrid")
    given, b = solver.operator, solver.rhs
    A = _Inexact(given.offsets, given.conductance, given.absorption)
    exact = iterate(A, b, solver.as_preconditioner(), rtol=1e-13).x
    A.error = part * 10 * torch.finfo(b.dtype).eps * float(A.norm_upper * exact.norm()) / b.numel() ** 0.5
    s = iterate(A, b, solver.as_preconditioner(), rtol=0.0, atol=1e-300)
    assert s.reason == (reason,)
    assert int(s.iterations) <= 100
