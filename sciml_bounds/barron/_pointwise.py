"""Sums, products and derivatives of function values; series remain series where the result is a series."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from sciml_bounds.barron._series import FourierSeries, ProductSeries

__all__ = ["Value", "added", "constant", "derivative", "mean", "multiplied", "scaled"]

#: A function of points (..., d), written in torch.
Value = Callable[[Tensor], Tensor]


def constant(like: Value, number: float) -> Value:
    """Return a constant function, as a series if `like` is a series."""
    if isinstance(like, FourierSeries | ProductSeries):
        return like.constant(number)
    return lambda x: 0 * x[..., 0] + number  # depends on x, so that it has a derivative


def mean(f: Value) -> float:
    """Return the constant term of a series, or zero if f is not a series."""
    return f.mean if isinstance(f, FourierSeries | ProductSeries) else 0.0


def added(f: Value, g: Value) -> Value:
    """Return f + g, as a series for two series of the same periods, or of the same lengths and symmetry."""
    if isinstance(f, FourierSeries) and isinstance(g, FourierSeries) and f.periods == g.periods:
        return f + g
    if isinstance(f, ProductSeries) and isinstance(g, ProductSeries) and f.fits(g):
        return f + g
    return lambda x: f(x) + g(x)


def multiplied(f: Value, g: Value) -> Value:
    """Return f g, as a series for two Fourier series of the same periods."""
    if isinstance(f, FourierSeries) and isinstance(g, FourierSeries) and f.periods == g.periods:
        return f * g
    return lambda x: f(x) * g(x)


def scaled(f: Value, number: float) -> Value:
    """Return a multiple of f, as a series if f is a series."""
    return f.scaled(number) if isinstance(f, FourierSeries | ProductSeries) else lambda x: f(x) * number


def derivative(f: Value, axis: int) -> Value:
    """Return df / dx_axis, as a series if f is a Fourier series, otherwise by automatic differentiation."""
    return f.derivative(axis) if isinstance(f, FourierSeries) else _slope(f, axis)


def _slope(value: Value, axis: int) -> Value:
    """Differentiate a torch function along one axis: the gradient of the sum over points, which are independent."""

    def slope(x: Tensor) -> Tensor:
        with torch.enable_grad():
            y = x if x.requires_grad else x.detach().requires_grad_()
            (gradient,) = torch.autograd.grad(value(y).sum(), y, create_graph=x.requires_grad)
        return gradient[..., axis]

    return slope
