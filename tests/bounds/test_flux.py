"""Equilibrated fluxes: computed ones and given ones."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from refusals import refused

import sciml_bounds as sb
from sciml_bounds._linear import LinearSolver
from sciml_bounds.bounds import _flux as flux_module
from sciml_bounds.bounds._flux import THREE_DIGIT_SOLVER, divergence, equilibrate, equilibrated_flux
from sciml_bounds.operators._lattice_operator import LatticeSystem
from sciml_bounds.stopping import StoppingCriteria


def mixed_problem(batch: tuple[int, ...] = (), *, reaction: bool = False) -> sb.Diffusion:
    """Two dimensions, solids, jumps of 1e4, every kind of side but a periodic one."""
    rng = np.random.default_rng(4)
    shape = (7, 6)
    solid = np.zeros(shape, dtype=bool)
    solid[2, 1:5] = solid[5, 3:] = True
    a = np.where(rng.random(batch + shape) < 0.5, 1e4, 1.0)
    c = rng.random(shape) * (rng.random(shape) > 0.5) if reaction else 0.0
    sides = {"x0": sb.Dirichlet(0.3), "x1": sb.Robin(2.0, 1.0), "y0": sb.Neumann(0.4), "y1": sb.Neumann(-0.1)}
    grid = sb.Grid(shape, lengths=(1.0, 2.0))
    return sb.Diffusion(grid, a, rng.standard_normal(batch + shape), boundary=sides, solid=solid, reaction=c)


@pytest.mark.parametrize("rtol", [1e-10, 0.3])
@pytest.mark.parametrize("reaction", [False, True])
@pytest.mark.parametrize("batch", [(), (2,)])
def test_computed_flux_is_equilibrated_however_loose_the_solve(rtol, reaction, batch):
    problem = mixed_problem(batch, reaction=reaction)
    faces = equilibrated_flux(problem, rtol)
    defect = torch.where(
        problem.fluid & (problem.reaction == 0), divergence(faces, problem.grid.spacing) + problem.source, 0.0
    )
    largest = max(float(face.abs().max()) / h for face, h in zip(faces, problem.grid.spacing))
    assert float(defect.abs().max()) <= 42 * np.finfo(float).eps * largest  # 42 cells, each of which adds one round-off


@pytest.mark.parametrize("reaction", [0.0, 2.0])
def test_a_common_level_of_the_data_costs_nothing(reaction):
    """u + 1e6 solves the problem with shifted data, and its flux is the same; round-off is 1e6 eps of the fluxes."""
    sides = {"x1": sb.Neumann(0.4), "y1": sb.Neumann(0.0)}
    grid = sb.Grid((8, 9))
    x = grid.nodes(0).view(-1, 1).expand(9, 10)

    def flux_and_bound(level):
        robin = sb.Robin(3.0, 3.0 * level + 1.0)
        shifted = {"x0": sb.Dirichlet(level), "y0": robin, **sides}
        problem = sb.Diffusion(grid, 2.0, 1.0 + reaction * level, boundary=shifted, reaction=reaction)
        certificate = sb.certify(problem, x + level)
        return torch.cat([y.flatten() for y in certificate.flux]), certificate.upper

    (flux, upper), (shifted_flux, shifted_upper) = flux_and_bound(0.0), flux_and_bound(1e6)
    size = float(flux.abs().max())
    torch.testing.assert_close(shifted_flux, flux, rtol=0, atol=2e-6 * size)  # both solves leave 1e-6 of what varies
    torch.testing.assert_close(shifted_upper, upper, rtol=1e-6, atol=0)


@pytest.mark.parametrize("sides", ["DD", "DN", "NR", "RR"])
def test_on_a_line_the_flux_is_exact_and_so_is_the_bound(sides, exact_line):
    """Harmonic means integrate 1/a exactly, so y = a u' on every cell and nothing is lost in Prager-Synge."""
    rng = np.random.default_rng(1)
    kinds = {"D": sb.Dirichlet, "N": sb.Neumann}
    x0, x1 = (kinds[k](rng.standard_normal()) if k in kinds else sb.Robin(0.7, rng.standard_normal()) for k in sides)
    a = 10.0 ** rng.integers(-3, 4, 11)
    problem = sb.Diffusion(sb.Grid(11, lengths=3.0), a, rng.standard_normal(11), boundary={"x0": x0, "x1": x1})
    v = problem.impose_boundary(rng.standard_normal(12))
    certificate = sb.certify(problem, v, rtol=1e-13)
    assert certificate.upper.item() == pytest.approx(exact_line(problem).error(v), rel=1e-9)
    (y,) = certificate.flux
    at_faces = exact_line(problem).at(np.array([0.0, 1.0]), derivative=True).reshape(11, 2) * a[:, None]
    np.testing.assert_allclose(y[:-1], at_faces[:, 0], rtol=1e-8, atol=1e-8)
    np.testing.assert_allclose(y[1:], at_faces[:, 1], rtol=1e-8, atol=1e-8)


def test_an_equilibrated_flux_is_left_as_it_is():
    problem = mixed_problem()
    faces = equilibrated_flux(problem)
    for ours, theirs in zip(equilibrate(problem, faces), faces):
        np.testing.assert_allclose(ours, theirs, rtol=0, atol=np.finfo(float).eps)  # prescribed faces are rounded again


def test_round_off_is_judged_sample_by_sample():
    """A sample whose sources are 1e16 times larger must not make the defect of its neighbour look like round-off."""
    source = torch.ones(2, 4, 4, dtype=torch.float64)
    source[0] *= 1e16
    problem = sb.Diffusion(sb.Grid((4, 4)), 1.0, source)
    faces = equilibrated_flux(problem)
    spoilt = tuple(torch.stack([face[0], torch.zeros_like(face[1])]) for face in faces)
    defect = divergence(equilibrate(problem, spoilt), problem.grid.spacing) + source
    assert float(defect[1].abs().max()) < 1e-13


def test_data_that_cannot_be_balanced_give_no_bound(monkeypatch):
    """The problem refuses such data; if its check is bypassed, certify must raise."""
    monkeypatch.setattr("sciml_bounds.problems.diffusion.check_balance", lambda *args: None)
    problem = sb.Diffusion(sb.Grid((4, 4)), 1.0, 1.0, boundary=sb.Neumann())
    for flux in (None, (torch.zeros(5, 4, dtype=torch.float64), torch.zeros(4, 5, dtype=torch.float64))):
        refused("flux", sb.certify, problem, torch.zeros(5, 5, dtype=torch.float64), flux=flux)


def test_a_given_flux_is_moved_as_little_as_the_two_point_norm_allows():
    """A large defect is solved for, not carried along lines: the bound stays near the one of the computed flux."""
    n = 32
    problem = sb.Diffusion(sb.Grid((n, n)), 1.0, 1.0)
    v = sb.solve(problem).values
    nothing = (torch.zeros(n + 1, n, dtype=torch.float64), torch.zeros(n, n + 1, dtype=torch.float64))
    assert sb.certify(problem, v, flux=nothing).upper.item() == pytest.approx(
        sb.certify(problem, v).upper.item(), rel=1e-6
    )


def test_a_quiet_cell_beside_a_loud_one_is_balanced_too():
    """What a cell lacks is judged by its own fluxes: 1e-14 of the largest of the grid may be all that flows there."""
    source = torch.tensor([0.0, 0.0, 1e14, 0.0, 1.0, 1.0], dtype=torch.float64)
    solid = torch.tensor([False, False, False, True, False, False])
    problem = sb.Diffusion(sb.Grid((6,), lengths=(6.0,)), source=source, solid=solid)
    given = torch.tensor([[1e14, 1e14, 1e14, 0.0, 0.0, 0.0, 0.0]], dtype=torch.float64)  # nothing flows on the right
    (flux,) = equilibrate(problem, (given,))
    assert torch.equal(divergence((flux,), (1.0,))[0, 4:], torch.tensor([-1.0, -1.0], dtype=torch.float64))
    assert torch.equal(equilibrate(problem, (flux,))[0], flux)  # and what is in equilibrium stays as it is


def test_nothing_flows_through_a_wall():
    """Fluxes are then the round-off of differences, and no measure of what is left over."""
    for n in range(3, 40):
        solid = torch.arange(n) == n // 2
        a = torch.exp(torch.sin(7.0 * torch.arange(n, dtype=torch.float64)))
        ends = {"x0": sb.Dirichlet(1.0), "x1": sb.Dirichlet(0.0)}
        problem = sb.Diffusion(sb.Grid(n), a, boundary=ends, solid=solid)
        certificate = sb.certify(problem, sb.solve(problem))
        assert certificate.upper.item() <= 1e-12
        noise = (torch.randn(n + 1, dtype=torch.float64),)
        assert sb.certify(problem, sb.solve(problem), flux=noise).upper.item() <= 1e-6  # what the correction leaves


def test_a_given_flux_of_one_sample_serves_a_batch_of_coefficients():
    grid, zero = sb.Grid((4, 4)), torch.zeros(5, 5, dtype=torch.float64)
    flux = tuple(torch.zeros(n, dtype=torch.float64) for n in ((5, 4), (4, 5)))
    a = torch.stack([torch.ones(4, 4, dtype=torch.float64), 2 * torch.ones(4, 4, dtype=torch.float64)])
    together = sb.certify(sb.Diffusion(grid, a, 1.0), zero, flux=flux).upper
    for one, upper in zip(a, together):
        torch.testing.assert_close(sb.certify(sb.Diffusion(grid, one, 1.0), zero, flux=flux).upper, upper)


def test_the_two_copies_of_a_periodic_face_count_alike():
    """Their mean is the flux there: 2 everywhere is in equilibrium, and so is a flux whose copies are 2 -+ d.

    All numbers are dyadic, so that nothing is rounded.
    """
    sides = {"x0": sb.Periodic(), "x1": sb.Periodic(), "y0": sb.Dirichlet(0.0), "y1": sb.Dirichlet(0.0)}
    problem = sb.Diffusion(sb.Grid((4, 8)), 1.0, 0.0, boundary=sides)
    across = torch.zeros(1, 4, 9, dtype=torch.float64)
    d = torch.arange(-3.0, 5.0, dtype=torch.float64) / 4
    for sign in (1, -1):
        along = torch.full((1, 5, 8), 2.0, dtype=torch.float64)
        along[0, 0] -= sign * d
        along[0, -1] += sign * d
        x, y = equilibrate(problem, (along, across))
        assert torch.equal(x, torch.full_like(x, 2.0))
        assert torch.equal(y, across)


def rough_problem(batch: tuple[int, ...] = (), *, level: float = 0.0, solid: bool = False) -> sb.Diffusion:
    """A coefficient of two values in small patches, where the solution is far from smooth."""
    rng = np.random.default_rng(3)
    a = np.where(rng.random((*batch, 16, 16)) < 0.5, 12.0, 3.0).repeat(3, -1).repeat(3, -2)
    walls = np.zeros((48, 48), dtype=bool)
    walls[20:30, 10:40] = solid
    sides = {"x0": sb.Dirichlet(level), "x1": sb.Robin(2.0, 2.0 * level), "y0": sb.Neumann(0.0), "y1": sb.Neumann(0.1)}
    return sb.Diffusion(sb.Grid((48, 48)), a, 1.0, boundary=sides, solid=walls)


def guess_of(problem: sb.Diffusion, values: torch.Tensor) -> tuple[LatticeSystem, torch.Tensor | None]:
    """The system of what varies, and the first guess that the flux solve takes of a field that is certified."""
    found = []

    def keep(system, rhs, *rest):
        x = guess(system, rhs, *rest)
        found.append((replace(system, rhs=rhs), None if x is None else x.clone()))
        return x

    guess = flux_module._guess
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(flux_module, "_guess", keep)
        sb.certify(problem, values.squeeze(0), lower=False)
    return found[0]


@pytest.mark.parametrize("solid", [False, True])
@pytest.mark.parametrize("level", [0.0, 300.0])
def test_a_field_like_the_solution_is_the_first_guess_and_saves_an_iteration(level, solid):
    problem = rough_problem(level=level, solid=solid)
    system, guess = guess_of(problem, sb.solve(problem).values.unsqueeze(0))
    assert guess is not None
    x, b = guess.flatten(1), system.rhs.flatten(1)
    product = torch.empty_like(x)
    energy = float(system.operator.energy_into(x, product))
    # nearest in energy among its multiples: the rest is orthogonal to it, up to the round-off of the sum
    assert float((b - product).flatten() @ x.flatten()) == pytest.approx(0.0, abs=1e-10 * energy)
    assert not guess.view(problem.fluid.shape)[~problem.fluid].any()
    solver = LinearSolver(system, THREE_DIGIT_SOLVER)
    with_guess, without = (solver.solve(x0=x0, stop=StoppingCriteria(rtol=1e-3)) for x0 in (guess, None))
    assert int(with_guess.iterations) < int(without.iterations)


def test_what_is_not_like_the_solution_is_no_first_guess():
    problem = rough_problem()
    solution = sb.solve(problem).values.unsqueeze(0)
    noise = torch.randn(solution.shape, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    for field in (noise, -solution, 3 * solution, solution / 3, 0 * solution, 1e60 * noise):
        assert guess_of(problem, field)[1] is None
    assert guess_of(problem, solution.expand(2, -1, -1))[1] is None  # two solves in place of one
    constant = sb.Diffusion(problem.grid, 1.0, 1.0)  # there are fast transforms
    assert guess_of(constant, sb.solve(constant).values.unsqueeze(0))[1] is None


def test_first_guesses_of_a_batch_are_of_each_sample_alone():
    problem = rough_problem((3,))
    fields = sb.solve(problem).values
    fields[1] = 0.0
    together = guess_of(problem, fields)[1]
    assert together is not None
    assert not together[1].any()
    for k in (0, 2):
        one = sb.Diffusion(problem.grid, problem.coefficient[0][k], 1.0, boundary=problem.boundary)
        alone = guess_of(one, fields[k : k + 1])[1]
        torch.testing.assert_close(alone[0], together[k], rtol=1e-12, atol=0)  # sums in another order
