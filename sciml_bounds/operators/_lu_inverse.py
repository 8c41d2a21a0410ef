"""The inverse of a sparse matrix by LU factorisation."""

from __future__ import annotations

from typing import Any

import numpy as np
import scipy.sparse.linalg
import torch
from torch import Tensor

from sciml_bounds.operators._linear_operator import LinearOperator

__all__ = ["LuInverse"]


class LuInverse(LinearOperator):
    """Inverse of a sparse symmetric matrix, by the LU factorisation of scipy, in float64 on the CPU.

    Parameters
    ----------
    matrix : scipy sparse array (n, n)
        Symmetric regular matrix.
    dtype, device : torch.dtype, torch.device
        Dtype and device of the vectors.
    """

    symmetric = True

    def __init__(self, matrix: Any, *, dtype: torch.dtype, device: torch.device) -> None:
        self._factors = scipy.sparse.linalg.splu(matrix.tocsc().astype(np.float64))
        self.shape = matrix.shape
        self.dtype, self.device = dtype, device

    def matvec(self, x: Tensor) -> Tensor:
        """Return the solutions for right-hand sides (..., n)."""
        return self.matvec_into(x, torch.empty_like(x, memory_format=torch.contiguous_format))

    def matvec_into(self, x: Tensor, out: Tensor) -> Tensor:
        """Solve for right-hand sides (..., n), and write the solutions into `out`."""
        columns = x.detach().reshape(-1, self.shape[0]).double().cpu().numpy().T
        out.view(-1, self.shape[0]).copy_(torch.from_numpy(self._factors.solve(columns).T))
        return out
