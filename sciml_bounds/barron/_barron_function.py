"""Functions with band limits and bounds of their Barron norms, which sums, products and derivatives propagate."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from decimal import ROUND_CEILING
from numbers import Real
from typing import Any, ClassVar, Literal

import torch
from torch import Tensor

from sciml_bounds.arrays import convert, require_count, require_instance, require_number
from sciml_bounds.barron import _moments as rules
from sciml_bounds.barron import _pointwise as pointwise
from sciml_bounds.barron._lattice_samples import interpolant, unresolved_moments
from sciml_bounds.barron._pointwise import Value
from sciml_bounds.barron._series import FourierSeries, ProductSeries, Sides, checked_rows, checked_vector
from sciml_bounds.errors import InputError
from sciml_bounds.reports import describe, summary_table

__all__ = ["BarronFunction", "series_of"]


@dataclass(frozen=True, repr=False)
class BarronFunction:
    """A real function of d variables with its band limits and a bound of its spectral Barron norm.

    ||f|| = inf int (1 + |w|) |F(w)| dw over all F with f = int F(w) exp(i w . x) dw on the domain (Barron 1993, in the
    form of Marwah, Lipton, Lu and Risteski, arXiv:2210.12101). Construct functions by the class methods. Sums,
    products, powers, multiples, derivatives, polynomials and (I - Laplace)^-1 of Barron functions are Barron functions,
    whose moments are bounded by the triangle inequality for sums, the binomial rule for products (so that
    ||f g|| <= ||f|| ||g||), and the decay of 1 / (1 + |w|^2) for (I - Laplace)^-1. Adding a number to a series changes
    its mean only. Bounds are valid up to floating-point round-off.

    Attributes
    ----------
    value : callable
        f as a torch function of points (..., d); a `FourierSeries` or `ProductSeries` if the waves are known.
    band : tuple of float
        Band limit W_i per axis: frequencies satisfy |w_i| <= W_i. Infinite if there is no limit.
    moments : tuple of float
        Bounds of m_k = int |w|^k |F(w)| dw for k = 0 ... 4.
    kind : {"bound", "estimate"}
        "estimate" if the function was constructed from samples without a decay bound.

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

    #: Marks functions of points (..., d); other callables for fields of a grid take one argument per coordinate.
    of_points: ClassVar[bool] = True

    # --- construction -------------------------------------------------------------------------------------------------

    @classmethod
    def fourier(cls, modes: Any, coefficients: Any, periods: Sides = 1.0) -> BarronFunction:
        """Return sum_j Re(c_j exp(2 pi i k_j . x / P)).

        Parameters
        ----------
        modes : array of int, shape (m, d)
            Modes k, in any dimension d.
        coefficients : array, shape (m,)
            Real or complex coefficients c.
        periods : float or sequence of d floats
            Periods P, one per axis or one for all axes.

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
        modes : array of int, shape (m, d)
            Modes k >= 0, in any dimension d.
        coefficients : array, shape (m,)
            Coefficients c.
        lengths : float or sequence of d floats
            Side lengths l of the box, one per axis or one for all axes.

        Raises
        ------
        InputError
            If a mode is negative or not an integer, or shapes or numbers do not fit.
        """
        return cls._of_series(ProductSeries(modes, coefficients, lengths, "cosine"))

    @classmethod
    def sine(cls, modes: Any, coefficients: Any, lengths: Sides = 1.0) -> BarronFunction:
        """Return sum_j c_j prod_i sin(pi k_ji x_i / l_i): zero on the sides of the box.

        Parameters
        ----------
        modes : array of int, shape (m, d)
            Modes k >= 1, in any dimension d.
        coefficients : array, shape (m,)
            Coefficients c.
        lengths : float or sequence of d floats
            Side lengths l of the box, one per axis or one for all axes.

        Raises
        ------
        InputError
            If a mode is below 1 or not an integer, or shapes or numbers do not fit.
        """
        return cls._of_series(ProductSeries(modes, coefficients, lengths, "sine"))

    @classmethod
    def gaussian(cls, centre: Any, width: float) -> BarronFunction:
        """Return exp(-|x - x_0|^2 / (2 s^2)), whose Fourier transform is a normal density of variance s^-2.

        m_k = E |w|^k = (sqrt(2) / s)^k Gamma((d + k) / 2) / Gamma(d / 2).

        Parameters
        ----------
        centre : array, shape (d,)
            Centre x_0.
        width : float
            Width s > 0.

        Raises
        ------
        InputError
            If the centre is not a finite vector, or the width is not positive.
        """
        x0 = checked_vector(centre, "centre")
        s, dim = require_number(width, "width", positive=True), len(x0)
        growth = (math.exp(math.lgamma((dim + k) / 2) - math.lgamma(dim / 2)) for k in range(rules.ORDERS))
        moments = tuple((math.sqrt(2) / s) ** k * factor for k, factor in enumerate(growth))
        return cls(lambda x: ((x - x0.to(x)).square().sum(-1) / (-2 * s**2)).exp(), (math.inf,) * dim, moments)

    @classmethod
    def ridge(cls, profile: BarronFunction, direction: Any, offset: float = 0.0) -> BarronFunction:
        """Return the ridge function g(a . x + b), whose moments are |a|^k m_k with the moments m_k of g.

        Parameters
        ----------
        profile : BarronFunction
            Function g of one variable.
        direction : array, shape (d,)
            Vector a.
        offset : float
            Number b.

        Raises
        ------
        InputError
            If the profile has more than one variable, or the direction is zero or not a finite vector.
        """
        require_instance(profile, "profile", BarronFunction, "a BarronFunction of one variable")
        if profile.dimension != 1:
            raise InputError(
                f"profile is a function of {profile.dimension} variables, but a ridge function needs a profile of one "
                "variable."
            )
        a, b = checked_vector(direction, "direction"), require_number(offset, "offset")
        size = float(a.square().sum().sqrt())
        if size == 0:
            raise InputError("direction is the zero vector; give a vector with a nonzero entry.")
        moments = tuple(size**k * moment for k, moment in enumerate(profile.moments))
        band = tuple(abs(entry) * profile.band[0] if entry else 0.0 for entry in a.tolist())
        return cls(lambda x: profile.value((x @ a.to(x) + b)[..., None]), band, moments, profile.kind)

    @classmethod
    def sampled(cls, values: Any, periods: Sides = 1.0, decay: tuple[int, float] | None = None) -> BarronFunction:
        """Return the trigonometric interpolant of samples of a periodic function, with moments of that function.

        Parameters
        ----------
        values : array, shape (n_1, ..., n_d)
            Samples at x_i = P_i j_i / n_i, with d at most 3.
        periods : float or sequence of d floats
            Periods P, one per axis or one for all axes.
        decay : tuple of int and float, optional
            (s, T) with int |w|^s |F| <= T for the sampled function. Then the moments up to order s are bounds for the
            function and for its interpolant, and their values differ by at most 2 T / W^s, W = min pi n_i / P_i.
            Without `decay`, the values between the samples are unknown and the norm is an estimate.

        Raises
        ------
        InputError
            If values are not finite or have more than three axes, or decay is not a pair of an order and a moment.
        """
        series = interpolant(values, periods)
        moments, band = rules.of_terms(series.frequencies, series.magnitudes), (math.inf,) * series.modes.shape[1]
        if decay is None:
            return cls(series, band, moments, "estimate")
        unresolved = unresolved_moments(tuple(torch.as_tensor(values).shape), periods, decay)
        return cls(series, band, rules.of_sum(moments, unresolved))

    @classmethod
    def _of_series(cls, series: FourierSeries | ProductSeries) -> BarronFunction:
        band = series.frequencies.abs().amax(0).tolist()
        return cls(series, tuple(band), rules.of_terms(series.frequencies, series.magnitudes))

    # --- evaluation ---------------------------------------------------------------------------------------------------

    @property
    def dimension(self) -> int:
        """Number of variables."""
        return len(self.band)

    @property
    def norm(self) -> float:
        """Bound of the Barron norm, m_0 + m_1."""
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
                f"x has shape {tuple(points.shape)}; points need {self.dimension} coordinates along the last axis."
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

    # --- arithmetic ---------------------------------------------------------------------------------------------------

    def __add__(self, other: BarronFunction | float) -> BarronFunction:
        if not isinstance(other, BarronFunction):
            return self._shifted(require_number(other, "the number"))
        g = self._require_same_dimension(other)
        band = tuple(max(a, b) for a, b in zip(self.band, g.band))
        return self._combined(g, pointwise.added, band, rules.of_sum(self.moments, g.moments))

    def __mul__(self, other: BarronFunction | float) -> BarronFunction:
        if not isinstance(other, BarronFunction):
            return self._scaled(require_number(other, "the number"))
        g = self._require_same_dimension(other)
        band = tuple(a + b for a, b in zip(self.band, g.band))
        return self._combined(g, pointwise.multiplied, band, rules.of_product(self.moments, g.moments))

    __radd__, __rmul__ = __add__, __mul__

    def __truediv__(self, other: float) -> BarronFunction:
        if isinstance(other, BarronFunction):
            raise InputError(
                "functions can be divided by a number only, because 1 / f may have no Barron norm; use a number."
            )
        number = require_number(other, "the divisor")
        if number == 0 or math.isinf(1 / number):
            raise InputError(f"the divisor is {other!r}; give a number with a finite inverse.")
        return self._scaled(1 / number)

    def __rtruediv__(self, other: Any) -> BarronFunction:
        raise InputError(
            "a number cannot be divided by a function, because 1 / f may have no Barron norm; sample 1 / f and use "
            "BarronFunction.sampled."
        )

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
        """Return the polynomial sum_k a_k f^k.

        m_0 is at most P(m_0) and m_1 at most P'(m_0) m_1, where P is the polynomial with coefficients |a_k|.

        Parameters
        ----------
        coefficients : sequence of float
            Coefficients a_0, a_1, ...

        Raises
        ------
        InputError
            If there is no coefficient, or a coefficient is not a finite number.
        """
        try:
            numbers = [require_number(a, "a coefficient") for a in coefficients]
        except TypeError:
            raise InputError(
                f"coefficients is {coefficients!r}; give a list of the coefficients of f^0, f^1 and so on."
            ) from None
        if not numbers:
            raise InputError("coefficients is empty; give the coefficients of f^0, f^1 and so on.")
        if len(numbers) == 1:
            return self._constant(numbers[0])
        total = self * numbers[-1] + numbers[-2]
        for number in reversed(numbers[:-2]):
            total = total * self + number
        return total

    def derivative(self, axis: int) -> BarronFunction:
        """Return the derivative df / dx_axis; its m_k is at most min(W m_k, m_(k+1)), W the band limit of the axis.

        Parameters
        ----------
        axis : int
            Axis, counted from 0.

        Raises
        ------
        InputError
            If the function has no such axis.
        """
        require_count(axis, "axis", 0)
        if axis >= self.dimension:
            raise InputError(f"axis is {axis}, but the function has {self.dimension} variables; count axes from 0.")
        moments = rules.of_derivative(self.moments, self.band[axis])
        return self._replaced(pointwise.derivative(self.value, axis), self.band, moments)

    def gradient(self) -> tuple[BarronFunction, ...]:
        """Return the derivatives along all axes."""
        return tuple(self.derivative(axis) for axis in range(self.dimension))

    def flux(
        self, coefficient: BarronFunction | float | Sequence[Sequence[BarronFunction | float]]
    ) -> tuple[BarronFunction, ...]:
        """Return the components of A grad f, for a scalar A or a matrix A.

        Parameters
        ----------
        coefficient : BarronFunction, float, or d rows of these
            Coefficient A.

        Raises
        ------
        InputError
            If the matrix is not d by d, or an entry has a different number of variables.
        """
        slopes = self.gradient()
        if isinstance(coefficient, BarronFunction | Real):
            return tuple(slope * coefficient for slope in slopes)
        rows = checked_rows(coefficient, self.dimension)
        products = [[slope * entry for slope, entry in zip(slopes, row)] for row in rows]
        return tuple(sum(row[1:], start=row[0]) for row in products)

    def resolvent(self) -> BarronFunction:
        """Return u = (I - Laplace)^-1 f for a series; its m_k is at most m_k, m_(k-1) / 2 and m_(k-2) of f.

        u has the periods of a Fourier series f, or satisfies the boundary conditions of a sine or cosine series f.

        Raises
        ------
        InputError
            If f is not a series.
        """
        if not isinstance(self.value, FourierSeries | ProductSeries):
            raise InputError(
                "the resolvent is available for series only, and this function is not a series; for a product of sine "
                "or cosine series, call waves() on the factors."
            )
        return self._replaced(self.value.resolvent(), self.band, rules.of_resolvent(self.moments))

    def waves(self) -> BarronFunction:
        """Return the function with products of sines or cosines expanded into waves, so that products remain series.

        Raises
        ------
        InputError
            If f is not a series, or has more than 65,536 waves.
        """
        if isinstance(self.value, FourierSeries):
            return self
        if not isinstance(self.value, ProductSeries):
            raise InputError("the function is not a series; sample it and use BarronFunction.sampled.")
        return self._replaced(self.value.waves(), self.band, self.moments)

    def tightened(self) -> BarronFunction:
        """Return the function with moments and band computed from its waves instead of the propagation rules.

        Raises
        ------
        InputError
            If f is not a series, or its series interpolates samples.
        """
        if not isinstance(self.value, FourierSeries | ProductSeries) or math.inf in self.band:
            raise InputError(
                "only a series can be tightened, and it must not be sampled, since the norm is summed over all waves; "
                "use the function as it is."
            )
        return self._of_series(self.value)

    # --- helpers ------------------------------------------------------------------------------------------------------

    def _constant(self, number: float) -> BarronFunction:
        moments = (abs(number),) + (0.0,) * (rules.ORDERS - 1)
        return BarronFunction(pointwise.constant(self.value, number), (0.0,) * self.dimension, moments)

    def _scaled(self, number: float) -> BarronFunction:
        moments = rules.of_product(self.moments, self._constant(number).moments)
        return self._replaced(pointwise.scaled(self.value, number), self.band, moments)

    def _shifted(self, number: float) -> BarronFunction:
        """Add a number; for a series, m_0 changes by the change of |mean|."""
        mean = pointwise.mean(self.value)
        m0 = max(self.moments[0] - abs(mean), 0.0) + abs(mean + number)
        value = pointwise.added(self.value, pointwise.constant(self.value, number))
        return self._replaced(value, self.band, (m0, *self.moments[1:]))

    def _require_same_dimension(self, other: BarronFunction) -> BarronFunction:
        if other.dimension != self.dimension:
            raise InputError(
                f"the functions have {self.dimension} and {other.dimension} variables; give functions of the same "
                "number of variables."
            )
        return other

    def _combined(
        self, g: BarronFunction, join: Callable[[Value, Value], Value], band: tuple[float, ...], moments: rules.Moments
    ) -> BarronFunction:
        kind: Literal["bound", "estimate"] = "estimate" if "estimate" in (self.kind, g.kind) else "bound"
        return BarronFunction(join(self.value, g.value), band, rules.within_band(moments, band), kind)

    def _replaced(self, value: Value, band: tuple[float, ...], moments: rules.Moments) -> BarronFunction:
        return BarronFunction(value, band, rules.within_band(moments, band), self.kind)


def series_of(function: Any, name: str = "function") -> FourierSeries | ProductSeries:
    """Return the series of a function, which messages call `name`.

    Raises
    ------
    InputError
        If it is not a series.
    """
    if not isinstance(function, BarronFunction) or not isinstance(function.value, FourierSeries | ProductSeries):
        raise InputError(f"the {name} is not a series; construct it by fourier, sine, cosine or sampled.")
    return function.value
