"""Field statistics for The Well, computed in one pass over the samples."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping

import numpy as np

from sciml_bounds.store.reading.contents import Array

__all__ = ["FieldStatistics", "format_statistics"]


class _Moments:
    """Running count, mean and sum of squared deviations (Chan, Golub and LeVeque, 1983)."""

    def __init__(self) -> None:
        self.count, self.mean, self.deviations = 0, 0.0, 0.0

    def add(self, values: Array) -> None:
        values = values.astype(np.float64)
        count, mean = values.size, float(values.mean())
        shift, total = mean - self.mean, self.count + count
        self.deviations += float(((values - mean) ** 2).sum()) + shift**2 * self.count * count / total
        self.mean += shift * count / total
        self.count = total

    @property
    def std(self) -> float:
        return math.sqrt(self.deviations / self.count)

    @property
    def rms(self) -> float:
        return math.sqrt(self.deviations / self.count + self.mean**2)


class FieldStatistics:
    """Mean, standard deviation and root mean square of a field and of its changes between frames."""

    def __init__(self) -> None:
        self._values, self._changes = _Moments(), _Moments()

    def add(self, field: Array, *, frames: bool) -> None:
        """Add one sample; with `frames`, its first axis is time."""
        self._values.add(field)
        if frames and len(field) > 1:
            self._changes.add(np.diff(field.astype(np.float64), axis=0))

    def to_dict(self) -> dict[str, float]:
        """Return the statistics by their names in The Well; with a single frame, changes have those of the field."""
        changes = self._changes if self._changes.count else self._values
        return {
            **{name: getattr(self._values, name) for name in ("mean", "std", "rms")},
            **{f"{name}_delta": getattr(changes, name) for name in ("mean", "std", "rms")},
        }


def format_statistics(statistics: Mapping[str, FieldStatistics]) -> str:
    """Return the statistics as YAML, whose numbers need a decimal point and a signed exponent."""
    tables = {field: one.to_dict() for field, one in statistics.items()}
    kinds = next(iter(tables.values()))
    lines = []
    for kind in kinds:
        lines.append(f"{kind}:")
        lines += [f"  {json.dumps(field)}: {table[kind]:.16e}" for field, table in tables.items()]
    return "\n".join(lines) + "\n"
