"""Matrices of Newton's method, dense (strided tensors) or sparse (CSR tensors): sums, norms and KKT systems.

A = [[B, G^T], [G, -d I]], with B of shape (n, n), G of shape (m, n), d >= 0.
"""

from __future__ import annotations

from typing import Any

import scipy.sparse
import torch
from torch import Tensor

from sciml_bounds.operators.linear_operator import csr_tensor

__all__ = ["added", "frobenius", "identity", "is_sparse", "kkt_matrix", "scipy_matrix", "shifted", "stacked"]


def is_sparse(matrix: Tensor) -> bool:
    """Whether a matrix is in CSR form."""
    return matrix.layout != torch.strided


def scipy_matrix(matrix: Tensor) -> Any:
    """Turn a matrix into a scipy sparse array on the CPU."""
    if not is_sparse(matrix):
        return scipy.sparse.csr_array(matrix.cpu().numpy())
    parts = (part.cpu().numpy() for part in (matrix.values(), matrix.col_indices(), matrix.crow_indices()))
    return scipy.sparse.csr_array(tuple(parts), shape=tuple(matrix.shape))


def stacked(blocks: list[Tensor], like: Tensor) -> Tensor:
    """Stack matrices with n columns, one below the other; sparse if one of them is."""
    if not any(is_sparse(block) for block in blocks):
        return torch.cat([like.new_zeros(0, len(like)), *blocks])
    return csr_tensor(scipy.sparse.vstack([scipy_matrix(block) for block in blocks]), device=like.device)


def added(first: Tensor, second: Tensor) -> Tensor:
    """Add two matrices; sparse if both are."""
    if is_sparse(first) and is_sparse(second):
        return csr_tensor(scipy_matrix(first) + scipy_matrix(second), device=first.device)
    return first.to_dense() + second.to_dense()


def identity(G: Tensor, scale: float = 1.0) -> Tensor:
    """Return a multiple of the identity on the columns of a matrix, sparse if that is."""
    n = G.shape[1]
    if is_sparse(G):
        return csr_tensor(scale * scipy.sparse.eye_array(n, format="csr"), device=G.device)
    return scale * torch.eye(n, dtype=G.dtype, device=G.device)


def shifted(matrix: Tensor, shift: float) -> Tensor:
    """Add a multiple of the identity."""
    if shift == 0:
        return matrix
    n = matrix.shape[0]
    if is_sparse(matrix):
        return csr_tensor(scipy_matrix(matrix) + shift * scipy.sparse.eye_array(n), device=matrix.device)
    return matrix + shift * torch.eye(n, dtype=matrix.dtype, device=matrix.device)


def frobenius(matrix: Tensor) -> float:
    """Return the Frobenius norm."""
    return float((matrix.values() if is_sparse(matrix) else matrix).norm())


def kkt_matrix(B: Tensor, G: Tensor, damping: float = 0.0) -> Tensor:
    """Assemble A, shape (n + m, n + m); sparse if one of them is."""
    m = G.shape[0]
    if is_sparse(B) or is_sparse(G):
        corner = -damping * scipy.sparse.eye_array(m) if m else None
        rows, columns = scipy_matrix(G), scipy_matrix(G).T
        matrix = scipy.sparse.block_array([[scipy_matrix(B), columns], [rows, corner]]) if m else scipy_matrix(B)
        return csr_tensor(matrix, device=B.device)
    corner = -damping * torch.eye(m, dtype=B.dtype, device=B.device)
    return torch.cat([torch.cat([B, G.mT], 1), torch.cat([G, corner], 1)])
