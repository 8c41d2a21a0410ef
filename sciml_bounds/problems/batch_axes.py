"""The first axis of a coefficient: samples of a batch, or components of a diagonal coefficient."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar

from torch import Tensor

from sciml_bounds.errors import InputWarning
from sciml_bounds.reports import warn

__all__ = ["known_batch", "warn_about_components"]

_known: ContextVar[bool] = ContextVar("_known", default=False)


@contextmanager
def known_batch() -> Iterator[None]:
    """Declare that leading axes of coefficients are batch axes, so `warn_about_components` issues no warning."""
    token = _known.set(True)
    try:
        yield
    finally:
        _known.reset(token)


def warn_about_components(coefficient: Tensor, dim: int) -> None:
    """Warn if the batch axis of a coefficient (batch..., cells) may have been meant as the axis of its components.

    Parameters
    ----------
    coefficient : Tensor
        A coefficient that is the same along all axes.
    dim : int
        Dimension of the grid.
    """
    if _known.get() or dim < 2 or coefficient.ndim != dim + 1 or len(coefficient) != dim:
        return
    shape = tuple(coefficient.shape)
    warn(
        f"the coefficient of shape {shape} is taken as a batch of {dim} isotropic problems; for one problem with a "
        f"diagonal coefficient give a tuple of {dim} fields, such as tuple(coefficient).",
        InputWarning,
    )
