"""Energy densities L(x, u, p) of the value u and the gradient p of a function.

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
from sciml_bounds.problems.scalar_functions import Area, Custom, DoubleWell, Power, ScalarFunction, Stiffened

__all__ = [
    "SHORTEST",
    "EnergyDensity",
    "GinzburgLandau",
    "IsotropicEnergy",
    "MinimalSurface",
    "PLaplacian",
    "QuadraticEnergy",
    "Second",
    "ShearThinning",
    "lengthened",
]

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
    What is declared is tested on samples by `sb.VariationalProblem`.

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
        self.lower, self.upper = _range(lower, upper)

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
            "sb.IsotropicEnergy, or take method='newton'."
        )


class IsotropicEnergy(EnergyDensity):
    """L = a(x) g(|p|) + c(x) h(u).

    Parameters
    ----------
    profile
        g, an even function with g'(0) = 0, written in torch and applied to each entry.
    potential
        h, likewise; None for none.
    coefficient
        a > 0, as in `sb.Diffusion`; on an `sb.Box` a number or a function of points (..., d).
    reaction
        c >= 0, likewise; it is taken as 1 where a potential is given and no reaction.
    convex
        Whether g and h are declared to be convex.
    lower, upper
        The second derivatives of g are declared to lie between them: then lambda = lower min a, Lambda = upper max a.

    Raises
    ------
    InputError
        If an argument does not fit.

    Examples
    --------
    >>> import torch
    >>> density = IsotropicEnergy(lambda r: torch.cosh(r) - 1, convex=True, lower=1.0)
    >>> density.convex, density.linear
    (True, False)
    """

    def __init__(
        self,
        profile: Callable[[Tensor], Tensor],
        potential: Callable[[Tensor], Tensor] | None = None,
        *,
        coefficient: Field = 1.0,
        reaction: Field | None = None,
        convex: bool = False,
        lower: float = 0.0,
        upper: float = math.inf,
    ) -> None:
        for name, function in (("profile", profile), ("potential", potential)):
            if not callable(function) and not (name == "potential" and function is None):
                raise InputError(f"the {name} is {function!r}; give a function of torch, applied to each entry.")
        if potential is None and reaction is not None:
            raise InputError("a reaction weighs a potential, and there is none; give potential, or leave it out.")
        lower, upper = _range(lower, upper)
        g = profile if isinstance(profile, ScalarFunction) else Custom(profile, convex, lower, upper)
        if potential is None or isinstance(potential, ScalarFunction):
            h: ScalarFunction = potential or Power(2)
        else:
            h = Custom(potential, convex)
        self._set(g, h, coefficient, reaction if reaction is not None else float(potential is not None), declared=True)

    def _set(
        self, profile: ScalarFunction, potential: ScalarFunction, coefficient: Field, reaction: Field, *, declared: bool
    ) -> None:
        self.profile, self.potential = profile, potential
        self.coefficient, self.reaction = coefficient, reaction
        self.convex = profile.convex and potential.convex
        self.lower, self.upper = profile.lower, profile.upper
        self.declared = declared

    @property
    def fields(self) -> dict[str, Field]:
        """The weights a and c, as they were given."""
        return {"coefficient": self.coefficient, "reaction": self.reaction}

    def value(self, place: Any, u: Tensor, p: Tensor) -> Tensor:
        """Return L, shape (...)."""
        a, c = place
        total: Tensor = a * self.profile.value(torch.linalg.vector_norm(p, dim=-1)) + c * self.potential.value(u)
        return total

    def first(self, place: Any, u: Tensor, p: Tensor) -> tuple[Tensor, Tensor]:
        """Return dL/du (...) and dL/dp (..., d)."""
        a, c = place
        secant = self.profile.secant(torch.linalg.vector_norm(p, dim=-1)).unsqueeze(-1)
        along = torch.where(p == 0, 0.0, secant * p)  # a secant may be infinite at 0
        return c * self.potential.slope(u), a.unsqueeze(-1) * along

    def second(self, place: Any, u: Tensor, p: Tensor) -> Second:
        """Return the second derivatives: a (g'/r (I - n n^T) + g'' n n^T) with n = p / r."""
        a, c = place
        r = torch.linalg.vector_norm(p, dim=-1)
        secant, curvature = self.profile.secant(r), self.profile.curvature(r)
        zero = r == 0
        n = p / torch.where(zero, 1.0, r).unsqueeze(-1)
        change = torch.where(zero, 0.0, curvature - secant)
        pp = torch.diag_embed(secant.unsqueeze(-1).expand_as(p))
        pp = pp + change.unsqueeze(-1).unsqueeze(-1) * n.unsqueeze(-1) * n.unsqueeze(-2)
        return Second(a.unsqueeze(-1).unsqueeze(-1) * pp, None, c * self.potential.curvature(u))

    def frozen(self, place: Any, u: Tensor, p: Tensor) -> tuple[Tensor, Tensor]:
        """Return (k, m) = (a g'(|p|) / |p|, c h'(u) / u)."""
        a, c = place
        return a * self.profile.secant(torch.linalg.vector_norm(p, dim=-1)), c * self.potential.secant(u)


class QuadraticEnergy(IsotropicEnergy):
    """L = a |p|^2 / 2 + c |u|^m / m: with m = 2 the equation -div(a grad u) + c u = f.

    Parameters
    ----------
    coefficient, reaction
        a > 0 and c >= 0, as in `sb.Diffusion`; on an `sb.Box` numbers or functions of points (..., d).
    power
        m > 1.

    Examples
    --------
    >>> QuadraticEnergy(2.0, reaction=1.0).linear, QuadraticEnergy(reaction=1.0, power=4).linear
    (True, False)
    """

    def __init__(self, coefficient: Field = 1.0, reaction: Field = 0.0, *, power: float = 2.0) -> None:
        self._set(Power(2), Power(_exponent(power, "power")), coefficient, reaction, declared=False)

    @property
    def linear(self) -> bool:  # type: ignore[override]
        """Whether the equation is linear."""
        no_reaction = isinstance(self.reaction, int | float) and self.reaction == 0
        return self.potential.upper == 1 or no_reaction


class PLaplacian(IsotropicEnergy):
    """L = a |p|^q / q + c |u|^m / m: the equation -div(a |grad u|^(q - 2) grad u) + c |u|^(m - 2) u = f.

    Parameters
    ----------
    exponent
        q > 1. For q other than 2 there is no positive lambda, and no finite Lambda.
    coefficient, reaction, power
        As in `sb.QuadraticEnergy`.

    Examples
    --------
    >>> PLaplacian(3).convex, PLaplacian(3).lower
    (True, 0.0)
    """

    def __init__(self, exponent: float, coefficient: Field = 1.0, reaction: Field = 0.0, *, power: float = 2.0) -> None:
        profile = Power(_exponent(exponent, "exponent"))
        self._set(profile, Power(_exponent(power, "power")), coefficient, reaction, declared=False)


class MinimalSurface(IsotropicEnergy):
    """L = a sqrt(1 + |p|^2) + c |u|^m / m: the (weighted) area of the graph of u.

    Parameters
    ----------
    coefficient, reaction, power
        As in `sb.QuadraticEnergy`.

    Notes
    -----
    Lambda is max a, and there is no positive lambda. Loads that no flux |y| <= a carries leave the energy unbounded
    below.

    Examples
    --------
    >>> MinimalSurface().upper
    1.0
    """

    def __init__(self, coefficient: Field = 1.0, reaction: Field = 0.0, *, power: float = 2.0) -> None:
        self._set(Area(), Power(_exponent(power, "power")), coefficient, reaction, declared=False)


class ShearThinning(IsotropicEnergy):
    """L = a (|p|^2 / 2 + k (sqrt(1 + |p|^2) - 1)) + c |u|^m / m: Lambda / lambda is 1 + k (for constant a).

    The equation is -div(a (1 + k / sqrt(1 + |grad u|^2)) grad u) + c |u|^(m - 2) u = f: what conducts (flows, shears)
    does so the more easily the steeper u is.

    Parameters
    ----------
    extra
        k >= 0.
    coefficient, reaction, power
        As in `sb.QuadraticEnergy`.

    Examples
    --------
    >>> ShearThinning(3.0).lower, ShearThinning(3.0).upper
    (1.0, 4.0)
    """

    def __init__(self, extra: float, coefficient: Field = 1.0, reaction: Field = 0.0, *, power: float = 2.0) -> None:
        if require_number(extra, "extra") < 0:
            raise InputError(f"extra is {extra!r}; the energy is convex for every extra >= 0, and not claimed below.")
        potential = Power(_exponent(power, "power"))
        self._set(Stiffened(float(extra)), potential, coefficient, reaction, declared=False)


class GinzburgLandau(IsotropicEnergy):
    """L = w^2 |p|^2 / 2 + (u^2 - 1)^2 / 4: two phases u = 1 and u = -1 with layers of width w between them.

    Not convex, so that no certificate is given, and a minimiser that is found may be one of several.

    Parameters
    ----------
    width
        w > 0.

    Examples
    --------
    >>> GinzburgLandau(0.1).convex
    False
    """

    def __init__(self, width: float) -> None:
        w = require_number(width, "width", positive=True)
        self._set(Power(2), DoubleWell(), w**2, 1.0, declared=False)


def lengthened(p: Tensor) -> Tensor:
    """Return gradients (..., d) none of which is shorter than a part of their root mean square, or of 1.

    For second derivatives of energies that degenerate: these vanish, or are infinite, where the gradient vanishes.
    """
    r = torch.linalg.vector_norm(p, dim=-1, keepdim=True)
    shortest = SHORTEST * float(r.square().mean().sqrt()) or 1.0
    along = torch.where(r > 0, p / torch.where(r > 0, r, 1.0), torch.eye(p.shape[-1], dtype=p.dtype)[0])
    return torch.where(r < shortest, shortest * along, p)


def _gradients(total: Tensor, u: Tensor, p: Tensor, *, create_graph: bool) -> tuple[Tensor, Tensor]:
    """Differentiate a sum over points by u and p; zero where it does not depend on one of them."""
    if not total.requires_grad:
        return torch.zeros_like(u), torch.zeros_like(p)
    found = torch.autograd.grad(total, (u, p), create_graph=create_graph, retain_graph=True, allow_unused=True)
    first, second = (torch.zeros_like(x) if g is None else g for g, x in zip(found, (u, p)))
    return first, second


def _exponent(value: float, name: str) -> float:
    if require_number(value, name) <= 1:
        raise InputError(f"{name} is {value!r}; it must be above 1, such as 2.")
    return float(value)


def _range(lower: float, upper: float) -> tuple[float, float]:
    low = require_number(lower, "lower")
    high = math.inf if isinstance(upper, float) and upper == math.inf else require_number(upper, "upper", positive=True)
    if not 0 <= low <= high:
        raise InputError(f"lower is {lower!r} and upper {upper!r}; 0 <= lower <= upper must hold.")
    return low, high
