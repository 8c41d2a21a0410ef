"""The orthogonal greedy algorithm: neurons that residuals see best, and projections in the energy norm."""

from __future__ import annotations

import time
from collections.abc import Iterator
from typing import Literal

import torch
from torch import Tensor

from sciml_bounds.arrays import require_choice, require_count, require_seed
from sciml_bounds.barron._barron_network import BarronNetwork
from sciml_bounds.errors import InputError
from sciml_bounds.network_solvers._cosine_greedy import CosineRun
from sciml_bounds.network_solvers._dictionaries import Ridges, half_circle, random_directions
from sciml_bounds.network_solvers._energy_projection import Projection
from sciml_bounds.network_solvers._network_solution import NetworkSolution, NetworkStep, warn_unless_converged
from sciml_bounds.network_solvers._quadrature import Quadrature, quadrature_of
from sciml_bounds.network_solvers._trial_space import (
    EnergySpace,
    affine_jets,
    energy_of,
    feature_jets,
    fitted_on_cpu,
    jet_of,
    network_arguments,
    require_linear,
)
from sciml_bounds.problems.variational_problem import VariationalProblem

__all__ = ["greedy_network"]

#: Directions that are tried in each step with their opposites in two dimensions, and in more, where they are drawn.
HALF_CIRCLE, DRAWN = 64, 64
#: How much finer integrals are than those of smooth networks, how many points there are for each neuron at least, and
#: numbers of the projection at most.
KINKED, POINTS, ENTRIES = 2, 500, 2**27
#: Kinks for each direction above three dimensions; below they are as many as cells along an axis.
SAMPLED_KINKS = 256


@fitted_on_cpu
def greedy_network(
    problem: VariationalProblem,
    width: int,
    *,
    activation: Literal["relu", "cosine"] = "relu",
    power: int = 2,
    lifting: BarronNetwork | None = None,
    seed: int = 0,
) -> NetworkSolution:
    """Solve a linear problem by a network that grows neuron by neuron.

    "relu": each step takes the neuron g = (w . x + b)_+^k, |w| = 1, with the largest |a(u_n, g) - int f g|, and
    projects the solution onto the span of all neurons so far in the energy norm. For solutions of finite variation norm
    the error falls like n^(-1/2 - (2k - 1) / (2d)) in that norm (Siegel, Hong, Jin, Hao and Xu, arXiv 2107.04466;
    Siegel and Xu, arXiv 2106.15000), although the norms of the networks may grow.

    "cosine": neurons cos(w . x + b) whose half periods divide the sides of the box, for numbers a and c and free sides:
    all integrals are exact in any dimension. See the notes.

    Parameters
    ----------
    problem
        With `linear` true: -div(a grad u) + c u = f. Sides are Dirichlet sides, where the network vanishes by a factor
        or equals the lifting, or free.
    width
        Neurons at the end; fewer if no neuron is new. The affine part of the network takes part in every projection.
    activation
        "relu" or "cosine".
    power
        k, of ReLUs.
    lifting
        A network with the Dirichlet values, needed where they are not one number for all sides.
    seed
        Of what is drawn: directions in more than two dimensions, frequencies, samples.

    Returns
    -------
    NetworkSolution

    Raises
    ------
    InputError
        If an argument does not fit, the problem is not linear, or a side has a condition that networks do not meet.

    Notes
    -----
    All kinks of a direction are tried at once, in one dimension for both directions, in two for 128, in more for 128
    that are drawn in each step (Xu and Xu, arXiv 2407.17763, prove the same order for these with high probability).
    Integrals are by Gauss points in up to three dimensions, and exact in one where f is a polynomial on cells; in more
    they are means over samples, and what is small on the samples may be larger elsewhere.

    Cosines are not tried all. Candidates are the neighbours of the 256 frequencies that carry most energy, and 256 that
    are drawn in each step, so that a solution whose frequencies are far from each other may be missed. The source is
    asked for its integrals with them only: exact ones if it is a number or a `BarronFunction` that is a series, means
    over 65,536 samples otherwise. Of what the network does not explain yet, that is: L u_n is integrated exactly, and
    f - L u_n sampled. A step adds up to a tenth of the neurons that are there, at once, so that no theorem about single
    ones holds.

    Examples
    --------
    >>> import math
    >>> import sciml_bounds as sb
    >>> f = lambda x: (1 + math.pi**2) * (math.pi * x[..., 0]).cos()
    >>> density = sb.variational.QuadraticEnergy(reaction=1.0)
    >>> problem = sb.variational.VariationalProblem(sb.barron.Box(2.0, -1.0), density, f, boundary=sb.Neumann(0.0))
    >>> solution = sb.network_solvers.greedy_network(problem, 32)
    >>> bool(abs(solution.network([0.5])) < 1e-3)
    True
    """
    start = time.perf_counter()
    require_linear(problem, "greedy_network")
    require_count(width, "width", 1)
    require_count(power, "power", 1)
    seed = require_seed(seed)
    require_choice(activation, "activation", ("relu", "cosine"))
    if activation == "cosine":
        return _by_cosines(problem, width, lifting, seed, start)
    run = _Run(problem, width, power, lifting, seed)
    history = tuple(run.steps(width))
    network = run.network()
    energy = energy_of(network, problem, _points_for(problem, width, 2, seed + 1))
    dim = problem.dim
    solution = NetworkSolution(
        network=network,
        energy=energy,
        energy_change=abs(energy - run.projection.energy),
        history=history,
        method=f"orthogonal greedy algorithm, ReLU^{power}",
        integrals=run.quadrature.words,
        proven_order=0.5 + (2 * power - 1) / (2 * dim),
        seconds=time.perf_counter() - start,
    )
    warn_unless_converged(solution)
    return solution


def _by_cosines(
    problem: VariationalProblem, width: int, lifting: BarronNetwork | None, seed: int, start: float
) -> NetworkSolution:
    if lifting is not None:
        raise InputError("activation='cosine' has free sides and takes no lifting; leave it out.")
    run = CosineRun(problem, seed)
    history = tuple(run.steps(width))
    energy = run.energy_elsewhere()
    solution = NetworkSolution(
        network=run.network(),
        energy=energy,
        energy_change=abs(energy - run.energy),
        history=history,
        method="orthogonal greedy algorithm, cosines",
        integrals=run.integrals,
        proven_order=None,
        seconds=time.perf_counter() - start,
    )
    warn_unless_converged(solution)
    return solution


def _points_for(problem: VariationalProblem, width: int, fineness: int, seed: int) -> Quadrature:
    """Choose points whose cells are as fine as the kinks; there are more where there are more neurons."""
    functions = 1 + problem.dim + width
    least = min(POINTS * functions, ENTRIES // ((1 + problem.dim) * functions))
    least = least // KINKED**problem.dim if problem.dim in (2, 3) else 0  # in one dimension integrals are exact
    return quadrature_of(problem, least=least, kinked=True, fineness=KINKED * fineness, seed=seed)


class _Run:
    """One run: the neurons so far, and the projection onto their span."""

    def __init__(
        self, problem: VariationalProblem, width: int, power: int, lifting: BarronNetwork | None, seed: int
    ) -> None:
        self._problem, self._power = problem, power
        self._arguments = {**network_arguments(problem, lifting), "activation": "relu", "power": power}
        self._generator = torch.Generator().manual_seed(seed)
        self.quadrature = _points_for(problem, width, 1, seed)
        self._space = EnergySpace(problem, self.quadrature)
        kinks = max(self.quadrature.cells, default=SAMPLED_KINKS)  # more would make splines that no point sees
        self._ridges = Ridges(problem.box, self.quadrature.points, power, kinks)
        self._weights, self._biases = torch.zeros((0, problem.dim), dtype=torch.float64), torch.zeros(0).double()

    def steps(self, width: int) -> Iterator[NetworkStep]:
        """Add neurons one by one."""
        x, dim = self.quadrature.points, self._problem.dim
        empty = self._made(torch.zeros(0).double(), torch.zeros(1 + dim).double())
        self.projection = Projection(self._space, jet_of(empty, x), 1 + dim + width)
        jets = affine_jets(empty, x)
        self._affine = [self.projection.add(jets[..., i]) is not None for i in range(1 + dim)]
        while len(self._weights) < width:
            size = self._grow(empty)
            if size is None:
                return
            network = self.network()
            yield NetworkStep(network.width, self.projection.energy, network.barron_norm, size)

    def _grow(self, empty: BarronNetwork) -> float | None:
        """Add the neuron that the residual sees best; None if it is not new."""
        A, B = self._space.residual(self.projection.jet, empty.distance)
        neuron = self._ridges.best(self._directions(), A, B)
        weight, bias = neuron.weight[None], torch.tensor([neuron.bias], dtype=torch.float64)
        alone = BarronNetwork.of(weight, bias, [1.0], **self._arguments)
        size = self.projection.add(feature_jets(alone, self.quadrature.points)[..., 0])
        if size is not None:
            self._weights = torch.cat([self._weights, weight])
            self._biases = torch.cat([self._biases, bias])
        return size

    def _directions(self) -> Tensor:
        if self._problem.dim == 1:
            return torch.ones((1, 1), dtype=torch.float64)
        if self._problem.dim == 2:
            return half_circle(HALF_CIRCLE)
        return random_directions(DRAWN, self._problem.dim, self._generator)

    def network(self) -> BarronNetwork:
        """Make the network of the projection."""
        found = self.projection.coefficients()
        affine = torch.zeros(1 + self._problem.dim, dtype=torch.float64)
        affine[self._affine] = found[: sum(self._affine)]
        return self._made(found[sum(self._affine) :], affine)

    def _made(self, outer: Tensor, affine: Tensor) -> BarronNetwork:
        return BarronNetwork.of(
            self._weights, self._biases, outer, slope=affine[1:], offset=float(affine[0]), **self._arguments
        )
