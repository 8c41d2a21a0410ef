"""Energy densities L(x, u, p) of a point x, a value u and a gradient p, given by torch functions.

Shapes: u (...) and p (..., d), with any leading axes. The argument `data` describes the points: the weights (a, c) for
isotropic densities, and the coordinates x (..., d) for all others.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from sciml_bounds.arrays import Field, require_number
from sciml_bounds.errors import InputError

__all__ = ["MIN_RELATIVE_LENGTH", "EnergyDensity", "Second", "checked_range", "lengthened"]

#: Length of the shortest gradients returned by `lengthened`, relative to the root mean square of all gradients.
MIN_RELATIVE_LENGTH = 1e-3


@dataclass(frozen=True)
class Second:
    """Second derivatives of a density.

    Attributes
    ----------
    pp : Tensor (..., d, d)
        Second derivative with respect to p.
    up : Tensor (..., d) or None
        Mixed derivative with respect to u and p; None if it is zero.
    uu : Tensor (...)
        Second derivative with respect to u.
    """

    pp: Tensor
    up: Tensor | None
    uu: Tensor


class EnergyDensity:
    """General energy density L(x, u, p), written in torch.

    Parameters
    ----------
    function : callable
        Called with points x (..., d), values u (...) and gradients p (..., d); returns L, shape (...). Autograd
        computes its derivatives, so it must be twice differentiable.
    convex : bool
        Whether L is declared to be convex in (u, p) jointly, as error bounds require.
    lower, upper : float
        Declared ellipticity constants lambda and Lambda: bounds on the eigenvalues of the second derivative with
        respect to p.

    Raises
    ------
    InputError
        If `function` is not callable, or 0 <= lower <= upper does not hold.

    Notes
    -----
    `sb.variational.VariationalProblem` tests these declarations on samples.

    Examples
    --------
    >>> import torch
    >>> density = EnergyDensity(lambda x, u, p: (1 + x[..., 0]) * p.square().sum(-1) / 2, convex=True, lower=1.0)
    >>> float(density.value(torch.ones(1, 2), torch.zeros(1), torch.ones(1, 2)))
    2.0
    """

    def __init__(
        self,
        function: Callable[[Tensor, Tensor, Tensor], Tensor],
        *,
        convex: bool = False,
        lower: float = 0.0,
        upper: float = math.inf,
    ) -> None:
        if not callable(function):
            raise InputError(f"the energy density is {function!r}; give a torch function of (x, u, p).")
        self.function = function
        self.convex = bool(convex)
        self.lower, self.upper = checked_range(lower, upper)

    #: Whether the equation is -div(a grad u) + c u = f.
    linear = False

    #: Whether convexity and ellipticity constants are declared by the user, and so have to be tested on samples.
    declared = True

    @property
    def fields(self) -> dict[str, Field]:
        """The weights by name, in the form in which the user passed them."""
        return {}

    def value(self, data: Any, u: Tensor, p: Tensor) -> Tensor:
        """Return the density L, shape (...)."""
        result = self.function(data, u, p)
        if not isinstance(result, Tensor) or result.shape != u.shape:
            kind = f"shape {tuple(result.shape)}" if isinstance(result, Tensor) else f"a {type(result).__name__}"
            raise InputError(
                f"the energy density returned {kind} for points of shape {tuple(u.shape)}; let the function return one "
                "number per point."
            )
        return result

    def first(self, data: Any, u: Tensor, p: Tensor) -> tuple[Tensor, Tensor]:
        """Return dL/du (...) and dL/dp (..., d)."""
        with torch.enable_grad():
            leaf_u, leaf_p = u.detach().requires_grad_(), p.detach().requires_grad_()
            total = self.value(data, leaf_u, leaf_p).sum()
            return _gradients(total, leaf_u, leaf_p, create_graph=False)

    def second(self, data: Any, u: Tensor, p: Tensor) -> Second:
        """Return the second derivatives."""
        with torch.enable_grad():
            leaf_u, leaf_p = u.detach().requires_grad_(), p.detach().requires_grad_()
            slope_u, slope_p = _gradients(self.value(data, leaf_u, leaf_p).sum(), leaf_u, leaf_p, create_graph=True)
            uu, up = _gradients(slope_u.sum(), leaf_u, leaf_p, create_graph=False)
            rows = [
                _gradients(slope_p[..., i].sum(), leaf_u, leaf_p, create_graph=False)[1] for i in range(p.shape[-1])
            ]
        return Second(torch.stack(rows, -2), up, uu)

    def frozen(self, data: Any, u: Tensor, p: Tensor) -> tuple[Tensor, Tensor]:
        """Return the factors (k, m), shape (...) each, for which dL/dp = k p and dL/du = m u.

        Raises
        ------
        InputError
            Always for a general density, for which such factors need not exist.
        """
        raise InputError(
            "Kacanov's method needs dL/dp = k(x, u, p) p, which is unknown for a general energy density; use an "
            "sb.variational.IsotropicEnergy, or method='newton'."
        )


def lengthened(p: Tensor) -> Tensor:
    """Return gradients (..., d) scaled up to a minimum length of `MIN_RELATIVE_LENGTH` times their root mean square.

    This regularises second derivatives of degenerate energies, which are zero or infinite where the gradient is zero.
    If all gradients are zero, the minimum length is 1.
    """
    r = torch.linalg.vector_norm(p, dim=-1, keepdim=True)
    shortest = MIN_RELATIVE_LENGTH * float(r.square().mean().sqrt()) or 1.0
    first = torch.eye(p.shape[-1], dtype=p.dtype, device=p.device)[0]
    along = torch.where(r > 0, p / torch.where(r > 0, r, 1.0), first)
    return torch.where(r < shortest, shortest * along, p)


def checked_range(lower: float, upper: float) -> tuple[float, float]:
    """Return the ellipticity constants lambda and Lambda as floats.

    Raises
    ------
    InputError
        If 0 <= lower <= upper does not hold.
    """
    low = require_number(lower, "lower")
    high = math.inf if isinstance(upper, float) and upper == math.inf else require_number(upper, "upper", positive=True)
    if not 0 <= low <= high:
        raise InputError(f"lower is {lower!r} and upper is {upper!r}; give numbers with 0 <= lower <= upper.")
    return low, high


def _gradients(total: Tensor, u: Tensor, p: Tensor, *, create_graph: bool) -> tuple[Tensor, Tensor]:
    """Return the derivatives of a sum over points with respect to u and p; zero for a variable that does not occur."""
    if not total.requires_grad:
        return torch.zeros_like(u), torch.zeros_like(p)
    found = torch.autograd.grad(total, (u, p), create_graph=create_graph, retain_graph=True, allow_unused=True)
    first, second = (torch.zeros_like(x) if g is None else g for g, x in zip(found, (u, p)))
    return first, second
