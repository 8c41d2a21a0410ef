"""Contraction factors of preconditioned gradient iterations, and growth of the Barron norms of their iterates.

For an energy E(u) = int L(grad u) - f u with lower <= D^2 L <= upper, in a subspace of H^1_0 (the whole space, finite
elements, or sine series) whose inner product has the Riesz map P^-1, the iteration is u <- u - step P^-1 E'(u).

Functions named *published* use the constants of Marwah, Lipton, Lu and Risteski (arXiv:2210.12101, the version
submitted to ICLR 2023); functions named *standard* use the standard analysis. Four statements of that paper need
correction: for ||u|| <= C ||grad u||, the smallest eigenvalue of -Laplace is 1 / C^2, not 1 / C; grad and
(I - Laplace)^-1 do not commute if values are prescribed on sides; one derivative of a flux of band W costs a factor W,
not W^2; unrolling ||u_(t+1)|| <= C_t ||u_t||^p yields powers p^t, not p t. `corrected_growth` corrects the last two.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from decimal import ROUND_CEILING

import torch
from torch import Tensor

from sciml_bounds.arrays import require_count, require_fraction, require_number
from sciml_bounds.barron._barron_function import BarronFunction, series_of
from sciml_bounds.errors import InputError
from sciml_bounds.reports import describe, summary_table

__all__ = [
    "GradientIteration",
    "NormGrowth",
    "corrected_growth",
    "linear_growth",
    "published_growth",
    "published_iteration",
    "standard_iteration",
]

#: Maximum of x (1 + x) / (1 + x^2), and of (1 + x) / (1 + x^2), over x >= 0; attained at x = sqrt 2 +- 1.
_MAX_WEIGHT = (1 + math.sqrt(2)) / 2


@dataclass(frozen=True, repr=False)
class GradientIteration:
    """Step size and proven contraction factor of the iteration u <- u - step P^-1 E'(u).

    Attributes
    ----------
    step : float
        Step size.
    factor : float
        Each iteration reduces the error, in the norm of the inner product, at least by this factor. For the published
        iteration, its square is the factor of the energy error.
    """

    step: float
    factor: float

    def iterations(self, reduction: float) -> int:
        """Return the number of iterations that reduce the error by a given factor.

        Parameters
        ----------
        reduction : float
            Final error relative to the initial one, between 0 and 1.
        """
        require_fraction(reduction, "reduction")
        return 1 if self.factor == 0 else math.ceil(math.log(reduction) / math.log(self.factor))

    def __repr__(self) -> str:
        rows = {"step": self.step, "contraction (bound)": self.factor}
        return summary_table("GradientIteration", {name: _upwards(number) for name, number in rows.items()})


def standard_iteration(lower: float, upper: float, poincare: float | None = None) -> GradientIteration:
    """Return the iteration with step 2 / (mu + upper), whose contraction factor is (upper - mu) / (upper + mu).

    Parameters
    ----------
    lower, upper : float
        Bounds of the eigenvalues of D^2 L.
    poincare : float, optional
        If None, P = -Laplace (the inner product of gradients) and mu = lower. Otherwise P = I - Laplace, `poincare` is
        the constant C of ||u|| <= C ||grad u||, and mu = lower / (1 + C^2). For u = 0 on the sides of the unit cube,
        C = 1 / (pi sqrt d).

    Raises
    ------
    InputError
        If the bounds are not positive or `upper` is less than `lower`, or the constant is not positive.
    """
    low, high = _checked_bounds(lower, upper)
    if poincare is not None:
        low = low / (1 + require_number(poincare, "poincare", positive=True) ** 2)
    return GradientIteration(2 / (low + high), (high - low) / (high + low))


def published_iteration(lower: float, upper: float, poincare: float) -> GradientIteration:
    """Return the iteration with the constants of arXiv:2210.12101 (Theorem 1 as submitted), P = I - Laplace.

    With l = lower, u = upper and C = poincare, the step is l^3 / ((1 + C) u^3). Each iteration reduces the energy error
    E - E*, which is equivalent to the squared error, by the factor 1 - l^5 / ((1 + C) u^4).

    Parameters
    ----------
    lower, upper : float
        Bounds of the eigenvalues of D^2 L.
    poincare : float
        Constant C of ||u|| <= C ||grad u||.

    Raises
    ------
    InputError
        As for `standard_iteration`, or if the published rate is not positive.
    """
    low, high = _checked_bounds(lower, upper)
    weight = 1 + require_number(poincare, "poincare", positive=True)
    energy = low**5 / (weight * high**4)
    if energy >= 1:
        raise InputError(
            f"the published rate 1 - {energy:.3g} is not positive; it requires lower <= 1 / poincare, so scale the "
            "energy."
        )
    return GradientIteration(low**3 / (weight * high**3), math.sqrt(1 - energy))


def _checked_bounds(lower: float, upper: float) -> tuple[float, float]:
    """Return ellipticity constants as floats; raise unless 0 < lower <= upper."""
    low, high = require_number(lower, "lower", positive=True), require_number(upper, "upper", positive=True)
    if high < low:
        raise InputError(f"upper is {high:.4g}, but lower is {low:.4g}; give lower <= upper.")
    return low, high


# --- growth of norms --------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class NormGrowth:
    """Linear growth bound of norms of iterates: ||u_(t+1)|| <= factor ||u_t|| + constant."""

    factor: float
    constant: float

    def after(self, iterations: int, start: float = 0.0) -> float:
        """Bound the norm after a number of iterations; the bound is infinite if it overflows.

        Parameters
        ----------
        iterations : int
            Number of iterations.
        start : float
            Norm of u_0.
        """
        require_count(iterations, "iterations", 0)
        norm = require_number(start, "start")
        for _ in range(iterations):
            norm = self.factor * norm + self.constant
        return norm


def linear_growth(
    coefficient: BarronFunction | float, source: BarronFunction, step: float, reaction: BarronFunction | float = 0.0
) -> tuple[NormGrowth, NormGrowth]:
    """Bound the norms of the iterates of u <- u - step (I - Laplace)^-1 (-div(a grad u) + c u - f).

    A wave nu of a maps a wave w of u to w + nu, with |w + nu| |w| / (1 + |w + nu|^2) <= 1 + |nu| / 2. The growth factor
    of sum |U| is therefore 1 + step sum |a_nu| (1 + |nu| / 2) + step sum |c_nu|. In the Barron norm, the sum of
    (1 + |w|) |U|, the weight (1 + x) x / (1 + x^2) with x = |w + nu| is at most (1 + sqrt 2) / 2 = 1.2071 for every nu.

    Parameters
    ----------
    coefficient : BarronFunction or float
        Coefficient a.
    source : BarronFunction
        Source f.
    step : float
        Step size of the iteration.
    reaction : BarronFunction or float
        Reaction c. As for `solution_norms`, either all functions are Fourier series, or f is a sine or cosine series
        and a and c are cosine series.

    Returns
    -------
    tuple of two NormGrowth
        Growth of sum |U|, and growth of the Barron norm.

    Raises
    ------
    InputError
        If a function is not a series.
    """
    step = require_number(step, "step", positive=True)
    a, c = (_magnitudes(g, name) for g, name in ((coefficient, "coefficient"), (reaction, "reaction")))
    f = _magnitudes(source, "source")
    rate = float(a[1] @ (1 + a[0] / 2)) + float(c[1].sum())
    loads = (1 / (1 + f[0].square()), (1 + f[0]) / (1 + f[0].square()))
    return (
        NormGrowth(1 + step * rate, step * float(f[1] @ loads[0])),
        NormGrowth(1 + step * _MAX_WEIGHT * float(a[1].sum() + c[1].sum()), step * float(f[1] @ loads[1])),
    )


def _magnitudes(function: BarronFunction | float, name: str) -> tuple[Tensor, Tensor]:
    """Return the sizes |w| of the frequencies of a series, and its magnitudes."""
    if not isinstance(function, BarronFunction):
        number = require_number(function, f"the {name}")
        return torch.zeros(1, dtype=torch.float64), torch.tensor([abs(number)], dtype=torch.float64)
    series = series_of(function, name)
    return series.frequencies.square().sum(-1).sqrt(), series.magnitudes


def published_growth(
    iterations: int, step: float, dimension: int, *, start: float, band: float, widening: int, size: float, power: int
) -> float:
    """Return log10 of the norm bound after T iterations as stated in arXiv:2210.12101 (as submitted).

    The bound is (1 + step d k^2 W^2 B)^(p T + 1) ||u_0||^(p T), where a start norm below 1 counts as 1. Parameters are
    those of `corrected_growth`, which corrects this bound.
    """
    T, k = iterations, widening
    base = math.log10(1 + step * dimension * (k * band) ** 2 * size)
    return (power * T + 1) * base + power * T * math.log10(max(start, 1.0))


def corrected_growth(
    iterations: int, step: float, dimension: int, *, start: float, band: float, widening: int, size: float, power: int
) -> float:
    """Return log10 of the norm bound after T iterations of ||u_(t+1)|| <= (1 + step d W_(t+1) B) ||u_t||^p.

    Parameters
    ----------
    iterations : int
        Number T of iterations.
    step : float
        Step size.
    dimension : int
        Number d of variables.
    start : float
        Norm of u_0; a norm below 1 counts as 1, because the recursion is not valid for norms below 1.
    band : float
        Band limit W_0 of u_0; W_(t+1) = k W_t.
    widening : int
        Factor k: grad L(grad g) has band k W if g has band W.
    size, power : float, int
        Numbers B and p with ||grad L(grad g)|| <= B ||g||^p.
    """
    log, width = math.log10(max(start, 1.0)), band
    for _ in range(iterations):
        width *= widening
        log = power * log + math.log10(1 + step * dimension * width * size)
    return log


def _upwards(number: float) -> str:
    return describe(torch.tensor(number, dtype=torch.float64), rounding=ROUND_CEILING)
