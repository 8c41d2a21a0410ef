from __future__ import annotations

import copy
import pickle
import threading

import numpy as np
import pytest
import torch

import sciml_bounds as sb
from sciml_bounds.errors import InputError
from sciml_bounds.multigrid._cycle import pseudo_inverse
from sciml_bounds.multigrid._geometric import lattice_cycle


def _graph_laplacian(n, jump, seed=0):
    """A path with conductances over some decades: singular, constants are its null space."""
    T = jump ** np.random.default_rng(seed).uniform(-0.5, 0.5, n - 1)
    A = np.diag(np.r_[T, 0] + np.r_[0, T]) - np.diag(T, 1) - np.diag(T, -1)
    return torch.as_tensor(A)


@pytest.mark.parametrize("jump", [1.0, 1e4, 1e8])
def test_the_pseudo_inverse_solves_whatever_has_a_solution(jump):
    A = torch.stack([_graph_laplacian(12, jump, seed) for seed in range(4)])
    G = pseudo_inverse(A)
    torch.testing.assert_close(G, G.mT, rtol=0, atol=1e-14 * float(G.abs().max()))
    assert float(torch.linalg.eigvalsh(G)[:, 0].min()) >= -1e-12 * float(G.abs().max())  # semi-definite
    x = torch.randn(4, 12, 1, dtype=torch.float64)
    b = A @ x
    # residual relative to |A| |x|, the round-off of the product, amplified by the square root of the condition at most
    assert float(((A @ G @ b - b).norm(dim=1) / b.norm(dim=1)).max()) <= 1e-9


def test_the_pseudo_inverse_of_a_regular_matrix_is_its_inverse():
    A = _graph_laplacian(10, 1e3) + torch.diag(torch.linspace(0.1, 1, 10, dtype=torch.float64))
    torch.testing.assert_close(pseudo_inverse(A) @ A, torch.eye(10, dtype=torch.float64), rtol=0, atol=1e-11)
    single = pseudo_inverse(A.float())
    assert single.dtype == torch.float32
    torch.testing.assert_close(single.double(), torch.linalg.inv(A), rtol=1e-3, atol=1e-3)


def test_a_small_eigenvalue_is_not_taken_for_zero():
    """Two equal diagonal entries and 1 - delta between: eigenvalues delta and 2 - delta, and the inverse is known.

    delta comes out of the eigenvalue solver to a few round-offs of 2, which is 1e-6 of 2^-30.
    """
    delta = 2.0**-30
    A = torch.tensor([[1.0, 1 - delta], [1 - delta, 1.0]], dtype=torch.float64)
    expected = torch.tensor([[1.0, delta - 1], [delta - 1, 1.0]], dtype=torch.float64) / (delta * (2 - delta))
    scale = torch.tensor([1.0, 1e4], dtype=torch.float64)
    for s in (torch.ones_like(scale), scale):
        torch.testing.assert_close(pseudo_inverse(s[:, None] * A * s), expected / s / s[:, None], rtol=3e-6, atol=0)


def test_a_row_of_zeros_is_left_alone():
    A = torch.diag(torch.tensor([2.0, 0.0, 4.0], dtype=torch.float64))
    torch.testing.assert_close(pseudo_inverse(A), torch.diag(torch.tensor([0.5, 0.0, 0.25], dtype=torch.float64)))


def test_a_row_of_zeros_between_others_is_left_alone():
    """Round-off mixes its eigenvector with the others; the factor of that error must not be large."""
    rest = [k for k in range(31) if k != 15]
    B = torch.randn(30, 30, dtype=torch.float64)
    A = torch.zeros(31, 31, dtype=torch.float64)
    A[np.ix_(rest, rest)] = B @ B.T + torch.eye(30, dtype=torch.float64)
    G = pseudo_inverse(A)
    assert not G[15].any()
    assert not G[:, 15].any()
    # condition number below 1e3
    torch.testing.assert_close(G[np.ix_(rest, rest)], torch.linalg.inv(A[np.ix_(rest, rest)]), rtol=0, atol=1e-12)


def _cycle(n=40, **options):
    problem = sb.Diffusion(sb.Grid((n, n)), lambda x, y: 1 + x * y, 1.0)
    A = sb.prepare(problem, method="cg").operator
    return A, lattice_cycle(A, **options)


def test_buffers_are_allocated_once_and_the_result_repeats_bit_for_bit():
    A, M = _cycle()
    x = torch.randn(3, A.shape[0], dtype=torch.float64)
    out = torch.full_like(x, torch.nan)
    assert M.matvec_into(x, out) is out
    first = out.clone()
    before = x.clone()
    with torch.profiler.profile(profile_memory=True) as profile:
        M.matvec_into(x, out)
    assert torch.equal(out, first)
    assert torch.equal(x, before)  # the input is not a work array
    allocated = sum(max(event.self_cpu_memory_usage, 0) for event in profile.key_averages())
    assert allocated < x[0].numel() * x.element_size() / 10  # no vector of the finest level, nor of the next ones


@pytest.mark.usefixtures("single_on_small_grids")
@pytest.mark.parametrize(("precision", "round_off"), [("double", 1e-14), ("auto", 1e-6)])
def test_each_batch_size_gets_its_own_buffers_and_the_same_numbers(precision, round_off):
    """Equal except for the order of sums on the coarsest level."""
    A, M = _cycle(precision=precision)
    x = torch.randn(4, A.shape[0], dtype=torch.float64)
    together = M @ x
    assert (M @ x.view(2, 2, -1)).shape == (2, 2, A.shape[0])
    for row, expected in zip(x, together):
        torch.testing.assert_close(M @ row, expected, rtol=0, atol=round_off * float(expected.abs().max()))


@pytest.mark.usefixtures("single_on_small_grids")
@pytest.mark.parametrize("power", [-1000, -200, -50, -20, 0, 20, 50, 200, 1000])
def test_the_size_of_the_vector_before_leaves_no_trace(power):
    """Levels in single precision are given vectors over a power of two, first over that of the vector before."""
    A, M = _cycle()
    assert M.levels[0].operator.dtype == torch.float32
    x = torch.randn(A.shape[0], dtype=torch.float64)
    expected, start = M @ x, M.full_multigrid(x)
    assert torch.equal(M @ (x * 2.0**power), expected * 2.0**power)
    assert torch.equal(M.full_multigrid(x), start)
    assert torch.equal(M.full_multigrid(x * 2.0**power), start * 2.0**power)
    assert torch.equal(M @ x, expected)


@pytest.mark.usefixtures("single_on_small_grids")
@pytest.mark.parametrize(("precision", "round_off"), [("double", 1e-13), ("auto", 1e-4)])
def test_the_cycle_is_linear(precision, round_off):
    """Up to round-off, which the condition of the matrix (here some 10^3) may enlarge."""
    A, M = _cycle(precision=precision)
    x, y = torch.randn(2, A.shape[0], dtype=torch.float64)
    sum_of_both = 2 * (M @ x) - 3 * (M @ y)
    torch.testing.assert_close(
        M @ (2 * x - 3 * y), sum_of_both, rtol=0, atol=round_off * float(sum_of_both.abs().max())
    )
    assert not (M @ torch.zeros(A.shape[0], dtype=torch.float64)).any()


@pytest.mark.parametrize("n", [32, 50, 101])
def test_full_multigrid_is_better_than_one_cycle_and_almost_the_solution(n):
    problem = sb.Diffusion(sb.Grid((n, n)), lambda x, y: 1 + x * y, lambda x, y: torch.sin(6 * x) + y)
    solver = sb.prepare(problem, method="multigrid")
    A, M, b = solver.operator, solver.as_preconditioner(), solver.rhs
    x = sb.cg(A, b, M=M, rtol=1e-12).x

    def error(v):
        e = v - x
        return float((e * (A @ e)).sum().sqrt() / (x * (A @ x)).sum().sqrt())

    full, one = error(M.full_multigrid(b)), error(M @ b)
    assert full < one / 2
    assert full < 0.02  # the discretisation error of these grids is larger
    assert M.full_multigrid(b).shape == b.shape


def test_more_sweeps_make_a_better_cycle():
    A, b = _cycle()[0], None
    b = torch.randn(A.shape[0], dtype=torch.float64)
    counts = [int(sb.cg(A, b, M=_cycle(steps=k)[1], rtol=1e-10).iterations) for k in (1, 2, 4)]
    assert counts[0] > counts[1] > counts[2]


def test_a_batch_of_the_wrong_size_is_refused_before_a_loop_runs_off_its_end():
    grid = sb.Grid((20, 20))
    solver = sb.prepare(sb.Diffusion(grid, torch.rand(3, 20, 20, dtype=torch.float64) + 0.5, 1.0))
    M = solver.as_preconditioner()
    assert M.batch == 3
    x = torch.randn(2, M.shape[0], dtype=torch.float64)
    for operator in (M, solver.operator):
        with pytest.raises(InputError, match="a batch of 3 operators cannot be applied to 2 vectors"):
            operator @ x


@pytest.mark.usefixtures("single_on_small_grids")
def test_samples_are_scaled_each_by_its_size():
    A, M = _cycle()
    x = torch.randn(4, A.shape[0], dtype=torch.float64)
    x[3] = 0.0
    expected = M @ x
    scale = torch.tensor([2.0**-200, 1.0, 2.0**200, 1.0], dtype=torch.float64).unsqueeze(1)
    assert torch.equal(M @ (scale * x), scale * expected)
    x[1, 0] = torch.nan
    assert torch.equal((M @ x)[[0, 2, 3]], expected[[0, 2, 3]])


@pytest.mark.usefixtures("single_on_small_grids")
def test_threads_may_share_a_cycle_and_copies_have_buffers_of_their_own():
    A, M = _cycle()
    x = torch.randn(2, A.shape[0], dtype=torch.float64)
    expected = [M @ row for row in x]
    wrong = []

    def work(k):
        wrong.extend(1 for _ in range(200) if not torch.equal(M @ x[k], expected[k]))

    threads = [threading.Thread(target=work, args=(k,)) for k in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not wrong
    for other in (copy.deepcopy(M), pickle.loads(pickle.dumps(M))):
        assert torch.equal(other @ x[0], expected[0])
        assert other._work is not M._work
        assert all(level.stage.work is not mine.stage.work for level, mine in zip(other.levels, M.levels))
