"""Energy densities L(x, u, p) of the value u and the gradient p of a function, given by any function of torch.

Legend: u (...), p (..., d), with any leading axes; `place` is what a density has to know of where it is: the weights
a and c there for isotropic ones, the points x (..., d) for others.
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

__all__ = ["SHORTEST", "EnergyDensity", "Second", "checked_range", "lengthened"]

#: Gradients shorter than this part of their root mean square are lengthened to it, see `lengthened`.
SHORTEST = 1e-3


@dataclass(frozen=True)
class Second:
    """Second derivatives of a density.

    Attributes
    ----------
    pp
        Shape (..., d, d).
    up
        Shape (..., d); None where it is zero.
    uu
        Shape (...).
    """

    pp: Tensor
    up: Tensor | None
    uu: Tensor


class EnergyDensity:
    """L(x, u, p), written in torch.

    Parameters
    ----------
    function
        Called with the points x (..., d), values u (...) and gradients p (..., d); returns (...). Its derivatives are
        those of torch, so that it has to be twice differentiable.
    convex
        Whether L is declared to be convex in (u, p) together; without that no guarantee is claimed.
    lower, upper
        lambda and Lambda: the second derivatives in p are declared to lie between them.

    Raises
    ------
    InputError
        If `function` cannot be called, or 0 <= lower <= upper does not hold.

    Notes
    -----
    What is declared is tested on samples by `sb.variational.VariationalProblem`.

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
            raise InputError(f"the energy density is {function!r}; give a function of (x, u, p), written in torch.")
        self.function = function
        self.convex = bool(convex)
        self.lower, self.upper = checked_range(lower, upper)

    #: Whether -div(a grad u) + c u = f says the same.
    linear = False

    #: Whether what it is said to be is declared by a user, not known.
    declared = True

    @property
    def fields(self) -> dict[str, Field]:
        """The weights by name, as they were given."""
        return {}

    def value(self, place: Any, u: Tensor, p: Tensor) -> Tensor:
        """Return L, shape (...)."""
        result = self.function(place, u, p)
        if not isinstance(result, Tensor) or result.shape != u.shape:
            kind = f"shape {tuple(result.shape)}" if isinstance(result, Tensor) else f"a {type(result).__name__}"
            raise InputError(
                f"the energy density makes {kind} of {tuple(u.shape)} points; let it return one number a point."
            )
        return result

    def first(self, place: Any, u: Tensor, p: Tensor) -> tuple[Tensor, Tensor]:
        """Return dL/du (...) and dL/dp (..., d)."""
        with torch.enable_grad():
            leaf_u, leaf_p = u.detach().requires_grad_(), p.detach().requires_grad_()
            total = self.value(place, leaf_u, leaf_p).sum()
            return _gradients(total, leaf_u, leaf_p, create_graph=False)

    def second(self, place: Any, u: Tensor, p: Tensor) -> Second:
        """Return the second derivatives."""
        with torch.enable_grad():
            leaf_u, leaf_p = u.detach().requires_grad_(), p.detach().requires_grad_()
            slope_u, slope_p = _gradients(self.value(place, leaf_u, leaf_p).sum(), leaf_u, leaf_p, create_graph=True)
            uu, up = _gradients(slope_u.sum(), leaf_u, leaf_p, create_graph=False)
            rows = [
                _gradients(slope_p[..., i].sum(), leaf_u, leaf_p, create_graph=False)[1] for i in range(p.shape[-1])
            ]
        return Second(torch.stack(rows, -2), up, uu)

    def frozen(self, place: Any, u: Tensor, p: Tensor) -> tuple[Tensor, Tensor]:
        """Return (k, m) with dL/dp = k p and dL/du = m u, shape (...) each.

        Raises
        ------
        InputError
            If nothing is known that would be that.
        """
        raise InputError(
            "Kacanov's method needs dL/dp = k(x, u, p) p, which is not known of a function (x, u, p); give an "
            "sb.variational.IsotropicEnergy, or take method='newton'."
        )


def lengthened(p: Tensor) -> Tensor:
    """Return gradients (..., d) none of which is shorter than a part of their root mean square, or of 1.

    For second derivatives of energies that degenerate: these vanish, or are infinite, where the gradient vanishes.
    """
    r = torch.linalg.vector_norm(p, dim=-1, keepdim=True)
    shortest = SHORTEST * float(r.square().mean().sqrt()) or 1.0
    first = torch.eye(p.shape[-1], dtype=p.dtype, device=p.device)[0]
    along = torch.where(r > 0, p / torch.where(r > 0, r, 1.0), first)
    return torch.where(r < shortest, shortest * along, p)


def checked_range(lower: float, upper: float) -> tuple[float, float]:
    """Read lambda and Lambda.

    Raises
    ------
    InputError
        If 0 <= lower <= upper does not hold.
    """
    low = require_number(lower, "lower")
    high = math.inf if isinstance(upper, float) and upper == math.inf else require_number(upper, "upper", positive=True)
    if not 0 <= low <= high:
        raise InputError(f"lower is {lower!r} and upper {upper!r}; 0 <= lower <= upper must hold.")
    return low, high


def _gradients(total: Tensor, u: Tensor, p: Tensor, *, create_graph: bool) -> tuple[Tensor, Tensor]:
    """Differentiate a sum over points by u and p; zero where it does not depend on one of them."""
    if not total.requires_grad:
        return torch.zeros_like(u), torch.zeros_like(p)
    found = torch.autograd.grad(total, (u, p), create_graph=create_graph, retain_graph=True, allow_unused=True)
    first, second = (torch.zeros_like(x) if g is None else g for g, x in zip(found, (u, p)))
    return first, second
