from __future__ import annotations

import numpy as np
import pytest
import scipy.sparse.linalg
import torch

import sciml_bounds as sb
from sciml_bounds.kernels import use_backend
from sciml_bounds.kernels.coarsen import galerkin
from sciml_bounds.kernels.interpolation import interpolation_weights
from sciml_bounds.multigrid._geometric import LatticeLevel, _coupling, galerkin_coarsening, lattice_cycle
from sciml_bounds.operators._lattice_operator import LatticeOperator

RNG = np.random.default_rng(0)


def _random(shape, decades):
    return 10 ** RNG.uniform(-decades / 2, decades / 2, shape)


def _solid(shape):
    mask = RNG.random(shape) < 0.3
    mask[0] = mask[-1] = False
    return mask


def _chamber(shape):
    """One cell behind walls: its four nodes shrink to one coarse point without any neighbour."""
    mask = np.zeros(shape, dtype=bool)
    mask[6:9, 6:9] = True
    mask[7, 7] = False
    return mask


MIXED = {"x0": sb.Dirichlet(0.0), "x1": sb.Robin(2.0, 1.0), "y0": sb.Neumann(), "y1": sb.Dirichlet(0.0)}
CHANNEL = {"x0": sb.Periodic(), "x1": sb.Periodic(), "y0": sb.Dirichlet(0.0), "y1": sb.Neumann()}

#: Problems with at least two levels; grid shape, coefficient, further fields.
PROBLEMS = {
    "line": ((150,), _random((150,), 2), {}),
    "periodic line": ((151,), _random((151,), 2), {"boundary": sb.Periodic()}),
    "dirichlet": ((15, 16), 1.0, {}),
    "mixed sides": ((14, 17), _random((14, 17), 2), {"boundary": MIXED}),
    "neumann": ((13, 18), _random((13, 18), 2), {"boundary": sb.Neumann()}),
    "periodic": ((16, 15), _random((16, 15), 2), {"boundary": sb.Periodic()}),
    "odd seam": ((15, 12), _random((15, 12), 2), {"boundary": CHANNEL}),
    "jumps 1e6": ((17, 16), np.where(RNG.random((17, 16)) < 0.5, 1e6, 1.0), {}),
    "jumps 1e6, neumann": ((17, 16), np.where(RNG.random((17, 16)) < 0.5, 1e6, 1.0), {"boundary": sb.Neumann()}),
    "solids": ((16, 17), 1.0, {"solid": _solid((16, 17))}),
    "closed chamber": ((16, 17), 1.0, {"solid": _chamber((16, 17))}),
    "solids, jumps 1e4": ((16, 17), _random((16, 17), 4), {"solid": _solid((16, 17)), "reaction": 0.1}),
    "reaction": ((15, 16), 1.0, {"reaction": 100.0 * RNG.random((15, 16)), "boundary": sb.Neumann()}),
    "anisotropy 1:1000": ((16, 17), (np.full((16, 17), 1.0), np.full((16, 17), 1e-3)), {}),
    "box": ((6, 7, 5), _random((6, 7, 5), 2), {}),
    "box, periodic and neumann": ((6, 5, 6), _random((6, 5, 6), 4), {"boundary": {
        "x0": sb.Periodic(), "x1": sb.Periodic(), "y0": sb.Neumann(), "y1": sb.Neumann(),
        "z0": sb.Periodic(), "z1": sb.Periodic()}}),
    "flat box": ((6, 6, 6), tuple(np.full((6, 6, 6), a) for a in (1.0, 1e-2, 1e-4)), {}),
}  # fmt: skip


def _matrices(problem, lattice, media, sweeps=2, **options):
    A = media.operator(problem, lattice)
    M = lattice_cycle(A, sweeps, precision="double", **options)
    assert len(M.levels) >= 1
    eye = torch.eye(A.shape[0], dtype=torch.float64)
    return A, A.to_csr().toarray(), (M @ eye).numpy().T


def _spectrum(A, M):
    """Eigenvalues of M A on the range of A, by the similar symmetric matrix A^1/2 M A^1/2."""
    values, vectors = np.linalg.eigh(A)
    root = vectors * np.sqrt(np.where(values > 1e-12 * values[-1], values, 0.0))
    S = root.T @ M @ root
    found = np.linalg.eigvalsh((S + S.T) / 2)
    return found[int((values <= 1e-12 * values[-1]).sum()) :]


@pytest.mark.parametrize("lattice", ["nodes", "cells"])
@pytest.mark.parametrize("name", PROBLEMS)
def test_the_cycle_is_symmetric_positive_definite_and_contracts(name, lattice, media):
    shape, coefficient, fields = PROBLEMS[name]
    problem = sb.Diffusion(sb.Grid(shape), coefficient, 0.0, **fields)
    _, A, M = _matrices(problem, lattice, media)
    assert np.abs(M - M.T).max() <= 1e-12 * np.abs(M).max()
    # With the same smoother before and after, and Galerkin coarse operators, I - M A is similar to a positive
    # semi-definite matrix: no eigenvalue of M A exceeds one. The slack is the round-off of the square root of A.
    eigenvalues = _spectrum(A, M)
    assert eigenvalues[-1] <= 1 + 1e-7
    assert eigenvalues[0] > 1e-5  # cell-wise random jumps of 1e6 leave 4e-5, all others more than 5e-3


@pytest.mark.parametrize("lattice", ["nodes", "cells"])
@pytest.mark.parametrize("name", ["dirichlet", "periodic", "mixed sides", "box"])
def test_with_galerkin_products_a_cycle_shrinks_errors_by_five_for_smooth_coefficients(name, lattice, media):
    shape, _, fields = PROBLEMS[name]
    problem = sb.Diffusion(sb.Grid(shape), 1.0, 0.0, **fields)
    _, A, M = _matrices(problem, lattice, media, coarsen=galerkin_coarsening)
    assert _spectrum(A, M)[0] > 0.8


@pytest.mark.parametrize("name", ["dirichlet", "neumann", "jumps 1e6", "odd seam", "solids", "box"])
def test_the_coarse_level_corrects_what_it_can_represent_exactly(name, media):
    shape, coefficient, fields = PROBLEMS[name]
    A = media.operator(sb.Diffusion(sb.Grid(shape), coefficient, 0.0, **fields), "nodes")
    axes = tuple(n > 1 for n in A.lattice)
    weights, defect = interpolation_weights(A.offsets, A.conductance, A.absorption, axes)
    level = LatticeLevel(A, A.absolute_row_sums().reciprocal(), axes, weights)
    *coarse, _ = galerkin(A.offsets, A.conductance, A.absorption, axes, weights, defect, A.diagonal())
    coarse = LatticeOperator(*coarse)
    e = torch.randn(1, *coarse.lattice, dtype=torch.float64)
    fine, r = level.empty(1).zero_(), level.empty(1)
    level.ascend(e, fine, (), fine, fine)  # an error in the range of the prolongation
    level.residual(fine, torch.zeros_like(fine), r)
    restricted = torch.empty_like(e)
    level.descend(r, (), fine, restricted)
    # P^T A P e = A_c e, so the coarse solve finds e up to the null space
    expected = coarse @ e.reshape(1, -1)
    torch.testing.assert_close(
        -restricted.reshape(1, -1), expected, rtol=0, atol=1e-13 * float(coarse.norm_upper[0]) * 10
    )


@pytest.mark.parametrize("name", ["line", "dirichlet", "neumann", "jumps 1e6", "box"])
def test_the_hierarchy_is_the_same_with_the_reference_kernels(name, media):
    shape, coefficient, fields = PROBLEMS[name]
    A = media.operator(sb.Diffusion(sb.Grid(shape), coefficient, 0.0, **fields), "nodes")
    x = torch.randn(2, A.shape[0], dtype=torch.float64)
    with use_backend("torch"):
        reference = lattice_cycle(A, precision="double") @ x
    compiled = lattice_cycle(A, precision="double") @ x
    torch.testing.assert_close(compiled, reference, rtol=0, atol=1e-9 * float(reference.abs().max()))


@pytest.mark.parametrize("shape", [(7, 6), (63,), (3, 2, 4)])
def test_a_small_lattice_is_inverted(shape, media):
    A = media.operator(sb.Diffusion(sb.Grid(shape), _random(shape, 3)), "cells")
    M = lattice_cycle(A, precision="double")
    assert M.levels == []
    x = torch.randn(2, A.shape[0], dtype=torch.float64)
    torch.testing.assert_close(M @ (A @ x), x, rtol=0, atol=1e-10)
    torch.testing.assert_close(M.full_multigrid(A @ x), x, rtol=0, atol=1e-10)


def test_every_sample_of_a_batch_has_its_own_hierarchy(media):
    grid, a = sb.Grid((20, 21)), _random((3, 20, 21), 3)
    A = media.operator(sb.Diffusion(grid, a), "nodes")
    x = torch.randn(3, A.shape[0], dtype=torch.float64)
    together = lattice_cycle(A, precision="double") @ x
    for k in range(3):
        alone = lattice_cycle(media.operator(sb.Diffusion(grid, a[k]), "nodes"), precision="double") @ x[k]
        torch.testing.assert_close(together[k], alone, rtol=0, atol=1e-12 * float(alone.abs().max()))


def test_every_sample_has_its_own_walls(media):
    grid, scales = sb.Grid((24, 25)), (1.0, 1e3, 1e-3)
    solid = np.stack([media.discs((24, 25), seed) for seed in range(3)])
    solid[2] = False
    a = np.stack([np.full((24, 25), scale) for scale in scales])
    A = media.operator(sb.Diffusion(grid, a, solid=solid), "cells")
    x = torch.randn(3, A.shape[0], dtype=torch.float64)
    M = lattice_cycle(A, precision="double")
    together, full = M @ x, M.full_multigrid(x)
    for k in range(3):
        alone = lattice_cycle(media.operator(sb.Diffusion(grid, a[k], solid=solid[k]), "cells"), precision="double")
        torch.testing.assert_close(together[k], alone @ x[k], rtol=0, atol=1e-12 * float(together[k].abs().max()))
        torch.testing.assert_close(full[k], alone.full_multigrid(x[k]), rtol=0, atol=1e-12 * float(full[k].abs().max()))


def test_walls_conduct_over_the_seam_of_periodic_axes_only(media):
    solid = media.discs((24, 25), 0)
    solid[0, :12] = True
    for boundary, joined in ((sb.Dirichlet(0.0), False), (CHANNEL, True)):
        A = media.operator(sb.Diffusion(sb.Grid((24, 25)), solid=solid, boundary=boundary), "cells")
        behind_walls = lattice_cycle(A).levels[0].operator.conductance[0, 0, 0, -1, :12]
        assert bool((behind_walls > 0).all()) == joined


@pytest.mark.parametrize("lattice", ["nodes", "cells"])
def test_walls_are_inverted_and_pass_nothing_on(lattice, media):
    A = media.operator(sb.Diffusion(sb.Grid((24, 25)), 7.0, solid=media.discs((24, 25), 0)), lattice)
    M = lattice_cycle(A)
    matrix = A.to_csr().toarray()
    walls = torch.as_tensor(np.count_nonzero(matrix, axis=1) == 1)
    assert 24 < int(walls.sum()) < A.shape[0]
    x = torch.randn(A.shape[0], dtype=torch.float64)
    for apply in (M.matvec, M.full_multigrid):
        torch.testing.assert_close(apply(A @ x)[walls], x[walls])
        assert bool((apply(torch.where(walls, x, 0.0))[~walls] == 0).all())


def test_single_precision(media):
    a = _random((40, 33), 4).astype(np.float32)
    A = media.operator(sb.Diffusion(sb.Grid((40, 33)), a), "nodes")
    M = lattice_cycle(A)
    assert M.dtype == torch.float32
    s = sb.cg(A, torch.randn(A.shape[0]), M=M)
    assert bool(s.converged)
    assert int(s.iterations) <= 12


def test_single_precision_serves_large_grids(media):
    for n, expected in ((64, torch.float64), (128, torch.float32)):
        cycle = lattice_cycle(media.operator(sb.Diffusion(sb.Grid((n, n))), "nodes"))
        assert cycle.levels[0].operator.dtype == expected


@pytest.mark.usefixtures("single_on_small_grids")
@pytest.mark.parametrize("name", ["mixed sides", "neumann", "periodic", "solids", "reaction", "box"])
def test_mixed_precision_takes_the_same_iterations_to_the_same_residual(name, media):
    """Down to the round-off of double precision: only cycles are single."""
    shape, coefficient, fields = PROBLEMS[name]
    for lattice in ("nodes", "cells"):
        A = media.operator(sb.Diffusion(sb.Grid(shape), coefficient, 0.0, **fields), lattice)
        single, double = (lattice_cycle(A, precision=precision) for precision in ("auto", "double"))
        assert single.levels[0].operator.dtype == torch.float32
        assert double.levels[0].operator.dtype == torch.float64
        b = A @ torch.randn(A.shape[0], dtype=torch.float64)
        mixed, pure = (sb.cg(A, b, M=M, rtol=1e-13, maxiter=60) for M in (single, double))
        assert bool(mixed.converged)
        assert not mixed.flexible
        assert int(mixed.iterations) <= int(pure.iterations) + 1


@pytest.mark.usefixtures("single_on_small_grids")
@pytest.mark.parametrize("size", [1e-70, 1e70])
def test_single_precision_has_range_enough(size, media):
    """Single precision overflows beyond 1e38: matrices, residuals and solutions are scaled first."""
    a = _random((40, 33), 2)
    A = media.operator(sb.Diffusion(sb.Grid((40, 33)), size * a), "nodes")
    M = lattice_cycle(A)
    assert M.levels[0].operator.dtype == torch.float32
    for right in (1e-70, 1e70):
        b = right * torch.randn(2, A.shape[0], dtype=torch.float64)
        assert bool(sb.cg(A, b, M=M, maxiter=20).converged.all())
        one = sb.cg(A, b[0], x0=M.full_multigrid(b)[0], M=M)  # a good guess is not far from the solution
        assert float(one.residual_norms[0]) < 0.3 * float(b[0].norm())


def test_batches_in_single_precision(media):
    """Each sample has its own scale factor, which may be one."""
    a = _random((3, 40, 33), 2).astype(np.float32)
    A = media.operator(sb.Diffusion(sb.Grid((40, 33)), a), "nodes")
    b = torch.randn(3, A.shape[0])
    assert bool(sb.cg(A, b, M=lattice_cycle(A), rtol=1e-4, maxiter=12).converged.all())


@pytest.mark.usefixtures("single_on_small_grids")
def test_large_jumps_are_left_in_double_precision(media):
    for jump, expected in ((1e4, torch.float32), (1e6, torch.float64)):
        a = np.where(np.arange(40) < 20, jump, 1.0)[:, None].repeat(40, 1)
        A = media.operator(sb.Diffusion(sb.Grid((40, 40)), np.stack([a, np.ones_like(a)])), "nodes")
        assert lattice_cycle(A).levels[0].operator.dtype == expected
        assert lattice_cycle(A, precision="double").levels[0].operator.dtype == torch.float64
    reacting = sb.Diffusion(sb.Grid((40, 40)), 1.0, reaction=1e30)  # conductances would vanish beside it
    assert lattice_cycle(media.operator(reacting, "nodes")).levels[0].operator.dtype == torch.float64


# --- which axes are coarsened -----------------------------------------------------------------------------------------


def _coarsened(problem, media):
    return [level.stage.axes for level in lattice_cycle(media.operator(problem, "cells")).levels]


def test_equal_couplings_are_coarsened_together(media):
    assert set(_coarsened(sb.Diffusion(sb.Grid((64, 64))), media)) == {(False, True, True)}
    assert set(_coarsened(sb.Diffusion(sb.Grid((20, 20, 20))), media)) == {(True, True, True)}
    assert set(_coarsened(sb.Diffusion(sb.Grid(300)), media)) == {(False, False, True)}


def test_the_weakly_coupled_axis_waits_until_the_couplings_are_level(media):
    shape = (64, 64)
    coefficient = (np.full(shape, 1.0), np.full(shape, 1e-3))
    axes = _coarsened(sb.Diffusion(sb.Grid(shape), coefficient), media)
    # each semi-coarsening divides the ratio of the couplings by four: from 1000 to less than two takes five, and four
    # are left before the axis is down to its shortest length
    assert axes[:4] == [(False, True, False)] * 4
    stretched = _coarsened(sb.Diffusion(sb.Grid(shape, lengths=(1.0, 4.0))), media)
    assert stretched[:2] == [(False, True, False)] * 2
    assert set(stretched[2:]) == {(False, True, True)}


# --- iterations -------------------------------------------------------------------------------------------------------


def _iterations(problem, lattice, media):
    """Conjugate gradients to max(1e-8 ||b||, 10 eps ||A|| ||x||), which the loop knows from the operator."""
    A = media.operator(problem, lattice)
    b = torch.as_tensor(np.random.default_rng(0).standard_normal(A.shape[0]))
    s = sb.cg(A, b, M=lattice_cycle(A), rtol=1e-8, maxiter=50)
    assert not s.flexible
    return int(s.iterations)


@pytest.mark.parametrize("lattice", ["nodes", "cells"])
@pytest.mark.parametrize("name", ["constant", "log-normal", "12/3"])
def test_moderate_coefficients_in_two_dimensions(name, lattice, media):
    counts = {n: _iterations(sb.Diffusion(sb.Grid((n, n)), media.field(name, (n, n))), lattice, media)
              for n in (64, 97, 128, 200, 211, 255, 256)}  # fmt: skip
    assert max(counts.values()) <= 8
    assert counts[128] - counts[64] <= 2
    assert counts[256] - counts[128] <= 2


@pytest.mark.slow
@pytest.mark.parametrize("lattice", ["nodes", "cells"])
@pytest.mark.parametrize("name", ["constant", "log-normal", "12/3"])
def test_moderate_coefficients_in_three_dimensions(name, lattice, media):
    counts = {n: _iterations(sb.Diffusion(sb.Grid((n,) * 3), media.field(name, (n,) * 3)), lattice, media)
              for n in (32, 33, 64)}  # fmt: skip
    assert max(counts.values()) <= 10
    assert counts[64] - counts[32] <= 2


@pytest.mark.parametrize("lattice", ["nodes", "cells"])
@pytest.mark.parametrize("name", ["two-phase 1e4", "two-phase 1e6", "inclusions 1e6", "inclusions 1e-6"])
def test_two_phases_and_round_inclusions(name, lattice, media):
    for seed in range(3):
        for n in (64, 101, 128, 200):
            assert _iterations(sb.Diffusion(sb.Grid((n, n)), media.field(name, (n, n), seed)), lattice, media) <= 15


@pytest.mark.parametrize("lattice", ["nodes", "cells"])
def test_solid_discs_cost_as_much_at_every_size(lattice, media):
    """Without conducting walls 11 to 20 (nodes) and 11 to 26 (cells) iterations, growing with the size."""
    for seed in range(3):
        for n in (64, 101, 128):
            solid = media.discs((n, n), seed)
            assert _iterations(sb.Diffusion(sb.Grid((n, n)), solid=solid), lattice, media) <= 10


@pytest.mark.parametrize("lattice", ["nodes", "cells"])
@pytest.mark.parametrize("low", [1e-4, 1e-6])
def test_walls_conduct_less_than_the_fluid_with_the_smallest_coefficient(low, lattice, media):
    for n in (64, 101):
        solid = media.discs((n, n), 1)
        a = np.where(media.field("two-phase 1e4", (n, n)) > 1, 1.0, low)
        assert _iterations(sb.Diffusion(sb.Grid((n, n)), a, solid=solid), lattice, media) <= 12


@pytest.mark.parametrize("lattice", ["nodes", "cells"])
def test_a_winding_channel_is_resolved_on_the_coarsest_level(lattice, media):
    n, width = 64, 8
    solid = np.zeros((n, n), dtype=bool)
    for turn in range(1, 8):
        solid[turn * width, slice(width, None) if turn % 2 else slice(n - width)] = True
    sides = {"x0": sb.Dirichlet(0.0), "x1": sb.Neumann(), "y0": sb.Neumann(), "y1": sb.Neumann()}
    problem = sb.Diffusion(sb.Grid((n, n)), solid=solid, boundary=sides)
    assert _iterations(problem, lattice, media) <= 12


@pytest.mark.parametrize("lattice", ["nodes", "cells"])
@pytest.mark.parametrize("axis", [0, 1])
def test_anisotropy_of_a_thousand(axis, lattice, media):
    for shape in ((64, 64), (97, 130)):
        for name in ("constant", "log-normal", "12/3"):
            a = media.field(name, shape)
            parts = (a, 1e-3 * a) if axis else (1e-3 * a, a)
            assert _iterations(sb.Diffusion(sb.Grid(shape), parts), lattice, media) <= 12


@pytest.mark.parametrize("lattice", ["nodes", "cells"])
@pytest.mark.parametrize("ratio", [1.3, 1.9, 2.0, 3.0, 10.0, 1000.0])
def test_cells_of_any_proportion(ratio, lattice, media):
    assert _iterations(sb.Diffusion(sb.Grid((70, 64), lengths=(1.0, ratio))), lattice, media) <= 8
    box = sb.Grid((18, 17, 18), lengths=(ratio, 1.0, ratio**0.5))
    assert _iterations(sb.Diffusion(box), lattice, media) <= 10


@pytest.mark.parametrize("boundary", [sb.Neumann(), sb.Periodic(), MIXED, CHANNEL], ids=["N", "P", "mixed", "channel"])
def test_other_sides_cost_little_more(boundary, media):
    for shape in ((64, 65), (97, 128)):
        f = RNG.standard_normal(shape)
        problem = sb.Diffusion(sb.Grid(shape), media.field("12/3", shape), f - f.mean(), boundary=boundary)
        assert int(sb.solve(problem, rtol=1e-8).iterations) <= 12


# --- inside other packages --------------------------------------------------------------------------------------------


def test_scipy_takes_the_cycle_as_a_preconditioner(media):
    problem = sb.Diffusion(sb.Grid((50, 45)), media.field("two-phase 1e4", (50, 45)), 1.0)
    solver = sb.prepare(problem, method="multigrid")
    A, b = solver.operator.to_csr(), solver.rhs[0].numpy()
    count = []
    x, status = scipy.sparse.linalg.cg(A, b, M=solver.as_preconditioner().to_scipy(), rtol=1e-8, callback=count.append)
    assert status == 0
    assert np.linalg.norm(b - A @ x) <= 1e-8 * np.linalg.norm(b)
    ours = sb.cg(solver.operator, solver.rhs, M=solver.as_preconditioner(), rtol=1e-8)
    assert len(count) == int(ours.iterations)
    np.testing.assert_allclose(x, ours.x[0], rtol=0, atol=1e-9 * np.abs(x).max())


def test_couplings_along_an_axis_are_counted_where_those_on_the_axis_itself_cancel():
    """The count includes points with any neighbour along the axis, so that cancellation errors cannot change it."""
    offsets = ((0, 0, 1), (0, 1, -1), (0, 1, 0), (0, 1, 1))
    seen = torch.tensor([[[8.0, 2, 1, 5], [3.0, 14, 1, 1], [24.0, 15, 2, 2], [3.0, 14, 1, 1]]])  # sum, count, extremes
    assert float(_coupling(offsets, seen, 2)) == 14 / 14
    assert float(_coupling(offsets, seen, 1)) == 30 / 15
    assert float(_coupling(offsets, seen, 0)) == 0


@pytest.mark.parametrize("reaction", [1e-12, 1e-10, 1e-9, 1e-7, 1e-5])
@pytest.mark.parametrize("side", [sb.Periodic(), sb.Neumann()], ids=["periodic", "neumann"])
def test_what_almost_nothing_holds_is_solved_as_fast_as_in_double_precision(reaction, side):
    a = torch.exp(torch.rand(40, 40, dtype=torch.float64))
    f = torch.randn(40, 40, dtype=torch.float64)
    grid = sb.Grid((40, 40), lengths=(40.0, 40.0))
    sides = dict.fromkeys(("x0", "x1", "y0", "y1"), side)
    problem = sb.Diffusion(grid, a, f - f.mean() + 1, reaction=reaction, boundary=sides)
    counts = {}
    for precision in ("auto", "double"):
        for cycle in ("full", "V"):
            solution = sb.solve(problem, method=sb.Multigrid(cycle=cycle, precision=precision), rtol=1e-10)
            assert solution.converged
            counts[precision, cycle] = int(solution.iterations)
    for cycle in ("full", "V"):
        assert counts["auto", cycle] <= counts["double", cycle] + 4  # at 1e-7; none elsewhere
