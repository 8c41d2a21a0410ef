"""A-priori bounds of the Barron norms of solutions of -div(a grad u) + c u = f."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from decimal import ROUND_CEILING
from typing import Literal

import torch
from torch import Tensor

from sciml_bounds.arrays import require_number
from sciml_bounds.barron._barron_function import BarronFunction, series_of
from sciml_bounds.barron._series import FourierSeries, ProductSeries, checked_rows
from sciml_bounds.errors import InputError
from sciml_bounds.reports import describe, summary_table

__all__ = ["SolutionNorms", "solution_norms"]

Series = FourierSeries | ProductSeries
#: A scalar, or a matrix given by d rows.
Coefficient = BarronFunction | float | Sequence[Sequence[BarronFunction | float]]

#: A mean of f below this fraction of its norm is round-off.
MEAN_TOL = 1e-12


@dataclass(frozen=True, repr=False)
class SolutionNorms:
    """Bounds of the norms of a solution u with the waves U.

    Attributes
    ----------
    value : float
        Bound of sum |U|, the norm of u.
    gradient : float
        Bound of sum |w| |U|, the norm of grad u.
    variation : float
        Relative variation |a'| / A of the coefficient, where A is its mean and |a'| the sum of the magnitudes of its
        other waves. Without reaction, the bounds exist if it is below 1.
    kind : {"bound", "estimate"}
        "estimate" if one of the functions was constructed from samples without a decay bound.
    """

    value: float
    gradient: float
    variation: float
    kind: Literal["bound", "estimate"]

    @property
    def norm(self) -> float:
        """Bound of the Barron norm of u."""
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
    """Bound the Barron norm of the solution of -div(a grad u) + c u = f, without solving the equation.

    Split a = A + a' and c = C + c' into means and variations, and let M = 1 / (A |w|^2 + C). The Fourier transforms
    satisfy U = M (F + i w . (a' grad u)^ - (c' u)^), so x = sum |w| |U| and y = sum |U| satisfy

        x <= sum |w| M |F| + |a'| / A x + s |c'| y,    y <= sum M |F| + s |a'| x + m |c'| y,

    where s and m bound |w| M and M over the frequencies of u, and |a'| is the sum of the magnitudes of the waves of a'.
    If the matrix of this system has a spectral radius below 1, the fixed-point map contracts, the solution exists in
    this class, and x and y are bounded by the solution of the system with equality. For constant c, this is
    x <= sum |w| M |F| / (1 - |a'| / A). For a matrix coefficient, M = 1 / (w . A w + C), |a'| is the sum of the
    spectral norms of the waves, and elsewhere A is the smallest eigenvalue of the symmetric part of the mean.

    Parameters
    ----------
    coefficient : BarronFunction, float, or d rows of these
        Coefficient a, a scalar or a matrix; with sine or cosine series the matrix must be diagonal.
    source : BarronFunction
        Source f. Without reaction its mean must be zero, and u is the solution of mean zero.
    reaction : BarronFunction or float
        Reaction c. There are three settings: all functions are Fourier series of the same periods (u is periodic);
        f is a sine series (u = 0 on the sides); f is a cosine series (zero normal derivatives). In the latter two, a
        and c are cosine series with the same lengths as f.

    Returns
    -------
    SolutionNorms
        Its kind is "estimate" if one of the functions was sampled without a decay bound.

    Raises
    ------
    InputError
        If the variations are too large for a bound, the functions do not match one of the settings, the mean of a is
        not positive, or f has a nonzero mean and there is no reaction.

    Examples
    --------
    >>> import sciml_bounds as sb
    >>> a = sb.barron.BarronFunction.cosine([[0, 0], [1, 2]], [1.0, 0.5])
    >>> f = sb.barron.BarronFunction.sine([[1, 1]], [1.0])
    >>> norms = sb.barron.solution_norms(a, f)
    >>> round(norms.gradient, 6), norms.variation, norms.kind
    (0.450158, 0.5, 'bound')
    """
    f = series_of(source, "source")
    c = _as_setting(reaction, f, "reaction")
    mean, a_variation = _matrix(coefficient, f)
    A = float(torch.linalg.eigvalsh((mean + mean.T) / 2)[0])
    C, c_variation = _split(c)
    if A <= 0:
        raise InputError(f"the coefficient has mean {A:.4g}; give a coefficient with a positive mean.")
    if C < 0 or (C == 0 and c_variation > 0):
        raise InputError(f"the reaction has mean {C:.4g}; give a reaction with a positive mean, or zero.")
    if C == 0 and abs(f.mean) > MEAN_TOL * float(f.magnitudes.sum()):
        raise InputError(
            f"the source has mean {f.mean:.4g}, but without reaction it must be zero; subtract it, or add a reaction."
        )
    s, m = _largest_multipliers(f, A, C)
    x, y = _transformed(f, mean, C)
    matrix = (a_variation / A, s * c_variation, s * a_variation, m * c_variation)
    gradient, value = _solve_norm_system(matrix, x, y)
    entries = [e for row in coefficient for e in row] if isinstance(coefficient, Sequence) else [coefficient]
    given = [g for g in (*entries, source, reaction) if isinstance(g, BarronFunction)]
    exact = all(g.kind == "bound" and math.inf not in g.band for g in given)
    return SolutionNorms(value, gradient, a_variation / A, "bound" if exact else "estimate")


def _as_setting(function: BarronFunction | float, source: Series, name: str) -> Series | float:
    """Return a coefficient as number or series, and check that it matches the boundary condition of the source."""
    if not isinstance(function, BarronFunction):
        return require_number(function, f"the {name}")
    series = series_of(function, name)
    if isinstance(series, FourierSeries) and isinstance(source, FourierSeries):
        fits = series.periods == source.periods
    elif isinstance(series, ProductSeries) and isinstance(source, ProductSeries):
        fits = series.symmetry == "cosine" and series.lengths == source.lengths
    else:
        fits = False
    if fits:
        return series
    raise InputError(
        f"the {name} and the source belong to different boundary conditions; give Fourier series of the same "
        f"periods, or a cosine series for the {name} and a sine or cosine series of the same lengths for the source."
    )


def _split(function: Series | float) -> tuple[float, float]:
    """Return the mean, and the sum of the magnitudes of all other waves."""
    if isinstance(function, float):
        return function, 0.0
    others = function.magnitudes[(function.modes != 0).any(-1)]
    return function.mean, float(others.sum())


def _largest_multipliers(f: Series, A: float, C: float) -> tuple[float, float]:
    """Bound |w| M and M over the frequencies of u; |w| M is largest at A |w|^2 = C."""
    low = f.lowest_frequency
    top = max(low, math.sqrt(C / A))
    has_no_constant = C == 0 or (isinstance(f, ProductSeries) and f.symmetry == "sine")
    return top / (A * top**2 + C), 1 / (A * low**2 + C if has_no_constant else C)


def _matrix(coefficient: Coefficient, f: Series) -> tuple[Tensor, float]:
    """Return the mean of a coefficient as matrix (d, d), and the sum of the spectral norms of its other waves."""
    dim = f.modes.shape[1]
    if not isinstance(coefficient, Sequence):
        mean, variation = _split(_as_setting(coefficient, f, "coefficient"))
        return mean * torch.eye(dim, dtype=torch.float64), variation
    zero = torch.zeros((dim, dim), dtype=torch.complex128)
    waves = {(0,) * dim: zero.clone()}
    for i, row in enumerate(checked_rows(coefficient, dim)):
        for j, entry in enumerate(row):
            series = _as_setting(entry, f, f"coefficient of row {i} and column {j}")
            if i != j and isinstance(f, ProductSeries) and (not isinstance(series, float) or series != 0):
                raise InputError(
                    f"with sine or cosine series the matrix must be diagonal, but entry ({i}, {j}) is not zero; use "
                    "Fourier series."
                )
            for mode, value in _terms(series, dim):
                waves.setdefault(mode, zero.clone())[i, j] = value
    constant = waves.pop((0,) * dim).real
    return constant, math.fsum(float(torch.linalg.matrix_norm(wave, 2)) for wave in waves.values())


def _terms(function: Series | float, dim: int) -> list[tuple[tuple[int, ...], Tensor]]:
    """Return pairs of modes and coefficients; a number is the coefficient of mode zero."""
    if isinstance(function, float):
        return [((0,) * dim, torch.tensor(function, dtype=torch.float64))]
    return [(tuple(mode), value) for mode, value in zip(function.modes.tolist(), function.coefficients)]


def _transformed(f: Series, mean: Tensor, C: float) -> tuple[float, float]:
    """Return sum |w| M |F| and sum M |F|; without reaction, the mean of f is zero and omitted."""
    w, magnitudes = f.frequencies, f.magnitudes
    if C == 0:
        nonzero = (w != 0).any(-1)
        w, magnitudes = w[nonzero], magnitudes[nonzero]
    weighted = magnitudes / (((w @ mean) * w).sum(-1) + C)
    return float(w.square().sum(-1).sqrt() @ weighted), float(weighted.sum())


def _solve_norm_system(matrix: tuple[float, float, float, float], x: float, y: float) -> tuple[float, float]:
    """Solve (I - N) (gradient, value) = (x, y) for N >= 0; raise unless the spectral radius of N is below 1."""
    xx, xy, yx, yy = matrix
    determinant = (1 - xx) * (1 - yy) - xy * yx
    if xx >= 1:
        raise InputError(
            f"the coefficient varies by {xx:.4g} of its mean (the sum of the magnitudes of its terms), but a bound "
            f"exists only below 1; give a coefficient that varies less."
        )
    if determinant <= 0:
        raise InputError(
            "coefficient and reaction together vary too much for a bound (the fixed-point map does not contract); "
            "give functions that vary less."
        )
    return ((1 - yy) * x + xy * y) / determinant, (yx * x + (1 - xx) * y) / determinant


def _upwards(number: float) -> str:
    return describe(torch.tensor(number, dtype=torch.float64), rounding=ROUND_CEILING)
