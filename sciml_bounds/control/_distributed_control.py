"""Distributed control: the source of an elliptic equation is chosen so that its solution comes close to a target.

Legend: u state, z control, l multipliers (n,) each; x = (u, z); K stiffness, M diagonal mass, p = phi(u).
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from sciml_bounds.arrays import convert, require_finite
from sciml_bounds.control._constraint_equations import GridStiffness
from sciml_bounds.control._reduced_newton import Ending, minimize_reduced
from sciml_bounds.control._state_objective import StateObjective
from sciml_bounds.control._tracking_functions import Nonlinearity, TrackingFunctions
from sciml_bounds.errors import InputError
from sciml_bounds.grid import AXES
from sciml_bounds.operators._linear_operator import LinearOperator
from sciml_bounds.optimize._kkt_minres import Minres
from sciml_bounds.optimize._minimize import minimize
from sciml_bounds.optimize._optimize_result import OptimizeResult
from sciml_bounds.problems.diffusion import Diffusion
from sciml_bounds.problems.fields import is_array_free_callable

if TYPE_CHECKING:
    import xarray
    from matplotlib.figure import Figure

__all__ = ["DistributedControl", "TrackingProgram"]


class TrackingProgram(TrackingFunctions):
    """The optimisation problem of `TrackingFunctions`, and ways to solve it."""

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
        """Start from zero and minimise.

        Parameters
        ----------
        inner
            "auto": Newton's method for the state alone, whose steps are found by conjugate gradients with two multigrid
            cycles as preconditioner. Otherwise `sb.minimize` for state and control, with "direct": sparse LU;
            `sb.optimize.Minres(control.preconditioner)`; or another of its solvers.
        rtol, atol
            Stop when the residual is at most max(rtol times that of the data, atol). With "auto" it is the norm of the
            gradient in the energy of the Hessian, about sqrt(2 (J - min J)): errors in L2 of the state, and of the
            control times the root of its weight, of any mesh. Otherwise the Euclidean norm of the KKT residual and that
            at the start.
        maxiter
            Largest number of Newton steps.
        forcing
            With "auto" and a nonlinearity, relative residual of each inner solve; by default 0.1 at first, and as much
            smaller as the residual has fallen.
        callback, throw
            As in `sb.minimize`.
        options
            Of `sb.minimize`, where that is called.
        """
        if isinstance(inner, str) and inner == "auto":
            if options:
                raise InputError(f"inner='auto' takes no {next(iter(options))}; leave it out, or use inner='direct'.")
            ending = Ending(rtol, atol, maxiter, callback)
            return minimize_reduced(StateObjective(self), ending, forcing=forcing, throw=throw)
        if forcing is not None:
            raise InputError(f"forcing={forcing!r} is for inner='auto'; leave it out.")
        by_products = {"hess": self.hess, "constraints": self.constraints}
        functions = by_products if isinstance(inner, Minres) else self.matrices()
        x0, multipliers = self.load.new_zeros(2 * self.n), self.load.new_zeros(self.n)
        return minimize(
            self.fun, x0, jac=self.jac, **functions, multipliers=multipliers, inner=inner, rtol=rtol, atol=atol,
            maxiter=maxiter, callback=callback, throw=throw, **options,
        )  # fmt: skip

    def preconditioner(self, x: Tensor, multipliers: Tensor) -> LinearOperator:
        """Return an approximate inverse of |KKT matrix| at x (2n,) with multipliers (n,)."""
        if self._preconditioner is None or self.nonlinearity is not None:
            self._preconditioner = _Preconditioner(self, x, multipliers)
        return self._preconditioner


class _Preconditioner(LinearOperator):
    """blockdiag(W M, w M, S)^-1 with S = L (W M)^-1 L and L = K + M phi' + M sqrt(W / w), each L^-1 by one cycle.

    S lies between the Schur complement of the KKT matrix and twice that where phi is zero, for any mesh and weight w
    (Pearson and Wathen, "A new approximation of the Schur complement in preconditioners for PDE-constrained
    optimization", Numer. Linear Algebra Appl. 19 (2012) 816-829). W = 1 + l phi''(u), kept positive, makes the
    first block that of the Lagrangian.
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
    """Choose the source z of an elliptic equation so that its solution u comes close to a target.

        min 1/2 ||u - target||^2 + weight/2 ||z||^2   subject to   -div(a grad u) + c u + phi(u) = f + z

    with L2 norms over the domain, by the trapezoidal rule; u and z are nodal.

    Parameters
    ----------
    problem
        `sb.Diffusion`: coefficient a, reaction c, source f, conditions on the sides, solids; not a batch.
    target
        Where the state is to be: a nodal field, or a number, or a function of the coordinates.
    weight
        How dear the control is, positive.
    nonlinearity
        phi, a function of torch applied to each entry, such as `lambda u: u**3`; none by default.

    Raises
    ------
    InputError
        If the problem is a batch, the target has the wrong shape, the weight is not positive, or the nonlinearity is no
        function of each entry that torch can differentiate.

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
        """Return state and control of x (2n,) as nodal fields: prescribed values of the state are put in."""
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
        """Draw target, state and control of x (2n,) side by side, the first two with the same colours."""
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
            ("control", control, "RdBu_r", Normalize(-largest, largest)),  # white is no control
        )
        for axes, (title, field, colours, norm) in zip(figure.subplots(1, 3), panels):
            image = draw_field(axes, grid, field, title, colours, nodal=True, norm=norm)
            if image is not None:
                figure.colorbar(image, ax=axes, shrink=0.85)
        return figure


def _nodal_field(value: Any, name: str, problem: Diffusion) -> Tensor:
    """Read a nodal field, a number, or a function of the coordinates."""
    grid, shape = problem.grid, problem.node_shape
    if is_array_free_callable(value):
        axes = [grid.nodes(axis, device=problem.device)[:count] for axis, count in enumerate(shape)]
        value = value(*torch.meshgrid(*axes, indexing="ij"))
    field = convert(value, name, torch.float64, problem.device)
    if field.ndim and field.shape != shape:
        raise InputError(f"{name} has shape {tuple(field.shape)}; a nodal field here has {tuple(shape)}.")
    require_finite(field, name)
    return field.expand(shape).contiguous()
