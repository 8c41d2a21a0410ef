"""Networks as preconditioners of flexible conjugate gradients: hand-set cycles, learned ones, and useless ones."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from refusals import refused
from torch import nn

import sciml_bounds as sb
from sciml_bounds.multigrid._learned_preconditioner import network_preconditioner
from sciml_bounds.multigrid._mgno import MgNO
from sciml_bounds.multigrid._poisson_cycle import poisson_cycle


def iterations(solver, M, rtol=1e-8, maxiter=200):
    solution = sb.cg(solver.operator, solver.rhs, M=M, rtol=rtol, maxiter=maxiter)
    assert bool(solution.converged.all())
    exact = solver.solve(rtol=1e-11).values.reshape(solution.x.shape)
    torch.testing.assert_close(solution.x, exact, rtol=0, atol=1e-5 * float(exact.abs().max()))
    return solution


def laplace(n=32, dim=2, boundary="dirichlet", coefficient=1.0):
    """A random source, the same at all sizes of the coefficient; Neumann and periodic ones balance."""
    f = np.random.default_rng(0).standard_normal((n,) * dim)
    f = f if boundary == "dirichlet" else f - f.mean()
    side = {"dirichlet": sb.Dirichlet(0.0), "neumann": sb.Neumann(), "periodic": sb.Periodic()}[boundary]
    return sb.prepare(sb.Diffusion(sb.Grid((n,) * dim), coefficient, f, boundary=side), method="multigrid")


@pytest.mark.parametrize("dim", [1, 2, 3])
def test_a_cycle_set_by_hand_preconditions_as_well_as_multigrid(dim):
    solver = laplace({1: 64, 2: 32, 3: 8}[dim], dim)
    cycle = poisson_cycle({1: 64, 2: 32, 3: 8}[dim], dim=dim)
    ours = iterations(solver, network_preconditioner(cycle, solver, sweeps=0))
    multigrid = sb.cg(solver.operator, solver.rhs, M=solver.as_preconditioner())
    assert ours.flexible
    assert not multigrid.flexible
    assert int(ours.iterations) <= max(8, 2 * int(multigrid.iterations))


@pytest.mark.parametrize("boundary", ["neumann", "periodic"])
def test_the_other_boundaries_have_their_cycles(boundary):
    solver = laplace(32, 2, boundary)
    M = network_preconditioner(poisson_cycle(32, boundary=boundary), solver, sweeps=0)
    solution = sb.cg(solver.operator, solver.rhs, M=M)
    assert bool(solution.converged.all())
    assert int(solution.iterations) <= 14


def test_the_number_of_iterations_with_the_cycle_does_not_grow_with_the_grid():
    counts = []
    for n in (16, 32, 64):
        solver = laplace(n)
        counts.append(int(iterations(solver, network_preconditioner(poisson_cycle(n), solver, sweeps=0)).iterations))
    assert max(counts) <= min(counts) + 1


def test_a_cycle_without_smoothing_of_its_own_kind_is_the_matrix_of_the_network():
    """On one level, with the network a multiple of the identity, M is a multiple of the residual on free nodes."""
    solver = laplace(8)
    network = nn.Conv2d(1, 1, 1, bias=False)
    nn.init.constant_(network.weight, 0.25)
    r = torch.randn(3, 81, dtype=torch.float64)
    found = network_preconditioner(network.double(), solver, sweeps=0).matvec(r)
    inside = torch.zeros(9, 9, dtype=torch.bool)
    inside[1:-1, 1:-1] = True
    torch.testing.assert_close(found.view(3, 9, 9), torch.where(inside, 0.25 * 64 * r.view(3, 9, 9), 0.0))


@pytest.mark.parametrize("size", [1e-200, 1e-8, 1e8], ids=str)
def test_the_network_sees_residuals_of_the_same_size(size):
    """A network is not linear, but what it makes of a residual is in proportion to it."""
    solver = laplace(16)
    torch.manual_seed(0)
    M = network_preconditioner(MgNO(channels=4, layers=2, levels=3, fields=("source",)), solver)
    r = solver.rhs
    torch.testing.assert_close(M.matvec(size * r) / size, M.matvec(r), rtol=1e-4, atol=1e-6 * float(r.abs().max()))


@pytest.mark.parametrize("fields", [("source",), ("coefficient", "source")], ids=["source", "both"])
def test_random_weights_cost_iterations_and_not_correctness(fields):
    rng = np.random.default_rng(0)
    a = np.where(rng.random((2, 16, 16)) < 0.5, 12.0, 3.0)
    solver = sb.prepare(sb.Diffusion(sb.Grid((16, 16)), a, 1.0), method="multigrid")
    torch.manual_seed(0)
    model = MgNO(len(fields), channels=4, layers=2, levels=3, fields=fields)
    M = network_preconditioner(model, solver, sweeps=2)
    assert (M.batch, M.symmetric, M.linear) == (2, False, False)
    found = iterations(solver, M)
    assert found.flexible
    multigrid = sb.cg(solver.operator, solver.rhs, M=solver.as_preconditioner())
    assert bool((found.iterations > multigrid.iterations).all())


@pytest.mark.parametrize("factor", [1e-4, 3.0, -1e6], ids=str)
def test_between_smoothing_steps_only_the_direction_of_an_answer_counts(factor):
    """The output is scaled for the least energy error, so wrong lengths and signs do no harm."""

    class Scaled(nn.Module):
        def __init__(self, network, by):
            super().__init__()
            self.network, self.by = network, by

        def forward(self, x):
            return self.by * self.network(x)

    solver = laplace(16)
    torch.manual_seed(0)
    network = nn.Conv2d(1, 1, 3, padding=1, bias=False).double()
    r = torch.randn(2, 17 * 17, dtype=torch.float64)
    plain, scaled = (network_preconditioner(Scaled(network, by), solver).matvec(r) for by in (1.0, factor))
    torch.testing.assert_close(scaled, plain, rtol=1e-9, atol=1e-12)


def test_networks_on_nodes_take_the_coefficient_there():
    class Halves(nn.Module):
        fields, layout = ("coefficient", "source"), "same"

        def forward(self, x):
            seen.append(x)
            return x[:, 1:] / x[:, :1]

    seen = []
    a = np.where(np.arange(16) < 8, 1.0, 3.0)[:, None] * np.ones(16)
    solver = sb.prepare(sb.Diffusion(sb.Grid((16, 16)), a, 1.0, boundary={"x0": sb.Dirichlet(0.0), "x1": sb.Neumann(),
        "y0": sb.Dirichlet(0.0), "y1": sb.Dirichlet(0.0)}))  # fmt: skip
    iterations(solver, network_preconditioner(Halves(), solver))
    assert seen[0].shape == (1, 2, 16, 15)
    assert seen[0][0, 0, :, 0].tolist() == [1.0] * 7 + [2.0] + [3.0] * 8


def test_the_residual_of_a_network_without_answer_is_smoothed_all_the_same():
    class Nothing(nn.Module):
        def forward(self, x):
            return torch.zeros_like(x)

    solver = laplace(16)
    assert int(iterations(solver, network_preconditioner(Nothing(), solver)).iterations) > 10
    alone = iterations(solver, network_preconditioner(Nothing(), solver, sweeps=0))  # the residual is left to search
    assert alone.dropped_directions.tolist() == alone.iterations.tolist()


def test_bad_input_is_said():
    solver = laplace(8)
    refused("coefficient side", lambda: network_preconditioner(MgNO(channels=2, layers=1, levels=2), solver))
    refused("Diffusion problem int", lambda: network_preconditioner(nn.Identity(), 3))
    refused("sweeps", lambda: network_preconditioner(nn.Identity(), solver, sweeps=-1))
    refused(
        "network shape (1, 2, 7, 7) (1, 1, 7, 7)",
        lambda: network_preconditioner(nn.Conv2d(1, 2, 1), solver).matvec(solver.rhs),
    )
    diagonal = sb.Diffusion(sb.Grid((8, 8)), (1.0, 2.0))
    refused(
        "coefficient axes",
        lambda: network_preconditioner(
            MgNO(2, channels=2, layers=1, levels=2, fields=("coefficient", "source")), diagonal
        ),
    )


def test_an_mgno_that_takes_sources_gives_itself_as_a_preconditioner():
    torch.manual_seed(0)
    model = MgNO(2, channels=4, layers=1, levels=3, fields=("coefficient", "source"))
    solver = laplace(16, coefficient=3.0)
    M = model.as_preconditioner(solver, sweeps=2)
    assert iterations(solver, M).flexible  # the network has not learnt anything, and costs nothing but iterations
