"""Scalar functions in energy densities: values, derivatives and convex conjugates.

A profile g(r) of the length r = |p| of a gradient is even with g'(0) = 0; a potential h(u) need not be even. The convex
conjugate is g*(s) = sup over r of r s - g(r). If it has no closed form, the solution r of g'(r) = s is bracketed by r0
<= r <= r1. Since the derivative of g*, the inverse of g', is increasing,

    g*(s) <= g*(s0) + (s - s0) r1    with s0 = g'(r0), g*(s0) = r0 s0 - g(r0),

so the right side is an upper bound on the conjugate for every bracket. See Rockafellar, "Convex Analysis" (1970),
section 12 and theorem 23.5.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Callable

import torch
from torch import Tensor

from sciml_bounds.errors import InputError

__all__ = ["Area", "Custom", "DoubleWell", "Power", "Regularised", "ScalarFunction", "Stiffened"]

#: Maximum number of doublings of a bracket (then the slope counts as not attained), and maximum number of bisections.
MAX_DOUBLINGS, MAX_BISECTIONS = 128, 200


class ScalarFunction(ABC):
    """A function of one variable.

    Attributes
    ----------
    convex : bool
        Whether the function is convex.
    lower, upper : float
        Bounds on the second derivative; 0 and infinity for a convex function without further information.
    secant_falls : bool
        Whether g'(r) / r is known to be nonincreasing in |r|.
    """

    convex: bool = True
    secant_falls: bool = False
    lower: float = 0.0
    upper: float = math.inf

    @abstractmethod
    def value(self, r: Tensor) -> Tensor:
        """Return g(r)."""

    @abstractmethod
    def slope(self, r: Tensor) -> Tensor:
        """Return g'(r)."""

    @abstractmethod
    def curvature(self, r: Tensor) -> Tensor:
        """Return g''(r); infinite where it does not exist."""

    def secant(self, r: Tensor) -> Tensor:
        """Return g'(r) / r, and g''(0) at r = 0, for a function with g'(0) = 0."""
        zero = r == 0
        return torch.where(zero, self.curvature(torch.zeros_like(r)), self.slope(r) / torch.where(zero, 1.0, r))

    def steepest(self, longest: Tensor) -> Tensor:
        """Return an upper bound on the second derivative for |r| <= longest."""
        return torch.full_like(longest, self.upper)

    def inverse(self, s: Tensor) -> Tensor:
        """Return r with g'(r) = s up to round-off; infinite if no such r exists."""
        low, high = self._bracket(s)
        return torch.where(high.isfinite() & low.isfinite(), (low + high) / 2, torch.copysign(s * 0 + math.inf, s))

    def conjugate(self, s: Tensor) -> Tensor:
        """Return g*(s), or an upper bound on it that is within round-off; infinite where g*(s) is infinite."""
        low, high = self._bracket(s)
        known = high.isfinite() & low.isfinite()
        low, high = torch.where(known, low, 0.0), torch.where(known, high, 0.0)
        s0 = self.slope(low)
        return torch.where(known, low * s0 - self.value(low) + (s - s0) * high, math.inf)

    def _bracket(self, s: Tensor) -> tuple[Tensor, Tensor]:
        """Return (r0, r1) with g'(r0) <= s <= g'(r1); an end is infinite if no finite one exists."""
        low, high = -torch.ones_like(s), torch.ones_like(s)
        for _ in range(MAX_DOUBLINGS):
            short_low, short_high = self.slope(low) > s, self.slope(high) < s
            if not bool(short_low.any() | short_high.any()):
                break
            low, high = torch.where(short_low, 2 * low, low), torch.where(short_high, 2 * high, high)
        found = (self.slope(low) <= s) & (self.slope(high) >= s)
        for _ in range(MAX_BISECTIONS):
            middle = (low + high) / 2
            narrow = (middle <= low) | (middle >= high)
            if bool((narrow | ~found).all()):
                break
            below = self.slope(middle) <= s
            low, high = torch.where(below, middle, low), torch.where(below, high, middle)
        return torch.where(found, low, -math.inf), torch.where(found, high, math.inf)


class Power(ScalarFunction):
    """The function |r|^m / m with m > 1; its conjugate is |s|^m' / m' with 1/m + 1/m' = 1."""

    def __init__(self, exponent: float) -> None:
        self.exponent = exponent
        self.secant_falls = exponent <= 2
        if exponent == 2:
            self.lower = self.upper = 1.0

    def value(self, r: Tensor) -> Tensor:
        """Return |r|^m / m."""
        return r.square() / 2 if self.exponent == 2 else r.abs() ** self.exponent / self.exponent

    def slope(self, r: Tensor) -> Tensor:
        """Return |r|^(m - 2) r."""
        return r if self.exponent == 2 else torch.sign(r) * r.abs() ** (self.exponent - 1)

    def curvature(self, r: Tensor) -> Tensor:
        """Return (m - 1) |r|^(m - 2)."""
        return torch.ones_like(r) if self.exponent == 2 else (self.exponent - 1) * r.abs() ** (self.exponent - 2)

    def secant(self, r: Tensor) -> Tensor:
        """Return |r|^(m - 2)."""
        return torch.ones_like(r) if self.exponent == 2 else r.abs() ** (self.exponent - 2)

    def steepest(self, longest: Tensor) -> Tensor:
        """Return (m - 1) |longest|^(m - 2); infinity for m < 2, where the second derivative is unbounded near 0."""
        return self.curvature(longest) if self.exponent >= 2 else torch.full_like(longest, math.inf)

    def inverse(self, s: Tensor) -> Tensor:
        """Return |s|^(m' - 2) s."""
        return self._dual.slope(s)

    def conjugate(self, s: Tensor) -> Tensor:
        """Return |s|^m' / m'."""
        return self._dual.value(s)

    @property
    def _dual(self) -> Power:
        return Power(self.exponent / (self.exponent - 1))


class Area(ScalarFunction):
    """The function sqrt(1 + r^2), the area element of a graph; its conjugate is -sqrt(1 - s^2) for |s| <= 1."""

    upper = 1.0
    secant_falls = True

    def value(self, r: Tensor) -> Tensor:
        """Return sqrt(1 + r^2)."""
        return torch.sqrt(1 + r.square())

    def slope(self, r: Tensor) -> Tensor:
        """Return r / sqrt(1 + r^2)."""
        return r * self.secant(r)

    def curvature(self, r: Tensor) -> Tensor:
        """Return (1 + r^2)^(-3/2)."""
        return self.secant(r) ** 3

    def secant(self, r: Tensor) -> Tensor:
        """Return 1 / sqrt(1 + r^2)."""
        return torch.rsqrt(1 + r.square())

    def inverse(self, s: Tensor) -> Tensor:
        """Return s / sqrt(1 - s^2)."""
        return torch.where(s.abs() < 1, s / torch.sqrt((1 - s.square()).clamp_min(0)), torch.sign(s) * math.inf)

    def conjugate(self, s: Tensor) -> Tensor:
        """Return -sqrt(1 - s^2), infinite for |s| > 1."""
        return torch.where(s.abs() <= 1, -torch.sqrt((1 - s.square()).clamp_min(0)), math.inf)


class Stiffened(ScalarFunction):
    """The function r^2 / 2 + k (sqrt(1 + r^2) - 1); its second derivative falls from 1 + k at 0 to 1 at infinity."""

    lower = 1.0
    secant_falls = True

    def __init__(self, extra: float) -> None:
        self.extra = extra
        self.upper = 1.0 + extra

    def value(self, r: Tensor) -> Tensor:
        """Return r^2 / 2 + k (sqrt(1 + r^2) - 1), computed without cancellation."""
        return r.square() * (0.5 + self.extra / (1 + torch.sqrt(1 + r.square())))

    def slope(self, r: Tensor) -> Tensor:
        """Return r + k r / sqrt(1 + r^2)."""
        return r * self.secant(r)

    def curvature(self, r: Tensor) -> Tensor:
        """Return 1 + k (1 + r^2)^(-3/2)."""
        return 1 + self.extra * torch.rsqrt(1 + r.square()) ** 3

    def secant(self, r: Tensor) -> Tensor:
        """Return 1 + k / sqrt(1 + r^2)."""
        return 1 + self.extra * torch.rsqrt(1 + r.square())

    def _bracket(self, s: Tensor) -> tuple[Tensor, Tensor]:
        """Return a bracket by Newton's method: the slope is concave for r >= 0, so iterates from below stay below."""
        t = s.abs()
        r = t / self.upper
        for _ in range(60):
            step = (t - self.slope(r)) / self.curvature(r)
            if not bool((step > 4e-16 * t).any()):
                break
            r = r + step.clamp_min(0)
        below = torch.minimum(r, r + (t - self.slope(r)).clamp_max(0) / self.lower)  # in case round-off led above
        above = below + (t - self.slope(below)).clamp_min(0) / self.lower
        return torch.where(s < 0, -above, below), torch.where(s < 0, -below, above)


class DoubleWell(ScalarFunction):
    """The function (u^2 - 1)^2 / 4, which is not convex."""

    convex = False
    lower = -1.0

    def value(self, r: Tensor) -> Tensor:
        """Return (u^2 - 1)^2 / 4."""
        return (r.square() - 1).square() / 4

    def slope(self, r: Tensor) -> Tensor:
        """Return u^3 - u."""
        return r * (r.square() - 1)

    def curvature(self, r: Tensor) -> Tensor:
        """Return 3 u^2 - 1."""
        return 3 * r.square() - 1

    def secant(self, r: Tensor) -> Tensor:
        """Return u^2 - 1."""
        return r.square() - 1


class Regularised(ScalarFunction):
    """The function g(r) + e r^2 / 2 with convex g and e > 0; its slope attains every number."""

    def __init__(self, function: ScalarFunction, extra: float) -> None:
        self.function, self.extra = function, extra
        self.lower, self.upper = function.lower + extra, function.upper + extra

    def value(self, r: Tensor) -> Tensor:
        """Return g(r) + e r^2 / 2."""
        return self.function.value(r) + self.extra * r.square() / 2

    def slope(self, r: Tensor) -> Tensor:
        """Return g'(r) + e r."""
        return self.function.slope(r) + self.extra * r

    def curvature(self, r: Tensor) -> Tensor:
        """Return g''(r) + e."""
        return self.function.curvature(r) + self.extra


class Custom(ScalarFunction):
    """A function written in torch and applied entrywise; autograd computes its derivatives.

    Parameters
    ----------
    function : callable
        Function that maps a tensor to a tensor of the same shape.
    convex : bool
        Whether the function is declared to be convex.
    lower, upper : float
        Declared bounds on the second derivative.
    """

    def __init__(
        self, function: Callable[[Tensor], Tensor], convex: bool, lower: float = 0.0, upper: float = math.inf
    ) -> None:
        self.function = function
        self.convex, self.lower, self.upper = convex, lower if convex else -math.inf, upper

    def value(self, r: Tensor) -> Tensor:
        """Call the function."""
        result = self.function(r)
        if not isinstance(result, Tensor) or result.shape != r.shape:
            kind = f"shape {tuple(result.shape)}" if isinstance(result, Tensor) else f"a {type(result).__name__}"
            raise InputError(
                f"the function returned {kind} for an argument of shape {tuple(r.shape)}; let it act entrywise and "
                "return a torch tensor of the same shape."
            )
        return result

    def slope(self, r: Tensor) -> Tensor:
        """Return the derivative."""
        return self._derivatives(r, 1)

    def curvature(self, r: Tensor) -> Tensor:
        """Return the second derivative."""
        return self._derivatives(r, 2)

    def _derivatives(self, r: Tensor, order: int) -> Tensor:
        with torch.enable_grad():
            x = r.detach().requires_grad_()
            result = self.value(x)
            for _ in range(order):
                if not result.requires_grad:
                    return torch.zeros_like(r)
                (result,) = torch.autograd.grad(result.sum(), x, create_graph=True)
        return result.detach()
