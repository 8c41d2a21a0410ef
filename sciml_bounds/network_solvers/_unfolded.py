"""Preconditioned gradient iteration of Barron theory, simulated by a network that grows with the steps.

    u_{t+1} = u_t - h (I - Laplace)^-1 DJ(u_t),    h = 2 / (mu + L),

contracts the H1 error by (L - mu) / (L + mu) in any closed subspace, where mu and L are the ellipticity constants of J
in H1. Here (I - Laplace)^-1 DJ is projected onto the span of the present and some new neurons, and all outer weights
are updated. In steps without new neurons, the theorem applies to the computed iterates.

Legend: q points, n functions, m of them independent, d axes; a jet is values and gradients together, (q, 1 + d, n).
"""

from __future__ import annotations

import math
import time
from typing import Any

import torch
from torch import Tensor

from sciml_bounds.arrays import require_count, require_seed
from sciml_bounds.barron._barron_function import BarronFunction
from sciml_bounds.barron._barron_network import BarronNetwork
from sciml_bounds.barron._norm_growth import NormGrowth, linear_growth
from sciml_bounds.barron._series import FourierSeries, ProductSeries
from sciml_bounds.errors import InputError
from sciml_bounds.network_solvers._network_solution import NetworkSolution, NetworkStep, warn_unless_converged
from sciml_bounds.network_solvers._optimal_sampling import orthonormal
from sciml_bounds.network_solvers._outer_fit import OuterEnergy, set_outer
from sciml_bounds.network_solvers._quadrature import Quadrature, points_for
from sciml_bounds.network_solvers._trial_space import (
    affine_jets,
    dirichlet_sides,
    energy_of,
    feature_jets,
    fitted_on_cpu,
    jet_of,
    network_arguments,
    require_problem,
)
from sciml_bounds.problems.energies import IsotropicEnergy
from sciml_bounds.problems.variational_problem import VariationalProblem

__all__ = ["unfolded_network"]


@fitted_on_cpu
def unfolded_network(
    problem: VariationalProblem,
    width: int,
    *,
    steps: int = 10,
    activation: str = "tanh",
    power: int = 1,
    scale: float = 4.0,
    lifting: BarronNetwork | None = None,
    seed: int = 0,
) -> NetworkSolution:
    """Simulate the preconditioned gradient iteration by networks (after Marwah et al., arXiv:2210.12101).

    Parameters
    ----------
    problem : VariationalProblem
        Convex isotropic problem with positive lambda and finite Lambda, and with Dirichlet or zero Neumann conditions.
    width : int
        Number of neurons; they are added in equal parts during the first half of the steps.
    steps : int
        Number of steps, starting from the lifting or zero.
    activation, power, scale
        As for `BarronNetwork`, whose initialisation defines the neurons.
    lifting : BarronNetwork, optional
        Network with the Dirichlet values; required unless these are a single number on all Dirichlet sides.
    seed : int
        Seed of the neurons.

    Returns
    -------
    NetworkSolution
        With `proven_contraction`. The record of each step contains the H1 norm of the step, the Barron norm of the
        network, and the theoretical bound of the Barron norm of the exact iterate.

    Raises
    ------
    InputError
        If an argument is invalid, mu or L is unknown, or a boundary condition is not available for networks.

    Notes
    -----
    The theoretical bound is `barron._norm_growth.linear_growth`. It is available for linear problems on a box whose
    source is a `BarronFunction` that is a series, and whose coefficient and reaction are such functions or numbers. The
    network may have a larger norm than the exact iterate, since its neurons are given.

    If coefficient or reaction are functions on a box, mu and L are computed from samples.

    Examples
    --------
    >>> import sciml_bounds as sb
    >>> problem = sb.variational.VariationalProblem(sb.barron.Box([1.0, 1.0]), sb.variational.ShearThinning(1.0), 10.0)
    >>> solution = sb.network_solvers.unfolded_network(problem, 60, steps=12)
    >>> f"{solution.proven_contraction:.3f}", solution.observed_contraction < solution.proven_contraction
    ('0.355', True)
    """
    start = time.perf_counter()
    require_problem(problem, "unfolded_network")
    require_count(width, "width", 1)
    require_count(steps, "steps", 1)
    seed = require_seed(seed)
    mu, L = _spectrum(problem)
    length = 2 / (mu + L)
    arguments = network_arguments(problem, lifting)
    network = BarronNetwork(problem.dim, width, activation, power=power, scale=scale, seed=seed, **arguments)
    rule = points_for(problem, network, seed=seed)
    history = _iterate(network, problem, rule, steps, length)
    coarse = energy_of(network, problem, rule)
    energy = energy_of(network, problem, points_for(problem, network, fineness=2, seed=seed + 1))
    solution = NetworkSolution(
        network=network,
        energy=energy,
        energy_change=abs(energy - coarse),
        history=history,
        method=f"gradient iteration by networks, step {length:.3g}",
        integrals=rule.words,
        proven_order=None,
        seconds=time.perf_counter() - start,
        proven_contraction=(L - mu) / (L + mu),
    )
    warn_unless_converged(solution)
    return solution


def _iterate(
    network: BarronNetwork, problem: VariationalProblem, rule: Quadrature, steps: int, length: float
) -> tuple[NetworkStep, ...]:
    d, x = problem.dim, rule.points
    with torch.no_grad():
        network.outer.zero_()
    jets = torch.cat([affine_jets(network, x), feature_jets(network, x)], -1)
    start, basis = jet_of(network, x), _Basis(jets, rule.weights.sqrt())
    growth, start_norm = _growth(problem, length), network.barron_norm
    growing = -(-steps // 2)
    history, z = [], torch.zeros(0, dtype=torch.float64)
    for step in range(1, steps + 1):
        neurons = min(network.width, step * network.width // growing)
        z = basis.extended(1 + d + neurons, z)
        energy = OuterEnergy(problem, rule, start, basis.functions)
        move = length * energy.gradient(z)  # in an orthonormal basis the gradient represents itself
        z = z - move
        coefficients = jets.new_zeros(jets.shape[-1])
        coefficients[: 1 + d + neurons] = basis.transform @ z
        set_outer(network, coefficients)
        allowed = math.nan if growth is None else growth.after(step, start_norm)
        history.append(NetworkStep(neurons, energy.value(z), network.barron_norm, float(move.norm()), allowed))
    return tuple(history)


class _Basis:
    """Basis of the span of the first functions of a list, orthonormal in the H1 inner product of the quadrature.

    The basis is recomputed for every number of functions. Extending an old basis by functions that almost depend on it
    would require unbounded weights.
    """

    def __init__(self, jets: Tensor, root: Tensor) -> None:
        self._jets, self._root = jets, root[:, None, None]
        self._rows = torch.zeros((jets[..., 0].numel(), 0), dtype=torch.float64)
        self.transform = torch.zeros((0, 0), dtype=torch.float64)
        self.functions = jets[..., :0]

    def extended(self, count: int, z: Tensor) -> Tensor:
        """Extend the span to `count` functions, and return the new coordinates of the function with coordinates z."""
        if count == len(self.transform):
            return z
        rows, self.transform = orthonormal((self._jets[..., :count] * self._root).flatten(0, 1))
        z, self._rows = rows.T @ (self._rows @ z), rows
        self.functions = rows.reshape(*self._jets.shape[:2], -1) / self._root
        return z


def _spectrum(problem: VariationalProblem) -> tuple[float, float]:
    """Return mu and L of the energy in H1, with the Poincare constant of the box and its Dirichlet sides."""
    density = problem.density
    if not isinstance(density, IsotropicEnergy) or not density.convex:
        raise InputError(
            f"unfolded_network needs a convex isotropic energy, not {type(density).__name__}; use "
            "sb.network_solvers.ritz_network."
        )
    lower, upper = problem.ellipticity
    c = problem.reaction_at(problem.sample_points())
    low = density.potential.lower * float(c.min())
    high = density.potential.upper * float(c.max()) if bool(c.any()) else 0.0
    sides = dirichlet_sides(problem)
    ends = [sum(axis == i for axis, _ in sides) for i in range(problem.dim)]
    first = sum((count * math.pi / (2 * length)) ** 2 for count, length in zip(ends, problem.box.lengths))
    mu, L = max(min(lower, low), lower * first / (1 + first)), max(upper, high)
    if not (mu > 0 and math.isfinite(L)):
        raise InputError(
            f"unfolded_network needs mu > 0 and a finite L, but mu = {mu:g} and L = {L:g} are known here; use "
            "sb.network_solvers.ritz_network."
        )
    return mu, L


def _growth(problem: VariationalProblem, length: float) -> NormGrowth | None:
    """Bound the growth of the Barron norms of the exact iterates; None unless all data are numbers or series."""
    if not problem.linear or problem.grid is not None:
        return None
    a, c, f = problem.density.fields["coefficient"], problem.density.fields["reaction"], problem.source
    if not (_is_series(f) and all(_is_series(field) or isinstance(field, int | float) for field in (a, c))):
        return None
    return linear_growth(a, f, length, c)[1]  # type: ignore[arg-type]  # types were checked above


def _is_series(field: Any) -> bool:
    return isinstance(field, BarronFunction) and isinstance(field.value, FourierSeries | ProductSeries)
