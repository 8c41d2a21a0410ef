"""Sparse trigonometric series in any dimension.

Legend: m terms, d dimensions; modes (m, d) are integers, frequencies (m, d) are angular; points have shape (..., d).
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

#: Maximum number of waves into which products of cosines or sines are expanded; a product has one per choice of signs.
MAX_WAVES = 2**16

#: One length per axis, or one number for all axes.
Sides = float | Sequence[float]

Symmetry = Literal["cosine", "sine"]


class FourierSeries:
    """Real function sum_j c_j exp(i w_j . x) with w_j = 2 pi k_j / period, whose waves form conjugate pairs.

    Parameters
    ----------
    modes : Tensor of int, shape (m, d)
        Distinct modes k, with -k for each k.
    coefficients : complex Tensor, shape (m,)
        Coefficients c.
    periods : tuple of float
        One period per axis.
    """

    def __init__(self, modes: Tensor, coefficients: Tensor, periods: tuple[float, ...]) -> None:
        self.modes, self.coefficients, self.periods = modes, coefficients, periods
        self.frequencies = modes * (2 * math.pi / torch.tensor(periods, dtype=torch.float64))

    @classmethod
    def real_part(cls, modes: Any, coefficients: Any, periods: Sides) -> FourierSeries:
        """Return sum_j Re(c_j exp(i w_j . x)) for any modes; coefficients of repeated modes are added.

        Raises
        ------
        InputError
            If modes are not integers, or shapes or numbers do not fit.
        """
        modes = checked_modes(modes)
        coefficients = checked_coefficients(coefficients, len(modes)).to(torch.complex128)
        sides = checked_lengths(periods, modes.shape[1], "periods")
        both = torch.cat([coefficients, coefficients.conj()]) / 2
        return cls(*sum_equal_modes(torch.cat([modes, -modes]), both), sides)

    def constant(self, number: float) -> FourierSeries:
        """Return a constant function as a series with the same periods."""
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
        """Mean over a period."""
        return float(self.coefficients[(self.modes == 0).all(-1)].real.sum())

    @property
    def lowest_frequency(self) -> float:
        """Smallest nonzero |w| of functions with these periods."""
        return 2 * math.pi / max(self.periods)

    def cosines(self) -> tuple[Tensor, Tensor, Tensor]:
        """Return w (m, d), h (m,) and a (m,) > 0, where sum_j a_j cos(w_j . x + h_j) is this series minus its mean."""
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
        return FourierSeries(*sum_equal_modes(modes, torch.cat([self.coefficients, other.coefficients])), self.periods)

    def __mul__(self, other: FourierSeries) -> FourierSeries:
        modes = (self.modes[:, None] + other.modes).flatten(0, 1)
        coefficients = torch.outer(self.coefficients, other.coefficients).flatten()
        return FourierSeries(*sum_equal_modes(modes, coefficients), self.periods)

    def derivative(self, axis: int) -> FourierSeries:
        """Differentiate along one axis."""
        return FourierSeries(self.modes, 1j * self.frequencies[:, axis] * self.coefficients, self.periods)

    def resolvent(self) -> FourierSeries:
        """Return the periodic solution u of u - Laplace u = f, where f is this series."""
        return FourierSeries(self.modes, self.coefficients / (1 + self.frequencies.square().sum(-1)), self.periods)


class ProductSeries:
    """Product series sum_j c_j prod_i cos(pi k_ji x_i / l_i), or the same with sines, on a box with side lengths l.

    A term consists of 2^s waves with equal |w| and equal |c|, where s is the number of axes with k_ji != 0, and
    different terms share no waves. Norms are therefore cheap in any dimension, without expanding the waves.

    Parameters
    ----------
    modes : array of int, shape (m, d)
        Modes k, at least 0 for cosines and 1 for sines; coefficients of repeated modes are added.
    coefficients : array, shape (m,)
        Coefficients c.
    lengths : float or sequence of d floats
        Side lengths l, one per axis or one for all axes.
    symmetry : {"cosine", "sine"}
        "cosine" (zero normal derivatives) or "sine" (zero on the sides).

    Raises
    ------
    InputError
        If a mode is too small or not an integer, or shapes or numbers do not fit.
    """

    def __init__(self, modes: Any, coefficients: Any, lengths: Sides, symmetry: Symmetry) -> None:
        modes, least = checked_modes(modes), 1 if symmetry == "sine" else 0
        if int(modes.min()) < least:
            raise InputError(
                f"modes contains {int(modes.min())}, but the modes of a {symmetry} series must be at least {least}."
            )
        real = to_tensor(coefficients, "coefficients")
        self.modes, self.coefficients = sum_equal_modes(modes, checked_coefficients(real, len(modes)))
        self.lengths = checked_lengths(lengths, modes.shape[1], "lengths")
        self.symmetry: Symmetry = symmetry
        self.frequencies = self.modes * (math.pi / torch.tensor(self.lengths, dtype=torch.float64))

    def constant(self, number: float) -> ProductSeries:
        """Return a constant function as a cosine series on the same box, also for sine series."""
        modes = torch.zeros((1, len(self.lengths)), dtype=torch.int64)
        return ProductSeries(modes, [number], self.lengths, "cosine")

    def scaled(self, number: float) -> ProductSeries:
        """Multiply by a number."""
        return ProductSeries(self.modes, number * self.coefficients, self.lengths, self.symmetry)

    @property
    def magnitudes(self) -> Tensor:
        """Sum of the magnitudes of the waves of each term, |c|, shape (m,)."""
        return self.coefficients.abs()

    @property
    def mean(self) -> float:
        """Mean over the doubled box, to which the function is extended by reflection."""
        return float(self.coefficients[(self.modes == 0).all(-1)].sum())

    @property
    def lowest_frequency(self) -> float:
        """Smallest nonzero |w| of functions with this symmetry on the box."""
        steps = [math.pi / length for length in self.lengths]
        return math.hypot(*steps) if self.symmetry == "sine" else min(steps)

    def __call__(self, x: Tensor) -> Tensor:
        """Evaluate at points (..., d)."""
        angles = x[..., None, :] * self.frequencies.to(x)
        factors = angles.sin() if self.symmetry == "sine" else angles.cos()
        return factors.prod(-1) @ self.coefficients.to(x)

    def fits(self, other: ProductSeries) -> bool:
        """Check that the sum with another product series is a product series."""
        return (self.lengths, self.symmetry) == (other.lengths, other.symmetry)

    def __add__(self, other: ProductSeries) -> ProductSeries:
        modes = torch.cat([self.modes, other.modes])
        return ProductSeries(modes, torch.cat([self.coefficients, other.coefficients]), self.lengths, self.symmetry)

    def resolvent(self) -> ProductSeries:
        """Return the solution u of u - Laplace u = f, where f is this series, with the boundary conditions of f."""
        coefficients = self.coefficients / (1 + self.frequencies.square().sum(-1))
        return ProductSeries(self.modes, coefficients, self.lengths, self.symmetry)

    def waves(self) -> FourierSeries:
        """Expand the products into waves, with periods of twice the side lengths.

        Raises
        ------
        InputError
            If there are more than 65,536 waves.
        """
        nonzero = self.modes != 0
        if int((2.0 ** nonzero.sum(-1)).sum()) > MAX_WAVES:
            raise InputError(
                f"the series has more than {MAX_WAVES} waves, so its products cannot be expanded; use a series with "
                "fewer terms or fewer variables per term."
            )
        modes, coefficients = self.modes, self.coefficients.to(torch.complex128)
        for axis in range(modes.shape[1]):
            modes, coefficients = self._split(modes, coefficients, axis)
        return FourierSeries(*sum_equal_modes(modes, coefficients), tuple(2 * length for length in self.lengths))

    def _split(self, modes: Tensor, coefficients: Tensor, axis: int) -> tuple[Tensor, Tensor]:
        """Expand the factor of one axis into two waves: cos t = (e^it + e^-it) / 2, sin t = (e^it - e^-it) / 2i."""
        nonzero = modes[:, axis] != 0
        mirrored = modes[nonzero].clone()
        mirrored[:, axis] *= -1
        halves = coefficients[nonzero] / (2j if self.symmetry == "sine" else 2)
        opposite = -halves if self.symmetry == "sine" else halves
        modes = torch.cat([modes[~nonzero], modes[nonzero], mirrored])
        return modes, torch.cat([coefficients[~nonzero], halves, opposite])


def sum_equal_modes(modes: Tensor, coefficients: Tensor) -> tuple[Tensor, Tensor]:
    """Return the distinct modes, and the sums of the coefficients of equal modes."""
    unique, index = torch.unique(modes, dim=0, return_inverse=True)
    return unique, coefficients.new_zeros(len(unique)).index_add_(0, index, coefficients)


def checked_modes(modes: Any) -> Tensor:
    """Check and return modes as an integer tensor (m, d)."""
    try:
        given = torch.as_tensor(modes)
    except (TypeError, ValueError, RuntimeError):
        kind = type(modes).__name__
        raise InputError(f"modes ({kind}) cannot be read; give one row of d integers per term.") from None
    if given.ndim != 2 or given.numel() == 0:
        raise InputError(f"modes has shape {tuple(given.shape)}; give one row of d integers per term.")
    if given.is_complex() or given.is_floating_point() or given.dtype == torch.bool:
        raise InputError(f"modes has dtype {str(given.dtype).removeprefix('torch.')}; give integers.")
    return given.to("cpu", torch.int64)


def checked_coefficients(coefficients: Any, terms: int) -> Tensor:
    """Check and return coefficients (m,) in double precision, real or complex."""
    try:  # numpy converts lists to double precision, torch to single precision
        given = coefficients if isinstance(coefficients, Tensor) else torch.as_tensor(np.asarray(coefficients))
    except (TypeError, ValueError):
        kind = type(coefficients).__name__
        raise InputError(f"coefficients ({kind}) cannot be read; give one number per term.") from None
    given = given.cpu()
    given = given.to(torch.complex128 if given.is_complex() else torch.float64)
    if given.shape != (terms,):
        raise InputError(f"coefficients has shape {tuple(given.shape)}, but {terms} modes need shape ({terms},).")
    if not bool(torch.isfinite(given).all()):
        raise InputError("coefficients contains NaN or infinity; give finite numbers.")
    return given


def checked_lengths(lengths: Sides, dim: int, name: str) -> tuple[float, ...]:
    """Check and return one positive length per axis."""
    given = axis_numbers(lengths, dim, name)
    if min(given) <= 0:
        raise InputError(f"{name} contains {min(given)}; give positive numbers.")
    return given


def checked_vector(entries: Any, name: str) -> Tensor:
    """Check and return a vector with one finite number per axis."""
    vector = convert(entries, name, torch.float64, torch.device("cpu"))
    if vector.ndim != 1 or len(vector) == 0:
        raise InputError(f"{name} has shape {tuple(vector.shape)}; give a vector with one entry per axis.")
    require_finite(vector, name)
    return vector


def checked_rows(matrix: Any, dim: int) -> list[list[Any]]:
    """Check and return the d rows of a matrix of functions and numbers."""
    try:
        rows = [list(row) for row in matrix]
    except TypeError:
        kind = type(matrix).__name__
        raise InputError(f"coefficient is a {kind}; give a number, a BarronFunction, or {dim} rows of them.") from None
    if [len(row) for row in rows] != [dim] * dim:
        raise InputError(f"coefficient is not a {dim} by {dim} matrix; give {dim} rows of {dim} entries.")
    return rows
