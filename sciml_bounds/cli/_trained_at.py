"""What a network was trained at, beside what it is asked about."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from typing import Any

__all__ = ["tell_of_resolution"]


def tell_of_resolution(model: str, card: Mapping[str, Any], resolutions: Sequence[int]) -> None:
    """Say that a grid is another one than that of the training, where a network errs more than there."""
    data = card.get("data")
    trained = data.get("train", {}) if isinstance(data, Mapping) else {}
    whole, coarser = trained.get("resolution"), trained.get("subsample", 1)
    if not isinstance(whole, int) or not isinstance(coarser, int) or coarser < 1:
        return
    if any(n != whole // coarser for n in resolutions):
        logging.getLogger("sciml_bounds").warning(
            "%s was trained on %d cells an axis, and this is %s: expect larger errors.",
            model,
            whole // coarser,
            " x ".join(map(str, resolutions)),
        )
