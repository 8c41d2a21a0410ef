"""What a family of features can represent, before anything is trained."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor

from sciml_bounds.arrays import convert, require_finite, require_number
from sciml_bounds.barron._barron_function import BarronFunction
from sciml_bounds.barron._series import FourierSeries, ProductSeries
from sciml_bounds.errors import InputError
from sciml_bounds.reports import describe, summary_table

__all__ = ["Capacity", "band_limited_error", "capacity"]

#: Singular values below this part of the largest one are round-off.
ROUND_OFF = 1e-15


@dataclass(frozen=True, repr=False, eq=False)
class Capacity:
    """The numerical dimension of the span of some features.

    Attributes
    ----------
    dimension
        Number of singular values above tol times the largest one.
    width
        Number of features.
    tol
        What counts as nothing.
    singular_values
        Of the matrix of features, divided by the root of the number of points, falling.
    """

    dimension: int
    width: int
    tol: float
    singular_values: Tensor
    _basis: Tensor = field(repr=False)  # its left singular vectors, those of values above round-off

    def error_bound(self, target: Any, outer_norm: float = math.inf) -> float:
        """Bound from below how far a target is from all combinations of the features with outer weights |a|_2 <= A.

        For any r: the part of the target that is orthogonal to the first r left singular vectors can only come from the
        others, which give at most A times the singular value r + 1. The best of these bounds is returned; singular
        values count as round-off at least. Without a bound of the weights it is zero, unless the features are
        independent beyond round-off.

        Parameters
        ----------
        target
            Values at the points of the features, shape (m,).
        outer_norm
            A, the largest Euclidean norm of outer weights; 1 / tol is as much as rounding allows, which cancels the
            rest.

        Returns
        -------
        float
            Of the root mean square over the points.

        Raises
        ------
        InputError
            If the target does not have one value a point, or A is negative or NaN.
        """
        f = convert(target, "target", torch.float64, torch.device("cpu"))
        points = len(self._basis)
        if f.shape != (points,):
            raise InputError(f"target has shape {tuple(f.shape)}; the features have {points} points.")
        require_finite(f, "target")
        unlimited = isinstance(outer_norm, float) and outer_norm == math.inf
        if not unlimited and require_number(outer_norm, "outer_norm") < 0:
            raise InputError(f"outer_norm is {outer_norm}; give a number that is not negative.")
        seen = self._basis.T @ f
        beyond = (f - self._basis @ seen).square().sum().reshape(1)
        left = torch.cat([beyond, seen.square().flip(0)]).cumsum(0).flip(0).div(points).sqrt()  # for r = 0, 1, ...
        following = self.singular_values[: len(left)]
        following = torch.where(following > 0, following.clamp_min(ROUND_OFF * float(following[0])), 0.0)
        following = torch.cat([following, following.new_zeros(len(left) - len(following))])
        most = torch.where(following > 0, following * outer_norm, 0.0)
        return max(0.0, float((left - most).max()))

    def __repr__(self) -> str:
        rows = {
            "dimension": f"{self.dimension} of {self.width} features",
            "tol": f"{self.tol:g}",
            "largest singular value": describe(self.singular_values[0]),
        }
        if self.dimension < len(self.singular_values):
            rows["next one left out"] = describe(self.singular_values[self.dimension])
        return summary_table("Capacity", rows)


def capacity(features: Any, tol: float = 1e-12) -> Capacity:
    """Count how many of some features are different numerically, whatever their number.

    Bounded hidden weights of an analytic activation span a space that is nearly of finite dimension: more width than
    that does nothing in floating-point numbers. This is the singular-value count behind the numerical span dimension of
    Liu, Yu and Yong (arXiv:2409.16697), for the features that are given; a family is exhausted when more of it no
    longer raises the count.

    Parameters
    ----------
    features
        Their values at many points, shape (m, k), such as `network.features(x)`.
    tol
        Singular values below tol times the largest one count as nothing; at least 1e-15, which is round-off.

    Returns
    -------
    Capacity
        With a lower bound of the error for any target.

    Raises
    ------
    InputError
        If features are no matrix, not finite or all zero, or tol is not between 1e-15 and 1.

    Examples
    --------
    >>> import torch
    >>> import sciml_bounds as sb
    >>> x = torch.linspace(-1, 1, 1000, dtype=torch.float64)[:, None]
    >>> w, b = 2 * torch.rand(2, 300, dtype=torch.float64, generator=torch.Generator().manual_seed(0)) - 1
    >>> network = sb.BarronNetwork.of(w[:, None], b, torch.ones(300), activation="tanh")
    >>> sb.barron.capacity(network.features(x)).dimension
    18
    """
    tol = require_number(tol, "tol", positive=True)
    if not ROUND_OFF <= tol < 1:
        raise InputError(f"tol is {tol:g}; give a number between {ROUND_OFF:g}, which is round-off, and 1.")
    given = features.detach() if isinstance(features, Tensor) else features
    matrix = convert(given, "features", torch.float64, torch.device("cpu"))
    if matrix.ndim != 2 or matrix.numel() == 0:
        raise InputError(f"features has shape {tuple(matrix.shape)}; give one row a point and one column a feature.")
    require_finite(matrix, "features")
    vectors, values, _ = torch.linalg.svd(matrix / math.sqrt(len(matrix)), full_matrices=False)
    if float(values[0]) == 0:
        raise InputError("features are zero at all points, and span nothing; give points where they are not.")
    count, known = (int((values > part * values[0]).sum()) for part in (tol, ROUND_OFF))
    return Capacity(count, matrix.shape[1], tol, values, vectors[:, :known].clone())


def band_limited_error(function: Any, largest: float) -> float:
    """Return the L2 distance of a series to all waves of its box with |w| <= R, exactly: that of what lies beyond.

    So random cosine features of whole periods with frequencies up to R have no smaller error, at any width. (For
    general bounded hidden weights a lower bound is known as well, Li, Sonoda, Cao, Wang and Liang, arXiv:2008.08427.)

    Parameters
    ----------
    function
        A `BarronFunction` that is a series.
    largest
        R.

    Raises
    ------
    InputError
        If the function is no series, or R is negative.
    """
    if not isinstance(function, BarronFunction) or not isinstance(function.value, FourierSeries | ProductSeries):
        raise InputError("The function is not known as a series; make it by fourier, sine, cosine or sampled.")
    R = require_number(largest, "largest")
    if R < 0:
        raise InputError(f"largest is {R}; give the largest |w| of the features.")
    series = function.value
    beyond = series.frequencies.square().sum(-1) > R**2
    if isinstance(series, FourierSeries):
        square = math.prod(series.periods) * float(series.magnitudes[beyond].square().sum())
    else:  # a factor cos^2 or sin^2 has mean 1/2
        halves = 0.5 ** (series.modes[beyond] != 0).sum(-1)
        square = math.prod(series.lengths) * float(series.magnitudes[beyond].square() @ halves.double())
    return math.sqrt(square)
