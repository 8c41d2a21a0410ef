"""Random feature networks: the neurons are random and fixed, and only the outer weights are fitted."""

from __future__ import annotations

import time
from typing import Any, Literal, get_args

import torch
from torch import Tensor

from sciml_bounds.arrays import require_choice, require_count, require_seed
from sciml_bounds.barron._barron_network import BarronNetwork
from sciml_bounds.errors import InputError
from sciml_bounds.network_solvers._constrained_fit import fit_with_constraints, side_points
from sciml_bounds.network_solvers._network_solution import (
    NetworkSolution,
    NetworkStep,
    energies_agree,
    warn_unless_converged,
)
from sciml_bounds.network_solvers._optimal_sampling import SamplingMethod, optimal_sample, orthonormal
from sciml_bounds.network_solvers._outer_fit import fit_outer, set_outer
from sciml_bounds.network_solvers._quadrature import Quadrature, points_for
from sciml_bounds.network_solvers._trial_space import (
    affine_jets,
    dirichlet_sides,
    energy_of,
    fitted_on_cpu,
    free_arguments,
    network_arguments,
    require_linear,
    require_problem,
    side_values,
)
from sciml_bounds.problems.variational_problem import VariationalProblem

__all__ = ["random_feature_network"]

#: Number of collocation points per dimension of the space.
POINTS_PER_DIMENSION = 2
#: Factor of the number of points in a second fit, used if the first fit has exploited quadrature errors.
REFIT_FACTOR = 3


@fitted_on_cpu
def random_feature_network(
    problem: VariationalProblem,
    width: int,
    *,
    activation: str = "tanh",
    power: int = 1,
    scale: float = 4.0,
    fit: Literal["energy", "collocation"] = "energy",
    sides: Literal["factor", "constraints"] = "factor",
    sampling: SamplingMethod = "dpp",
    lifting: BarronNetwork | None = None,
    seed: int = 0,
) -> NetworkSolution:
    """Solve a convex problem by a network with random neurons, fitting its outer weights.

    Parameters
    ----------
    problem : VariationalProblem
        Convex problem with Dirichlet or zero Neumann conditions.
    width : int
        Number of neurons, in addition to the affine part.
    activation, power, scale
        As for `BarronNetwork`, whose initialisation defines the neurons: the entries of w_j times the side lengths have
        standard deviation `scale`. The number of dimensions that the features span, reported in `method`, shows whether
        a scale is suitable.
    fit : {"energy", "collocation"}
        "energy": minimise the energy, up to integration errors. "collocation": least squares of
        -a Laplace v + c v - f at points, twice as many as the dimension of the span of the features; for linear
        problems with constant a and Dirichlet conditions on all sides.
    sides : {"factor", "constraints"}
        "factor": Dirichlet values are exact, by a factor that vanishes on the sides. "constraints": Dirichlet values
        are equality constraints of `minimize` at points of the sides, without factor and lifting; for fit="energy" in
        up to three dimensions.
    sampling : {"dpp", "iid"}
        Sampling method of collocation points, see `optimal_sample`.
    lifting : BarronNetwork, optional
        Network with the Dirichlet values; required unless these are a single number on all Dirichlet sides.
    seed : int
        Seed of neurons and points.

    Returns
    -------
    NetworkSolution
        A `ConvergenceWarning` is issued if it did not converge.

    Raises
    ------
    InputError
        If an argument is invalid, the problem is not convex, a boundary condition is not available for networks, or
        collocation is not available for the problem.

    Notes
    -----
    Energies are integrated with at least eight points per unknown. If a finer rule differs by more than 1 %, the fit is
    repeated with three times as many points, in up to three dimensions.

    Collocation points are those of `optimal_sample` (Nouy and Michel, arXiv 2312.14057). There is no theorem for the
    random neurons; see `capacity` for lower bounds of their error.

    Examples
    --------
    >>> import math
    >>> import sciml_bounds as sb
    >>> source = lambda x: 2 * math.pi**2 * (math.pi * x).sin().prod(-1)
    >>> problem = sb.variational.VariationalProblem(sb.barron.Box([1.0, 1.0]), sb.variational.QuadraticEnergy(), source)
    >>> solution = sb.network_solvers.random_feature_network(problem, 60)
    >>> abs(solution.network([0.5, 0.5]).item() - 1) < 1e-4
    True
    """
    start = time.perf_counter()
    require_problem(problem, "random_feature_network")
    if not problem.convex:
        raise InputError(
            "the energy is not declared to be convex, so outer weights of least energy may not exist; use "
            "sb.network_solvers.ritz_network, or declare convex=True if it is convex."
        )
    require_count(width, "width", 1)
    require_choice(fit, "fit", ("energy", "collocation"))
    require_choice(sampling, "sampling", get_args(SamplingMethod))
    seed = require_seed(seed)
    constrained = _is_constrained(sides, fit, lifting)
    arguments = free_arguments(problem) if constrained else network_arguments(problem, lifting)
    network = BarronNetwork(problem.dim, width, activation, power=power, scale=scale, seed=seed, **arguments)
    control = points_for(problem, network, fineness=2, seed=seed + 1)
    for times in (1, REFIT_FACTOR) if problem.dim <= 3 else (1,):
        quadrature = points_for(problem, network, times=times, seed=seed)
        words, residual = _fit(network, problem, quadrature, fit, constrained, sampling, seed)
        coarse, energy = (energy_of(network, problem, rule) for rule in (quadrature, control))
        if energies_agree(coarse, energy):
            break
    solution = NetworkSolution(
        network=network,
        energy=energy,
        energy_change=abs(energy - coarse),
        history=(NetworkStep(width, coarse, network.barron_norm),),
        method=f"random features, {words}",
        integrals=quadrature.words,
        proven_order=None,
        seconds=time.perf_counter() - start,
        residual=residual,
    )
    warn_unless_converged(solution)
    return solution


def _fit(
    network: BarronNetwork,
    problem: VariationalProblem,
    quadrature: Quadrature,
    fit: str,
    constrained: bool,
    sampling: Any,
    seed: int,
) -> tuple[str, float]:
    """Fit the outer weights; return a description of the fit, and the relative gradient."""
    with torch.no_grad():
        network.outer.zero_()
        network.slope.zero_()
        network.offset.zero_()
    if constrained:
        places = side_points(network, dirichlet_sides(problem))
        return fit_with_constraints(network, problem, quadrature, places, side_values(problem, places))
    if fit == "energy":
        dimensions, residual = fit_outer(network, problem, quadrature)
        return f"least energy in {dimensions} dimensions", residual
    return _collocate(network, problem, quadrature, sampling, seed), 0.0


def _is_constrained(sides: str, fit: str, lifting: BarronNetwork | None) -> bool:
    require_choice(sides, "sides", ("factor", "constraints"))
    if sides == "constraints" and (fit != "energy" or lifting is not None):
        raise InputError(
            "sides='constraints' is available only with fit='energy' and without lifting; change these or use "
            "sides='factor'."
        )
    return sides == "constraints"


def _collocate(network: BarronNetwork, problem: VariationalProblem, pool: Quadrature, sampling: Any, seed: int) -> str:
    require_linear(problem, "fit='collocation'")
    a = problem.density.fields["coefficient"]
    if not isinstance(a, int | float) and not (isinstance(a, Tensor) and a.numel() == 1):
        raise InputError("fit='collocation' needs a number as coefficient, not a field; use fit='energy'.")
    if len(network.dirichlet_sides) != 2 * problem.dim:
        raise InputError("fit='collocation' needs Dirichlet values on all sides; use fit='energy'.")
    x, c = pool.points, problem.reaction_at(pool.points)
    with torch.no_grad():
        values = torch.cat([affine_jets(network, x)[:, 0], network.features(x)], 1)
        bends = torch.cat([_affine_laplacians(network, x), network.feature_laplacians(x)], 1)
        applied = c[:, None] * values - float(a) * bends
        left = problem.source_at(x) - c * network(x) + float(a) * network.laplacian(x)
    root = pool.weights.sqrt()
    basis, transform = orthonormal(applied * root[:, None])
    count = POINTS_PER_DIMENSION * basis.shape[1]
    sample = optimal_sample(basis / root[:, None], count, weights=pool.weights, method=sampling, seed=seed)
    rows = (sample.weights / pool.weights[sample.indices]).sqrt()
    matrix = rows[:, None] * basis[sample.indices]
    right = rows * (root * left)[sample.indices]
    found = torch.linalg.lstsq(matrix, right[:, None]).solution[:, 0]
    set_outer(network, transform @ found)
    return f"collocation at {count} points ({sampling}), ||G - I|| = {sample.stability:.2f}"


def _affine_laplacians(network: BarronNetwork, x: Tensor) -> Tensor:
    """Return the Laplacians of D and D x_i: Laplace D, and x_i Laplace D + 2 dD / dx_i."""
    assert network.distance is not None
    _, slope, bend = network.distance.jet(x)
    return torch.cat([bend[:, None], x * bend[:, None] + 2 * slope], 1)
