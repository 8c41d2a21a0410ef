"""The way down and the way up one level of a multigrid cycle.

Down: Chebyshev steps x <- x + w s (b - A x) from zero, then the restriction of the residual. Up: the prolongation of a
coarse correction, then the steps again. On CPUs each is one pass through memory (`wavefront`); elsewhere they are made
of the kernels of `lattice` and `transfer`.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import torch
from torch import Tensor

from sciml_bounds.kernels import lattice, transfer
from sciml_bounds.kernels._backend import backend_for, require_batches
from sciml_bounds.kernels.wavefront import Work, march_down, march_up

__all__ = ["Stage", "ascend", "descend"]

Steps = tuple[float, ...]


@dataclass(frozen=True)
class Stage:
    """The operator of a level, its smoother, and the way to the next level.

    Attributes
    ----------
    offsets, T, c
        The operator, as in `kernels.lattice`.
    s
        What residuals are multiplied with in a step of length one, shape (b, x, y, z).
    axes, weights
        The prolongation P, as in `kernels.transfer`.
    work
        Buffers, kept from one call to the next.
    """

    offsets: lattice.Offsets
    T: Tensor
    c: Tensor
    s: Tensor
    axes: tuple[bool, bool, bool]
    weights: Tensor
    work: Work = field(default_factory=dict, repr=False)

    def __reduce__(self) -> tuple[Any, ...]:
        """Leave the buffers out of copies."""
        return type(self), (self.offsets, self.T, self.c, self.s, self.axes, self.weights)

    @property
    def operator(self) -> tuple[lattice.Offsets, Tensor, Tensor, Tensor]:
        """The operator and its smoother."""
        return self.offsets, self.T, self.c, self.s

    def require(self, *fields: Tensor) -> None:
        """Refuse fields whose batches do not fit, see `require_batches`."""
        batches = {field.shape[0] for field in fields}
        if not batches | self._batches <= {1, max(batches)}:
            require_batches(max(batches), *fields, self.c, self.s, self.weights[0])

    @cached_property
    def _batches(self) -> set[int]:
        return {len(self.c), len(self.s), len(self.weights[0])}


def descend(stage: Stage, steps: Steps, b: Tensor, x: Tensor, coarse: Tensor) -> None:
    """Write x (b, x, y, z) after steps of the given lengths from zero, and P^T (b - A x) into `coarse` (b, X, Y, Z).

    Without steps x is left alone, and the restriction is that of b.
    """
    stage.require(b, x, coarse)
    if backend_for(b) == "compiled":
        march_down(
            steps, stage.operator, stage.axes, transfer.pairs(stage.axes), stage.weights, b, x, coarse, stage.work
        )
        return
    residual = b
    if steps:
        residual = torch.empty_like(b)
        first, *others = _targets(len(steps), x, residual)
        torch.mul(b, stage.s, out=first).mul_(steps[0])
        _relax(stage, steps[1:], first, b, others)
        lattice.residual(stage.offsets, stage.T, stage.c, x, b, residual)
    transfer.restrict(stage.axes, stage.weights, residual, coarse)


def ascend(stage: Stage, steps: Steps, coarse: Tensor, b: Tensor, x: Tensor, out: Tensor) -> None:
    """Write x + P coarse after steps of the given lengths into `out`: another tensor than x, which may be changed.

    Without steps `out` is x.
    """
    stage.require(b, x, coarse, out)
    if backend_for(b) == "compiled":
        march_up(
            steps, stage.operator, stage.axes, transfer.pairs(stage.axes), stage.weights, coarse, b, x, out, stage.work
        )
        return
    transfer.prolong_add(stage.axes, stage.weights, coarse, x)
    if steps:
        _relax(stage, steps, x, b, _targets(len(steps), out, torch.empty_like(b)))


def _targets(count: int, last: Tensor, other: Tensor) -> list[Tensor]:
    """Alternate between two tensors such that the last of so many steps writes into the first of them."""
    return [last if (count - k) % 2 else other for k in range(count)]


def _relax(stage: Stage, steps: Steps, x: Tensor, b: Tensor, targets: list[Tensor]) -> None:
    for step, target in zip(steps, targets):
        lattice.relax(stage.offsets, stage.T, stage.c, stage.s, x, b, step, target)
        x = target
