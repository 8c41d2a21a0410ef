"""The descending and ascending half of a multigrid cycle on one level.

Descent: Chebyshev steps x <- x + w s (b - A x) from zero, then restriction of the residual. Ascent: prolongation of the
coarse correction, then the same steps. On the CPU each half is one pass through memory (`wavefront`); on other devices
it calls the kernels of `lattice` and `transfer` one after the other.
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
    """Operator and smoother of a level, and prolongation from the next coarser level.

    Attributes
    ----------
    offsets, T, c : Offsets, Tensor, Tensor
        The operator, as in `kernels.lattice`.
    s : Tensor (b, x, y, z)
        Diagonal scaling of the residual in the smoother.
    axes, weights : tuple of bool, Tensor
        The prolongation P, as in `kernels.transfer`.
    work : Work
        Buffers, reused by later calls.
    """

    offsets: lattice.Offsets
    T: Tensor
    c: Tensor
    s: Tensor
    axes: tuple[bool, bool, bool]
    weights: Tensor
    work: Work = field(default_factory=dict, repr=False)

    def __reduce__(self) -> tuple[Any, ...]:
        """Exclude the buffers when the stage is copied or pickled."""
        return type(self), (self.offsets, self.T, self.c, self.s, self.axes, self.weights)

    @property
    def operator(self) -> tuple[lattice.Offsets, Tensor, Tensor, Tensor]:
        """The operator and the scaling s of its smoother."""
        return self.offsets, self.T, self.c, self.s

    def require(self, *fields: Tensor) -> None:
        """Raise if the batches of the fields do not fit those of the operator; see `require_batches`."""
        batches = {field.shape[0] for field in fields}
        if not batches | self._batches <= {1, max(batches)}:
            require_batches(max(batches), *fields, self.c, self.s, self.weights[0])

    @cached_property
    def _batches(self) -> set[int]:
        return {len(self.c), len(self.s), len(self.weights[0])}


def descend(stage: Stage, steps: Steps, b: Tensor, x: Tensor, coarse: Tensor) -> None:
    """Write the result of smoothing steps from zero into x, and the restricted residual P^T (b - A x) into `coarse`.

    Without steps x is not written, and `coarse` is P^T b.

    Parameters
    ----------
    stage : Stage
        Operator, smoother and prolongation.
    steps : tuple of float
        Lengths of the steps.
    b, x : Tensor (b, x, y, z)
        Right-hand side, and output of the smoothing steps.
    coarse : Tensor (b, X, Y, Z)
        Output of the restriction.
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
    """Add P `coarse` to x, apply smoothing steps of the given lengths to the result, and write it into `out`.

    `x` may be overwritten. `out` must not share memory with x; only without steps, `out` must be x itself.
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
    """Return the output of each of `count` steps, alternating between two tensors and ending with `last`."""
    return [last if (count - k) % 2 else other for k in range(count)]


def _relax(stage: Stage, steps: Steps, x: Tensor, b: Tensor, targets: list[Tensor]) -> None:
    for step, target in zip(steps, targets):
        lattice.relax(stage.offsets, stage.T, stage.c, stage.s, x, b, step, target)
        x = target
