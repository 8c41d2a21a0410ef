"""Minimise the energy of a variational problem on its grid, by Newton, Kacanov or preconditioned gradients.

Notation: v nodal field; g derivative of J; B matrix of the inner product int a grad u . grad v + c u v, used as
preconditioner; H second derivative of J, or its approximation.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from functools import cached_property
from typing import Any, Literal

import torch
from torch import Tensor

from sciml_bounds.arrays import require_callback, require_choice, require_count, require_number
from sciml_bounds.bounds._convex import certify_energy
from sciml_bounds.errors import InputError
from sciml_bounds.problems.energies import IsotropicEnergy
from sciml_bounds.problems.transfers import fold_periodic_copies
from sciml_bounds.problems.variational_problem import VariationalProblem
from sciml_bounds.reports import Reason, report_failure
from sciml_bounds.variational._cell_matrices import CellMatrices
from sciml_bounds.variational._energy_point import EnergyPoint, isotropic
from sciml_bounds.variational._variational_solution import EnergyStep, VariationalSolution

__all__ = ["EnergyMethod", "minimize_energy"]

EnergyMethod = Literal["newton", "kacanov", "gradient", "gns"]

MAXITER = {"newton": 100, "kacanov": 500, "gradient": 5000, "gns": 500}

#: Relative residuals of inner solves: exact ones for "gradient", whose theory needs them, and the initial one of
#: others.
EXACT, FORCING = 1e-11, 0.1

#: Armijo's constant, and the maximum number of halvings of a step.
ARMIJO, MAX_HALVINGS = 1e-4, 60

#: A step is shortened if the slope at its end is positive and larger than this fraction of the initial slope. Kacanov
#: weights that grow with the gradient give steps that are too long, and for |p|^3 the iteration would not converge.
MAX_FINAL_SLOPE = 0.5

#: The energy is unbounded if an iterate is larger than the first one by this factor.
DIVERGENCE_FACTOR = 1e9

#: If the predicted decrease is below this fraction of the energy, slopes decide instead of energies.
MIN_RELATIVE_DECREASE = 1e-11


def minimize_energy(
    problem: VariationalProblem,
    *,
    method: EnergyMethod = "newton",
    x0: Any = None,
    rtol: float = 1e-8,
    maxiter: int | None = None,
    certify: bool = False,
    callback: Callable[[int, Tensor], bool | None] | None = None,
    throw: bool = False,
) -> VariationalSolution:
    """Minimise the energy of a variational problem over multilinear functions on its grid.

    Parameters
    ----------
    problem : VariationalProblem
        Problem on an `sb.Grid`.
    method : {"newton", "kacanov", "gradient", "gns"}
        "newton": Newton's method with line search. "kacanov": linear problems with frozen weights
        g'(|grad v|) / |grad v|, with line search. "gradient": v - 2 / (mu + L) B^-1 g, with the inner product
        B = int a grad u . grad v + c u v, if mu and L are known. "gns": Newton's method with H + |g| / gamma B instead
        of H and adaptive gamma (gradient-normalised smoothness, Semenov, Jaggi, Doikov, arXiv 2506.13710).
    x0 : array or Tensor (nodal field), or a solution, optional
        Initial guess; its values on Dirichlet sides are replaced by the prescribed ones. By default the solution of
        -div(a grad u) = f.
    rtol : float
        Stop when the dual norm of g in B is at most `rtol` times the largest of the dual norms of load and reaction and
        the norm of the flux dL/dp.
    maxiter : int or None
        Maximum number of iterations; by default 100 for "newton", 500 for "kacanov" and "gns", 5000 for "gradient".
    certify : bool
        Compute `solution.certificate`, for convex energies with a known conjugate. It is None if the final energy is
        not finite.
    callback : callable or None
        Called after each iteration with its number and the nodal values; the iteration stops if it returns True.
    throw : bool
        Raise `ConvergenceError` instead of warning when the tolerance is not reached.

    Returns
    -------
    VariationalSolution
        The minimiser, with records of the iterations.

    Raises
    ------
    InputError
        If an argument is invalid, or the energy does not have the properties that a method needs.
    ConvergenceError
        If `throw` is true and the tolerance is not reached.

    Notes
    -----
    Integrals use two Gauss points per axis. Linear systems are solved by conjugate gradients, preconditioned by
    multigrid, or by fast transforms if weights are constant. If the problem is not convex, the result is a stationary
    point with lower energy than x0, possibly one of several.

    "gradient" reduces the B-norm of the error by the factor (L - mu) / (L + mu). "kacanov" reduces J(v) - J(u) by
    1 - mu / L if the frozen weights decrease with |grad v|: the decrease J(v) - J(v+) is at least
    g.K^-1 g / 2 >= g.B^-1 g / (2 L), where K is the frozen matrix, and J(v) - J(u) is at most g.B^-1 g / (2 mu).

    Examples
    --------
    >>> import sciml_bounds as sb
    >>> problem = sb.variational.VariationalProblem(sb.Grid((32, 32)), sb.variational.ShearThinning(3.0), source=10.0)
    >>> solution = sb.variational.minimize_energy(problem)
    >>> solution.converged, solution.iterations < 10
    (True, True)
    """
    start = time.perf_counter()
    if not isinstance(problem, VariationalProblem) or problem.grid is None:
        kind = type(problem).__name__ if not isinstance(problem, VariationalProblem) else "problem on a box"
        raise InputError(f"minimize_energy needs an sb.variational.VariationalProblem on an sb.Grid, but got a {kind}.")
    require_choice(method, "method", _METHODS)
    if require_number(rtol, "rtol", positive=True) < 1e-14:
        raise InputError(f"rtol={rtol:g} is below round-off; use at least 1e-14.")
    if maxiter is not None:
        require_count(maxiter, "maxiter", 0)
    require_callback(callback)
    run = _METHODS[method](problem)
    reason = run.iterate(x0, rtol, MAXITER[method] if maxiter is None else maxiter, callback)
    point = run.point
    solution = VariationalSolution(
        values=point.v,
        energy=point.energy,
        residual_norm=run.residual_norm,
        tolerance=run.tolerance,
        reason=reason,
        history=tuple(run.history),
        proven_contraction=run.proven_contraction(),
        contraction_of=run.contraction_of,
        method=run.description,
        grid=problem.grid,
        certificate=certify_energy(problem, point.v) if certify and math.isfinite(point.energy) else None,
        seconds=time.perf_counter() - start,
    )
    if not solution.converged and reason is not Reason.STOPPED:
        advice: dict[Reason, str] = {reason: solution.advice}
        report_failure("the energy", reason, solution.progress, throw=throw, advice=advice)
    return solution


class _EnergyDescent:
    """The state of one minimisation; subclasses define the step."""

    description = ""
    contraction_of = "error in the energy norm"

    def __init__(self, problem: VariationalProblem) -> None:
        self.problem = problem
        self.history: list[EnergyStep] = []
        self.tolerance = self.residual_norm = math.nan
        self._inner = 0
        self._finite_derivatives = True

    def proven_contraction(self) -> float | None:
        """Return the proven contraction factor, or None."""
        return None

    def step(self) -> tuple[EnergyPoint | None, float]:
        """Compute the new point, or None if no step succeeds, and the step length."""
        raise NotImplementedError

    @cached_property
    def inner_product(self) -> CellMatrices:
        """The matrix B, with the coefficient and reaction of the problem if it has them, else with ones."""
        problem = self.problem
        u, p = problem.elements.at(problem.load.new_zeros([n + 1 for n in problem.elements.grid.shape]))
        if not isinstance(problem.density, IsotropicEnergy):
            return CellMatrices(problem, isotropic(torch.ones_like(u), self._reaction(u), p))
        a, c = problem.quadrature_data
        return CellMatrices(problem, isotropic(a.expand_as(u), c.expand_as(u), p))

    def _reaction(self, u: Tensor) -> Tensor:
        """Return a reaction of one if there are no Dirichlet sides, so that B is regular, else zero."""
        return torch.full_like(u, float(not self.problem.frame.dirichlet_nodes.any()))

    def iterate(
        self, x0: Any, rtol: float, maxiter: int, callback: Callable[[int, Tensor], bool | None] | None
    ) -> Reason:
        """Iterate until the tolerance is reached or the iteration fails, and return the reason."""
        first = self._start(x0)
        self.point = EnergyPoint(self.problem, first)
        self.tolerance = rtol * self._scale()
        self.residual_norm = self._dual_norm(self.point.gradient)
        while not self._reached(rtol):
            if len(self.history) >= maxiter:
                return Reason.MAXITER
            self._inner = 0
            new, length = self.step()
            if new is None or not math.isfinite(new.energy):
                finite = (
                    self._finite_derivatives and math.isfinite(self.point.energy) and math.isfinite(self.residual_norm)
                )
                return Reason.STAGNATED if finite else Reason.NOT_FINITE
            if float(new.v.abs().max()) > DIVERGENCE_FACTOR * max(1.0, float(first.abs().max())):
                return Reason.UNBOUNDED
            change = new.v - self.point.v
            self.point = new
            self.residual_norm = self._dual_norm(new.gradient)
            norm = math.sqrt(max(self.inner_product.product(change, change), 0.0))
            self.history.append(EnergyStep(new.energy, self.residual_norm, length, norm, self._inner))
            if callback is not None and callback(len(self.history), new.v.clone()):
                return Reason.STOPPED
        return Reason.CONVERGED if math.isfinite(self.residual_norm) else Reason.NOT_FINITE

    def _reached(self, rtol: float) -> bool:
        """Whether the residual is small relative to the first scale, and also to that of the current iterate."""
        if self.residual_norm > self.tolerance:
            return False
        self.tolerance = rtol * self._scale()
        return not self.residual_norm > self.tolerance

    def _start(self, x0: Any) -> Tensor:
        problem = self.problem
        if x0 is not None:
            return problem.impose_boundary(problem.nodes(x0))
        lifted = problem.impose_boundary(torch.zeros_like(problem.load))
        return lifted + self.inner_product.solve(problem.load - self.inner_product.apply(lifted), 1e-8)[0]

    def _scale(self) -> float:
        """Return the scale of residuals: the largest of the dual norms of load and reaction and the norm of the flux.

        It is computed at the current iterate, since exponentially growing energies may have any size at others.
        """
        u, p = self.point.regularised_fields()
        data, elements = self.problem.quadrature_data, self.problem.elements
        second = self.problem.density.second(data, u, p)
        reaction = (second.uu * u).nan_to_num(nan=0.0, posinf=0.0, neginf=0.0)
        tested = elements.tested(reaction, torch.zeros_like(p))
        loads = (self.problem.load, fold_periodic_copies(tested, self.problem.frame.periodic))
        flux = self.problem.density.first(data, u, p)[1].square().sum(-1)
        weight = data[0] if isinstance(self.problem.density, IsotropicEnergy) else 1.0
        norms = [self._dual_norm(self.problem.free * load) for load in loads]
        norms.append(math.sqrt(float(elements.integrate(flux / weight))))
        size = max((norm for norm in norms if math.isfinite(norm)), default=0.0)
        return size if size > 0 else 1.0

    def _usable(self, matrices: CellMatrices) -> bool:
        """Whether second derivatives are finite; the result determines the reason if the iteration ends here."""
        self._finite_derivatives = matrices.finite
        return self._finite_derivatives

    def riesz(self, g: Tensor, rtol: float) -> Tensor:
        """Return B^-1 g."""
        z, count = self.inner_product.solve(g, rtol)
        self._inner += count
        return z

    def _dual_norm(self, g: Tensor) -> float:
        if not bool(g.isfinite().all()):
            return math.nan
        return math.sqrt(max(float((g * self.riesz(g, 1e-3)).sum()), 0.0))

    def search(self, direction: Tensor, slope: float) -> tuple[EnergyPoint | None, float]:
        """Backtracking line search with Armijo's rule; `slope` is the derivative along the direction."""
        start, length = self.point, 1.0
        if -slope <= MIN_RELATIVE_DECREASE * abs(start.energy):  # energies differ by round-off
            return self._by_slopes(direction, slope)
        for _ in range(MAX_HALVINGS):
            new = EnergyPoint(self.problem, start.v + length * direction)
            if new.energy <= start.energy + ARMIJO * length * slope:
                return self._shortened(new, length, direction, slope)
            length /= 2
        return None, 0.0

    def _by_slopes(self, direction: Tensor, slope: float) -> tuple[EnergyPoint, float]:
        new = EnergyPoint(self.problem, self.point.v + direction)
        along = float((new.gradient * direction).sum())
        if not along > -MAX_FINAL_SLOPE * slope:
            return new, 1.0
        length = slope / (slope - along)
        return EnergyPoint(self.problem, self.point.v + length * direction), length

    def _shortened(self, new: EnergyPoint, length: float, direction: Tensor, slope: float) -> tuple[EnergyPoint, float]:
        """If the step went far beyond the minimum, shorten it to the zero of the slope by linear interpolation."""
        along = float((new.gradient * direction).sum())
        if along <= -MAX_FINAL_SLOPE * slope:
            return new, length
        shorter = length * slope / (slope - along)
        other = EnergyPoint(self.problem, self.point.v + shorter * direction)
        return (other, shorter) if other.energy < new.energy else (new, length)

    def _forcing(self) -> float:
        """Return the relative residual of an inner solve, which decreases with the outer one for fast convergence."""
        if self.problem.linear:
            return EXACT
        return min(FORCING, max(self.residual_norm / self._first, EXACT))

    @cached_property
    def _first(self) -> float:
        """The initial residual."""
        return self.residual_norm


class _Newton(_EnergyDescent):
    description = "Newton, line search, conjugate gradients with multigrid"

    def matrices(self) -> CellMatrices:
        """Assemble the second derivative, or its approximation."""
        return self.point.hessian()

    def step(self) -> tuple[EnergyPoint | None, float]:
        """Solve for a direction, and search along it."""
        g, matrices = self.point.gradient, self.matrices()
        if not self._usable(matrices):
            return None, 0.0
        direction, count = matrices.solve(-g, self._forcing())
        self._inner += count
        slope = float((g * direction).sum())
        if not slope < 0:
            return None, 0.0
        return self.search(direction, slope)


class _Kacanov(_Newton):
    description = "Kacanov, line search, conjugate gradients with multigrid"
    contraction_of = "square root of J - min J"

    def matrices(self) -> CellMatrices:
        """Assemble the matrix with frozen weights."""
        return self.point.frozen()

    def proven_contraction(self) -> float | None:
        """Return the factor for full steps, which the line search takes if weights decrease."""
        if not self.point.has_decreasing_weights():
            return None
        mu, L = _spectrum(self.problem)
        return math.sqrt(1 - mu / L) if mu > 0 and math.isfinite(L) else None


class _Gradient(_EnergyDescent):
    description = "preconditioned gradients with the step 2 / (mu + L)"

    def __init__(self, problem: VariationalProblem) -> None:
        super().__init__(problem)
        self._mu, self._L = _spectrum(problem)
        if not (self._mu > 0 and math.isfinite(self._L)):
            raise InputError(
                f"method='gradient' needs mu > 0 and a finite L, but {type(problem.density).__name__} has mu = "
                f"{self._mu:g} and L = {self._L:g} here; use method='newton', or declare lower and upper."
            )

    def proven_contraction(self) -> float:
        """Return the factor for gradients that are mu-strongly monotone and L-Lipschitz."""
        return (self._L - self._mu) / (self._L + self._mu)

    def step(self) -> tuple[EnergyPoint | None, float]:
        """Take the step -2 / (mu + L) B^-1 g."""
        length = 2 / (self._mu + self._L)
        return EnergyPoint(self.problem, self.point.v - length * self.riesz(self.point.gradient, EXACT)), length


class _GradientNormalised(_EnergyDescent):
    description = "Newton with gradient-normalised smoothness, conjugate gradients with multigrid"

    def __init__(self, problem: VariationalProblem) -> None:
        super().__init__(problem)
        self._gamma = 1.0

    def step(self) -> tuple[EnergyPoint | None, float]:
        """Halve gamma until the energy falls by |g+|^2 / (8 |g| / gamma); then accept the step and double gamma."""
        g, H = self.point.gradient, self.point.hessian()
        if not self._usable(H):
            return None, 0.0
        size = math.sqrt(float((g * self.riesz(g, 1e-3)).sum()))
        flat = MIN_RELATIVE_DECREASE * abs(self.point.energy)
        for _ in range(MAX_HALVINGS):
            weight = size / self._gamma
            shifted = H.shifted(self.inner_product, weight)
            direction, count = shifted.solve(-g, self._forcing())
            self._inner += count
            new = EnergyPoint(self.problem, self.point.v + direction)
            if math.isfinite(new.energy) and bool(new.gradient.isfinite().all()):
                required = self._dual_norm(new.gradient) ** 2 / (8 * weight)
                if self.point.energy - new.energy >= required - flat * (required < flat):
                    self._gamma *= 2
                    return new, 1.0
            self._gamma /= 2
        return None, 0.0


def _spectrum(problem: VariationalProblem) -> tuple[float, float]:
    """Return (mu, L) such that the energy is mu-strongly convex and L-smooth in B; (0, inf) if unknown."""
    density = problem.density
    if not isinstance(density, IsotropicEnergy) or not density.convex:
        return 0.0, math.inf
    profile, potential = density.profile, density.potential
    _, c = problem.quadrature_data
    if not bool(c.any()):
        return profile.lower, profile.upper
    return min(profile.lower, potential.lower), max(profile.upper, potential.upper)


_METHODS: dict[str, Callable[[VariationalProblem], _EnergyDescent]] = {
    "newton": _Newton,
    "kacanov": _Kacanov,
    "gradient": _Gradient,
    "gns": _GradientNormalised,
}
