"""What norms and bounds need to know of a two-layer network."""

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
        """s, applied to w_j . x + b_j."""

    @property
    def distance(self) -> BoxDistance | None:
        """D; None where no side has prescribed values."""

    @property
    def lifting(self) -> TwoLayer | None:
        """g; None if it is zero."""

    @property
    def weights(self) -> Tensor:
        """w, shape (k, d)."""

    @property
    def biases(self) -> Tensor:
        """b, shape (k,)."""

    @property
    def outer(self) -> Tensor:
        """a, shape (k,)."""

    @property
    def slope(self) -> Tensor:
        """c, shape (d,)."""

    @property
    def offset(self) -> Tensor:
        """c_0, shape ()."""

    @property
    def lengths(self) -> Sequence[float]:
        """Sides of the box."""

    @property
    def origin(self) -> Sequence[float]:
        """Its corner of least coordinates."""

    @property
    def dimension(self) -> int:
        """d, the number of variables."""

    @property
    def width(self) -> int:
        """k, the number of neurons."""

    @property
    def dirichlet_sides(self) -> Collection[tuple[int, int]]:
        """Axis and end of each side with prescribed values."""

    def forward(self, x: Tensor) -> Tensor:
        """Return the values at points (..., d)."""

    def named_parameters(self) -> Iterator[tuple[str, Parameter]]:
        """Walk through the parameters."""
