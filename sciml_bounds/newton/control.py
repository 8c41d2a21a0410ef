"""Distributed control: the source of an elliptic equation is chosen so that its solution comes close to a target.

Legend: u state, z control, l multipliers (n,) each; x = (u, z); K stiffness, M diagonal mass, p = phi(u).
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import scipy.optimize
import scipy.sparse
import torch
from torch import Tensor

from sciml_bounds.arrays import convert, require_finite, require_number
from sciml_bounds.errors import InputError
from sciml_bounds.grid import AXES
from sciml_bounds.newton.minimize import minimize
from sciml_bounds.newton.minres import Minres
from sciml_bounds.newton.products import Products
from sciml_bounds.newton.reduced import Ending, minimize_reduced
from sciml_bounds.newton.result import OptimizeResult
from sciml_bounds.newton.state import StateObjective
from sciml_bounds.newton.stiffness import GridStiffness, Stiffness
from sciml_bounds.operators.linear_operator import LinearOperator
from sciml_bounds.problems.diffusion import Diffusion
from sciml_bounds.problems.fields import is_array_free_callable

if TYPE_CHECKING:
    import xarray
    from matplotlib.figure import Figure

__all__ = ["DistributedControl", "TrackingProgram"]

#: The state block of the preconditioner keeps this part of the mass where the Lagrangian's own is smaller.
LEAST_WEIGHT = 0.1

#: Parts of derivatives that are round-off.
POINTWISE = 1e-10

#: A function applied to each entry of the state, written in torch.
Nonlinearity = Callable[[Tensor], Tensor]


def _diagonal(entries: Tensor) -> Products:
    return Products.symmetric(len(entries), lambda v: entries * v, entries.device)


def _diagonal_matrix(entries: Tensor) -> scipy.sparse.csr_array:
    return scipy.sparse.csr_array(scipy.sparse.diags_array(entries.cpu().numpy()))


class _Applied(torch.autograd.Function):
    """A symmetric matrix, known by its product with vectors (..., n), times a vector."""

    @staticmethod
    def forward(matvec: Callable[[Tensor], Tensor], v: Tensor) -> Tensor:
        return matvec(v.detach())

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
        ctx.matvec = inputs[0]

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[None, Tensor]:
        return None, _Applied.apply(ctx.matvec, gradients[0])

    @staticmethod
    def vmap(info: Any, in_dims: tuple[Any, ...], matvec: Any, v: Tensor) -> tuple[Tensor, int]:
        return _Applied.apply(matvec, v.movedim(in_dims[1], 0)), 0


def _require_pointwise(nonlinearity: Any, n: int, device: torch.device) -> None:
    """Try it at some state: its Jacobian is to be diagonal, so that its products with vectors w are phi' w."""
    if not callable(nonlinearity):
        raise InputError(f"the nonlinearity is {nonlinearity!r}; give a function of torch, such as lambda u: u**3.")
    generator = torch.Generator().manual_seed(0)
    u, w = (torch.rand(n, generator=generator, dtype=torch.float64).to(device) for _ in range(2))
    with torch.enable_grad():
        leaf = (0.1 * u).requires_grad_()
        try:
            p = nonlinearity(leaf)
        except (RuntimeError, TypeError) as error:
            raise InputError(f"the nonlinearity is no function of torch that leaves its argument: {error}") from None
        if not isinstance(p, Tensor) or p.shape != u.shape or p.dtype != u.dtype or not p.requires_grad:
            kind = f"{str(p.dtype)[6:]} of shape {tuple(p.shape)}" if isinstance(p, Tensor) else f"a {type(p).__name__}"
            raise InputError(
                f"the nonlinearity makes {kind} of {n} values; let it return as many in float64, which torch can "
                "differentiate."
            )
        slope, along = (torch.autograd.grad(p, leaf, v, retain_graph=True)[0] for v in (torch.ones_like(w), w))
    off = (along - slope * w).abs()
    if bool((off > POINTWISE * slope.abs().amax()).any()):
        raise InputError("the nonlinearity mixes entries of the state; let each value depend on its own entry alone.")


class TrackingProgram:
    """min 1/2 |u - t|^2 + w/2 |z|^2 subject to K u + M phi(u) - M z = load, as functions that `sb.minimize` takes.

    Norms are those of M: |v|^2 = v . M v. Derivatives are products with vectors; `matrices` has them as matrices.

    Parameters
    ----------
    stiffness
        K and M.
    load
        Shape (n,).
    target
        t, shape (n,).
    weight
        w, positive.
    nonlinearity
        phi, a function of torch that is applied to each entry, with derivatives of first and second order; None for the
        linear equation.
    """

    def __init__(
        self,
        stiffness: Stiffness,
        load: Tensor,
        target: Tensor,
        weight: float,
        nonlinearity: Nonlinearity | None = None,
    ) -> None:
        self.weight = require_number(weight, "the weight of the control", positive=True)
        self.stiffness, self.load, self.target = stiffness, load, target
        self.nonlinearity = nonlinearity
        self.n = len(stiffness.mass)
        self._preconditioner: _Preconditioner | None = None
        if nonlinearity is not None:
            _require_pointwise(nonlinearity, self.n, load.device)

    def split(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Part x (2n,) into state and control."""
        return x[: self.n], x[self.n :]

    # --- objective ----------------------------------------------------------------------------------------------------

    def fun(self, x: Tensor) -> Tensor:
        """Return the objective."""
        u, z = self.split(x)
        mass = self.stiffness.mass
        return (mass @ (u - self.target).square() + self.weight * (mass @ z.square())) / 2

    def jac(self, x: Tensor) -> Tensor:
        """Return its gradient, shape (2n,)."""
        u, z = self.split(x.detach())
        mass = self.stiffness.mass
        return torch.cat([mass * (u - self.target), self.weight * mass * z])

    def hess(self, x: Tensor) -> Products:
        """Return its Hessian, which is diagonal."""
        return _diagonal(self._weights)

    @property
    def _weights(self) -> Tensor:
        return torch.cat([self.stiffness.mass, self.weight * self.stiffness.mass])

    # --- constraint ---------------------------------------------------------------------------------------------------

    def equation(self, x: Tensor) -> Tensor:
        """Return K u + M phi(u) - M z - load, shape (n,)."""
        u, z = self.split(x)
        source = z if self.nonlinearity is None else z - self.nonlinearity(u)
        applied: Tensor = _Applied.apply(self.stiffness.matvec, u)
        return applied - self.stiffness.mass * source - self.load

    def equation_jac(self, x: Tensor) -> Products:
        """Return its Jacobian (K + M phi'(u), -M), shape (n, 2n)."""
        slope, _ = self.derivatives(x)
        mass = self.stiffness.mass
        diagonal = mass * slope

        def linearised(u: Tensor) -> Tensor:
            return self.stiffness.matvec(u) + diagonal * u

        def forward(v: Tensor) -> Tensor:
            u, z = self.split(v)
            return linearised(u) - mass * z

        def adjoint(y: Tensor) -> Tensor:
            return torch.cat([linearised(y), -mass * y])

        return Products((self.n, 2 * self.n), forward, adjoint, mass.device)

    def equation_hess(self, x: Tensor, multipliers: Tensor) -> Products:
        """Return the Hessian of its product with multipliers (n,), which is diagonal."""
        return _diagonal(self._curvature(x, multipliers))

    def _curvature(self, x: Tensor, multipliers: Tensor) -> Tensor:
        _, curvature = self.derivatives(x)
        entries = self.stiffness.mass * curvature * multipliers
        return torch.cat([entries, torch.zeros_like(entries)])

    def derivatives(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Return phi'(u) and phi''(u), shape (n,) each."""
        u, _ = self.split(x.detach())
        zero = torch.zeros_like(u)
        if self.nonlinearity is None:
            return zero, zero
        with torch.enable_grad():
            u = u.requires_grad_()
            (slope,) = torch.autograd.grad(self.nonlinearity(u).sum(), u, create_graph=True)
            if not slope.requires_grad:
                return slope, zero
            (curvature,) = torch.autograd.grad(slope.sum(), u)
        return slope.detach(), curvature

    @property
    def constraints(self) -> scipy.optimize.NonlinearConstraint:
        """The equation, with its derivatives."""
        derivatives = {"jac": self.equation_jac, "hess": self.equation_hess}
        return scipy.optimize.NonlinearConstraint(self.equation, 0.0, 0.0, **derivatives)

    # --- with matrices ------------------------------------------------------------------------------------------------

    def matrices(self) -> dict[str, Any]:
        """Return `hess` and `constraints` for `sb.minimize` with sparse matrices in place of products."""
        equation = {
            "jac": self._equation_matrix,
            "hess": lambda x, multipliers: _diagonal_matrix(self._curvature(x, multipliers)),
        }
        constraints = scipy.optimize.NonlinearConstraint(self.equation, 0.0, 0.0, **equation)
        return {"hess": lambda x: _diagonal_matrix(self._weights), "constraints": constraints}

    def _equation_matrix(self, x: Tensor) -> scipy.sparse.csr_array:
        slope, _ = self.derivatives(x)
        mass = self.stiffness.mass
        state = self.stiffness.to_csr() + _diagonal_matrix(mass * slope)
        return scipy.sparse.csr_array(scipy.sparse.hstack([state, _diagonal_matrix(-mass)]))

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
            `sb.Minres(control.preconditioner)`; or another of its solvers.
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

    def shift(self, x: Tensor, multipliers: Tensor) -> Tensor:
        """Return the diagonal of M (phi' + sqrt(W / w)), kept from being negative, at x (2n,) with multipliers (n,)."""
        if self.nonlinearity is None:
            return self.stiffness.mass / math.sqrt(self.weight)
        slope, _ = self.derivatives(x)
        return self.stiffness.mass * (slope + torch.sqrt(self.part(x, multipliers) / self.weight)).clamp_min(0.0)

    def part(self, x: Tensor, multipliers: Tensor) -> Tensor:
        """Return W = 1 + l phi''(u), kept positive, shape (n,)."""
        _, curvature = self.derivatives(x)
        return (1 + curvature * multipliers).clamp_min(LEAST_WEIGHT)

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
    >>> control = sb.DistributedControl(sb.Diffusion(sb.Grid((16, 16))), target=1.0, weight=1e-4)
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
