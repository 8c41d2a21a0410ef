"""Warning about predictions at another resolution than that of the training data."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from typing import Any

__all__ = ["warn_about_resolution"]


def warn_about_resolution(model: str, card: Mapping[str, Any], resolutions: Sequence[int]) -> None:
    """Log a warning if a grid differs from that of the training data, since errors are larger there."""
    data = card.get("data")
    trained = data.get("train", {}) if isinstance(data, Mapping) else {}
    whole, coarser = trained.get("resolution"), trained.get("subsample", 1)
    if not isinstance(whole, int) or not isinstance(coarser, int) or coarser < 1:
        return
    if any(n != whole // coarser for n in resolutions):
        logging.getLogger("sciml_bounds").warning(
            "%s was trained with %d cells per axis, but this grid has %s cells; expect larger errors.",
            model,
            whole // coarser,
            " x ".join(map(str, resolutions)),
        )
