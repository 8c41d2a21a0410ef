"""Multigrid cycles over a list of levels of any kind.

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


#: A unit-diagonal matrix whose Cholesky pivots are all larger than this value is treated as regular. Its smallest
#: eigenvalue (in practice at least about n^-2 times the square of the smallest pivot) is then far above the threshold
#: below which eigenvalues count as zero.
REGULAR_PIVOT = 1e-3


#: Right-hand sides with a norm between 1 / `MAX_UNSCALED_SIZE` and `MAX_UNSCALED_SIZE` are not rescaled for single
#: precision.
MAX_UNSCALED_SIZE = 2.0**30


class Level(Protocol):
    """Interface of a level other than the coarsest. Arrays have a batch axis, and then the axes of the level."""

    def empty(self, batch: int) -> Tensor:
        """Allocate a vector of this level."""
        ...

    def descend(self, b: Tensor, steps: tuple[float, ...], x: Tensor, coarse: Tensor) -> None:
        """Smooth from a zero guess into `x`, and write the restriction of b - A x to `coarse`.

        Each smoothing step is x <- x + step D^-1 (b - A x). Without steps, `x` is not written and b is restricted.
        """
        ...

    def ascend(self, coarse: Tensor, b: Tensor, steps: tuple[float, ...], x: Tensor, out: Tensor) -> None:
        """Add the prolongation of `coarse` to `x`, smooth, and write the result to `out`.

        `x` may be overwritten; without steps, `x` and `out` may be the same array.
        """
        ...

    def residual(self, x: Tensor, b: Tensor, out: Tensor) -> None:
        """Write b - A x to `out`."""
        ...


class CoarseSolver:
    """The pseudo-inverse of the coarsest matrices, applied as a dense product.

    Parameters
    ----------
    inverse : Tensor
        Pseudo-inverses, shape (1 or b, n, n).
    shape : tuple of int
        Shape of one vector of the coarsest level, without the batch axis.
    """

    def __init__(self, inverse: Tensor, shape: tuple[int, ...]) -> None:
        self.inverse = inverse
        self.shape = shape

    def empty(self, batch: int) -> Tensor:
        """Allocate a vector of the coarsest level."""
        return torch.empty((batch, *self.shape), dtype=self.inverse.dtype, device=self.inverse.device)

    def solve(self, b: Tensor, out: Tensor) -> None:
        """Write the least-norm solution for the right-hand side b to `out`."""
        batch = b.shape[0]
        inverse = self.inverse if len(self.inverse) == batch else self.inverse.expand(batch, -1, -1)
        torch.bmm(inverse, b.view(batch, inverse.shape[-1], 1), out=out.view(batch, inverse.shape[-1], 1))


def pseudo_inverse(matrix: Tensor) -> Tensor:
    """Invert symmetric positive semi-definite matrices (..., n, n) on their range.

    The matrices are first scaled to unit diagonal, so that small coefficients are not mistaken for a null space.
    """
    exact = matrix.double()
    diagonal = exact.diagonal(dim1=-2, dim2=-1)
    # keep zero rows at zero: round-off mixes their eigenvectors with others, and a large scale would amplify that
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
    """Scale factors of right-hand sides, shape (b,) each: for input, for output, and zeros."""

    inverse: Tensor
    back: Tensor
    zero: Tensor


class Cycle(LinearOperator):
    """A V-cycle as a preconditioner: linear, symmetric, and positive definite on the range of A.

    Parameters
    ----------
    levels : sequence of Level
        All levels except the coarsest, finest first.
    coarsest : CoarseSolver
        Solver of the coarsest level.
    n : int
        Number of unknowns on the finest level.
    steps : int or sequence of tuple of float
        Number of Chebyshev steps on all levels; or one tuple per level with the lengths of the steps, which are applied
        before and after each coarse correction.
    dtype : torch.dtype or None
        Precision of input and output vectors; by default the precision of the levels. If the two differ, right-hand
        sides are scaled first, to avoid overflow and underflow in single precision.
    scale : Tensor or None
        The levels represent the matrices A / scale; shape (1 or b,). By default 1.
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
        self._sizes: dict[int, _Scaling] = {}  # by batch size
        self._turn = threading.RLock()  # threads that share a cycle share its buffers

    def __getstate__(self) -> dict[str, Any]:
        """Return the state without buffers and lock."""
        return {name: value for name, value in vars(self).items() if name not in ("_work", "_sizes", "_turn")}

    def __setstate__(self, state: dict[str, Any]) -> None:
        """Restore the state, with empty buffers and a new lock."""
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
        """Approximate A^-1 b `(..., n)` by full multigrid: one V-cycle per level, coarsest level first.

        The map is not symmetric: use it to compute an initial guess, not as a preconditioner.
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
        """Write right-hand sides (b, n), each divided by about its largest entry, to `out` in the dtype of the levels.

        Scales are powers of two, so that scaling does not round. On the CPU, the scales of the previous call are tried
        first; on other devices that check would make the host wait.
        """
        scaling = self._sizes.get(len(x))
        if scaling is not None and x.device.type == "cpu":
            low, high = map(float, combine(scaling.inverse, x, scaling.zero, out).aminmax())
            if low > 1 / MAX_UNSCALED_SIZE and high < MAX_UNSCALED_SIZE:
                return scaling
        size = binary_scales(x).squeeze(1)  # not the norm, whose squares overflow earlier
        scaling = _Scaling(1 / size, size / self.scale, torch.zeros_like(size))
        self._sizes = {len(x): scaling}
        combine(scaling.inverse, x, scaling.zero, out, norms=False)
        return scaling

    def _workspace(self, batch: int) -> list[list[Tensor]]:
        """Return the work vectors of each level: a temporary, and right-hand side and solution of the coarser level.

        If the levels have another dtype than the input, the last entries are right-hand side and solution of the finest
        level, both in the shape of the level and as (b, n).
        """
        if batch not in self._work:
            self._work.clear()  # keep the vectors of one batch size only
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
