"""Direction networks in conjugate gradients: on nodes, on lattices, around solids, with walls at the ends."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from refusals import refusals, refused

import sciml_bounds as sb
from sciml_bounds.evolution.pressure_projection import PressureEquations
from sciml_bounds.problems.discretization import cell_fluxes

NAMES = ("dcdm", "multigrid")


def _network(name, dim=2, seed=0):
    torch.manual_seed(seed)
    options = {"channels": 4, "before": 1, "coarse": 1, "after": 1} if name == "dcdm" else {"levels": 2}
    return sb.LearnedDirections(name, dim=dim, **options)


def _pressure(shape, solid=None, sides=sb.Neumann):
    """The cell-centred equations of a pressure with walls (or other sides), spacing one."""
    grid = sb.Grid(shape, lengths=tuple(map(float, shape)))
    return cell_fluxes(sb.Diffusion(grid, 1.0, 0.0, boundary=sides(), solid=solid)).system


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("dim", [2, 3])
def test_random_weights_cost_iterations_and_not_correctness(name, dim):
    n = {2: 13, 3: 6}[dim]
    rng = np.random.default_rng(0)
    solid = np.zeros((n,) * dim, dtype=bool)
    solid[(slice(2, 5),) * dim] = True
    problem = sb.Diffusion(sb.Grid((n,) * dim), 1.0, rng.standard_normal((2, *(n,) * dim)), solid=solid)
    solver = sb.prepare(problem, method="multigrid")
    M = _network(name, dim).as_preconditioner(solver)
    assert (M.symmetric, M.linear, M.batch, M.shape) == (None, None, 1, solver.operator.shape)
    b = solver.rhs
    s = sb.cg(solver.operator, b, M=M)
    assert s.flexible
    assert bool(s.converged.all())
    assert s.dropped_directions.tolist() == [0, 0]
    exact = sb.prepare(problem, method="direct").solve().values.reshape(s.x.shape)
    torch.testing.assert_close(s.x, exact, rtol=0, atol=1e-6 * float(exact.abs().max()))


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("size", [1e-200, 1e-8, 1e8], ids=str)
def test_the_network_sees_residuals_of_norm_one(name, size):
    """Single precision sees the same numbers, up to the round-off of the division."""
    M = _network(name).as_preconditioner((6, 7))
    r = torch.randn(3, 42, dtype=torch.float64)
    found = M.matvec(r)
    torch.testing.assert_close(M.matvec(size * r) / size, found, rtol=0, atol=1e-5 * float(found.abs().max()))


def test_directions_are_those_of_the_network():
    net = _network("dcdm")
    r = torch.randn(2, 42, dtype=torch.float64)
    unit = r / r.norm(dim=1, keepdim=True)
    expected = net(unit.view(2, 1, 6, 7).float()).flatten(1).double() * r.norm(dim=1, keepdim=True)
    torch.testing.assert_close(net.as_preconditioner((6, 7)).matvec(r), expected.detach())


@pytest.mark.parametrize("name", NAMES)
def test_residuals_that_are_zero_or_not_finite_give_zeros_and_leave_the_others_alone(name):
    M = _network(name).as_preconditioner((6, 7))
    r = torch.randn(4, 42, dtype=torch.float64)
    expected = M.matvec(r[:1])
    r[1], r[2, 3], r[3, 5] = 0.0, torch.nan, torch.inf
    found = M.matvec(r)
    torch.testing.assert_close(found[:1], expected, rtol=1e-5, atol=1e-6 * float(expected.abs().max()))
    assert not found[1:].any()


@pytest.mark.parametrize("name", NAMES)
def test_many_samples_are_as_many_single_ones(name):
    M = _network(name).double().as_preconditioner((6, 7))
    r = torch.randn(37, 42, dtype=torch.float64)
    torch.testing.assert_close(M.matvec(r), torch.stack([M.matvec(row) for row in r]), rtol=0, atol=1e-13)
    assert M.matvec(r[:0]).shape == (0, 42)


@pytest.mark.parametrize("name", NAMES)
def test_nothing_comes_out_where_there_is_no_fluid(name):
    solid = np.zeros((8, 8), dtype=bool)
    solid[3:6, 2:5] = True
    lattice = _pressure((8, 8), solid, lambda: sb.Dirichlet(0.0)).operator
    found = _network(name).as_preconditioner(lattice).matvec(torch.ones(1, 64, dtype=torch.float64)).view(8, 8)
    assert (found == 0).numpy().tolist() == solid.tolist()
    geometry = np.ones((8, 8))
    geometry[0], geometry[4, 4] = 2, 0
    given = _network(name).as_preconditioner((8, 8), geometry=geometry).matvec(torch.ones(64, dtype=torch.float64))
    assert (given.view(8, 8) == 0).numpy().tolist() == (geometry != 1).tolist()


@pytest.mark.parametrize("name", NAMES)
def test_walls_all_around_leave_no_mean(name):
    """Constants are in the null space; of a problem the mean goes from each part of the fluid by itself."""
    system = _pressure((8, 9))
    M = _network(name).as_preconditioner(system.operator)
    found = M.matvec(torch.randn(3, 72, dtype=torch.float64))
    assert float(found.mean(1).abs().max()) < 1e-15 * 72
    solid = np.zeros((9, 9), dtype=bool)
    solid[4] = True
    problem = sb.Diffusion(sb.Grid((9, 9)), 1.0, 0.0, boundary=sb.Neumann(), solid=solid)
    field = _network(name).as_preconditioner(problem).matvec(torch.randn(1, 100, dtype=torch.float64)).view(10, 10)
    weights = torch.ones(10, dtype=torch.float64)
    weights[[0, -1]] = 0.5
    below = torch.tensor([0.5, 1.0, 1.0, 1.0, 0.5], dtype=torch.float64)
    for part in (field[:5], field[5:]):  # four cells each, with the volumes that their nodes stand for
        assert float((below.unsqueeze(1) * weights * part).sum().abs()) < 1e-12


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("open_sides", [(), ("x0",)], ids=["closed", "one part open"])
def test_each_part_of_the_fluid_has_its_own_mean(name, open_sides):
    """A wall in the middle; a part that floats has directions, and so a solution, of mean zero."""
    solid = torch.zeros(9, 8, dtype=torch.bool)
    solid[4] = True
    equations = PressureEquations(sb.Grid((9, 8)), solid, open_sides)
    velocity = [torch.randn(shape, dtype=torch.float64) for shape in ((10, 8), (9, 9))]
    system = equations.system(equations.close(tuple(velocity)))
    b = system.rhs.flatten(1)
    exact = np.linalg.pinv(system.operator.to_csr().toarray(), rcond=1e-10, hermitian=True) @ b[0].numpy()
    for lattice in (system, system.operator):
        M = _network(name).as_preconditioner(lattice)
        field = M.matvec(torch.randn(3, 72, dtype=torch.float64)).view(3, 9, 8)
        assert not field[:, 4].any()
        assert float(field[:, 5:].mean((1, 2)).abs().max()) < 1e-14
        assert (float(field[:, :4].mean((1, 2)).abs().max()) < 1e-14) is not bool(open_sides)
        x = sb.cg(system.operator, b, M=M, rtol=1e-12).x[0]
        # the smallest eigenvalue that is not zero is above 0.03
        np.testing.assert_allclose(x, exact, rtol=0, atol=1e-10 * float(b.norm()))


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("side", ["x0", "x1", "y0", "y1"])
def test_an_open_side_is_seen_as_a_box_with_an_image_behind_it(name, side):
    """A closed box of twice the length has the odd solution of which one half is that of the open box."""
    axis, end = "xy".index(side[0]) + 1, int(side[1])
    shape = (8, 6)
    grid = sb.Grid(shape, lengths=tuple(map(float, shape)))
    sides = {name: sb.Dirichlet(0.0) if name == side else sb.Neumann() for name in grid.sides}
    open_box = cell_fluxes(sb.Diffusion(grid, 1.0, 0.0, boundary=sides)).system.operator
    wide = tuple(n * (1 + (k + 1 == axis)) for k, n in enumerate(shape))
    r = torch.randn(2, *shape, dtype=torch.float64)
    pair = [r, -r.flip(axis)] if end else [-r.flip(axis), r]
    net = _network(name).double()
    image = net.as_preconditioner(wide).matvec(torch.cat(pair, axis).flatten(1)).view(2, *wide)
    own, other = image.chunk(2, axis)[:: 1 if end else -1]
    expected = (own - other.flip(axis)).flatten(1) * 0.5**0.5  # of the norm of the whole one half is the root
    found = net.as_preconditioner(open_box).matvec(r.flatten(1))
    torch.testing.assert_close(found, expected, rtol=0, atol=1e-12 * float(expected.abs().max()))


def test_sides_are_open_where_their_points_alone_are_held():
    """A reaction everywhere is not an open side; of two open sides of an axis, the last is used."""
    grid = sb.Grid((6, 6))
    reaction = cell_fluxes(sb.Diffusion(grid, 1.0, 0.0, boundary=sb.Neumann(), reaction=3.0)).system.operator
    assert _network("dcdm").as_preconditioner(reaction)._lattice.mirrors == ()
    around = cell_fluxes(sb.Diffusion(grid, 1.0, 0.0)).system.operator
    assert _network("dcdm").as_preconditioner(around)._lattice.mirrors == ((-2, 1), (-1, 1))


@pytest.mark.parametrize("name", NAMES)
def test_a_singular_pressure_is_solved(name):
    solid = np.zeros((10, 12), dtype=bool)
    solid[3:6, 4:8] = True
    operator = _pressure((10, 12), solid).operator
    b = torch.randn(2, 120, dtype=torch.float64) * (~torch.as_tensor(solid).view(-1))
    fluid = torch.as_tensor(~solid).view(-1)
    b[:, fluid] -= b[:, fluid].mean(1, keepdim=True)
    s = sb.cg(operator, b, M=_network(name).as_preconditioner(operator), rtol=1e-9)
    assert bool(s.converged.all())
    assert float(s.x.abs().max()) < 1e3  # constants did not pile up


def test_each_sample_may_have_its_geometry():
    net = _network("multigrid")
    geometry = torch.randint(0, 3, (3, 6, 6), generator=torch.Generator().manual_seed(0))
    r = torch.randn(3, 36, dtype=torch.float64)
    M = net.as_preconditioner((6, 6), geometry=geometry)
    assert M.batch == 3
    apart = [net.as_preconditioner((6, 6), geometry=g).matvec(row) for g, row in zip(geometry, r)]
    torch.testing.assert_close(M.matvec(r), torch.stack(apart))
    refused("batch 3 2", lambda: M.matvec(r[:2]))


def test_the_published_span_is_asked_for_at_the_preconditioner():
    solver = sb.prepare(sb.Diffusion(sb.Grid((12, 12)), source=1.0))
    net = _network("dcdm")
    assert net.as_preconditioner(solver).safeguard
    with pytest.warns(sb.ConvergenceWarning):
        bare = sb.cg(solver.operator, solver.rhs, M=net.as_preconditioner(solver, published=True), maxiter=100)
    guarded = sb.cg(solver.operator, solver.rhs, M=net.as_preconditioner(solver))
    assert int(guarded.iterations) < int(bare.iterations)


def test_networks_of_both_kinds_are_interchangeable():
    solver = sb.prepare(sb.Diffusion(sb.Grid((16, 16)), source=1.0))
    torch.manual_seed(0)
    networks = [sb.MgNO(channels=2, layers=1, levels=3, fields=("source",)), _network("dcdm"), _network("multigrid")]
    for net in networks:
        s = sb.cg(solver.operator, solver.rhs, M=net.as_preconditioner(solver))
        assert s.flexible
        assert bool(s.converged.all())


@pytest.mark.parametrize("name", NAMES)
def test_a_source_without_a_pressure_is_refused(name):
    """With walls all around, what flows in must flow out."""
    operator = _pressure((6, 7)).operator
    M = _network(name).as_preconditioner(operator)
    refused("b mean 1 zero", lambda: sb.cg(operator, np.ones(42), M=M))
    batch = torch.randn(2, 42, dtype=torch.float64)
    batch -= batch.mean(1, keepdim=True)
    batch[1] += 1e-3
    refused("b mean 0.001", lambda: sb.cg(operator, batch, M=M))
    assert bool(sb.cg(operator, batch, M=M, atol=0.1).converged.all())  # where no more is asked for
    shape = _network(name).as_preconditioner((6, 7))  # of a matrix nothing is known, but residuals that grow are told
    with pytest.warns(sb.ConvergenceWarning, match="singular"):
        sb.cg(operator.to_csr(), batch[1], M=shape, maxiter=100)


def test_an_indefinite_matrix_is_told():
    with pytest.warns(sb.ConvergenceWarning, match="positive definite"):
        sb.cg(np.diag([1.0, 2.0, -3.0, 4.0]), np.ones(4), M=_network("dcdm").as_preconditioner((2, 2)), rtol=1e-12)


def _on(lattice, dim=2, **options):
    return _network("multigrid", dim).as_preconditioner(lattice, **options)


test_bad_input = refusals(
    ("3 axes 8x8", lambda: _on((8, 8), 3)),
    ("2 axes 8x8x8", lambda: _on((8, 8, 8))),
    ("two three axes line 8", lambda: _on((8,))),
    ("int Diffusion Solver", lambda: _on(3)),
    ("tuple", lambda: _on((8, 0))),
    ("geometry (8, 9)", lambda: _on((8, 8), geometry=np.ones((8, 9)))),
    ("geometry (8,)", lambda: _on((8, 8), geometry=np.ones(8))),
    ("geometry 3 solid fluid air", lambda: _on((8, 8), geometry=np.full((8, 8), 3))),
    ("geometry nan solid", lambda: _on((8, 8), geometry=np.full((8, 8), np.nan))),
    ("geometry bool", lambda: _on((8, 8), geometry=np.ones((8, 8), dtype=bool))),
    ("geometry complex128", lambda: _on((8, 8), geometry=np.ones((8, 8), dtype=complex))),
    ("geometry 10000000x10000000", lambda: _on((10**7, 10**7))),
    ("geometry array", lambda: _on((8, 8), geometry="box")),
    ("A symmetric", lambda: sb.cg(np.triu(np.ones((4, 4))), np.ones(4), M=_on((2, 2)))),
    ("b 1 NaN", lambda: sb.cg(np.eye(4), [1.0, np.nan, 1.0, 1.0], M=_on((2, 2)))),
    ("M (4, 4) b 5", lambda: sb.cg(np.eye(5), np.ones(5), M=_on((2, 2)))),
    ("LearnedDirections operator", lambda: sb.cg(np.eye(4), np.ones(4), M=_network("dcdm"))),
    ("M batch 2 3", lambda: sb.cg(np.eye(4), np.ones((3, 4)), M=_on((2, 2), geometry=np.ones((2, 2, 2))))),
)


@pytest.mark.parametrize("name", NAMES)
def test_it_follows_its_device(name, device):
    net = _network(name, 3).to(device)
    problem = sb.Diffusion(sb.Grid((8, 8, 8)), torch.ones((), device=device, dtype=torch.float64), 1.0)
    solver = sb.prepare(problem, method="multigrid")
    s = sb.cg(solver.operator, solver.rhs, M=net.as_preconditioner(solver))
    assert s.x.device == device
    assert bool(s.converged.all())
    refused(f"weights cpu {device}", lambda: net.cpu().as_preconditioner(solver))
