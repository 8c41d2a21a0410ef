"""Isotropic energy densities L = a(x) g(|p|) + c(x) h(u) with analytic derivatives.

Shapes: u (...) and p (..., d), with any leading axes. The argument `data` is the pair of weights (a, c) at the points.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from sciml_bounds.arrays import Field, require_number
from sciml_bounds.errors import InputError
from sciml_bounds.problems.energy_density import EnergyDensity, Second, checked_range
from sciml_bounds.problems.scalar_functions import Area, Custom, DoubleWell, Power, ScalarFunction, Stiffened

__all__ = [
    "GinzburgLandau",
    "IsotropicEnergy",
    "MinimalSurface",
    "PLaplacian",
    "QuadraticEnergy",
    "ShearThinning",
]


class IsotropicEnergy(EnergyDensity):
    """Isotropic energy density L = a(x) g(|p|) + c(x) h(u), where p is the gradient of u.

    Parameters
    ----------
    profile : callable
        Function g, even with g'(0) = 0, written in torch and applied entrywise.
    potential : callable, optional
        Function h, written in torch and applied entrywise. By default there is no potential.
    coefficient : float, array (nx, ny) or callable
        Weight a > 0, as in `sb.Diffusion`; on an `sb.barron.Box` a number or a function of points (..., d).
    reaction : float, array (nx, ny) or callable, optional
        Weight c >= 0, in the same forms as `coefficient`. By default 1 if a potential is given.
    convex : bool
        Whether g and h are declared to be convex.
    lower, upper : float
        Declared bounds on the second derivative of g. The ellipticity constants of the density are lambda = lower min a
        and Lambda = upper max a.

    Raises
    ------
    InputError
        If a function is not callable, a reaction is given without a potential, or 0 <= lower <= upper does not hold.

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
                raise InputError(f"the {name} is {function!r}; give a torch function that acts entrywise.")
        if potential is None and reaction is not None:
            raise InputError("reaction is the weight of the potential, but potential is None; pass both or neither.")
        lower, upper = checked_range(lower, upper)
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
        """The weights a and c in the form in which the user passed them."""
        return {"coefficient": self.coefficient, "reaction": self.reaction}

    def value(self, data: Any, u: Tensor, p: Tensor) -> Tensor:
        """Return the density L, shape (...)."""
        a, c = data
        total: Tensor = a * self.profile.value(torch.linalg.vector_norm(p, dim=-1)) + c * self.potential.value(u)
        return total

    def first(self, data: Any, u: Tensor, p: Tensor) -> tuple[Tensor, Tensor]:
        """Return dL/du (...) and dL/dp (..., d)."""
        a, c = data
        secant = self.profile.secant(torch.linalg.vector_norm(p, dim=-1)).unsqueeze(-1)
        along = torch.where(p == 0, 0.0, secant * p)  # the secant may be infinite at 0
        return c * self.potential.slope(u), a.unsqueeze(-1) * along

    def second(self, data: Any, u: Tensor, p: Tensor) -> Second:
        """Return the second derivatives; in p they are a (g'/r (I - n n^T) + g'' n n^T) with r = |p| and n = p / r."""
        a, c = data
        r = torch.linalg.vector_norm(p, dim=-1)
        secant, curvature = self.profile.secant(r), self.profile.curvature(r)
        zero = r == 0
        n = p / torch.where(zero, 1.0, r).unsqueeze(-1)
        change = torch.where(zero, 0.0, curvature - secant)
        pp = torch.diag_embed(secant.unsqueeze(-1).expand_as(p))
        pp = pp + change.unsqueeze(-1).unsqueeze(-1) * n.unsqueeze(-1) * n.unsqueeze(-2)
        return Second(a.unsqueeze(-1).unsqueeze(-1) * pp, None, c * self.potential.curvature(u))

    def frozen(self, data: Any, u: Tensor, p: Tensor) -> tuple[Tensor, Tensor]:
        """Return the factors (k, m) = (a g'(|p|) / |p|, c h'(u) / u) for which dL/dp = k p and dL/du = m u."""
        a, c = data
        return a * self.profile.secant(torch.linalg.vector_norm(p, dim=-1)), c * self.potential.secant(u)


class QuadraticEnergy(IsotropicEnergy):
    """Energy density L = a |p|^2 / 2 + c |u|^m / m; m = 2 gives the equation -div(a grad u) + c u = f.

    Parameters
    ----------
    coefficient, reaction : float, array (nx, ny) or callable
        Weights a > 0 and c >= 0, as in `sb.Diffusion`; on an `sb.barron.Box` numbers or functions of points (..., d).
        `sb.variational.VariationalProblem` checks their signs.
    power : float
        Exponent m > 1.

    Raises
    ------
    InputError
        If the power is not larger than 1.

    Examples
    --------
    >>> QuadraticEnergy(2.0, reaction=1.0).linear, QuadraticEnergy(reaction=1.0, power=4).linear
    (True, False)
    """

    def __init__(self, coefficient: Field = 1.0, reaction: Field = 0.0, *, power: float = 2.0) -> None:
        self._set(Power(2), Power(_exponent(power, "power")), coefficient, reaction, declared=False)

    @property
    def linear(self) -> bool:  # type: ignore[override]
        """Whether the Euler-Lagrange equation is linear."""
        no_reaction = isinstance(self.reaction, int | float) and self.reaction == 0
        return self.potential.upper == 1 or no_reaction


class PLaplacian(IsotropicEnergy):
    """Energy density L = a |p|^q / q + c |u|^m / m of -div(a |grad u|^(q - 2) grad u) + c |u|^(m - 2) u = f.

    Parameters
    ----------
    exponent : float
        Exponent q > 1. For q != 2, the ellipticity constants are lambda = 0 and Lambda = infinity.
    coefficient, reaction, power
        As in `sb.variational.QuadraticEnergy`.

    Raises
    ------
    InputError
        If the exponent or the power is not larger than 1.

    Examples
    --------
    >>> PLaplacian(3).convex, PLaplacian(3).lower
    (True, 0.0)
    """

    def __init__(self, exponent: float, coefficient: Field = 1.0, reaction: Field = 0.0, *, power: float = 2.0) -> None:
        profile = Power(_exponent(exponent, "exponent"))
        self._set(profile, Power(_exponent(power, "power")), coefficient, reaction, declared=False)


class MinimalSurface(IsotropicEnergy):
    """Energy density L = a sqrt(1 + |p|^2) + c |u|^m / m: the area of the graph of u, weighted with a.

    Parameters
    ----------
    coefficient, reaction, power
        As in `sb.variational.QuadraticEnergy`.

    Raises
    ------
    InputError
        If the power is not larger than 1.

    Notes
    -----
    The ellipticity constants are Lambda = max a and lambda = 0. The energy is unbounded below if no flux y with |y| <=
    a balances the source.

    Examples
    --------
    >>> MinimalSurface().upper
    1.0
    """

    def __init__(self, coefficient: Field = 1.0, reaction: Field = 0.0, *, power: float = 2.0) -> None:
        self._set(Area(), Power(_exponent(power, "power")), coefficient, reaction, declared=False)


class ShearThinning(IsotropicEnergy):
    """Energy density L = a (|p|^2 / 2 + k (sqrt(1 + |p|^2) - 1)) + c |u|^m / m of a shear-thinning fluid.

    The equation is -div(a (1 + k / sqrt(1 + |grad u|^2)) grad u) + c |u|^(m - 2) u = f, so the effective viscosity
    decreases with |grad u|. For constant a, the ellipticity constants have the ratio Lambda / lambda = 1 + k.

    Parameters
    ----------
    extra : float
        Parameter k >= 0.
    coefficient, reaction, power
        As in `sb.variational.QuadraticEnergy`.

    Raises
    ------
    InputError
        If `extra` is negative, or the power is not larger than 1.

    Examples
    --------
    >>> ShearThinning(3.0).lower, ShearThinning(3.0).upper
    (1.0, 4.0)
    """

    def __init__(self, extra: float, coefficient: Field = 1.0, reaction: Field = 0.0, *, power: float = 2.0) -> None:
        require_number(extra, "extra", least=0)
        potential = Power(_exponent(power, "power"))
        self._set(Stiffened(float(extra)), potential, coefficient, reaction, declared=False)


class GinzburgLandau(IsotropicEnergy):
    """Energy density L = w^2 |p|^2 / 2 + (u^2 - 1)^2 / 4 of two phases u = 1 and u = -1, with layers of width w.

    The energy is not convex, so there are no certificates, and a computed minimiser may be one of several.

    Parameters
    ----------
    width : float
        Layer width w > 0.

    Raises
    ------
    InputError
        If the width is not positive.

    Examples
    --------
    >>> GinzburgLandau(0.1).convex
    False
    """

    def __init__(self, width: float) -> None:
        w = require_number(width, "width", positive=True)
        self._set(Power(2), DoubleWell(), w**2, 1.0, declared=False)


def _exponent(value: float, name: str) -> float:
    if require_number(value, name) <= 1:
        raise InputError(f"{name} is {value!r}; give a number larger than 1, for example 2.")
    return float(value)
