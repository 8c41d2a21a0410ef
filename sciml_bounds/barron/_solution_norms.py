"""Barron norms of solutions of -div(a grad u) + c u = f, known before the equation is solved."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from decimal import ROUND_CEILING
from typing import Literal

import torch
from torch import Tensor

from sciml_bounds.arrays import require_number
from sciml_bounds.barron._barron_function import BarronFunction
from sciml_bounds.barron._series import FourierSeries, ProductSeries, checked_rows
from sciml_bounds.errors import InputError
from sciml_bounds.reports import describe, summary_table

__all__ = ["SolutionNorms", "solution_norms"]

Series = FourierSeries | ProductSeries
#: A scalar, or a matrix of d rows.
Coefficient = BarronFunction | float | Sequence[Sequence[BarronFunction | float]]

#: A mean of f below this part of its norm is round-off.
MEAN_FREE = 1e-12


@dataclass(frozen=True, repr=False)
class SolutionNorms:
    """Bounds of the norms of a solution; |F| is the sum of the magnitudes of its waves.

    Attributes
    ----------
    value
        Bound of |U|, for u.
    gradient
        Bound of the sum of |w| |U|, for its gradient.
    variation
        |A'| / mean of a, the part of the coefficient that varies; the bounds exist below 1 (without reaction).
    kind
        "bound", or "estimate" where samples stood for a function.
    """

    value: float
    gradient: float
    variation: float
    kind: Literal["bound", "estimate"]

    @property
    def norm(self) -> float:
        """The bound of the Barron norm of u."""
        return self.value + self.gradient

    def __repr__(self) -> str:
        numbers = {
            f"Barron norm ({self.kind})": self.norm,
            "of the value": self.value,
            "of the gradient": self.gradient,
        }
        rows = {name: _upwards(number) for name, number in {**numbers, "variation of a": self.variation}.items()}
        return summary_table("SolutionNorms", rows)


def solution_norms(
    coefficient: Coefficient, source: BarronFunction, reaction: BarronFunction | float = 0.0
) -> SolutionNorms:
    """Bound the Barron norm of the solution of -div(a grad u) + c u = f, without solving it.

    With a = A + a', c = C + c' split into means and variations and M = 1 / (A |w|^2 + C), the equation says
    U = M (F + i w . (a' grad u)^ - (c' u)^) for the transforms, so that x = sum |w| |U| and y = sum |U| obey

        x <= sum |w| M |F| + |a'| / A x + s |c'| y,    y <= sum M |F| + s |a'| x + m |c'| y,

    where s and m bound |w| M and M over the frequencies that can occur, and |a'| is the sum of the magnitudes of its
    waves. If the matrix of this system has a spectral radius below 1, the map contracts, the solution exists in this
    class, and x and y are bounded by the solution of the system with equality. For constant c it reads
    x <= sum |w| M |F| / (1 - |a'| / A). With a matrix, M = 1 / (w . A w + C), |a'| is the sum of the spectral norms of
    its waves, and A in all other places the smallest eigenvalue of the symmetric part of its mean.

    Parameters
    ----------
    coefficient, source, reaction
        a, f and c as series, or numbers for a and c. Either Fourier series of the same periods (u is periodic), or a
        and c cosine series and f a sine series (u = 0 on the sides) or cosine series (zero normal derivatives) of the
        same sides. Without reaction the mean of f is zero, and u is the solution of mean zero. a may also be a matrix,
        given as d rows; for sine and cosine series a diagonal one.

    Returns
    -------
    SolutionNorms
        With the word *estimate* if one of the functions was sampled.

    Raises
    ------
    InputError
        If the variations are too large for a bound, the functions do not belong to one of these settings, the mean of
        a is not positive, or f has a mean that nothing balances.

    Examples
    --------
    >>> import sciml_bounds as sb
    >>> a = sb.barron.BarronFunction.cosine([[0, 0], [1, 2]], [1.0, 0.5])
    >>> f = sb.barron.BarronFunction.sine([[1, 1]], [1.0])
    >>> norms = sb.barron.solution_norms(a, f)
    >>> round(norms.gradient, 6), norms.variation, norms.kind
    (0.450158, 0.5, 'bound')
    """
    f = _as_series(source, "source")
    c = _as_setting(reaction, f, "reaction")
    mean, a_varies = _matrix(coefficient, f)
    A = float(torch.linalg.eigvalsh((mean + mean.T) / 2)[0])
    C, c_varies = _split(c)
    if A <= 0:
        raise InputError(f"The coefficient has mean {A:.4g}; give one with a positive mean.")
    if C < 0 or (C == 0 and c_varies > 0):
        raise InputError(f"The reaction has mean {C:.4g} and varies; its mean must be positive, or the reaction zero.")
    if C == 0 and abs(f.mean) > MEAN_FREE * float(f.magnitudes.sum()):
        raise InputError(f"The source has mean {f.mean:.4g} and nothing balances it; subtract it, or add a reaction.")
    s, m = _largest_multipliers(f, A, C)
    x, y = _transformed(f, mean, C)
    matrix = (a_varies / A, s * c_varies, s * a_varies, m * c_varies)
    gradient, value = _solved(matrix, x, y)
    entries = [e for row in coefficient for e in row] if isinstance(coefficient, Sequence) else [coefficient]
    given = [g for g in (*entries, source, reaction) if isinstance(g, BarronFunction)]
    exact = all(g.kind == "bound" and math.inf not in g.band for g in given)
    return SolutionNorms(value, gradient, a_varies / A, "bound" if exact else "estimate")


def _as_series(function: BarronFunction, name: str) -> Series:
    if not isinstance(function, BarronFunction) or not isinstance(function.value, FourierSeries | ProductSeries):
        raise InputError(f"The {name} is not known as a series; make it by fourier, sine, cosine or sampled.")
    return function.value


def _as_setting(function: BarronFunction | float, source: Series, name: str) -> Series | float:
    """Return a coefficient if its series and the one of the source belong to one boundary condition."""
    if not isinstance(function, BarronFunction):
        return require_number(function, f"the {name}")
    series = _as_series(function, name)
    if isinstance(series, FourierSeries) and isinstance(source, FourierSeries):
        fits = series.periods == source.periods
    elif isinstance(series, ProductSeries) and isinstance(source, ProductSeries):
        fits = series.symmetry == "cosine" and series.lengths == source.lengths
    else:
        fits = False
    if fits:
        return series
    raise InputError(
        f"The {name} and the source belong to different conditions on the sides; give Fourier series of the same "
        f"periods, or a cosine series for the {name} and a sine or cosine series of the same sides for the source."
    )


def _split(function: Series | float) -> tuple[float, float]:
    """Return the mean, and the sum of the magnitudes of all other waves."""
    if isinstance(function, float):
        return function, 0.0
    varies = function.magnitudes[(function.modes != 0).any(-1)]
    return function.mean, float(varies.sum())


def _largest_multipliers(f: Series, A: float, C: float) -> tuple[float, float]:
    """Bound |w| M and M over the frequencies of u; |w| M grows until A |w|^2 = C and falls from there on."""
    low = f.lowest_frequency
    top = max(low, math.sqrt(C / A))
    always_moving = C == 0 or (isinstance(f, ProductSeries) and f.symmetry == "sine")
    return top / (A * top**2 + C), 1 / (A * low**2 + C if always_moving else C)


def _matrix(coefficient: Coefficient, f: Series) -> tuple[Tensor, float]:
    """Return the mean of a coefficient (d, d), and the sum of the spectral norms of all its other waves."""
    dim = f.modes.shape[1]
    if not isinstance(coefficient, Sequence):
        mean, varies = _split(_as_setting(coefficient, f, "coefficient"))
        return mean * torch.eye(dim, dtype=torch.float64), varies
    zero = torch.zeros((dim, dim), dtype=torch.complex128)
    waves = {(0,) * dim: zero.clone()}
    for i, row in enumerate(checked_rows(coefficient, dim)):
        for j, entry in enumerate(row):
            series = _as_setting(entry, f, f"coefficient of row {i} and column {j}")
            if i != j and isinstance(f, ProductSeries) and (not isinstance(series, float) or series != 0):
                raise InputError("With sine or cosine series the matrix is diagonal; use Fourier series for others.")
            for mode, value in _terms(series, dim):
                waves.setdefault(mode, zero.clone())[i, j] = value
    constant = waves.pop((0,) * dim).real
    return constant, math.fsum(float(torch.linalg.matrix_norm(wave, 2)) for wave in waves.values())


def _terms(function: Series | float, dim: int) -> list[tuple[tuple[int, ...], Tensor]]:
    if isinstance(function, float):
        return [((0,) * dim, torch.tensor(function, dtype=torch.float64))]
    return [(tuple(mode), value) for mode, value in zip(function.modes.tolist(), function.coefficients)]


def _transformed(f: Series, mean: Tensor, C: float) -> tuple[float, float]:
    """Return sum |w| M |F| and sum M |F|; where there is no reaction, the mean of f is zero and left out."""
    w, magnitudes = f.frequencies, f.magnitudes
    if C == 0:
        moving = (w != 0).any(-1)
        w, magnitudes = w[moving], magnitudes[moving]
    weighted = magnitudes / (((w @ mean) * w).sum(-1) + C)
    return float(w.square().sum(-1).sqrt() @ weighted), float(weighted.sum())


def _solved(matrix: tuple[float, float, float, float], x: float, y: float) -> tuple[float, float]:
    """Solve (I - N) (gradient, value) = (x, y), N >= 0; a spectral radius below 1 makes the inverse non-negative."""
    xx, xy, yx, yy = matrix
    determinant = (1 - xx) * (1 - yy) - xy * yx
    if xx >= 1:
        raise InputError(
            f"The coefficient varies by {xx:.4g} of its mean (the sum of the magnitudes of its waves), and a bound "
            f"exists below 1 only; give one that varies less."
        )
    if determinant <= 0:
        raise InputError(
            "Coefficient and reaction vary too much together for a bound (the fixed-point map does not contract); "
            "give ones that vary less."
        )
    return ((1 - yy) * x + xy * y) / determinant, (yx * x + (1 - xx) * y) / determinant


def _upwards(number: float) -> str:
    return describe(torch.tensor(number, dtype=torch.float64), rounding=ROUND_CEILING)
