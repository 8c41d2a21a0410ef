"""Split conformal calibration: intervals that hold with a stated probability, where no guarantee is known.

A score is what one unit of data was off by. If the units, of the calibration set and new ones, are exchangeable, then
with n of them the k-th smallest score, k = ceil((n + 1) coverage), is at least the score of a new unit with probability
at least `coverage`, whatever the model and the distribution are: the rank of the new score among all n + 1 is uniform.
References: Vovk, Gammerman, Shafer, "Algorithmic Learning in a Random World" (2005); Lei, G'Sell, Rinaldo, Tibshirani,
Wasserman, J. Amer. Statist. Assoc. 113 (2018) 1094-1111.

Words are kept apart: a *bound* is guaranteed for every sample, a *calibrated* number holds for a share of samples drawn
like the calibration set, an *estimate* promises nothing. Frames of one trajectory are not exchangeable units: the unit
is a trajectory.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import torch
from torch import Tensor

from sciml_bounds.arrays import require_finite, to_tensor
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
    "least_units",
]

_REDUCTIONS = ("max", "mean")


def least_units(coverage: float) -> int:
    """Tell how many units are needed before their largest score covers a new one with the given probability."""
    _require_coverage(coverage)
    return max(1, math.ceil(round(coverage / (1 - coverage), 9)))


@dataclass(frozen=True, repr=False, eq=False)
class Calibration:
    """What a new unit's score stays below with a stated probability.

    Attributes
    ----------
    threshold
        The quantile, shape (): one score a unit; or (steps,): one for each step of a rollout.
    coverage
        The probability that was asked for: that of a new unit, at each step by itself.
    units
        Number of units (trajectories) that it was found from.
    kind
        "calibrated": holds on average over units drawn like those; no bound for any one of them.
    """

    threshold: Tensor
    coverage: float
    units: int
    kind: Literal["calibrated"] = "calibrated"

    @property
    def expected_coverage(self) -> tuple[float, float]:
        """The coverage over all calibration sets and new units lies here, if no two scores are equal."""
        k = _rank(self.units, self.coverage)
        return self.coverage, k / (self.units + 1)

    def covers(self, scores: Any) -> Tensor:
        """Tell which scores, (...) or (..., steps), are covered."""
        return self._checked(scores, "scores") <= self.threshold

    def apply(self, scale: Any = 1.0) -> Tensor:
        """Turn the threshold into errors: `scale` is what scores were divided by (a norm, a bound), (...) or (..., 1).

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
            raise InputError("scale is negative; it is the size that scores were relative to.")
        if self.threshold.ndim and factor.ndim and factor.shape[-1] not in (1, len(self.threshold)):
            raise InputError(
                f"scale has shape {tuple(factor.shape)}, but the calibration is for {len(self.threshold)} steps along "
                "the last axis; give (..., 1) where all steps have the same."
            )
        device = scale.device if isinstance(scale, Tensor) else self.threshold.device
        result: Tensor = self.threshold.to(device) * factor.to(device)
        return result

    def interval(self, values: Any, scale: Any = 1.0) -> CalibratedInterval:
        """Give the calibrated interval around predicted numbers, for scores |prediction - truth| / scale."""
        center = to_tensor(values, "values")
        width = self.apply(scale).to(center.device)
        return CalibratedInterval(center - width, center + width, self.coverage)

    def coverage_on(self, scores: Any) -> Tensor:
        """Share of held-out units (n,) or (n, steps) that are covered: () or (steps,)."""
        return self.covers(scores).double().mean(0)

    def _checked(self, scores: Any, name: str) -> Tensor:
        given = to_tensor(scores, name).to(self.threshold)
        if self.threshold.ndim and (given.ndim == 0 or given.shape[-1] != len(self.threshold)):
            raise InputError(
                f"{name} have shape {tuple(given.shape)}, but the calibration is for {len(self.threshold)} steps along "
                "the last axis."
            )
        return given

    def __repr__(self) -> str:
        steps = f"{len(self.threshold)} steps, each by itself" if self.threshold.ndim else "one score a unit"
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
    """Find what the score of a new unit stays below with a given probability.

    Parameters
    ----------
    scores
        Errors of predictions that were never trained or selected on, larger is worse: shape (units,), or (units, steps)
        for rollouts, where each step gets its own threshold. Take the upper end of an error that is known as an
        interval: then the threshold covers the true error too.
    coverage
        Probability that the score of a new unit is covered, above 0 and below 1.
    trajectories
        The trajectory that each entry of `scores` (frames,) comes from, if frames are given instead of units.
    reduction
        How the frames of one trajectory become one score: "max" (all frames are covered) or "mean". Needed where
        several frames share a trajectory, because they are not exchangeable.

    Returns
    -------
    Calibration

    Raises
    ------
    InputError
        If there are too few units for the coverage, a score is NaN, or frames of one trajectory are given as units.

    Notes
    -----
    A score may be infinite (a rollout that blew up): it counts as larger than all others.

    Examples
    --------
    >>> import torch
    >>> calibrate(torch.arange(1.0, 100.0), coverage=0.9).threshold.item()
    90.0
    """
    found = to_tensor(scores, "scores").detach().double()
    if bool(found.isnan().any()):
        raise InputError(f"scores have {int(found.isnan().sum())} entries that are NaN; give inf for what blew up.")
    if trajectories is not None:
        found = _by_trajectory(found, trajectories, reduction)
    elif reduction is not None:
        raise InputError("reduction puts frames of one trajectory together; give trajectories with it.")
    if found.ndim not in (1, 2):
        raise InputError(f"scores have shape {tuple(found.shape)}; give one a unit (units,), or (units, steps).")
    k = _rank(len(found), coverage)
    return Calibration(found.sort(0).values[k - 1].clone(), float(coverage), len(found))


def _rank(units: int, coverage: float) -> int:
    """Compute k = ceil((n + 1) coverage), refused where it would be n + 1: then no score of the set is large enough."""
    needed = least_units(coverage)
    if units < needed:
        raise InputError(
            f"{units} units are too few for a coverage of {coverage:g}; give at least {needed}, or ask for less."
        )
    return max(1, math.ceil(round((units + 1) * coverage, 9)))


def _require_coverage(coverage: float) -> None:
    if not isinstance(coverage, int | float) or not 0 < coverage < 1:
        raise InputError(f"coverage={coverage!r} must lie between 0 and 1, such as 0.9.")


def _by_trajectory(scores: Tensor, trajectories: Any, reduction: str | None) -> Tensor:
    labels = np.asarray(trajectories.cpu() if isinstance(trajectories, Tensor) else trajectories)
    if scores.ndim != 1 or labels.shape != tuple(scores.shape):
        raise InputError(
            f"trajectories have shape {labels.shape} and scores {tuple(scores.shape)}; give one label a frame."
        )
    names, inverse = np.unique(labels, return_inverse=True)
    place = torch.as_tensor(inverse, device=scores.device)
    if len(names) == len(scores):
        return scores
    if reduction not in _REDUCTIONS:
        raise InputError(
            f"{len(scores)} frames come from {len(names)} trajectories, and frames of one trajectory are not "
            f"exchangeable; put them together with reduction='max' or 'mean' (not {reduction!r}), or give scores as "
            "(trajectories, steps)."
        )
    how = "amax" if reduction == "max" else "mean"
    return scores.new_zeros(len(names)).scatter_reduce(0, place, scores, how, include_self=False)


@dataclass(frozen=True, repr=False, eq=False)
class CalibratedInterval:
    """Where the truth lies with a stated probability; nothing is guaranteed for any one.

    Attributes
    ----------
    lower, upper
        The ends, one a predicted number.
    coverage
        The probability.
    """

    lower: Tensor
    upper: Tensor
    coverage: float

    def __repr__(self) -> str:
        ends = describe_interval(self.lower, self.upper, "truth")
        return summary_table("CalibratedInterval", {f"calibrated at {self.coverage:.4g}": ends})


@dataclass(frozen=True, repr=False, eq=False)
class CalibratedPair:
    """Two statements about the error of the same predictions, never to be mixed.

    Attributes
    ----------
    calibrated
        What the error stays below in a share `coverage` of samples drawn like the calibration set.
    guaranteed
        What the error of every sample stays below.
    coverage
        That share.
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
    """The share of a guaranteed bound that the error stays below with a stated probability.

    Attributes
    ----------
    ratio
        The calibration of error / bound; its threshold is at most one.
    """

    ratio: Calibration

    def pair(self, bounds: Any) -> CalibratedPair:
        """Give both statements for new predictions, from their `Certificate` or the bounds of their errors (...)."""
        upper = _upper(bounds)
        return CalibratedPair(self.ratio.apply(upper), upper, self.ratio.coverage)


def calibrate_bound(errors_upper: Any, bounds: Any, *, coverage: float = 0.9) -> BoundCalibration:
    """Calibrate the ratio error / bound, so that a guaranteed bound gets a tighter calibrated companion.

    Parameters
    ----------
    errors_upper
        Upper ends of the true errors of calibration samples (units,), such as a certified distance to a solution on a
        finer grid.
    bounds
        The guaranteed bounds of the same errors (units,), or their `Certificate`.
    coverage
        As in `calibrate`.

    Returns
    -------
    BoundCalibration
        Whose `pair(certificate)` gives both numbers for new predictions.

    Raises
    ------
    InputError
        As from `calibrate`; if shapes differ or a bound is not positive.

    Examples
    --------
    >>> import torch
    >>> errors = torch.linspace(0.5, 0.8, 99)
    >>> pair = calibrate_bound(errors, torch.ones(99), coverage=0.9).pair(2.0)
    >>> float(pair.guaranteed), round(float(pair.calibrated), 3)
    (2.0, 1.545)
    """
    error, upper = to_tensor(errors_upper, "errors_upper").detach().double(), _upper(bounds)
    if error.shape != upper.shape or error.ndim != 1:
        raise InputError(
            f"errors_upper have shape {tuple(error.shape)} and bounds {tuple(upper.shape)}; give one a sample each."
        )
    if bool((upper <= 0).any()) or bool((error < 0).any()):
        raise InputError("a bound is not positive or an error is negative, so that their ratio says nothing.")
    # the upper end of an error may exceed the bound, which the error itself does not
    return BoundCalibration(calibrate((error / upper).clamp_max(1.0), coverage=coverage))


def _upper(bounds: Any) -> Tensor:
    given = bounds.upper if isinstance(bounds, Certificate) else bounds
    upper = to_tensor(given, "bounds").detach().double()
    require_finite(upper, "bounds")
    return upper
