"""Multigrid cycles over any list of levels.

References: Briggs, Henson, McCormick, "A Multigrid Tutorial" (2000), chapter 3; Trottenberg, Oosterlee, Schueller,
"Multigrid" (2001), section 2.6 for full multigrid.
"""

from __future__ import annotations

import threading
from collections.abc import Sequence
from typing import Any, NamedTuple, Protocol

import torch
from torch import Tensor

from sciml_bounds.arrays import binary_scales
from sciml_bounds.kernels.field_memory import new_field
from sciml_bounds.kernels.vectors import combine
from sciml_bounds.multigrid._chebyshev import chebyshev_weights
from sciml_bounds.operators._linear_operator import LinearOperator

__all__ = ["CoarseSolver", "Cycle", "Level", "pseudo_inverse"]


#: A matrix of unit diagonal whose Cholesky factor has no smaller diagonal entry is regular beyond all doubt: its
#: smallest eigenvalue, in practice at least n^-2 or so of the square, is far above what counts as zero.
REGULAR_PIVOT = 1e-3


#: A right-hand side whose norm is between this and its reciprocal is in the middle of the range of single precision.
RANGE = 2.0**30


class Level(Protocol):
    """One level but the coarsest; every array carries the batch first, in whatever shape the level prefers."""

    def empty(self, batch: int) -> Tensor:
        """Allocate a vector of this level."""
        ...

    def descend(self, b: Tensor, steps: tuple[float, ...], x: Tensor, coarse: Tensor) -> None:
        """Write x after smoothing steps x + step D^-1 (b - A x) from zero, and the restriction of b - A x.

        Without steps, x is left alone and what is restricted is b.
        """
        ...

    def ascend(self, coarse: Tensor, b: Tensor, steps: tuple[float, ...], x: Tensor, out: Tensor) -> None:
        """Write x and the prolongation after smoothing steps; x may be changed, and without steps it is `out`."""
        ...

    def residual(self, x: Tensor, b: Tensor, out: Tensor) -> None:
        """Write b - A x."""
        ...


class CoarseSolver:
    """The pseudo-inverse of the coarsest matrices, applied as a dense product.

    Parameters
    ----------
    inverse
        Shape (1 or b, n, n).
    shape
        Shape of one vector of the coarsest level.
    """

    def __init__(self, inverse: Tensor, shape: tuple[int, ...]) -> None:
        self.inverse = inverse
        self.shape = shape

    def empty(self, batch: int) -> Tensor:
        """Allocate a vector of the coarsest level."""
        return torch.empty((batch, *self.shape), dtype=self.inverse.dtype, device=self.inverse.device)

    def solve(self, b: Tensor, out: Tensor) -> None:
        """Write the solution of smallest norm."""
        batch = b.shape[0]
        inverse = self.inverse if len(self.inverse) == batch else self.inverse.expand(batch, -1, -1)
        torch.bmm(inverse, b.view(batch, inverse.shape[-1], 1), out=out.view(batch, inverse.shape[-1], 1))


def pseudo_inverse(matrix: Tensor) -> Tensor:
    """Invert symmetric positive semi-definite matrices (..., n, n) on their range.

    The matrices are scaled to unit diagonal first, so that jumps of the coefficient do not look like a null space.
    """
    exact = matrix.double()
    diagonal = exact.diagonal(dim1=-2, dim2=-1)
    # a row of zeros stays one: its eigenvector is mixed with others by round-off, which nothing large may multiply
    scale = torch.where(diagonal > 0, diagonal.rsqrt(), 0.0)
    unit = scale.unsqueeze(-1) * exact * scale.unsqueeze(-2)
    factor, failed = torch.linalg.cholesky_ex(unit)
    pivots = factor.diagonal(dim1=-2, dim2=-1).amin(-1)
    if bool(((failed == 0) & (pivots > REGULAR_PIVOT)).all()):
        result = torch.cholesky_inverse(factor)  # ten times as fast
    else:
        values, vectors = torch.linalg.eigh(unit)
        null = values <= 1e-12 * values[..., -1:]
        inverse = torch.where(null, 0.0, 1 / torch.where(null, 1.0, values))
        result = (vectors * inverse.unsqueeze(-2)) @ vectors.mT
    scaled: Tensor = scale.unsqueeze(-1) * result * scale.unsqueeze(-2)
    return scaled.to(matrix.dtype)


class _Scaling(NamedTuple):
    """One over the size of right-hand sides, the factors on the way back, and zeros; shape (b,) each."""

    inverse: Tensor
    back: Tensor
    zero: Tensor


class Cycle(LinearOperator):
    """A V-cycle as a preconditioner: linear, symmetric, positive definite on the range of A.

    Parameters
    ----------
    levels
        From the finest to the last but one.
    coarsest
        Solver of the coarsest level.
    n
        Number of unknowns of the finest level.
    steps
        Lengths of the steps before and after each coarse correction, one tuple a level; or the number of Chebyshev
        steps on all levels.
    dtype
        Of the vectors it takes and gives; that of the levels by default. The levels may have another one: residuals
        are scaled to it, which costs single precision nothing of its range.
    scale
        The levels hold the matrices divided by this number, shape (1 or b,); 1 by default.
    """

    symmetric = True

    def __init__(
        self,
        levels: Sequence[Level],
        coarsest: CoarseSolver,
        n: int,
        steps: int | Sequence[tuple[float, ...]],
        dtype: torch.dtype | None = None,
        scale: Tensor | None = None,
    ) -> None:
        self.levels = list(levels)
        self.coarsest = coarsest
        self.steps = [chebyshev_weights(steps)] * len(self.levels) if isinstance(steps, int) else list(steps)
        self.shape = (n, n)
        self.dtype = coarsest.inverse.dtype if dtype is None else dtype
        self.device = coarsest.inverse.device
        self.scale = torch.ones(1, dtype=self.dtype, device=self.device) if scale is None else scale
        self._work: dict[int, list[list[Tensor]]] = {}
        self._sizes: dict[int, _Scaling] = {}  # of right-hand sides, by their number
        self._turn = threading.RLock()  # threads that share a cycle share its buffers

    def __getstate__(self) -> dict[str, Any]:
        """Leave buffers and the lock out of copies."""
        return {name: value for name, value in vars(self).items() if name not in ("_work", "_sizes", "_turn")}

    def __setstate__(self, state: dict[str, Any]) -> None:
        """Take up what `__getstate__` gave."""
        vars(self).update(state, _work={}, _sizes={}, _turn=threading.RLock())

    @property
    def batch(self) -> int:
        """Number of operators: 1 or the number of samples."""
        return len(self.coarsest.inverse)

    def matvec(self, x: Tensor) -> Tensor:
        """Apply one V-cycle to right-hand sides `(..., n)`, starting from zero."""
        self._check_batch(x)
        return self.matvec_into(x.contiguous(), torch.empty_like(x, memory_format=torch.contiguous_format))

    def matvec_into(self, x: Tensor, out: Tensor) -> Tensor:
        """Apply one V-cycle without allocation (after the first call with this batch size)."""
        n = self.shape[0]
        batch = x.numel() // n
        with self._turn:
            work = self._workspace(batch)
            if self.coarsest.inverse.dtype == self.dtype:
                shape = work[0][0].shape
                self._descend(0, x.reshape(shape), out.view(shape))
                return out
            b, z, right, found = work[-1]
            scaling = self._into_range(x.reshape(batch, n), right)
            self._descend(0, b, z)
            combine(scaling.back, found, scaling.zero, out.view(batch, n), norms=False)
            return out

    def full_multigrid(self, b: Tensor) -> Tensor:
        """Approximate A^-1 b `(..., n)` by full multigrid: one V-cycle a level, coarsest first.

        Not symmetric, so it serves as an initial guess and not as a preconditioner.
        """
        n = self.shape[0]
        batch = b.numel() // n
        with self._turn:
            flat, right = b.reshape(batch, n).contiguous(), new_field(self._workspace(batch)[0][0])
            scaling = self._into_range(flat, right.view(batch, n))
            found, result = self._ascend(0, right), new_field(flat)
            combine(scaling.back, found.view(batch, n), scaling.zero, result, norms=False)
            return result.view(b.shape)

    def _into_range(self, x: Tensor, out: Tensor) -> _Scaling:
        """Write right-hand sides (b, n) over (about) their largest entries in the dtype of the levels.

        Powers of two round nothing. The size of an earlier one is tried first, where the host need not wait to see
        whether it fits.
        """
        known = self._sizes.get(len(x))
        if known is not None and x.device.type == "cpu":
            low, high = map(float, combine(known.inverse, x, known.zero, out).aminmax())
            if low > 1 / RANGE and high < RANGE:
                return known
        size = binary_scales(x).squeeze(1)  # not the norm, whose squares leave the range of the dtype first
        known = _Scaling(1 / size, size / self.scale, torch.zeros_like(size))
        self._sizes = {len(x): known}
        combine(known.inverse, x, known.zero, out, norms=False)
        return known

    def _workspace(self, batch: int) -> list[list[Tensor]]:
        """Vectors of each level: a temporary one, then right-hand side and solution of the level below.

        Levels of another dtype than the vectors outside have a right-hand side and a solution of the finest level too,
        at the end of the list, and both once more as (b, n).
        """
        if batch not in self._work:
            self._work.clear()  # one batch size at a time is kept
            below: list[Level | CoarseSolver] = [*self.levels[1:], self.coarsest]
            self._work[batch] = [
                [level.empty(batch), lower.empty(batch), lower.empty(batch)] for level, lower in zip(self.levels, below)
            ] or [[self.coarsest.empty(batch)]]
            if self.coarsest.inverse.dtype != self.dtype:
                b, x = (new_field(self._work[batch][0][0]) for _ in range(2))
                self._work[batch].append([b, x, b.flatten(1), x.flatten(1)])
        return self._work[batch]

    def _descend(self, k: int, b: Tensor, out: Tensor) -> None:
        if k == len(self.levels):
            self.coarsest.solve(b, out)
            return
        level = self.levels[k]
        x, coarse_b, coarse_x = self._work[b.shape[0]][k]
        level.descend(b, self.steps[k], x, coarse_b)
        self._descend(k + 1, coarse_b, coarse_x)
        level.ascend(coarse_x, b, self.steps[k], x, out)

    def _ascend(self, k: int, b: Tensor) -> Tensor:
        if k == len(self.levels):
            solution = self.coarsest.empty(b.shape[0])
            self.coarsest.solve(b, solution)
            return solution
        level = self.levels[k]
        coarse_b = torch.empty_like(self._work[b.shape[0]][k][1])
        x = new_field(b).zero_()
        level.descend(b, (), x, coarse_b)
        level.ascend(self._ascend(k + 1, coarse_b), b, (), x, x)
        residual, correction = new_field(b), new_field(b)
        level.residual(x, b, residual)
        self._descend(k, residual, correction)
        return x.add_(correction)
