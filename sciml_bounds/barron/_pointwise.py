"""Values of functions under sums, products and derivatives: what is a series stays one where the result is one."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from sciml_bounds.barron._series import FourierSeries, ProductSeries

__all__ = ["Value", "added", "constant", "derivative", "mean", "multiplied", "scaled"]

#: A function of points (..., d), written in torch.
Value = Callable[[Tensor], Tensor]


def constant(like: Value, number: float) -> Value:
    """Return a constant function, as a series where another one is a series."""
    if isinstance(like, FourierSeries | ProductSeries):
        return like.constant(number)
    return lambda x: 0 * x[..., 0] + number  # depends on x, so that it has a derivative


def mean(f: Value) -> float:
    """Return the constant term of a series, which its norm counts; zero for what is none."""
    return f.mean if isinstance(f, FourierSeries | ProductSeries) else 0.0


def added(f: Value, g: Value) -> Value:
    """Return f + g: a series for two of the same periods, or of the same sides and symmetry."""
    if isinstance(f, FourierSeries) and isinstance(g, FourierSeries) and f.periods == g.periods:
        return f + g
    if isinstance(f, ProductSeries) and isinstance(g, ProductSeries) and f.fits(g):
        return f + g
    return lambda x: f(x) + g(x)


def multiplied(f: Value, g: Value) -> Value:
    """Return f g: a series for two Fourier series of the same periods."""
    if isinstance(f, FourierSeries) and isinstance(g, FourierSeries) and f.periods == g.periods:
        return f * g
    return lambda x: f(x) * g(x)


def scaled(f: Value, number: float) -> Value:
    """Return a multiple of f: a series for a series."""
    return f.scaled(number) if isinstance(f, FourierSeries | ProductSeries) else lambda x: f(x) * number


def derivative(f: Value, axis: int) -> Value:
    """Return df / dx_axis: a series for a Fourier series, otherwise that of torch."""
    return f.derivative(axis) if isinstance(f, FourierSeries) else _slope(f, axis)


def _slope(value: Value, axis: int) -> Value:
    """Differentiate a function of torch along one axis; points are independent, so their values may be added up."""

    def slope(x: Tensor) -> Tensor:
        with torch.enable_grad():
            y = x if x.requires_grad else x.detach().requires_grad_()
            (gradient,) = torch.autograd.grad(value(y).sum(), y, create_graph=x.requires_grad)
        return gradient[..., axis]

    return slope
