"""How fast preconditioned gradient iterations contract, and how fast Barron norms of their iterates can grow.

For an energy E(u) = int L(grad u) - f u with lower <= D^2 L <= upper, in a subspace of H^1_0 (all of it, finite
elements, a sine series) whose inner product has the Riesz map P^-1, the iteration is u <- u - step P^-1 E'(u).

The analysis of Marwah, Lipton, Lu and Risteski (arXiv:2210.12101, the version submitted to ICLR 2023) is here under the
name *published*, with their constants, beside the *standard* one. Four places of that text do not hold as they stand:
the smallest eigenvalue of -Laplace is 1 / C^2 and not 1 / C for ||u|| <= C ||grad u||; grad and (I - Laplace)^-1 do not
commute with values on sides; one derivative of a flux of band W costs W and not W^2; and unrolling
||u_(t+1)|| <= C_t ||u_t||^p gives powers p^t and not p t. `corrected_growth` is what the last two become.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from decimal import ROUND_CEILING

import torch
from torch import Tensor

from sciml_bounds.arrays import require_count, require_number
from sciml_bounds.barron._barron_function import BarronFunction
from sciml_bounds.barron._series import FourierSeries, ProductSeries
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

#: The largest x (1 + x) / (1 + x^2) and (1 + x) / (1 + x^2) for x >= 0, at x = sqrt 2 +- 1.
_WEIGHTED = (1 + math.sqrt(2)) / 2


@dataclass(frozen=True, repr=False)
class GradientIteration:
    """u <- u - step P^-1 E'(u), with what is proven of it.

    Attributes
    ----------
    step
        The step.
    factor
        Errors in the norm of the inner product fall at least by it, each time. For the published iteration those of the
        energy fall by its square.
    """

    step: float
    factor: float

    def iterations(self, reduction: float) -> int:
        """Return how many iterations make an error smaller by `reduction`, a number between 0 and 1."""
        if not 0 < require_number(reduction, "reduction") < 1:
            raise InputError(f"reduction is {reduction}; give a number between 0 and 1, such as 1e-6.")
        return 1 if self.factor == 0 else math.ceil(math.log(reduction) / math.log(self.factor))

    def __repr__(self) -> str:
        rows = {"step": self.step, "contraction (bound)": self.factor}
        return summary_table("GradientIteration", {name: _upwards(number) for name, number in rows.items()})


def standard_iteration(lower: float, upper: float, poincare: float | None = None) -> GradientIteration:
    """Return the iteration with step 2 / (mu + upper), which contracts by (upper - mu) / (upper + mu).

    Parameters
    ----------
    lower, upper
        Bounds of the eigenvalues of D^2 L.
    poincare
        None for the inner product of gradients, P = -Laplace, in which mu = lower. For P = I - Laplace the constant C
        of ||u|| <= C ||grad u||, and mu = lower / (1 + C^2); 1 / (pi sqrt d) on the unit cube with u = 0 on its sides.

    Raises
    ------
    InputError
        If the bounds are not positive and in order, or the constant is not positive.
    """
    low, high = _ordered(lower, upper)
    if poincare is not None:
        low = low / (1 + require_number(poincare, "poincare", positive=True) ** 2)
    return GradientIteration(2 / (low + high), (high - low) / (high + low))


def published_iteration(lower: float, upper: float, poincare: float) -> GradientIteration:
    """Return the iteration with the constants of arXiv:2210.12101 (Theorem 1 as submitted), P = I - Laplace.

    Step l^3 / ((1 + C) u^3); energies E - E*, which are equivalent to squares of errors, fall by 1 - l^5 / ((1 + C)
    u^4).

    Raises
    ------
    InputError
        As for `standard_iteration`.
    """
    low, high = _ordered(lower, upper)
    weight = 1 + require_number(poincare, "poincare", positive=True)
    energy = low**5 / (weight * high**4)
    if energy >= 1:
        raise InputError(
            f"the published rate is 1 - {energy:.3g}; it supposes lower <= 1 / poincare, so scale the energy."
        )
    return GradientIteration(low**3 / (weight * high**3), math.sqrt(1 - energy))


def _ordered(lower: float, upper: float) -> tuple[float, float]:
    low, high = require_number(lower, "lower", positive=True), require_number(upper, "upper", positive=True)
    if high < low:
        raise InputError(f"upper is {high:.4g} and lower {low:.4g}; give them in order.")
    return low, high


# --- growth of norms --------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class NormGrowth:
    """||u_(t+1)|| <= factor ||u_t|| + constant."""

    factor: float
    constant: float

    def after(self, iterations: int, start: float = 0.0) -> float:
        """Bound the norm after some iterations from one of a given norm; infinite beyond the range of floats."""
        require_count(iterations, "iterations", 0)
        norm = require_number(start, "start")
        for _ in range(iterations):
            norm = self.factor * norm + self.constant
        return norm


def linear_growth(
    coefficient: BarronFunction | float, source: BarronFunction, step: float, reaction: BarronFunction | float = 0.0
) -> tuple[NormGrowth, NormGrowth]:
    """Bound the norms of the iterates of u <- u - step (I - Laplace)^-1 (-div(a grad u) + c u - f).

    A wave nu of a takes a wave w of u to w + nu, with |w + nu| |w| / (1 + |w + nu|^2) <= 1 + |nu| / 2. In sums of
    magnitudes |U| the factor is therefore 1 + step sum |a_nu| (1 + |nu| / 2) + step sum |c_nu|. In the Barron norm, the
    sum of (1 + |w|) |U|, the weight (1 + x) x / (1 + x^2) is at most (1 + sqrt 2) / 2 = 1.2071 for x = |w + nu|,
    whatever nu.

    Parameters
    ----------
    coefficient, source, reaction
        a, f and c as for `solution_norms`: all Fourier series, or a sine or cosine series f and cosine series a and c.
    step
        Of the iteration.

    Returns
    -------
    tuple
        The growth of sum |U|, and that of the Barron norm.

    Raises
    ------
    InputError
        If a function is no series.
    """
    step = require_number(step, "step", positive=True)
    a, c = (_magnitudes(g, name) for g, name in ((coefficient, "coefficient"), (reaction, "reaction")))
    f = _magnitudes(source, "source")
    moved = float(a[1] @ (1 + a[0] / 2)) + float(c[1].sum())
    loads = (1 / (1 + f[0].square()), (1 + f[0]) / (1 + f[0].square()))
    return (
        NormGrowth(1 + step * moved, step * float(f[1] @ loads[0])),
        NormGrowth(1 + step * _WEIGHTED * float(a[1].sum() + c[1].sum()), step * float(f[1] @ loads[1])),
    )


def _magnitudes(function: BarronFunction | float, name: str) -> tuple[Tensor, Tensor]:
    """Sizes |w| of the frequencies of a series, and its magnitudes."""
    if not isinstance(function, BarronFunction):
        number = require_number(function, f"the {name}")
        return torch.zeros(1, dtype=torch.float64), torch.tensor([abs(number)], dtype=torch.float64)
    series = function.value
    if not isinstance(series, FourierSeries | ProductSeries):
        raise InputError(f"The {name} is not known as a series; make it by fourier, sine, cosine or sampled.")
    return series.frequencies.square().sum(-1).sqrt(), series.magnitudes


def published_growth(
    iterations: int, step: float, dimension: int, *, start: float, band: float, widening: int, size: float, power: int
) -> float:
    """Return log10 of the norm after T iterations as arXiv:2210.12101 states it (as submitted): see `corrected_growth`.

    (1 + step d k^2 W^2 B)^(p T + 1) ||u_0||^(p T). A start of norm below 1 is counted as 1.
    """
    T, k = iterations, widening
    base = math.log10(1 + step * dimension * (k * band) ** 2 * size)
    return (power * T + 1) * base + power * T * math.log10(max(start, 1.0))


def corrected_growth(
    iterations: int, step: float, dimension: int, *, start: float, band: float, widening: int, size: float, power: int
) -> float:
    """Return log10 of a bound of the norm after T iterations, ||u_(t+1)|| <= (1 + step d W_(t+1) B) ||u_t||^p unrolled.

    Parameters
    ----------
    iterations, step, dimension
        T, the step, and d.
    start
        Norm of u_0; counted as 1 if it is smaller, since the powers of smaller norms are larger than what is added.
    band
        W_0, the band limit of u_0; W_(t+1) = k W_t.
    widening, size, power
        k, B and p, for which ||grad L(grad g)|| <= B ||g||^p with a band of k W for a g of band W.
    """
    log, width = math.log10(max(start, 1.0)), band
    for _ in range(iterations):
        width *= widening
        log = power * log + math.log10(1 + step * dimension * width * size)
    return log


def _upwards(number: float) -> str:
    return describe(torch.tensor(number, dtype=torch.float64), rounding=ROUND_CEILING)
