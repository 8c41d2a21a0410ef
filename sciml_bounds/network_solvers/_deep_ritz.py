"""Deep Ritz method: training all weights of a network on the energy, optionally with a bound of the Barron norm."""

from __future__ import annotations

import math
import time
from collections.abc import Iterator

import torch
from torch import Tensor

from sciml_bounds.arrays import require_count, require_number, require_seed
from sciml_bounds.barron._barron_network import BarronNetwork
from sciml_bounds.errors import InputError
from sciml_bounds.grid import Box
from sciml_bounds.network_solvers._network_solution import NetworkSolution, NetworkStep, warn_unless_converged
from sciml_bounds.network_solvers._outer_fit import fit_outer
from sciml_bounds.network_solvers._quadrature import Quadrature, points_for
from sciml_bounds.network_solvers._trial_space import energy_of, fitted_on_cpu, network_arguments, require_problem
from sciml_bounds.problems.variational_problem import VariationalProblem

__all__ = ["ritz_network"]

#: Number of points per step.
BATCH = 1024
#: Number of training records.
N_RECORDS = 20
#: Number of bisections between the trained and the best outer weights.
N_BISECTIONS = 50


@fitted_on_cpu
def ritz_network(
    problem: VariationalProblem,
    width: int,
    *,
    activation: str = "tanh",
    power: int = 1,
    scale: float = 4.0,
    bound: float | None = None,
    steps: int = 1000,
    learning_rate: float = 1e-2,
    lifting: BarronNetwork | None = None,
    seed: int = 0,
) -> NetworkSolution:
    """Minimise the energy over all weights of a network by the Deep Ritz method (E and Yu, arXiv 1710.00211).

    The network is trained by Adam on new quasi-random points in each step, with a cosine schedule of the learning rate.
    For convex problems, the outer weights are then replaced by the ones of least energy.

    Parameters
    ----------
    problem : VariationalProblem
        Problem with Dirichlet or zero Neumann conditions; it may be nonlinear or nonconvex.
    width : int
        Number of neurons.
    activation : {"cosine", "relu", "tanh", "sigmoid"}
        Activation of the network.
    power, scale
        As for `BarronNetwork`.
    bound : float, optional
        Upper bound of `barron_norm` of the network. The outer weights are projected to satisfy it after each step, and
        at the end moved towards the best ones as far as it allows.
    steps : int
        Number of training steps.
    learning_rate : float
        Initial learning rate of Adam.
    lifting : BarronNetwork, optional
        Network with the Dirichlet values; required unless these are a single number on all Dirichlet sides.
    seed : int
        Seed of initial weights and points.

    Returns
    -------
    NetworkSolution
        Its history has about 20 records of the training; their energies are estimates from single batches.

    Raises
    ------
    InputError
        If an argument is invalid, a boundary condition is not available for networks, no network satisfies the bound,
        or the energy becomes infinite or NaN.

    Notes
    -----
    There is no convergence theorem for the training. If the solution has a finite Barron norm, the best network of n
    neurons with a bounded norm has an energy excess of order 1 / n, and sampling N points adds an error of order
    1 / sqrt(N) (Lu, Lu and Wang, arXiv 2101.01708).

    Examples
    --------
    >>> import sciml_bounds as sb
    >>> problem = sb.variational.VariationalProblem(sb.barron.Box([1.0, 1.0]), sb.variational.ShearThinning(3.0), 10.0)
    >>> solution = sb.network_solvers.ritz_network(problem, 20, bound=30.0, steps=100)
    >>> solution.network.barron_norm <= 30.0 * (1 + 1e-12)
    True
    """
    start = time.perf_counter()
    require_problem(problem, "ritz_network")
    for value, name in ((width, "width"), (steps, "steps")):
        require_count(value, name, 1)
    seed = require_seed(seed)
    rate = require_number(learning_rate, "learning_rate", positive=True)
    arguments = network_arguments(problem, lifting)
    network = BarronNetwork(problem.dim, width, activation, power=power, scale=scale, seed=seed, **arguments)
    if activation == "step":
        raise InputError("activation is 'step', whose gradient is not a function; use another activation.")
    if bound is not None:
        network.project_(bound)
    history = tuple(_train(network, problem, bound, steps, rate, seed))
    rule = points_for(problem, network, seed=seed)
    words = "deep Ritz, Adam" + ("" if bound is None else f", Barron norm at most {bound:g}")
    residual = _fit(network, problem, rule, bound) if problem.convex else 0.0
    coarse = energy_of(network, problem, rule)
    energy = energy_of(network, problem, points_for(problem, network, fineness=2, seed=seed + 1))
    solution = NetworkSolution(
        network=network,
        energy=energy,
        energy_change=abs(energy - coarse),
        history=history,
        method=words,
        integrals=f"{BATCH} Sobol points per step; at the end {rule.words}",
        proven_order=None,
        seconds=time.perf_counter() - start,
        residual=residual,
    )
    warn_unless_converged(solution)
    return solution


def _train(
    network: BarronNetwork, problem: VariationalProblem, bound: float | None, steps: int, rate: float, seed: int
) -> Iterator[NetworkStep]:
    parts = [network.weights, network.biases, network.outer]
    if bound is None:
        parts += [network.slope, network.offset]
    optimizer = torch.optim.Adam(parts, lr=rate)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, steps)
    for step, x in enumerate(_batches(problem.box, steps, seed), 1):
        optimizer.zero_grad()
        energy = problem.integrand(x, network(x), network.gradient(x)).mean() * problem.box.volume
        energy.backward()
        if not math.isfinite(float(energy.detach())):
            raise InputError(f"the energy is not finite after {step - 1} steps; reduce learning_rate.")
        optimizer.step()
        schedule.step()
        if bound is not None:
            network.project_(bound)
        if step % max(1, steps // N_RECORDS) == 0:
            yield NetworkStep(network.width, float(energy.detach()), network.barron_norm)


def _batches(box: Box, count: int, seed: int) -> Iterator[Tensor]:
    """Draw batches of consecutive points of one scrambled Sobol sequence."""
    engine = torch.quasirandom.SobolEngine(box.dim, scramble=True, seed=seed)
    for _ in range(count):
        yield box.points(engine.draw(BATCH, dtype=torch.float64))


def _fit(network: BarronNetwork, problem: VariationalProblem, rule: Quadrature, bound: float | None) -> float:
    """Move to the best outer weights, or towards them as far as the bound allows; energy and norm are convex.

    Returns
    -------
    float
        Relative gradient at the best outer weights.
    """
    before = {name: value.clone() for name, value in network.state_dict().items()}
    residual = fit_outer(network, problem, rule).residual
    if bound is None or network.barron_norm <= bound:
        return residual
    best = {name: value.clone() for name, value in network.state_dict().items()}
    low, high = 0.0, 1.0
    for _ in range(N_BISECTIONS):
        middle = (low + high) / 2
        network.load_state_dict({name: torch.lerp(before[name], best[name], middle) for name in best})
        low, high = (middle, high) if network.barron_norm <= bound else (low, middle)
    network.load_state_dict({name: torch.lerp(before[name], best[name], low) for name in best})
    return residual
