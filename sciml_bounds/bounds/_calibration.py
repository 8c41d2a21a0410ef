"""Split conformal calibration: intervals that contain the truth with a stated probability.

A score is the prediction error of one unit of data, such as a sample or a trajectory. Assume that the units of the
calibration set and new units are exchangeable. Given n calibration scores, the k-th smallest with k = ceil((n + 1)
coverage) is then at least the score of a new unit with probability at least `coverage`. This is true for every model
and distribution, because the rank of the new score among all n + 1 scores is uniform. References: Vovk, Gammerman,
Shafer, "Algorithmic Learning in a Random World" (2005); Lei, G'Sell, Rinaldo, Tibshirani, Wasserman, J. Amer. Statist.
Assoc. 113 (2018) 1094-1111.

Three words are used with different meanings: a *bound* is guaranteed for every sample; a *calibrated* number is correct
for a fraction of samples drawn like the calibration set; an *estimate* has no guarantee. Frames of one trajectory are
not exchangeable, so for trajectories the unit is a whole trajectory.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import torch
from torch import Tensor

from sciml_bounds.arrays import require_finite, require_fraction, to_tensor
from sciml_bounds.errors import InputError
from sciml_bounds.reports import describe, describe_interval, summary_table
from sciml_bounds.results import Certificate

__all__ = [
    "BoundCalibration",
    "CalibratedInterval",
    "CalibratedPair",
    "Calibration",
    "calibrate",
    "calibrate_bound",
    "min_units",
]

_REDUCTIONS = ("max", "mean")


def min_units(coverage: float) -> int:
    """Return the smallest number n of units for which the largest score covers a new unit with this probability."""
    require_fraction(coverage, "coverage")
    return max(1, math.ceil(round(coverage / (1 - coverage), 9)))


@dataclass(frozen=True, repr=False, eq=False)
class Calibration:
    """Threshold that the score of a new unit does not exceed, with a stated probability.

    Attributes
    ----------
    threshold : Tensor, shape () or (steps,)
        Quantile of the scores: one value, or one per step of a rollout.
    coverage : float
        Requested probability that the score of a new unit is at most the threshold, for each step separately.
    units : int
        Number of units (trajectories) in the calibration set.
    kind : "calibrated"
        The threshold is valid on average over units drawn like the calibration set; it does not bound every single
        unit.
    """

    threshold: Tensor
    coverage: float
    units: int
    kind: Literal["calibrated"] = "calibrated"

    @property
    def expected_coverage(self) -> tuple[float, float]:
        """Range of the expected coverage, over calibration sets and new units, if no two scores are equal."""
        k = _rank(self.units, self.coverage)
        return self.coverage, k / (self.units + 1)

    def covers(self, scores: Any) -> Tensor:
        """Return which scores, shape (...) or (..., steps), are at most the threshold."""
        return self._checked(scores, "scores") <= self.threshold

    def apply(self, scale: Any = 1.0) -> Tensor:
        """Return the threshold for absolute errors, if the scores are errors divided by `scale`.

        Parameters
        ----------
        scale : float or array, shape (...), (..., 1) or (..., steps)
            Norm or bound by which the error was divided to compute each score.

        Examples
        --------
        >>> import torch
        >>> calibration = calibrate(torch.arange(1.0, 100.0), coverage=0.9)
        >>> float(calibration.apply(2.0))
        180.0
        """
        factor = to_tensor(scale, "scale")
        require_finite(factor, "scale")
        if bool((factor < 0).any()):
            raise InputError("scale has a negative entry; give the norm or bound by which the errors were divided.")
        if self.threshold.ndim and factor.ndim and factor.shape[-1] not in (1, len(self.threshold)):
            raise InputError(
                f"scale has shape {tuple(factor.shape)}, but the calibration has {len(self.threshold)} steps along "
                "the last axis; give shape (..., 1) if all steps have the same scale."
            )
        device = scale.device if isinstance(scale, Tensor) else self.threshold.device
        result: Tensor = self.threshold.to(device) * factor.to(device)
        return result

    def interval(self, values: Any, scale: Any = 1.0) -> CalibratedInterval:
        """Return the calibrated interval around predicted values, for scores |prediction - truth| / scale."""
        center = to_tensor(values, "values")
        width = self.apply(scale).to(center.device)
        return CalibratedInterval(center - width, center + width, self.coverage)

    def coverage_on(self, scores: Any) -> Tensor:
        """Return the fraction of test scores, shape (n,) or (n, steps), that are covered: shape () or (steps,)."""
        return self.covers(scores).double().mean(0)

    def _checked(self, scores: Any, name: str) -> Tensor:
        given = to_tensor(scores, name).to(self.threshold)
        if self.threshold.ndim and (given.ndim == 0 or given.shape[-1] != len(self.threshold)):
            raise InputError(
                f"{name} have shape {tuple(given.shape)}, but the calibration has {len(self.threshold)} steps along "
                "the last axis; give one score per step."
            )
        return given

    def __repr__(self) -> str:
        steps = f"{len(self.threshold)} steps, each separately" if self.threshold.ndim else "one score per unit"
        return summary_table(
            "Calibration",
            {
                "threshold": f"{describe(self.threshold)}  ({self.kind})",
                "coverage": f"{self.coverage:.4g} of units drawn like the calibration set; not guaranteed for any one",
                "units": f"{self.units}, {steps}",
            },
        )


def calibrate(
    scores: Any, *, coverage: float = 0.9, trajectories: Any = None, reduction: str | None = None
) -> Calibration:
    """Return the threshold that the score of a new unit does not exceed with a given probability.

    Parameters
    ----------
    scores : array, shape (units,) or (units, steps)
        Prediction errors on data that were not used for training or model selection; larger is worse. For rollouts,
        each step gets its own threshold. If only an interval is known for an error, give its upper end: the threshold
        then covers the true error too.
    coverage : float
        Probability that the score of a new unit is at most the threshold, between 0 and 1.
    trajectories : array of labels, shape (frames,), optional
        Label of the trajectory of each score, if `scores` has one entry per frame instead of one per unit.
    reduction : {"max", "mean"}, optional
        How to combine the scores of the frames of a trajectory; with "max" all frames are covered. Required if several
        frames belong to one trajectory, because such frames are not exchangeable.

    Returns
    -------
    Calibration

    Raises
    ------
    InputError
        If there are too few units for the coverage, a score is NaN, or frames of one trajectory are given as units.

    Notes
    -----
    A score may be infinite, for a rollout that diverged. It then counts as larger than all finite scores.

    Examples
    --------
    >>> import torch
    >>> calibrate(torch.arange(1.0, 100.0), coverage=0.9).threshold.item()
    90.0
    """
    found = to_tensor(scores, "scores").detach().double()
    if bool(found.isnan().any()):
        raise InputError(f"scores have {int(found.isnan().sum())} NaN entries; give inf for a rollout that diverged.")
    if trajectories is not None:
        found = _trajectory_scores(found, trajectories, reduction)
    elif reduction is not None:
        raise InputError(
            "reduction combines the frames of a trajectory; give trajectories as well, or leave out reduction."
        )
    if found.ndim not in (1, 2):
        raise InputError(
            f"scores have shape {tuple(found.shape)}; give one score per unit, shape (units,), or one per step, "
            "(units, steps)."
        )
    k = _rank(len(found), coverage)
    return Calibration(found.sort(0).values[k - 1].clone(), float(coverage), len(found))


def _rank(units: int, coverage: float) -> int:
    """Return k = ceil((n + 1) coverage); raise if k = n + 1, because then no calibration score is large enough."""
    needed = min_units(coverage)
    if units < needed:
        raise InputError(
            f"{units} units are too few for a coverage of {coverage:g}; give at least {needed}, or lower the coverage."
        )
    return max(1, math.ceil(round((units + 1) * coverage, 9)))


def _trajectory_scores(scores: Tensor, trajectories: Any, reduction: str | None) -> Tensor:
    labels = np.asarray(trajectories.cpu() if isinstance(trajectories, Tensor) else trajectories)
    if scores.ndim != 1 or labels.shape != tuple(scores.shape):
        raise InputError(
            f"trajectories have shape {labels.shape} and scores {tuple(scores.shape)}; give one label and one score "
            "per frame."
        )
    names, inverse = np.unique(labels, return_inverse=True)
    place = torch.as_tensor(inverse, device=scores.device)
    if len(names) == len(scores):
        return scores
    if reduction not in _REDUCTIONS:
        raise InputError(
            f"{len(scores)} frames come from {len(names)} trajectories, and frames of one trajectory are not "
            f"exchangeable; combine them with reduction='max' or 'mean' (not {reduction!r}), or give scores of shape "
            "(trajectories, steps)."
        )
    how = "amax" if reduction == "max" else "mean"
    return scores.new_zeros(len(names)).scatter_reduce(0, place, scores, how, include_self=False)


@dataclass(frozen=True, repr=False, eq=False)
class CalibratedInterval:
    """Interval that contains the true value with a stated probability; a single sample may lie outside.

    Attributes
    ----------
    lower, upper : Tensor
        Ends of the interval, in the shape of the predictions.
    coverage : float
        Probability that the interval contains the true value.
    """

    lower: Tensor
    upper: Tensor
    coverage: float

    def __repr__(self) -> str:
        ends = describe_interval(self.lower, self.upper, "truth")
        return summary_table("CalibratedInterval", {f"calibrated at {self.coverage:.4g}": ends})


@dataclass(frozen=True, repr=False, eq=False)
class CalibratedPair:
    """A calibrated threshold and a guaranteed bound on the errors of the same predictions.

    Attributes
    ----------
    calibrated : Tensor
        Threshold that the error does not exceed for a fraction `coverage` of samples drawn like the calibration set.
    guaranteed : Tensor
        Bound that the error of every sample does not exceed.
    coverage : float
        Probability that the error is at most `calibrated`.
    """

    calibrated: Tensor
    guaranteed: Tensor
    coverage: float

    def __repr__(self) -> str:
        return summary_table(
            "CalibratedPair",
            {
                "guaranteed (bound)": f"<= {describe(self.guaranteed)}",
                f"calibrated at {self.coverage:.4g}": f"<= {describe(self.calibrated)}",
            },
        )


@dataclass(frozen=True, eq=False)
class BoundCalibration:
    """Calibration of the ratio of the true error to the guaranteed bound on it.

    Attributes
    ----------
    ratio : Calibration
        Calibration of error / bound; its threshold is at most 1.
    """

    ratio: Calibration

    def pair(self, bounds: Any) -> CalibratedPair:
        """Return calibrated threshold and guaranteed bound for new predictions.

        Parameters
        ----------
        bounds : Certificate or array, shape (...)
            Guaranteed bounds on the errors of the new predictions.
        """
        upper = _upper_bounds(bounds)
        return CalibratedPair(self.ratio.apply(upper), upper, self.ratio.coverage)


def calibrate_bound(errors_upper: Any, bounds: Any, *, coverage: float = 0.9) -> BoundCalibration:
    """Calibrate the ratio error / bound, which gives a calibrated threshold below the guaranteed bound.

    Parameters
    ----------
    errors_upper : array, shape (units,)
        Upper bounds on the true errors of calibration samples, for example certified distances to solutions on a finer
        grid.
    bounds : Certificate or array, shape (units,)
        Guaranteed bounds on the same errors.
    coverage : float
        Probability that the ratio of a new unit is at most the threshold, as in `calibrate`.

    Returns
    -------
    BoundCalibration
        Its method `pair(certificate)` returns the calibrated threshold and the guaranteed bound for new predictions.

    Raises
    ------
    InputError
        If the shapes differ, a bound is not positive, or an error is negative; also for the reasons of `calibrate`.

    Examples
    --------
    >>> import torch
    >>> errors = torch.linspace(0.5, 0.8, 99)
    >>> pair = calibrate_bound(errors, torch.ones(99), coverage=0.9).pair(2.0)
    >>> float(pair.guaranteed), round(float(pair.calibrated), 3)
    (2.0, 1.545)
    """
    error, upper = to_tensor(errors_upper, "errors_upper").detach().double(), _upper_bounds(bounds)
    if error.shape != upper.shape or error.ndim != 1:
        raise InputError(
            f"errors_upper have shape {tuple(error.shape)} and bounds {tuple(upper.shape)}; give one error and one "
            "bound per sample."
        )
    if bool((upper <= 0).any()) or bool((error < 0).any()):
        raise InputError(
            "a bound is not positive or an error is negative, so the ratio error / bound is meaningless; leave out "
            "these samples."
        )
    # the upper end of an error may exceed the guaranteed bound, although the error itself cannot
    return BoundCalibration(calibrate((error / upper).clamp_max(1.0), coverage=coverage))


def _upper_bounds(bounds: Any) -> Tensor:
    given = bounds.upper if isinstance(bounds, Certificate) else bounds
    upper = to_tensor(given, "bounds").detach().double()
    require_finite(upper, "bounds")
    return upper
