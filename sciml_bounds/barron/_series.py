"""Sparse trigonometric series in any dimension, with their values, products and moments.

Legend: m terms, d dimensions; modes (m, d) are integers, frequencies (m, d) angular; points are (..., d).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any, Literal

import numpy as np
import torch
from torch import Tensor

from sciml_bounds.arrays import convert, require_finite, to_tensor
from sciml_bounds.errors import InputError
from sciml_bounds.grid import axis_numbers

__all__ = ["FourierSeries", "ProductSeries", "Sides", "Symmetry"]

#: Products of cosines or sines are written out as waves up to this many; each has one for every choice of signs.
MOST_WAVES = 2**16

#: One length for each axis, or one number for all.
Sides = float | Sequence[float]

Symmetry = Literal["cosine", "sine"]


class FourierSeries:
    """sum_j c_j exp(i w_j . x) with w_j = 2 pi k_j / period: a real function, whose waves come in conjugate pairs.

    Parameters
    ----------
    modes
        k, integers of shape (m, d); both signs of each mode are there, and none twice.
    coefficients
        c, complex of shape (m,).
    periods
        One for each axis.
    """

    def __init__(self, modes: Tensor, coefficients: Tensor, periods: tuple[float, ...]) -> None:
        self.modes, self.coefficients, self.periods = modes, coefficients, periods
        self.frequencies = modes * (2 * math.pi / torch.tensor(periods, dtype=torch.float64))

    @classmethod
    def real_part(cls, modes: Any, coefficients: Any, periods: Sides) -> FourierSeries:
        """Return sum_j Re(c_j exp(i w_j . x)) for any set of modes, repeated ones added up.

        Raises
        ------
        InputError
            If modes are not integers, or shapes or numbers do not fit.
        """
        modes = checked_modes(modes)
        coefficients = checked_coefficients(coefficients, len(modes)).to(torch.complex128)
        sides = checked_lengths(periods, modes.shape[1], "periods")
        both = torch.cat([coefficients, coefficients.conj()]) / 2
        return cls(*added_up(torch.cat([modes, -modes]), both), sides)

    def constant(self, number: float) -> FourierSeries:
        """Return a constant function as a series of the same periods."""
        modes = torch.zeros((1, len(self.periods)), dtype=torch.int64)
        return FourierSeries(modes, torch.tensor([number], dtype=torch.complex128), self.periods)

    def scaled(self, number: float) -> FourierSeries:
        """Multiply by a number."""
        return FourierSeries(self.modes, number * self.coefficients, self.periods)

    @property
    def magnitudes(self) -> Tensor:
        """|c|, shape (m,)."""
        return self.coefficients.abs()

    @property
    def mean(self) -> float:
        """The mean over a period."""
        return float(self.coefficients[(self.modes == 0).all(-1)].real.sum())

    @property
    def lowest_frequency(self) -> float:
        """The smallest |w| but zero of all functions with these periods."""
        return 2 * math.pi / max(self.periods)

    def cosines(self) -> tuple[Tensor, Tensor, Tensor]:
        """Return w (m, d), h (m,) and a (m,) with sum_j a_j cos(w_j . x + h_j) = this function less its mean, a > 0."""
        first = (self.modes != 0).to(torch.int64).argmax(-1, keepdim=True)
        upper = self.modes.gather(1, first)[:, 0] > 0  # one of each conjugate pair
        c = self.coefficients[upper]
        return self.frequencies[upper], c.angle(), 2 * c.abs()

    def __call__(self, x: Tensor) -> Tensor:
        """Evaluate at points (..., d)."""
        phase = x @ self.frequencies.T.to(x)
        return phase.cos() @ self.coefficients.real.to(x) - phase.sin() @ self.coefficients.imag.to(x)

    def __add__(self, other: FourierSeries) -> FourierSeries:
        modes = torch.cat([self.modes, other.modes])
        return FourierSeries(*added_up(modes, torch.cat([self.coefficients, other.coefficients])), self.periods)

    def __mul__(self, other: FourierSeries) -> FourierSeries:
        modes = (self.modes[:, None] + other.modes).flatten(0, 1)
        coefficients = torch.outer(self.coefficients, other.coefficients).flatten()
        return FourierSeries(*added_up(modes, coefficients), self.periods)

    def derivative(self, axis: int) -> FourierSeries:
        """Differentiate along one axis."""
        return FourierSeries(self.modes, 1j * self.frequencies[:, axis] * self.coefficients, self.periods)

    def resolvent(self) -> FourierSeries:
        """Return the periodic solution u of u - Laplace u = this function."""
        return FourierSeries(self.modes, self.coefficients / (1 + self.frequencies.square().sum(-1)), self.periods)


class ProductSeries:
    """sum_j c_j prod_i cos(pi k_ji x_i / l_i), or the same with sines, on the box of sides l.

    A term is 2^s waves of equal |w| and equal |c|, where s counts the axes with k not zero, and different terms share
    none: so norms cost nothing in any dimension, although the waves could not be written down.

    Parameters
    ----------
    modes
        k, integers of shape (m, d), at least 0 for cosines and 1 for sines; repeated ones are added up.
    coefficients
        c, shape (m,).
    lengths
        l, one for each axis or one for all.
    symmetry
        "cosine" (zero normal derivatives) or "sine" (zero on the sides).

    Raises
    ------
    InputError
        If a mode is too small or no integer, or shapes or numbers do not fit.
    """

    def __init__(self, modes: Any, coefficients: Any, lengths: Sides, symmetry: Symmetry) -> None:
        modes, least = checked_modes(modes), 1 if symmetry == "sine" else 0
        if int(modes.min()) < least:
            raise InputError(f"modes has {int(modes.min())}, and those of a {symmetry} series are at least {least}.")
        real = to_tensor(coefficients, "coefficients")
        self.modes, self.coefficients = added_up(modes, checked_coefficients(real, len(modes)))
        self.lengths = checked_lengths(lengths, modes.shape[1], "lengths")
        self.symmetry: Symmetry = symmetry
        self.frequencies = self.modes * (math.pi / torch.tensor(self.lengths, dtype=torch.float64))

    def constant(self, number: float) -> ProductSeries:
        """Return a constant function as a series of cosines on the same box; there is none of sines."""
        modes = torch.zeros((1, len(self.lengths)), dtype=torch.int64)
        return ProductSeries(modes, [number], self.lengths, "cosine")

    def scaled(self, number: float) -> ProductSeries:
        """Multiply by a number."""
        return ProductSeries(self.modes, number * self.coefficients, self.lengths, self.symmetry)

    @property
    def magnitudes(self) -> Tensor:
        """|c|, the sum of the magnitudes of the waves of each term, shape (m,)."""
        return self.coefficients.abs()

    @property
    def mean(self) -> float:
        """The mean over the doubled box, on which the function is continued by reflection."""
        return float(self.coefficients[(self.modes == 0).all(-1)].sum())

    @property
    def lowest_frequency(self) -> float:
        """The smallest |w| but zero of all functions of this symmetry on the box."""
        steps = [math.pi / length for length in self.lengths]
        return math.hypot(*steps) if self.symmetry == "sine" else min(steps)

    def __call__(self, x: Tensor) -> Tensor:
        """Evaluate at points (..., d)."""
        angles = x[..., None, :] * self.frequencies.to(x)
        factors = angles.sin() if self.symmetry == "sine" else angles.cos()
        return factors.prod(-1) @ self.coefficients.to(x)

    def fits(self, other: ProductSeries) -> bool:
        """Whether the sum with another one is one again."""
        return (self.lengths, self.symmetry) == (other.lengths, other.symmetry)

    def __add__(self, other: ProductSeries) -> ProductSeries:
        modes = torch.cat([self.modes, other.modes])
        return ProductSeries(modes, torch.cat([self.coefficients, other.coefficients]), self.lengths, self.symmetry)

    def resolvent(self) -> ProductSeries:
        """Return the solution u of u - Laplace u = this function, with the conditions on the sides that it meets."""
        coefficients = self.coefficients / (1 + self.frequencies.square().sum(-1))
        return ProductSeries(self.modes, coefficients, self.lengths, self.symmetry)

    def waves(self) -> FourierSeries:
        """Write the products out as waves, whose periods are twice the sides.

        Raises
        ------
        InputError
            If they are more than 65,536.
        """
        moving = self.modes != 0
        if int((2.0 ** moving.sum(-1)).sum()) > MOST_WAVES:
            raise InputError(
                f"This series has more than {MOST_WAVES} waves; take what its products give by themselves."
            )
        modes, coefficients = self.modes, self.coefficients.to(torch.complex128)
        for axis in range(modes.shape[1]):
            modes, coefficients = self._split(modes, coefficients, axis)
        return FourierSeries(*added_up(modes, coefficients), tuple(2 * length for length in self.lengths))

    def _split(self, modes: Tensor, coefficients: Tensor, axis: int) -> tuple[Tensor, Tensor]:
        """Write the factor of one axis as two waves: cos t = (e^it + e^-it) / 2, sin t = (e^it - e^-it) / 2i."""
        moving = modes[:, axis] != 0
        mirrored = modes[moving].clone()
        mirrored[:, axis] *= -1
        halves = coefficients[moving] / (2j if self.symmetry == "sine" else 2)
        opposite = -halves if self.symmetry == "sine" else halves
        modes = torch.cat([modes[~moving], modes[moving], mirrored])
        return modes, torch.cat([coefficients[~moving], halves, opposite])


def added_up(modes: Tensor, coefficients: Tensor) -> tuple[Tensor, Tensor]:
    """Add the coefficients of equal modes."""
    unique, place = torch.unique(modes, dim=0, return_inverse=True)
    return unique, coefficients.new_zeros(len(unique)).index_add_(0, place, coefficients)


def checked_modes(modes: Any) -> Tensor:
    """Return modes as integers (m, d)."""
    try:
        given = torch.as_tensor(modes)
    except (TypeError, ValueError, RuntimeError):
        kind = type(modes).__name__
        raise InputError(f"modes ({kind}) cannot be read; give one row of d integers for each term.") from None
    if given.ndim != 2 or given.numel() == 0:
        raise InputError(f"modes has shape {tuple(given.shape)}; give one row of d integers for each term.")
    if given.is_complex() or given.is_floating_point() or given.dtype == torch.bool:
        raise InputError(f"modes has dtype {str(given.dtype).removeprefix('torch.')}; give integers.")
    return given.to("cpu", torch.int64)


def checked_coefficients(coefficients: Any, terms: int) -> Tensor:
    """Return coefficients (m,) in double precision, real or complex."""
    try:  # numpy reads lists in double precision, and torch in single
        given = coefficients if isinstance(coefficients, Tensor) else torch.as_tensor(np.asarray(coefficients))
    except (TypeError, ValueError):
        kind = type(coefficients).__name__
        raise InputError(f"coefficients ({kind}) cannot be read; give one number for each term.") from None
    given = given.cpu()
    given = given.to(torch.complex128 if given.is_complex() else torch.float64)
    if given.shape != (terms,):
        raise InputError(f"coefficients has shape {tuple(given.shape)}; the {terms} modes need ({terms},).")
    if not bool(torch.isfinite(given).all()):
        raise InputError("coefficients holds NaN or infinity; give finite numbers.")
    return given


def checked_lengths(lengths: Sides, dim: int, name: str) -> tuple[float, ...]:
    """Return one positive length for each axis."""
    given = axis_numbers(lengths, dim, name)
    if min(given) <= 0:
        raise InputError(f"{name} has {min(given)}; every side must be positive.")
    return given


def checked_vector(entries: Any, name: str) -> Tensor:
    """Return a vector with one finite number for each axis."""
    vector = convert(entries, name, torch.float64, torch.device("cpu"))
    if vector.ndim != 1 or len(vector) == 0:
        raise InputError(f"{name} has shape {tuple(vector.shape)}; give a vector with one entry for each axis.")
    require_finite(vector, name)
    return vector


def checked_rows(matrix: Any, dim: int) -> list[list[Any]]:
    """Return the d rows of a matrix of functions and numbers."""
    try:
        rows = [list(row) for row in matrix]
    except TypeError:
        kind = type(matrix).__name__
        raise InputError(f"coefficient is a {kind}; give a number, a BarronFunction, or {dim} rows of them.") from None
    if [len(row) for row in rows] != [dim] * dim:
        raise InputError(f"coefficient is not {dim} by {dim}; give a row for each axis.")
    return rows
