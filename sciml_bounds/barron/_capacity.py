"""Numerical dimension of a family of features, and lower bounds of its approximation error, before any training."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor

from sciml_bounds.arrays import convert, require_finite, require_number
from sciml_bounds.barron._barron_function import series_of
from sciml_bounds.barron._series import FourierSeries
from sciml_bounds.errors import InputError
from sciml_bounds.reports import describe, summary_table

__all__ = ["Capacity", "band_limited_error", "capacity"]

#: Singular values below this fraction of the largest one are round-off.
ROUND_OFF = 1e-15


@dataclass(frozen=True, repr=False, eq=False)
class Capacity:
    """Numerical dimension of the span of given features.

    Attributes
    ----------
    dimension : int
        Number of singular values above `tol` times the largest one.
    width : int
        Number of features.
    tol : float
        Relative threshold of the singular values.
    singular_values : Tensor
        Singular values of the feature matrix divided by the square root of the number of points, in descending order.
    """

    dimension: int
    width: int
    tol: float
    singular_values: Tensor
    _basis: Tensor = field(repr=False)  # left singular vectors for the singular values above round-off

    def error_bound(self, target: Any, outer_norm: float = math.inf) -> float:
        """Return a lower bound of the approximation error of a target by the features with outer weights |a|_2 <= A.

        Let P_r be the projection onto the orthogonal complement of the first r left singular vectors. For every
        combination v of the features with |a|_2 <= A, |P_r v| is at most A times the singular value r + 1, so the error
        is at least |P_r f| minus this number. The largest of these bounds over r is returned. Nonzero singular values
        are taken to be at least round-off. For unbounded weights, the bound is zero, unless all nonzero singular
        values are above round-off; then it is the distance of the target to the span of the features.

        Parameters
        ----------
        target : array, shape (m,)
            Values of the target at the points of the features.
        outer_norm : float
            Bound A of the Euclidean norm of the outer weights. Beyond 1 / tol, round-off in the cancellation of large
            weights exceeds the tolerance.

        Returns
        -------
        float
            Lower bound of the root mean square error over the points.

        Raises
        ------
        InputError
            If the target does not have one value per point, or A is negative or NaN.
        """
        f = convert(target, "target", torch.float64, torch.device("cpu"))
        points = len(self._basis)
        if f.shape != (points,):
            raise InputError(
                f"target has shape {tuple(f.shape)}, but the features have {points} points; give one value per point."
            )
        require_finite(f, "target")
        unlimited = isinstance(outer_norm, float) and outer_norm == math.inf
        if not unlimited:
            require_number(outer_norm, "outer_norm", least=0)
        parts = self._basis.T @ f
        beyond = (f - self._basis @ parts).square().sum().reshape(1)
        distances = torch.cat([beyond, parts.square().flip(0)]).cumsum(0).flip(0).div(points).sqrt()  # |P_r f|
        following = self.singular_values[: len(distances)]
        following = torch.where(following > 0, following.clamp_min(ROUND_OFF * float(following[0])), 0.0)
        following = torch.cat([following, following.new_zeros(len(distances) - len(following))])
        largest = torch.where(following > 0, following * outer_norm, 0.0)
        return max(0.0, float((distances - largest).max()))

    def __repr__(self) -> str:
        rows = {
            "dimension": f"{self.dimension} of {self.width} features",
            "tol": f"{self.tol:g}",
            "largest singular value": describe(self.singular_values[0]),
        }
        if self.dimension < len(self.singular_values):
            rows["next singular value"] = describe(self.singular_values[self.dimension])
        return summary_table("Capacity", rows)


def capacity(features: Any, tol: float = 1e-12) -> Capacity:
    """Compute the numerical dimension of the span of given features.

    Neurons with an analytic activation and bounded hidden weights span a space of nearly finite dimension; in
    floating-point arithmetic, a larger width has no effect. This function counts singular values, as in the numerical
    span dimension of Liu, Yu and Yong (arXiv:2409.16697), for the given features. A family of features is exhausted if
    adding members no longer increases the count.

    Parameters
    ----------
    features : array, shape (m, k)
        Values of k features at m points, such as `network.features(x)`.
    tol : float
        Singular values below `tol` times the largest one are not counted; at least 1e-15, which is round-off.

    Returns
    -------
    Capacity
        Dimension, singular values, and a lower bound of the error for any target.

    Raises
    ------
    InputError
        If `features` is not a matrix, not finite or all zero, or `tol` is not between 1e-15 and 1.

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
        raise InputError(
            f"features has shape {tuple(matrix.shape)}; give one row per point and one column per feature."
        )
    require_finite(matrix, "features")
    vectors, values, _ = torch.linalg.svd(matrix / math.sqrt(len(matrix)), full_matrices=False)
    if float(values[0]) == 0:
        raise InputError("the features are zero at all points; give points where a feature is not zero.")
    count, known = (int((values > part * values[0]).sum()) for part in (tol, ROUND_OFF))
    return Capacity(count, matrix.shape[1], tol, values, vectors[:, :known].clone())


def band_limited_error(function: Any, largest: float) -> float:
    """Return the exact L2 distance of a series to the span of all waves of its box with |w| <= R.

    The distance is the norm of the waves with |w| > R. It is a lower bound of the error of random cosine features with
    whole periods and frequencies up to R, for any width. (For general bounded hidden weights, see the lower bound of
    Li, Sonoda, Cao, Wang and Liang, arXiv:2008.08427.)

    Parameters
    ----------
    function : BarronFunction
        A series.
    largest : float
        Largest frequency R.

    Raises
    ------
    InputError
        If the function is not a series, or R is negative.
    """
    series = series_of(function)
    R = require_number(largest, "largest", least=0)
    beyond = series.frequencies.square().sum(-1) > R**2
    if isinstance(series, FourierSeries):
        square = math.prod(series.periods) * float(series.magnitudes[beyond].square().sum())
    else:  # a factor cos^2 or sin^2 has mean 1/2
        halves = 0.5 ** (series.modes[beyond] != 0).sum(-1)
        square = math.prod(series.lengths) * float(series.magnitudes[beyond].square() @ halves.double())
    return math.sqrt(square)
