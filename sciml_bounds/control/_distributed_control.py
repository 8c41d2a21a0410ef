"""Distributed control: find the source of an elliptic equation whose solution is close to a target.

Notation: u state, z control, l multipliers (n,) each; x = (u, z); K stiffness, M diagonal mass, p = phi(u).
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from sciml_bounds.arrays import convert, require_finite
from sciml_bounds.control._constraint_equations import GridStiffness
from sciml_bounds.control._minimize_options import MinimizeOptions
from sciml_bounds.control._state_objective import StateObjective
from sciml_bounds.control._tracking_functions import Nonlinearity, TrackingFunctions
from sciml_bounds.errors import InputError
from sciml_bounds.grid import AXES
from sciml_bounds.operators._linear_operator import LinearOperator
from sciml_bounds.optimize._kkt_minres import Minres
from sciml_bounds.optimize._optimize_result import OptimizeResult
from sciml_bounds.problems.diffusion import Diffusion
from sciml_bounds.problems.fields import is_array_free_callable
from sciml_bounds.stopping import StoppingCriteria

if TYPE_CHECKING:
    import xarray
    from matplotlib.figure import Figure

__all__ = ["DistributedControl", "TrackingProgram"]


class TrackingProgram(TrackingFunctions):
    """The optimisation problem of `TrackingFunctions`, with its solvers."""

    _preconditioner: _Preconditioner | None = None

    # --- solving ------------------------------------------------------------------------------------------------------

    def minimize(
        self,
        *,
        inner: Any = "auto",
        rtol: float = 1e-8,
        atol: float = 0.0,
        maxiter: int = 100,
        forcing: float | None = None,
        callback: Callable[[Any], bool | None] | None = None,
        throw: bool = False,
        **options: Any,
    ) -> OptimizeResult:
        """Minimise, starting from zero.

        Parameters
        ----------
        inner : str, Sketch or Minres
            "auto": Newton's method for the state alone, with conjugate gradients preconditioned by two multigrid
            cycles. Otherwise `sb.minimize` for state and control together, with "direct" (sparse LU),
            `sb.optimize.Minres(control.preconditioner)`, or another of its inner solvers.
        rtol, atol : float
            Stop when the residual is at most max(rtol times a reference, atol). With "auto", the residual is the norm
            of the gradient dual to the energy of the Hessian, about sqrt(2 (J - min J)). It measures the L2 errors of
            the state and of the control times sqrt(weight), independently of the mesh; the reference is the size of the
            data. Otherwise, the residual is the Euclidean norm of the KKT residual, and the reference its initial
            value.
        maxiter : int
            Maximum number of Newton steps.
        forcing : float or None
            With "auto" and a nonlinearity, the relative residual of each inner solve. By default 0.1 at first,
            decreasing with the residual.
        callback, throw : callable or None, bool
            As in `sb.minimize`.
        **options
            Further options of `sb.minimize`; not with "auto".

        Returns
        -------
        OptimizeResult
            The result, with x = (u, z).
        """
        stop = StoppingCriteria(rtol, atol, maxiter, callback)
        chosen = MinimizeOptions(inner=inner, stop=stop, forcing=forcing, throw=throw, further=options)
        if chosen.selects_reduced("auto"):
            return chosen.minimize_reduced(StateObjective(self))
        by_products = {"hess": self.hess, "constraints": self.constraints}
        functions = by_products if isinstance(inner, Minres) else self.matrices()
        x0, multipliers = self.load.new_zeros(2 * self.n), self.load.new_zeros(self.n)
        return chosen.minimize(self.fun, x0, jac=self.jac, **functions, multipliers=multipliers)

    def preconditioner(self, x: Tensor, multipliers: Tensor) -> LinearOperator:
        """Return an approximate inverse of the absolute value of the KKT matrix at x (2n,) with multipliers (n,)."""
        if self._preconditioner is None or self.nonlinearity is not None:
            self._preconditioner = _Preconditioner(self, x, multipliers)
        return self._preconditioner


class _Preconditioner(LinearOperator):
    """The preconditioner blockdiag(W M, w M, S)^-1 of the KKT system.

    Here S = L (W M)^-1 L with L = K + M phi' + M sqrt(W / w), and each L^-1 is one multigrid cycle. For phi = 0, S lies
    between the Schur complement of the KKT matrix and twice that, for all meshes and weights w (Pearson and Wathen, "A
    new approximation of the Schur complement in preconditioners for PDE-constrained optimization", Numer. Linear
    Algebra Appl. 19 (2012) 816-829). With W = 1 + l phi''(u), bounded below by a positive number, the first block is
    that of the Lagrangian.
    """

    symmetric = True

    def __init__(self, program: TrackingProgram, x: Tensor, multipliers: Tensor) -> None:
        mass = program.stiffness.mass
        self.n = program.n
        self.shape = (3 * self.n, 3 * self.n)
        self.dtype, self.device = mass.dtype, mass.device
        self._state, self._control = program.part(x, multipliers) * mass, program.weight * mass
        self._cycle = program.stiffness.cycle(program.shift(x, multipliers))

    def matvec(self, x: Tensor) -> Tensor:
        """Apply to vectors (..., 3n)."""
        u, z, multipliers = x.split(self.n, -1)
        schur = self._cycle.matvec(self._state * self._cycle.matvec(multipliers))
        return torch.cat([u / self._state, z / self._control, schur], -1)


class DistributedControl(TrackingProgram):
    """Distributed control: find the source z of an elliptic equation whose solution u is close to a target.

        min 1/2 ||u - target||^2 + weight/2 ||z||^2   subject to   -div(a grad u) + c u + phi(u) = f + z

    with L2 norms over the domain, by the trapezoidal rule; u and z are nodal fields.

    Parameters
    ----------
    problem : Diffusion
        Coefficient a, reaction c, source f, boundary conditions and solids; not a batch.
    target : float, array or Tensor (nodal field), or callable
        Desired state; a callable is a function of the coordinates.
    weight : float
        Regularisation weight of the control, positive.
    nonlinearity : callable or None
        phi, a torch function that is applied to each entry, such as `lambda u: u**3`. If None, phi = 0.

    Raises
    ------
    InputError
        If the problem is a batch, the target has the wrong shape, the weight is not positive, or the nonlinearity is
        not a differentiable torch function that acts on each entry separately.

    Examples
    --------
    >>> import sciml_bounds as sb
    >>> control = sb.control.DistributedControl(sb.Diffusion(sb.Grid((16, 16))), target=1.0, weight=1e-4)
    >>> r = control.minimize()
    >>> r.success
    True
    >>> state, source = control.fields(r.x)
    >>> tuple(state.shape)
    (17, 17)
    """

    def __init__(
        self, problem: Diffusion, target: Any, *, weight: float, nonlinearity: Nonlinearity | None = None
    ) -> None:
        self.grid_stiffness = GridStiffness(problem)
        self.target_field = _nodal_field(target, "the target", self.grid_stiffness.problem)
        free = self.target_field.reshape(-1)[self.grid_stiffness.free]
        super().__init__(self.grid_stiffness, self.grid_stiffness.load, free, weight, nonlinearity)

    def fields(self, x: Any) -> tuple[Tensor, Tensor]:
        """Return state and control of x (2n,) as nodal fields; the state includes its prescribed values."""
        u, z = self.split(torch.as_tensor(x, dtype=torch.float64))
        return self.grid_stiffness.values(u), self.grid_stiffness.field(z)

    def to_xarray(self, x: Any) -> xarray.Dataset:
        """Return target, state and control of x (2n,) as labelled fields."""
        import xarray

        grid = self.grid_stiffness.problem.grid
        axes = list(AXES[: grid.dim])
        state, control = self.fields(x)
        fields = {"target": self.target_field, "state": state, "control": control}
        places = {
            name: (name, grid.nodes(axis)[:count].numpy(), {"units": "1"})
            for axis, (name, count) in enumerate(zip(axes, state.shape))
        }
        variables = {name: (axes, field.cpu().numpy(), {"units": "1"}) for name, field in fields.items()}
        return xarray.Dataset(variables, places)

    def plot(self, x: Any) -> Figure:
        """Plot target, state and control of x (2n,) side by side, the first two with the same colour scale."""
        from matplotlib.colors import Normalize

        from sciml_bounds.plot import draw_field, new_figure

        grid = self.grid_stiffness.problem.grid
        state, control = self.fields(x)
        ends = torch.stack([self.target_field, state]).aminmax()
        shared = Normalize(float(ends.min), float(ends.max))
        figure = new_figure(12.6, 3.8)
        largest = float(control.abs().max()) or 1.0
        panels = (
            ("target", self.target_field, "viridis", shared),
            ("state", state, "viridis", shared),
            ("control", control, "RdBu_r", Normalize(-largest, largest)),  # zero control is white
        )
        for axes, (title, field, colours, norm) in zip(figure.subplots(1, 3), panels):
            image = draw_field(axes, grid, field, title, colours, nodal=True, norm=norm)
            if image is not None:
                figure.colorbar(image, ax=axes, shrink=0.85)
        return figure


def _nodal_field(value: Any, name: str, problem: Diffusion) -> Tensor:
    """Convert a nodal field, a number, or a function of the coordinates to a nodal field."""
    grid, shape = problem.grid, problem.node_shape
    if is_array_free_callable(value):
        axes = [grid.nodes(axis, device=problem.device)[:count] for axis, count in enumerate(shape)]
        value = value(*torch.meshgrid(*axes, indexing="ij"))
    field = convert(value, name, torch.float64, problem.device)
    if field.ndim and field.shape != shape:
        raise InputError(f"{name} has shape {tuple(field.shape)}; give a nodal field of shape {tuple(shape)}.")
    require_finite(field, name)
    return field.expand(shape).contiguous()
