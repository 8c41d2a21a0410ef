"""Small data that ship with the package.

`two_phase.npz` contains 8 fields of 16 x 16 cells with two phases: `x` is True in the phase with the larger
coefficient, and `y` is a cell-centred solution of -div(a grad u) = 1 with a = 12 and 3 and zero boundary values, up to
a constant factor. The file was written by `python -m sciml_bounds.samples.make_two_phase`, which uses numpy and scipy
only.
"""

from __future__ import annotations

from importlib import resources
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

__all__ = ["TwoPhase", "load_two_phase"]


class TwoPhase(NamedTuple):
    """Two-phase fields x and stored solutions y, both of shape (samples, cells, cells)."""

    x: NDArray[np.bool_]
    y: NDArray[np.float32]


def load_two_phase() -> TwoPhase:
    """Load the two-phase fields.

    Examples
    --------
    >>> load_two_phase().x.shape
    (8, 16, 16)
    """
    with resources.files(__name__).joinpath("two_phase.npz").open("rb") as file, np.load(file) as arrays:
        return TwoPhase(arrays["x"], arrays["y"])
