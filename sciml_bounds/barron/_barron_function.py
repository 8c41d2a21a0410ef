"""Functions that carry their values, their band limits and bounds of their Barron norms through a calculation."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from decimal import ROUND_CEILING
from numbers import Real
from typing import Any, ClassVar, Literal

import torch
from torch import Tensor

from sciml_bounds.arrays import convert, require_count, require_number
from sciml_bounds.barron import _moments as rules
from sciml_bounds.barron import _pointwise as pointwise
from sciml_bounds.barron._lattice_samples import interpolant, tails
from sciml_bounds.barron._pointwise import Value
from sciml_bounds.barron._series import FourierSeries, ProductSeries, Sides, checked_rows, checked_vector
from sciml_bounds.errors import InputError
from sciml_bounds.reports import describe, summary_table

__all__ = ["BarronFunction"]


@dataclass(frozen=True, repr=False)
class BarronFunction:
    """A real function of d variables with its band limits and a bound of its spectral Barron norm.

    ||f|| = inf int (1 + |w|) |F(w)| dw over all f = int F(w) exp(i w . x) dw on the domain (Barron 1993; the form of
    Marwah, Lipton, Lu and Risteski, arXiv:2210.12101). Sums, products, powers, multiples, derivatives, polynomials and
    (I - Laplace)^-1 give functions again, whose norms follow by rules that hold for all functions: the binomial rule
    for products is never above ||f|| ||g||, a number joins the mean of a series, and (I - Laplace)^-1 gains two orders.
    Functions are made by the class methods. Bounds hold up to floating-point round-off.

    Attributes
    ----------
    value
        f as a function of points (..., d), written in torch; a `FourierSeries` where the waves are known.
    band
        W, one for each axis: frequencies have |w_i| <= W_i; infinite where there is no limit.
    moments
        Bounds of m_k = int |w|^k |F(w)| dw for k = 0 ... 4.
    kind
        "bound", or "estimate" where samples stood for a function.

    Examples
    --------
    >>> import sciml_bounds as sb
    >>> f = sb.barron.BarronFunction.cosine([[1, 0], [2, 3]], [1.0, 0.5], lengths=3.141592653589793)
    >>> round(f.norm, 4), f.band
    (4.3028, (2.0, 3.0))
    >>> g = f * f - 2.0
    >>> round(g.norm, 4), f.norm**2 + 2
    (12.6583, 20.513878188659973)
    """

    value: Value
    band: tuple[float, ...]
    moments: rules.Moments
    kind: Literal["bound", "estimate"] = "bound"

    #: It is called with points (..., d), where other functions that fields of a grid are given by take coordinates.
    of_points: ClassVar[bool] = True

    # --- making -------------------------------------------------------------------------------------------------------

    @classmethod
    def fourier(cls, modes: Any, coefficients: Any, periods: Sides = 1.0) -> BarronFunction:
        """Return sum_j Re(c_j exp(2 pi i k_j . x / P)).

        Parameters
        ----------
        modes
            k, integers of shape (m, d), in any dimension.
        coefficients
            c, real or complex, shape (m,).
        periods
            P, one for each axis or one for all.

        Raises
        ------
        InputError
            If modes are not integers, or shapes or numbers do not fit.
        """
        return cls._of_series(FourierSeries.real_part(modes, coefficients, periods))

    @classmethod
    def cosine(cls, modes: Any, coefficients: Any, lengths: Sides = 1.0) -> BarronFunction:
        """Return sum_j c_j prod_i cos(pi k_ji x_i / l_i): zero normal derivatives on the sides of the box.

        Parameters
        ----------
        modes
            k, integers of shape (m, d) that are at least 0, in any dimension.
        coefficients
            c, shape (m,).
        lengths
            l, the sides of the box, one for each axis or one for all.

        Raises
        ------
        InputError
            If a mode is negative or no integer, or shapes or numbers do not fit.
        """
        return cls._of_series(ProductSeries(modes, coefficients, lengths, "cosine"))

    @classmethod
    def sine(cls, modes: Any, coefficients: Any, lengths: Sides = 1.0) -> BarronFunction:
        """Return sum_j c_j prod_i sin(pi k_ji x_i / l_i): zero on the sides of the box; parameters as for `cosine`.

        Raises
        ------
        InputError
            If a mode is below 1 or no integer, or shapes or numbers do not fit.
        """
        return cls._of_series(ProductSeries(modes, coefficients, lengths, "sine"))

    @classmethod
    def gaussian(cls, centre: Any, width: float) -> BarronFunction:
        """Return exp(-|x - x_0|^2 / (2 s^2)), x_0 of shape (d,), whose transform is a normal density of variance s^-2.

        m_k = E |w|^k = (sqrt(2) / s)^k Gamma((d + k) / 2) / Gamma(d / 2).

        Raises
        ------
        InputError
            If the centre is no finite vector or the width not positive.
        """
        x0 = checked_vector(centre, "centre")
        s, dim = require_number(width, "width", positive=True), len(x0)
        growth = (math.exp(math.lgamma((dim + k) / 2) - math.lgamma(dim / 2)) for k in range(rules.ORDERS))
        moments = tuple((math.sqrt(2) / s) ** k * factor for k, factor in enumerate(growth))
        return cls(lambda x: ((x - x0.to(x)).square().sum(-1) / (-2 * s**2)).exp(), (math.inf,) * dim, moments)

    @classmethod
    def ridge(cls, profile: BarronFunction, direction: Any, offset: float = 0.0) -> BarronFunction:
        """Return g(a . x + b) for a profile g of one variable and a direction a of shape (d,): m_k grows by |a|^k.

        Raises
        ------
        InputError
            If the profile has more than one variable, or the direction is no finite vector.
        """
        if not isinstance(profile, BarronFunction):
            raise InputError(f"profile is a {type(profile).__name__}; give a BarronFunction of one variable.")
        if profile.dimension != 1:
            raise InputError(
                f"profile is a function of {profile.dimension} variables; a ridge needs one of one variable."
            )
        a, b = checked_vector(direction, "direction"), require_number(offset, "offset")
        size = float(a.square().sum().sqrt())
        if size == 0:
            raise InputError("direction is zero; give a vector that points somewhere.")
        moments = tuple(size**k * moment for k, moment in enumerate(profile.moments))
        band = tuple(abs(entry) * profile.band[0] if entry else 0.0 for entry in a.tolist())
        return cls(lambda x: profile.value((x @ a.to(x) + b)[..., None]), band, moments, profile.kind)

    @classmethod
    def sampled(cls, values: Any, periods: Sides = 1.0, decay: tuple[int, float] | None = None) -> BarronFunction:
        """Return the trigonometric interpolant of a periodic function, with moments that are those of the function.

        Parameters
        ----------
        values
            Samples at x_i = P_i j_i / n_i, shape (n_1, ..., n_d), d at most 3.
        periods
            P, one for each axis or one for all.
        decay
            (s, T) with int |w|^s |F| <= T for the function that was sampled. Then moments up to s bound those of the
            function and of its interpolant, and values differ by at most 2 T / W^s, W = min pi n_i / P_i. Without it
            nothing is known of what lies between the samples, and the norm is an estimate.

        Raises
        ------
        InputError
            If values are not finite or have more than three axes, or decay is not an order and a moment.
        """
        series = interpolant(values, periods)
        seen, band = rules.of_terms(series.frequencies, series.magnitudes), (math.inf,) * series.modes.shape[1]
        if decay is None:
            return cls(series, band, seen, "estimate")
        return cls(series, band, rules.of_sum(seen, tails(tuple(torch.as_tensor(values).shape), periods, decay)))

    @classmethod
    def _of_series(cls, series: FourierSeries | ProductSeries) -> BarronFunction:
        band = series.frequencies.abs().amax(0).tolist()
        return cls(series, tuple(band), rules.of_terms(series.frequencies, series.magnitudes))

    # --- reading ------------------------------------------------------------------------------------------------------

    @property
    def dimension(self) -> int:
        """The number of variables."""
        return len(self.band)

    @property
    def norm(self) -> float:
        """The bound of the Barron norm, m_0 + m_1."""
        return self.moments[0] + self.moments[1]

    def __call__(self, x: Any) -> Tensor:
        """Evaluate at points of shape (..., d).

        Raises
        ------
        InputError
            If points have another number of coordinates.
        """
        points = convert(x, "x", torch.float64, torch.device("cpu")) if not isinstance(x, Tensor) else x
        if points.ndim == 0 or points.shape[-1] != self.dimension:
            raise InputError(
                f"x has shape {tuple(points.shape)}; points need {self.dimension} coordinates in the last axis."
            )
        return self.value(points)

    def __repr__(self) -> str:
        band = "none" if math.inf in self.band else describe(torch.tensor(self.band), rounding=ROUND_CEILING)
        rows = {
            "dimension": str(self.dimension),
            f"Barron norm ({self.kind})": describe(
                torch.tensor(self.norm, dtype=torch.float64), rounding=ROUND_CEILING
            ),
            "band limit": band,
        }
        return summary_table("BarronFunction", rows)

    # --- rules --------------------------------------------------------------------------------------------------------

    def __add__(self, other: BarronFunction | float) -> BarronFunction:
        if not isinstance(other, BarronFunction):
            return self._shifted(require_number(other, "the number"))
        g = self._paired(other)
        band = tuple(max(a, b) for a, b in zip(self.band, g.band))
        return self._joined(g, pointwise.added, band, rules.of_sum(self.moments, g.moments))

    def __mul__(self, other: BarronFunction | float) -> BarronFunction:
        if not isinstance(other, BarronFunction):
            return self._scaled(require_number(other, "the number"))
        g = self._paired(other)
        band = tuple(a + b for a, b in zip(self.band, g.band))
        return self._joined(g, pointwise.multiplied, band, rules.of_product(self.moments, g.moments))

    __radd__, __rmul__ = __add__, __mul__

    def __truediv__(self, other: float) -> BarronFunction:
        if isinstance(other, BarronFunction):
            raise InputError("Functions are divided by numbers only: 1 / f need not have a Barron norm.")
        number = require_number(other, "the divisor")
        if number == 0 or math.isinf(1 / number):
            raise InputError(f"the divisor is {other!r}; give a number whose inverse is finite.")
        return self._scaled(1 / number)

    def __rtruediv__(self, other: Any) -> BarronFunction:
        raise InputError("A number is not divided by a function: 1 / f need not have a Barron norm.")

    def __neg__(self) -> BarronFunction:
        return self._scaled(-1.0)

    def __sub__(self, other: BarronFunction | float) -> BarronFunction:
        return self + (-other if isinstance(other, BarronFunction) else -require_number(other, "the number"))

    def __rsub__(self, other: float) -> BarronFunction:
        return -self + other

    def __pow__(self, power: int) -> BarronFunction:
        require_count(power, "the power", 0)
        return self.polynomial([0.0] * power + [1.0])

    def polynomial(self, coefficients: Sequence[float]) -> BarronFunction:
        """Return sum_k a_k f^k: m_0 is at most P(m_0) and m_1 at most P'(m_0) m_1, with P of coefficients |a_k|.

        Raises
        ------
        InputError
            If there is no coefficient, or one is not a finite number.
        """
        try:
            numbers = [require_number(a, "a coefficient") for a in coefficients]
        except TypeError:
            raise InputError(f"coefficients is {coefficients!r}; give a list of those of f^0, f^1 and so on.") from None
        if not numbers:
            raise InputError("coefficients is empty; give those of f^0, f^1 and so on.")
        if len(numbers) == 1:
            return self._constant(numbers[0])
        total = self * numbers[-1] + numbers[-2]
        for number in reversed(numbers[:-2]):
            total = total * self + number
        return total

    def derivative(self, axis: int) -> BarronFunction:
        """Return df / dx_axis: m_k is at most min(W m_k, m_(k+1)), W the band limit of the axis.

        Raises
        ------
        InputError
            If there is no such axis.
        """
        require_count(axis, "axis", 0)
        if axis >= self.dimension:
            raise InputError(f"axis is {axis}, and this is a function of {self.dimension} variables.")
        moments = rules.of_derivative(self.moments, self.band[axis])
        return self._with(pointwise.derivative(self.value, axis), self.band, moments)

    def gradient(self) -> tuple[BarronFunction, ...]:
        """Return the derivatives along all axes."""
        return tuple(self.derivative(axis) for axis in range(self.dimension))

    def flux(
        self, coefficient: BarronFunction | float | Sequence[Sequence[BarronFunction | float]]
    ) -> tuple[BarronFunction, ...]:
        """Return the components of A grad f, for a scalar A or a matrix of d rows.

        Raises
        ------
        InputError
            If the matrix is not d by d, or an entry has another number of variables.
        """
        slopes = self.gradient()
        if isinstance(coefficient, BarronFunction | Real):
            return tuple(slope * coefficient for slope in slopes)
        rows = checked_rows(coefficient, self.dimension)
        products = [[slope * entry for slope, entry in zip(slopes, row)] for row in rows]
        return tuple(sum(row[1:], start=row[0]) for row in products)

    def resolvent(self) -> BarronFunction:
        """Return u = (I - Laplace)^-1 f for a series: m_k is at most m_k, m_(k-1) / 2 and m_(k-2) of f.

        u has the periods of a Fourier series, and meets the conditions on the sides that a sine or cosine series meets.

        Raises
        ------
        InputError
            If f is not known as a series.
        """
        if not isinstance(self.value, FourierSeries | ProductSeries):
            raise InputError("This function is not known as a series, so u - Laplace u = f is not solved; see waves().")
        return self._with(self.value.resolvent(), self.band, rules.of_resolvent(self.moments))

    def waves(self) -> BarronFunction:
        """Return the same function with sines and cosines written out as waves, so that products stay series.

        Raises
        ------
        InputError
            If f is not known as a series, or has more than 65,536 waves.
        """
        if isinstance(self.value, FourierSeries):
            return self
        if not isinstance(self.value, ProductSeries):
            raise InputError("This function is not known as a series; sample it and use BarronFunction.sampled.")
        return self._with(self.value.waves(), self.band, self.moments)

    def tightened(self) -> BarronFunction:
        """Return the same function with moments and band summed over its own waves, instead of what rules carried.

        Raises
        ------
        InputError
            If f is not known as a series, or its series stands for a function between samples.
        """
        if not isinstance(self.value, FourierSeries | ProductSeries) or math.inf in self.band:
            raise InputError("The waves of this function are not all known, so there is nothing to sum its norm over.")
        return self._of_series(self.value)

    # --- parts --------------------------------------------------------------------------------------------------------

    def _constant(self, number: float) -> BarronFunction:
        moments = (abs(number),) + (0.0,) * (rules.ORDERS - 1)
        return BarronFunction(pointwise.constant(self.value, number), (0.0,) * self.dimension, moments)

    def _scaled(self, number: float) -> BarronFunction:
        moments = rules.of_product(self.moments, self._constant(number).moments)
        return self._with(pointwise.scaled(self.value, number), self.band, moments)

    def _shifted(self, number: float) -> BarronFunction:
        """Add a number. It joins the mean of a series, so that m_0 grows by what the magnitude of the mean does."""
        mean = pointwise.mean(self.value)
        grown = max(self.moments[0] - abs(mean), 0.0) + abs(mean + number)
        value = pointwise.added(self.value, pointwise.constant(self.value, number))
        return self._with(value, self.band, (grown, *self.moments[1:]))

    def _paired(self, other: BarronFunction) -> BarronFunction:
        if other.dimension != self.dimension:
            raise InputError(
                f"The functions have {self.dimension} and {other.dimension} variables; they need the same."
            )
        return other

    def _joined(
        self, g: BarronFunction, join: Callable[[Value, Value], Value], band: tuple[float, ...], moments: rules.Moments
    ) -> BarronFunction:
        kind: Literal["bound", "estimate"] = "estimate" if "estimate" in (self.kind, g.kind) else "bound"
        return BarronFunction(join(self.value, g.value), band, rules.within_band(moments, band), kind)

    def _with(self, value: Value, band: tuple[float, ...], moments: rules.Moments) -> BarronFunction:
        return BarronFunction(value, band, rules.within_band(moments, band), self.kind)
