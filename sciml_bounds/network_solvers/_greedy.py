"""Orthogonal greedy algorithm: neurons with the largest residual, and projections in the energy norm."""

from __future__ import annotations

import time
from collections.abc import Iterator
from typing import Literal

import torch
from torch import Tensor

from sciml_bounds.arrays import require_choice, require_count, require_seed
from sciml_bounds.barron._barron_network import BarronNetwork
from sciml_bounds.errors import InputError
from sciml_bounds.network_solvers._cosine_greedy import CosineGreedy
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

#: Number of directions per step in two dimensions; opposites are tried too.
N_HALF_CIRCLE = 64
#: Number of random directions per step in more than two dimensions; opposites are tried too.
N_RANDOM = 64
#: Number of cells along each axis relative to smooth networks.
KINK_REFINEMENT = 2
#: Minimum number of points per function.
POINTS_PER_FUNCTION = 500
#: Maximum number of entries of the projection.
MAX_ENTRIES = 2**27
#: Number of kinks per direction in more than three dimensions; otherwise it is the number of cells along an axis.
N_KINKS = 256


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
    """Solve a linear problem by the orthogonal greedy algorithm, which adds neurons to a network one by one.

    "relu": each step adds the neuron g = (w . x + b)_+^k, |w| = 1, with the largest residual |a(u_n, g) - int f g|, and
    projects the solution onto the span of all neurons in the energy norm. For solutions of finite variation norm, the
    error in the energy norm decreases like n^(-1/2 - (2k - 1) / (2d)) (Siegel, Hong, Jin, Hao and Xu, arXiv 2107.04466;
    Siegel and Xu, arXiv 2106.15000), although the norms of the networks may grow.

    "cosine": the neurons are cos(w . x + b) with half periods that divide the side lengths of the box, for constant a
    and c and zero Neumann conditions. All integrals are exact in any dimension, except possibly those of the source;
    see the notes.

    Parameters
    ----------
    problem : VariationalProblem
        Linear problem -div(a grad u) + c u = f with Dirichlet or zero Neumann conditions. Dirichlet values are imposed
        by a factor that vanishes on the sides, and by the lifting.
    width : int
        Number of neurons at the end; fewer if no linearly independent neuron is found. The affine part of the network
        is included in every projection.
    activation : {"relu", "cosine"}
        Activation of the network.
    power : int
        Power k of ReLUs.
    lifting : BarronNetwork, optional
        Network with the Dirichlet values; required unless these are a single number on all Dirichlet sides.
    seed : int
        Seed of random directions (in more than two dimensions), frequencies and samples.

    Returns
    -------
    NetworkSolution
        The network, its energy, and one record per step.

    Raises
    ------
    InputError
        If an argument is invalid, the problem is not linear, or a boundary condition is not available for networks.

    Notes
    -----
    ReLU: all kinks of a direction are evaluated at once. There are two directions in one dimension, 128 in two
    dimensions, and 128 random directions per step in more dimensions (for which Xu and Xu, arXiv 2407.17763, prove the
    same order with high probability). Integrals use Gauss points in up to three dimensions, and are exact in one
    dimension if f is a polynomial on cells. In more dimensions they are sample means, and a residual that is small at
    the samples may be larger elsewhere.

    Cosine: only some frequencies are candidates, namely the neighbours of the 256 frequencies with most energy, and 256
    random ones per step. A solution with frequencies far from each other may be missed. Integrals of the source are
    exact if it is a number or a `BarronFunction` that is a series. Otherwise f - L u_n is averaged over 65,536 samples
    and L u_n is integrated exactly, so the sampling error decreases with the residual. A step adds up to a tenth of the
    present number of neurons at once, so the theorems for single neurons do not apply.

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
        return _solve_by_cosines(problem, width, lifting, seed, start)
    run = _ReluGreedy(problem, width, power, lifting, seed)
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


def _solve_by_cosines(
    problem: VariationalProblem, width: int, lifting: BarronNetwork | None, seed: int, start: float
) -> NetworkSolution:
    if lifting is not None:
        raise InputError("activation='cosine' is for Neumann conditions and takes no lifting; leave lifting out.")
    run = CosineGreedy(problem, seed)
    history = tuple(run.steps(width))
    energy = run.energy_by_other_samples()
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
    """Choose quadrature points for ReLU networks, on cells as fine as the kinks; their number grows with the width."""
    functions = 1 + problem.dim + width
    least = min(POINTS_PER_FUNCTION * functions, MAX_ENTRIES // ((1 + problem.dim) * functions))
    least = least // KINK_REFINEMENT**problem.dim if problem.dim in (2, 3) else 0  # exact in one dimension
    return quadrature_of(problem, least=least, kinked=True, fineness=KINK_REFINEMENT * fineness, seed=seed)


class _ReluGreedy:
    """State of the greedy algorithm: the selected neurons, and the projection onto their span."""

    def __init__(
        self, problem: VariationalProblem, width: int, power: int, lifting: BarronNetwork | None, seed: int
    ) -> None:
        self._problem, self._power = problem, power
        self._arguments = {**network_arguments(problem, lifting), "activation": "relu", "power": power}
        self._generator = torch.Generator().manual_seed(seed)
        self.quadrature = _points_for(problem, width, 1, seed)
        self._space = EnergySpace(problem, self.quadrature)
        kinks = max(self.quadrature.cells, default=N_KINKS)  # more kinks could not be resolved by the points
        self._ridges = Ridges(problem.box, self.quadrature.points, power, kinks)
        self._weights, self._biases = torch.zeros((0, problem.dim), dtype=torch.float64), torch.zeros(0).double()

    def steps(self, width: int) -> Iterator[NetworkStep]:
        """Add neurons one by one."""
        x, dim = self.quadrature.points, self._problem.dim
        empty = self._network_of(torch.zeros(0).double(), torch.zeros(1 + dim).double())
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
        """Add the neuron with the largest residual; return None if it depends linearly on the others."""
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
            return half_circle(N_HALF_CIRCLE)
        return random_directions(N_RANDOM, self._problem.dim, self._generator)

    def network(self) -> BarronNetwork:
        """Return the network of the projection."""
        found = self.projection.coefficients()
        affine = torch.zeros(1 + self._problem.dim, dtype=torch.float64)
        affine[self._affine] = found[: sum(self._affine)]
        return self._network_of(found[sum(self._affine) :], affine)

    def _network_of(self, outer: Tensor, affine: Tensor) -> BarronNetwork:
        return BarronNetwork.of(
            self._weights, self._biases, outer, slope=affine[1:], offset=float(affine[0]), **self._arguments
        )
