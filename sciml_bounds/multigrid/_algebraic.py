"""Algebraic multigrid: PyAMG builds the hierarchy, and torch applies it on the device of the matrix.

Reference: Bell, Olson, Schroder, Southworth, "PyAMG: Algebraic Multigrid Solvers in Python", J. Open Source Softw. 8
(2023) 5495. The smoother is the package's own (Chebyshev steps with l1 scaling), which is symmetric and runs on any
device.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import scipy.sparse
import torch
from torch import Tensor

from sciml_bounds.arrays import require_choice, require_count
from sciml_bounds.errors import InputError
from sciml_bounds.multigrid._cycle import CoarseSolver, Cycle, pseudo_inverse
from sciml_bounds.operators._linear_operator import Stacked, csr_tensor

__all__ = ["KINDS", "Algebraic", "MatrixLevel", "algebraic_cycle"]

#: Kinds of hierarchies.
KINDS = ("ruge-stuben", "smoothed-aggregation")


@dataclass(frozen=True)
class Algebraic:
    """Solve by conjugate gradients, preconditioned by a PyAMG hierarchy; each matrix of a batch has its own hierarchy.

    As a method of `sb.solve` and `sb.prepare` it applies to their problems; as the preconditioner `M` of `sb.cg` and
    `sb.minres` it applies to any symmetric positive (semi-)definite sparse matrix.

    Parameters
    ----------
    kind : {"ruge-stuben", "smoothed-aggregation"}, default "ruge-stuben"
        Coarsening method of PyAMG.
    sweeps : int, default 2
        Number of smoothing steps before and after each coarse correction.
    """

    kind: Literal["ruge-stuben", "smoothed-aggregation"] = "ruge-stuben"
    sweeps: int = 2

    def __post_init__(self) -> None:
        require_choice(self.kind, "kind", KINDS)
        require_count(self.sweeps, "sweeps", 1)

    def set_up(self, matrices: Sequence[Any], dtype: torch.dtype, device: torch.device) -> Stacked:
        """Return one V-cycle for each scipy sparse matrix (n, n).

        Raises
        ------
        InputError
            If a diagonal entry shows that a matrix is not positive semi-definite.
        """
        for matrix in matrices:
            _require_diagonal(matrix)
        return Stacked(
            [
                algebraic_cycle(matrix, kind=self.kind, sweeps=self.sweeps, dtype=dtype, device=device)
                for matrix in matrices
            ]
        )


def _require_diagonal(matrix: Any) -> None:
    """Raise unless all diagonal entries are positive, except in rows of zeros."""
    diagonal = matrix.diagonal()
    bad = (diagonal < 0) | ((diagonal == 0) & (np.asarray(abs(matrix).sum(axis=1)).reshape(-1) > 0))
    if bad.any():
        row = int(bad.argmax())
        raise InputError(
            f"algebraic multigrid needs a positive definite matrix, but entry ({row}, {row}) is {diagonal[row]:.3g}; "
            "use another preconditioner, for a saddle-point system one hierarchy for each definite block."
        )


class MatrixLevel:
    """One level of a PyAMG hierarchy with its matrices on a torch device; vectors have shape (b, n)."""

    def __init__(self, A: Any, P: Any, dtype: torch.dtype, device: torch.device) -> None:
        self.A = csr_tensor(A, dtype, device)
        self.P = csr_tensor(P, dtype, device)
        self.R = csr_tensor(P.T, dtype, device)
        row_sums = np.asarray(abs(scipy.sparse.csr_array(A)).sum(axis=1)).reshape(-1)
        self.inverse_row_sums = torch.as_tensor(1 / np.where(row_sums > 0, row_sums, 1.0), dtype=dtype, device=device)

    def empty(self, batch: int) -> Tensor:
        """Allocate vectors (b, n)."""
        return torch.empty((batch, self.A.shape[0]), dtype=self.A.dtype, device=self.A.device)

    def descend(self, b: Tensor, steps: tuple[float, ...], x: Tensor, coarse: Tensor) -> None:
        """Smooth from a zero guess into `x`, and write the restricted residual to `coarse`."""
        residual = b
        if steps:
            torch.mul(b, self.inverse_row_sums, out=x).mul_(steps[0])
            self._relax(x, b, steps[1:])
            residual = b - self._product(x)
        coarse.copy_((self.R @ residual.mT).mT)

    def ascend(self, coarse: Tensor, b: Tensor, steps: tuple[float, ...], x: Tensor, out: Tensor) -> None:
        """Add the prolonged correction to `x`, smooth, and write the result to `out`."""
        torch.add(x, (self.P @ coarse.mT).mT, out=out)
        self._relax(out, b, steps)

    def residual(self, x: Tensor, b: Tensor, out: Tensor) -> None:
        """Write b - A x to `out`."""
        torch.sub(b, self._product(x), out=out)

    def _relax(self, x: Tensor, b: Tensor, steps: tuple[float, ...]) -> None:
        for step in steps:
            x.add_(self.inverse_row_sums * (b - self._product(x)), alpha=step)

    def _product(self, x: Tensor) -> Tensor:
        product: Tensor = (self.A @ x.mT).mT
        return product


def algebraic_cycle(
    matrix: Any,
    *,
    kind: Literal["ruge-stuben", "smoothed-aggregation"] = "ruge-stuben",
    sweeps: int = 2,
    dtype: torch.dtype = torch.float64,
    device: torch.device | str = "cpu",
) -> Cycle:
    """Set up a V-cycle for a symmetric positive semi-definite scipy sparse matrix.

    Parameters
    ----------
    matrix : scipy sparse matrix or array, shape (n, n)
        Symmetric positive semi-definite matrix A.
    kind : {"ruge-stuben", "smoothed-aggregation"}
        Coarsening method of PyAMG.
    sweeps : int
        Number of Chebyshev smoothing steps before and after each coarse correction.
    dtype, device : torch.dtype, torch.device or str
        Precision and device of the cycle.

    Returns
    -------
    Cycle
        The V-cycle, a linear operator that approximates the pseudo-inverse of A.

    Raises
    ------
    InputError
        If `kind` is unknown.
    """
    import pyamg

    require_choice(kind, "kind", KINDS)
    builders = {"ruge-stuben": pyamg.ruge_stuben_solver, "smoothed-aggregation": pyamg.smoothed_aggregation_solver}
    csr = scipy.sparse.csr_matrix(matrix)
    csr.indptr, csr.indices = (
        csr.indptr.astype(np.int32),
        csr.indices.astype(np.int32),
    )  # PyAMG accepts 32-bit indices only
    hierarchy = builders[kind](csr, max_coarse=100)
    levels = [MatrixLevel(level.A, level.P, dtype, torch.device(device)) for level in hierarchy.levels[:-1]]
    coarsest = torch.as_tensor(hierarchy.levels[-1].A.toarray(), dtype=dtype, device=device).unsqueeze(0)
    solver = CoarseSolver(pseudo_inverse(coarsest), (coarsest.shape[-1],))
    return Cycle(levels, solver, csr.shape[0], sweeps)
