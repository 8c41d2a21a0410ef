"""Minimise the energy of a variational problem on its grid, by Newton, Kacanov or preconditioned gradients.

Legend: v nodal field; g derivative of J; B inner product of the preconditioner, int a grad . grad + c . .; H second
derivative of J, or what stands for it.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from functools import cached_property
from typing import Any, Literal

import torch
from torch import Tensor

import sciml_bounds.bounds._certify as bounds
from sciml_bounds.arrays import require_callback, require_choice, require_count, require_number
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

#: Residuals of inner solves. Those of "gradient" make the map that contracts; the next step corrects the others.
EXACT, FORCING = 1e-11, 0.1

#: The decrease that is asked of a step, as a part of what its slope promises (Armijo), and how often it may be halved.
ARMIJO, HALVINGS = 1e-4, 60

#: A step after which the energy rises by more than this part of how it fell before is drawn back: weights of Kacanov
#: that grow with the gradient make steps that are too long, without end for |p|^3.
OVERSHOT = 0.5

#: An iterate that is so much larger than the first one is on its way to infinity.
FAR = 1e9

#: Where energies are to fall by less than this part of their size, slopes decide.
FLAT = 1e-11


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
    """Find the multilinear function of least energy on the grid of a variational problem.

    Parameters
    ----------
    problem
        On an `sb.Grid`.
    method
        "newton": with a line search. "kacanov": weights g'(|grad v|) / |grad v| are frozen, with a line search.
        "gradient": v - 2 / (mu + L) B^-1 g, B the inner product int a grad . grad + c . ., where mu and L are known.
        "gns": Newton with H + |g| / gamma B in place of H, gamma found as it goes (gradient-normalised smoothness,
        Semenov, Jaggi, Doikov, arXiv 2506.13710).
    x0
        Where to start: a nodal field, whose values on Dirichlet sides are put right, or a solution; by default the
        solution of -div(a grad u) = f.
    rtol
        Stop when the dual norm of g in B is at most `rtol` times that of the load, or the norm of the flux dL/dp.
    maxiter
        Largest number of iterations; by default 100 for "newton", 500 for "kacanov" and "gns", 5000 for "gradient".
    certify
        Fill `solution.certificate`; for convex energies of which the conjugate is known. It stays None where the energy
        that was reached is not finite.
    callback
        Called after each iteration with its number and the nodal values; returning True stops.
    throw
        Raise `ConvergenceError` instead of warning when the tolerance is not reached.

    Returns
    -------
    VariationalSolution

    Raises
    ------
    InputError
        If an argument does not fit, or a method needs what the energy does not have.
    ConvergenceError
        If `throw` is true and the tolerance is not reached.

    Notes
    -----
    Integrals are by two Gauss points an axis. Every linear system is solved by conjugate gradients with multigrid, or
    with fast transforms where weights are constant. A problem that is not convex is led to a stationary point with
    lower energy than x0, perhaps one of several.

    "gradient" contracts the B-norm of the error by (L - mu) / (L + mu), and "kacanov" that of the energy by 1 - mu / L
    where the frozen weights fall with |grad v|: J(v) - J(v+) is at least g.K^-1 g / 2 >= g.B^-1 g / (2 L), and J(v) -
    J(u) is at most g.B^-1 g / (2 mu).

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
        raise InputError(
            f"minimize_energy needs an sb.variational.VariationalProblem on an sb.Grid, and this is a {kind}."
        )
    require_choice(method, "method", _METHODS)
    if require_number(rtol, "rtol", positive=True) < 1e-14:
        raise InputError(f"rtol={rtol:g} is below round-off; ask for 1e-14 at least.")
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
        method=run.words,
        grid=problem.grid,
        certificate=bounds.certify(problem, point.v) if certify and math.isfinite(point.energy) else None,
        seconds=time.perf_counter() - start,
    )
    if not solution.converged and reason is not Reason.STOPPED:
        advice: dict[Reason, str] = {reason: solution.advice}
        report_failure("the energy", reason, solution.progress, throw=throw, advice=advice)
    return solution


class _Run:
    """One minimisation; methods differ in the step."""

    words = ""
    contraction_of = "error in the energy norm"

    def __init__(self, problem: VariationalProblem) -> None:
        self.problem = problem
        self.history: list[EnergyStep] = []
        self.tolerance = self.residual_norm = math.nan
        self._inner = 0
        self._curved = True

    def proven_contraction(self) -> float | None:
        """Say what a theorem says."""
        return None

    def step(self) -> tuple[EnergyPoint | None, float]:
        """Make a step: the new point, None where there is none, and the part of the direction that was taken."""
        raise NotImplementedError

    @cached_property
    def inner_product(self) -> CellMatrices:
        """B: the weights of the problem, where it has some."""
        problem = self.problem
        u, p = problem.elements.at(problem.load.new_zeros([n + 1 for n in problem.elements.grid.shape]))
        if not isinstance(problem.density, IsotropicEnergy):
            return CellMatrices(problem, isotropic(torch.ones_like(u), self._holding(u), p))
        a, c = problem.cell_place
        return CellMatrices(problem, isotropic(a.expand_as(u), c.expand_as(u), p))

    def _holding(self, u: Tensor) -> Tensor:
        """Make up a reaction where no side holds the level."""
        return torch.full_like(u, float(not self.problem.frame.dirichlet_nodes.any()))

    def iterate(
        self, x0: Any, rtol: float, maxiter: int, callback: Callable[[int, Tensor], bool | None] | None
    ) -> Reason:
        """Run until the tolerance is reached, or nothing more can be."""
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
                finite = self._curved and math.isfinite(self.point.energy) and math.isfinite(self.residual_norm)
                return Reason.STAGNATED if finite else Reason.NOT_FINITE
            if float(new.v.abs().max()) > FAR * max(1.0, float(first.abs().max())):
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
        """Whether the residual is small, beside the first iterate and then beside the present one."""
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
        """Compute what residuals are relative to: the load, the flux and what the reaction changes by, in dual norms.

        At the present iterate: at others, energies that grow exponentially may have any size.
        """
        u, p = self.point.nudged()
        place, elements = self.problem.cell_place, self.problem.elements
        second = self.problem.density.second(place, u, p)
        reaction = (second.uu * u).nan_to_num(nan=0.0, posinf=0.0, neginf=0.0)
        tested = elements.tested(reaction, torch.zeros_like(p))
        loads = (self.problem.load, fold_periodic_copies(tested, self.problem.frame.periodic))
        flux = self.problem.density.first(place, u, p)[1].square().sum(-1)
        weight = place[0] if isinstance(self.problem.density, IsotropicEnergy) else 1.0
        norms = [self._dual_norm(self.problem.free * load) for load in loads]
        norms.append(math.sqrt(float(elements.integrate(flux / weight))))
        size = max((norm for norm in norms if math.isfinite(norm)), default=0.0)
        return size if size > 0 else 1.0

    def _usable(self, matrices: CellMatrices) -> bool:
        """Whether second derivatives are finite; that they are not is why the run ends then."""
        self._curved = matrices.finite
        return self._curved

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
        """Halve the step until the energy falls enough; `slope` is the derivative along the direction."""
        start, length = self.point, 1.0
        if -slope <= FLAT * abs(start.energy):  # energies differ by round-off
            return self._by_slopes(direction, slope)
        for _ in range(HALVINGS):
            new = EnergyPoint(self.problem, start.v + length * direction)
            if new.energy <= start.energy + ARMIJO * length * slope:
                return self._drawn_back(new, length, direction, slope)
            length /= 2
        return None, 0.0

    def _by_slopes(self, direction: Tensor, slope: float) -> tuple[EnergyPoint, float]:
        new = EnergyPoint(self.problem, self.point.v + direction)
        along = float((new.gradient * direction).sum())
        if not along > -OVERSHOT * slope:
            return new, 1.0
        length = slope / (slope - along)
        return EnergyPoint(self.problem, self.point.v + length * direction), length

    def _drawn_back(
        self, new: EnergyPoint, length: float, direction: Tensor, slope: float
    ) -> tuple[EnergyPoint, float]:
        """Go back to where the slope vanishes by the rule of false position, if the step went far beyond."""
        along = float((new.gradient * direction).sum())
        if along <= -OVERSHOT * slope:
            return new, length
        shorter = length * slope / (slope - along)
        other = EnergyPoint(self.problem, self.point.v + shorter * direction)
        return (other, shorter) if other.energy < new.energy else (new, length)

    def _forcing(self) -> float:
        """Choose the residual of an inner solve: it falls with the outer one, so that convergence stays fast."""
        if self.problem.linear:
            return EXACT
        return min(FORCING, max(self.residual_norm / self._first, EXACT))

    @cached_property
    def _first(self) -> float:
        """The residual where it is asked for first, at the start."""
        return self.residual_norm


class _Newton(_Run):
    words = "Newton, line search, conjugate gradients with multigrid"

    def matrices(self) -> CellMatrices:
        """Assemble what stands for the second derivative."""
        return self.point.hessian()

    def step(self) -> tuple[EnergyPoint | None, float]:
        """Solve with it, and search along what comes out."""
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
    words = "Kacanov, line search, conjugate gradients with multigrid"
    contraction_of = "square root of J - min J"

    def matrices(self) -> CellMatrices:
        """Freeze the weights."""
        return self.point.frozen()

    def proven_contraction(self) -> float | None:
        """Say what holds for full steps, which the line search takes where weights fall."""
        if not self.point.frozen_falls():
            return None
        mu, L = _spectrum(self.problem)
        return math.sqrt(1 - mu / L) if mu > 0 and math.isfinite(L) else None


class _Gradient(_Run):
    words = "preconditioned gradients with the step 2 / (mu + L)"

    def __init__(self, problem: VariationalProblem) -> None:
        super().__init__(problem)
        self._mu, self._L = _spectrum(problem)
        if not (self._mu > 0 and math.isfinite(self._L)):
            raise InputError(
                f"method='gradient' needs mu > 0 and a finite L, and of {type(problem.density).__name__} here mu = "
                f"{self._mu:g} and L = {self._L:g} are known; take method='newton', or declare lower and upper."
            )

    def proven_contraction(self) -> float:
        """Say what holds for any gradient that is mu-strongly monotone and L-Lipschitz."""
        return (self._L - self._mu) / (self._L + self._mu)

    def step(self) -> tuple[EnergyPoint | None, float]:
        """Go along B^-1 g."""
        length = 2 / (self._mu + self._L)
        return EnergyPoint(self.problem, self.point.v - length * self.riesz(self.point.gradient, EXACT)), length


class _GradientNormalised(_Run):
    words = "Newton with gradient-normalised smoothness, conjugate gradients with multigrid"

    def __init__(self, problem: VariationalProblem) -> None:
        super().__init__(problem)
        self._gamma = 1.0

    def step(self) -> tuple[EnergyPoint | None, float]:
        """Accept where the energy falls by |g+|^2 / (8 |g| / gamma), and double gamma then; halve it until it does."""
        g, H = self.point.gradient, self.point.hessian()
        if not self._usable(H):
            return None, 0.0
        size = math.sqrt(float((g * self.riesz(g, 1e-3)).sum()))
        flat = FLAT * abs(self.point.energy)
        for _ in range(HALVINGS):
            weight = size / self._gamma
            shifted = H.shifted(self.inner_product, weight)
            direction, count = shifted.solve(-g, self._forcing())
            self._inner += count
            new = EnergyPoint(self.problem, self.point.v + direction)
            if math.isfinite(new.energy) and bool(new.gradient.isfinite().all()):
                asked = self._dual_norm(new.gradient) ** 2 / (8 * weight)
                if self.point.energy - new.energy >= asked - flat * (asked < flat):
                    self._gamma *= 2
                    return new, 1.0
            self._gamma /= 2
        return None, 0.0


def _spectrum(problem: VariationalProblem) -> tuple[float, float]:
    """Return (mu, L): the energy is mu-strongly convex and L-smooth in B; (0, inf) where nothing is known."""
    density = problem.density
    if not isinstance(density, IsotropicEnergy) or not density.convex:
        return 0.0, math.inf
    profile, potential = density.profile, density.potential
    _, c = problem.cell_place
    if not bool(c.any()):
        return profile.lower, profile.upper
    return min(profile.lower, potential.lower), max(profile.upper, potential.upper)


_METHODS: dict[str, Callable[[VariationalProblem], _Run]] = {
    "newton": _Newton,
    "kacanov": _Kacanov,
    "gradient": _Gradient,
    "gns": _GradientNormalised,
}
