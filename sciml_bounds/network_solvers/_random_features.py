"""Networks whose neurons are drawn and stay: the outer weights solve a least squares problem."""

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

#: Points of collocation for each dimension of the space.
POINTS = 2
#: How many times as many points a second fit has, where others say that the first was too good to be true.
FINER = 3


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
    """Solve a convex problem by a network with drawn neurons, fitting its outer weights.

    Parameters
    ----------
    problem
        With `convex` true, and Dirichlet or free sides.
    width
        Neurons. Beside them there is the affine part.
    activation, power, scale
        Those of `BarronNetwork`, whose random start gives the neurons: the entries of w_j times the sides have standard
        deviation `scale`. How much a scale can do is told by the number of dimensions that the features span.
    fit
        "energy": the network of least energy with these neurons, up to the error of integrals.
        "collocation": least squares of -a Laplace v + c v - f at twice as many points as the features span dimensions,
        for linear problems with a number a and Dirichlet values on all sides.
    sides
        "factor": networks are exact on Dirichlet sides, by a factor that vanishes there. "constraints": they have the
        values at points of the sides only, as equality constraints of `minimize`, without factor and lifting, in up to
        three dimensions; for fit="energy".
    sampling
        How points of collocation are drawn: "dpp" or "iid", see `optimal_sample`.
    lifting
        A network with the Dirichlet values, needed where they are not one number for all sides.
    seed
        Of neurons and points.

    Returns
    -------
    NetworkSolution
        A `ConvergenceWarning` says where it did not converge.

    Raises
    ------
    InputError
        If an argument does not fit, the problem is not convex, a side has a condition that networks do not meet, or
        collocation does not fit.

    Notes
    -----
    Energies are by eight points or more for each unknown. Where finer ones disagree by more than 1 %, the fit is made
    once more with three times as many, in up to three dimensions.

    Points of collocation are those of `optimal_sample` (Nouy and Michel, arXiv 2312.14057). Nothing is proven of the
    neurons that are drawn; see `capacity` for what a range of them can do at all.

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
        raise InputError("the energy is not declared to be convex, so that it has no best outer weights.")
    require_count(width, "width", 1)
    require_choice(fit, "fit", ("energy", "collocation"))
    require_choice(sampling, "sampling", get_args(SamplingMethod))
    seed = require_seed(seed)
    constrained = _is_constrained(sides, fit, lifting)
    arguments = free_arguments(problem) if constrained else network_arguments(problem, lifting)
    network = BarronNetwork(problem.dim, width, activation, power=power, scale=scale, seed=seed, **arguments)
    control = points_for(problem, network, fineness=2, seed=seed + 1)
    for times in (1, FINER) if problem.dim <= 3 else (1,):
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
    """Set the outer weights: what was done, in words, and what is left of the gradient."""
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
        raise InputError("sides='constraints' goes with fit='energy' and without a lifting.")
    return sides == "constraints"


def _collocate(network: BarronNetwork, problem: VariationalProblem, pool: Quadrature, sampling: Any, seed: int) -> str:
    require_linear(problem, "fit='collocation'")
    a = problem.density.fields["coefficient"]
    if not isinstance(a, int | float) and not (isinstance(a, Tensor) and a.numel() == 1):
        raise InputError("fit='collocation' needs a number as coefficient, whose slope is zero; take fit='energy'.")
    if len(network.dirichlet_sides) != 2 * problem.dim:
        raise InputError("fit='collocation' needs Dirichlet values on all sides; take fit='energy'.")
    x, c = pool.points, problem.reaction_at(pool.points)
    with torch.no_grad():
        values = torch.cat([affine_jets(network, x)[:, 0], network.features(x)], 1)
        bends = torch.cat([_affine_laplacians(network, x), network.feature_laplacians(x)], 1)
        applied = c[:, None] * values - float(a) * bends
        left = problem.source_at(x) - c * network(x) + float(a) * network.laplacian(x)
    root = pool.weights.sqrt()
    basis, transform = orthonormal(applied * root[:, None])
    count = POINTS * basis.shape[1]
    sample = optimal_sample(basis / root[:, None], count, weights=pool.weights, method=sampling, seed=seed)
    rows = (sample.weights / pool.weights[sample.indices]).sqrt()
    matrix = rows[:, None] * basis[sample.indices]
    right = rows * (root * left)[sample.indices]
    found = torch.linalg.lstsq(matrix, right[:, None]).solution[:, 0]
    set_outer(network, transform @ found)
    return f"collocation at {count} points ({sampling}), ||G - I|| = {sample.stability:.2f}"


def _affine_laplacians(network: BarronNetwork, x: Tensor) -> Tensor:
    """Laplacians of D, D x_1, ...: Laplace D, and x_i Laplace D + 2 dD / dx_i."""
    assert network.distance is not None
    _, slope, bend = network.distance.jet(x)
    return torch.cat([bend[:, None], x * bend[:, None] + 2 * slope], 1)
