"""Deep Ritz: all weights of a network trained on the energy, within a ball of the Barron norm if asked."""

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

#: Points of each step.
BATCH = 1024
#: Records that are kept of a run.
RECORDS = 20
#: Halvings of the way towards the best outer weights.
BISECTIONS = 50


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
    """Minimise the energy over all weights of a network (E and Yu, arXiv 1710.00211).

    Adam on means over fresh quasi-random points, its learning rate falling to zero like a cosine; then the outer
    weights of least energy where the problem is convex.

    Parameters
    ----------
    problem
        With Dirichlet or free sides; linear or not, convex or not.
    width
        Neurons.
    activation, power, scale
        Those of `BarronNetwork`; "step" has no energy.
    bound
        The largest `barron_norm` of the network: after each step the outer weights are moved to the closest ones with
        that norm, and at the end towards the best ones as far as it allows.
    steps, learning_rate
        Of Adam.
    lifting
        A network with the Dirichlet values, needed where they are not one number for all sides.
    seed
        Of the first weights and of points.

    Returns
    -------
    NetworkSolution
        With some twenty records of the training, whose energies are those of their batches.

    Raises
    ------
    InputError
        If an argument does not fit, a side has a condition that networks do not meet, there is no network of that
        norm, or the energy leaves the finite numbers.

    Notes
    -----
    Nothing is proven of the training. For solutions of finite Barron norm the best network within a ball has an excess
    of energy of the order 1 / n, and means over N points add 1 / sqrt(N) (Lu, Lu and Wang, arXiv 2101.01708).

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
        raise InputError("activation is 'step', whose gradient is no function; take another one.")
    if bound is not None:
        network.project_(bound)
    history = tuple(_trained(network, problem, bound, steps, rate, seed))
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
        integrals=f"{BATCH} Sobol points a step; at the end {rule.words}",
        proven_order=None,
        seconds=time.perf_counter() - start,
        residual=residual,
    )
    warn_unless_converged(solution)
    return solution


def _trained(
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
            raise InputError(f"the energy is not finite after {step - 1} steps; give a smaller learning_rate.")
        optimizer.step()
        schedule.step()
        if bound is not None:
            network.project_(bound)
        if step % max(1, steps // RECORDS) == 0:
            yield NetworkStep(network.width, float(energy.detach()), network.barron_norm)


def _batches(box: Box, count: int, seed: int) -> Iterator[Tensor]:
    """Go on along one scrambled Sobol sequence."""
    engine = torch.quasirandom.SobolEngine(box.dim, scramble=True, seed=seed)
    for _ in range(count):
        yield box.points(engine.draw(BATCH, dtype=torch.float64))


def _fit(network: BarronNetwork, problem: VariationalProblem, rule: Quadrature, bound: float | None) -> float:
    """Move to the best outer weights, or towards them as far as the bound lets: energy and norm are both convex.

    Returns
    -------
    float
        What is left of the gradient at the best ones.
    """
    before = {name: value.clone() for name, value in network.state_dict().items()}
    residual = fit_outer(network, problem, rule).residual
    if bound is None or network.barron_norm <= bound:
        return residual
    best = {name: value.clone() for name, value in network.state_dict().items()}
    low, high = 0.0, 1.0
    for _ in range(BISECTIONS):
        middle = (low + high) / 2
        network.load_state_dict({name: torch.lerp(before[name], best[name], middle) for name in best})
        low, high = (middle, high) if network.barron_norm <= bound else (low, middle)
    network.load_state_dict({name: torch.lerp(before[name], best[name], low) for name in best})
    return residual
