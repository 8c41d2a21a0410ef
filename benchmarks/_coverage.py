"""The coverage that calibration promises, and what was counted: for `predictions.py` and `calibration.py`."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import scipy.stats
from torch import Tensor

COVERAGES = (0.9, 0.95)
CONFIDENCE = 0.999  # of the intervals in which counts of covered cases must lie
LEAST_HELD_OUT = 1000


def print_coverage(name: str, fit: Callable[[float], Any], covered: Callable[[Any], Tensor], held: int, n: int) -> None:
    """Compare counts of covered cases with the interval that calibration with n units promises."""
    for coverage in COVERAGES:
        if n < math.ceil(coverage / (1 - coverage)):
            print(f"  ----  {name}: {n} units are too few for {coverage:.0%}")
            continue
        counts = covered(fit(coverage)).double().sum(0).reshape(-1)
        k = math.ceil(round((n + 1) * coverage, 9))
        low, high = scipy.stats.betabinom(held, k, n + 1 - k).interval(CONFIDENCE)
        inside = bool(((counts >= low) & (counts <= high)).all())
        verdict = "PASS" if inside and held >= LEAST_HELD_OUT else "FEW " if inside else "MISS"
        least, most = float(counts.min()) / held, float(counts.max()) / held
        shares = f"{least:.1%}" if len(counts) == 1 else f"{least:.1%} to {most:.1%} over {len(counts)} steps"
        print(f"  {verdict}  {name} at {coverage:.0%}: {shares} of {held} held out "
              f"({n} units; {low / held:.1%} to {high / held:.1%} expected)")  # fmt: skip
