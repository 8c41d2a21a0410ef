"""Interface of two-layer networks for the computation of norms and bounds."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Sequence
from typing import Protocol

from torch import Tensor
from torch.nn import Parameter

from sciml_bounds.barron._activations import Activation
from sciml_bounds.barron._box_distance import BoxDistance

__all__ = ["TwoLayer"]


class TwoLayer(Protocol):
    """u(x) = D(x) (sum_j a_j s(w_j . x + b_j) + c . x + c_0) + g(x), as in `BarronNetwork`."""

    @property
    def activation(self) -> Activation:
        """Activation s, applied to w_j . x + b_j."""

    @property
    def distance(self) -> BoxDistance | None:
        """Factor D; None if no side has prescribed values."""

    @property
    def lifting(self) -> TwoLayer | None:
        """Lifting g; None if it is zero."""

    @property
    def weights(self) -> Tensor:
        """Hidden weights w, shape (k, d)."""

    @property
    def biases(self) -> Tensor:
        """Biases b, shape (k,)."""

    @property
    def outer(self) -> Tensor:
        """Outer weights a, shape (k,)."""

    @property
    def slope(self) -> Tensor:
        """Slope c of the affine part, shape (d,)."""

    @property
    def offset(self) -> Tensor:
        """Offset c_0 of the affine part, shape ()."""

    @property
    def lengths(self) -> Sequence[float]:
        """Side lengths of the box."""

    @property
    def origin(self) -> Sequence[float]:
        """Corner of the box with the smallest coordinates."""

    @property
    def dimension(self) -> int:
        """Number d of variables."""

    @property
    def width(self) -> int:
        """Number k of neurons."""

    @property
    def dirichlet_sides(self) -> Collection[tuple[int, int]]:
        """Sides (axis, end) with prescribed values."""

    def forward(self, x: Tensor) -> Tensor:
        """Return the values at points (..., d)."""

    def named_parameters(self) -> Iterator[tuple[str, Parameter]]:
        """Iterate over the names and values of the parameters."""
