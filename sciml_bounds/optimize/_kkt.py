"""Matrix operations of Newton's method, for dense (strided) and sparse (CSR) tensors and operators (`Products`).

The KKT matrix is A = [[B, G^T], [G, -d I]], with B of shape (n, n), G of shape (m, n), and d >= 0.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, overload

import scipy.sparse
import torch
from torch import Tensor
from torch.linalg import vector_norm

from sciml_bounds.operators._linear_operator import csr_tensor
from sciml_bounds.optimize._products import Matrix, Products

__all__ = [
    "added",
    "frobenius",
    "identity",
    "is_sparse",
    "kkt_matrix",
    "scaled_rows",
    "scipy_matrix",
    "shifted",
    "stacked",
]


def is_sparse(matrix: Matrix) -> bool:
    """Whether a matrix is in CSR form."""
    return isinstance(matrix, Tensor) and matrix.layout != torch.strided


def scipy_matrix(matrix: Tensor) -> Any:
    """Convert a matrix to a scipy sparse array on the CPU."""
    if not is_sparse(matrix):
        return scipy.sparse.csr_array(matrix.cpu().numpy())
    parts = (part.cpu().numpy() for part in (matrix.values(), matrix.col_indices(), matrix.crow_indices()))
    return scipy.sparse.csr_array(tuple(parts), shape=tuple(matrix.shape))


def stacked(blocks: Sequence[Matrix], like: Tensor) -> Matrix:
    """Stack matrices with n columns vertically: an operator if one of them is, else sparse if one is."""
    tensors = [block for block in blocks if isinstance(block, Tensor)]
    if len(tensors) < len(blocks):
        return _stacked_products(blocks, like)
    if not any(is_sparse(block) for block in tensors):
        return torch.cat([like.new_zeros(0, len(like)), *tensors])
    return csr_tensor(scipy.sparse.vstack([scipy_matrix(block) for block in tensors]), device=like.device)


def _stacked_products(blocks: Sequence[Matrix], like: Tensor) -> Products:
    sizes = [block.shape[0] for block in blocks]

    def forward(x: Tensor) -> Tensor:
        return torch.cat([block @ x for block in blocks])

    def adjoint(y: Tensor) -> Tensor:
        return torch.stack([block.mT @ part for block, part in zip(blocks, y.split(sizes))]).sum(0)

    return Products((sum(sizes), len(like)), forward, adjoint, like.device)


def added(first: Matrix, second: Matrix) -> Matrix:
    """Add two matrices: an operator if one of them is, else sparse if both are."""
    if isinstance(first, Products) or isinstance(second, Products):
        shape, device = tuple(first.shape), first.device
        return Products(
            (shape[0], shape[1]), lambda x: first @ x + second @ x, lambda y: first.mT @ y + second.mT @ y, device
        )
    if is_sparse(first) and is_sparse(second):
        return csr_tensor(scipy_matrix(first) + scipy_matrix(second), device=first.device)
    return first.to_dense() + second.to_dense()


def scaled_rows(matrix: Matrix, scale: float | Tensor) -> Matrix:
    """Multiply the rows of a matrix by one factor, or by one factor per row (m,)."""
    if not isinstance(scale, Tensor):
        return matrix if scale == 1 else matrix * scale
    if isinstance(matrix, Products):
        return Products(matrix.shape, lambda x: scale * (matrix @ x), lambda y: matrix.mT @ (scale * y), matrix.device)
    if is_sparse(matrix):
        rows = scipy.sparse.diags_array(scale.cpu().numpy()) @ scipy_matrix(matrix)
        return csr_tensor(rows, device=matrix.device)
    return scale.unsqueeze(1) * matrix


def identity(G: Tensor, scale: float = 1.0) -> Tensor:
    """Return a multiple of the identity (n, n) for a matrix G (m, n), sparse if G is."""
    n = G.shape[1]
    if is_sparse(G):
        return csr_tensor(scale * scipy.sparse.eye_array(n, format="csr"), device=G.device)
    return scale * torch.eye(n, dtype=G.dtype, device=G.device)


@overload
def shifted(matrix: Tensor, shift: float) -> Tensor: ...


@overload
def shifted(matrix: Matrix, shift: float) -> Matrix: ...


def shifted(matrix: Matrix, shift: float) -> Matrix:
    """Add a multiple of the identity to a symmetric matrix."""
    if shift == 0:
        return matrix
    n = matrix.shape[0]
    if isinstance(matrix, Products):
        return Products.symmetric(n, lambda x: matrix @ x + shift * x, matrix.device)
    if is_sparse(matrix):
        return csr_tensor(scipy_matrix(matrix) + shift * scipy.sparse.eye_array(n), device=matrix.device)
    return matrix + shift * torch.eye(n, dtype=matrix.dtype, device=matrix.device)


def frobenius(matrix: Matrix) -> float:
    """Return the Frobenius norm; an estimate if the matrix is an operator."""
    if isinstance(matrix, Products):
        return matrix.frobenius
    return float(vector_norm(matrix.values() if is_sparse(matrix) else matrix))


@overload
def kkt_matrix(B: Tensor, G: Tensor, damping: float = 0.0) -> Tensor: ...


@overload
def kkt_matrix(B: Matrix, G: Matrix, damping: float = 0.0) -> Matrix: ...


def kkt_matrix(B: Matrix, G: Matrix, damping: float = 0.0) -> Matrix:
    """Assemble the KKT matrix A, shape (n + m, n + m): an operator if B or G is, else sparse if one is."""
    m, n = G.shape
    if isinstance(B, Products) or isinstance(G, Products):
        return Products.symmetric(n + m, lambda z: _kkt_product(B, G, damping, z), B.device)
    if is_sparse(B) or is_sparse(G):
        corner = -damping * scipy.sparse.eye_array(m) if m else None
        rows, columns = scipy_matrix(G), scipy_matrix(G).T
        matrix = scipy.sparse.block_array([[scipy_matrix(B), columns], [rows, corner]]) if m else scipy_matrix(B)
        return csr_tensor(matrix, device=B.device)
    corner = -damping * torch.eye(m, dtype=B.dtype, device=B.device)
    return torch.cat([torch.cat([B, G.mT], 1), torch.cat([G, corner], 1)])


def _kkt_product(B: Matrix, G: Matrix, damping: float, z: Tensor) -> Tensor:
    x, y = z.split([G.shape[1], G.shape[0]])
    below = G @ x - damping * y if damping else G @ x
    return torch.cat([B @ x + G.mT @ y, below])
