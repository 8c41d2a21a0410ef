"""The `LinearOperator` base class, and adapters for operators of other packages."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import scipy.sparse
import scipy.sparse.linalg
import torch
from torch import Tensor

from sciml_bounds.arrays import to_tensor
from sciml_bounds.errors import InputError

__all__ = [
    "CallableOperator",
    "Diagonal",
    "Identity",
    "LinearOperator",
    "MatrixOperator",
    "Stacked",
    "aslinearoperator",
    "csr_matrices",
    "csr_tensor",
    "inner",
]


def inner(u: Tensor, v: Tensor) -> Tensor:
    """Return the inner products u^H v of the rows of u and v, both (b, n), without a temporary array of that size."""
    return torch.bmm(u.conj().unsqueeze(1), v.unsqueeze(2)).view(-1)


class LinearOperator:
    """A map of flat vectors `(..., n)`: an operator A, or a preconditioner, which approximates the inverse of A.

    Attributes
    ----------
    shape : (int, int)
        `(n, n)`.
    dtype, device : torch.dtype, torch.device
        Dtype and device of the vectors.
    symmetric, linear : bool or None
        Properties of the map; None if unknown. Krylov methods choose their variant by them.
    safeguard : bool
        Whether conjugate gradients also search along the residual, in addition to the output of this preconditioner.
        Set it for a nonlinear preconditioner of unknown quality, such as a network. Leave it False for a linear
        preconditioner, even if `linear` is None: then all search directions stay conjugate.
    norm_upper : Tensor (1 or b,) or None
        Upper bound on the spectral norm; None if unknown.
    eigenvalue_lower : Tensor (1 or b,) or None
        Lower bound on the smallest eigenvalue; None if unknown.
    """

    shape: tuple[int, int]
    dtype: torch.dtype
    device: torch.device
    symmetric: bool | None = None
    linear: bool | None = True
    safeguard: bool = False
    norm_upper: Tensor | None = None
    eigenvalue_lower: Tensor | None = None

    @property
    def batch(self) -> int:
        """Number of operators: 1, or one per vector."""
        return 1

    def matvec(self, x: Tensor) -> Tensor:
        """Apply the operator to vectors `(..., n)`."""
        raise NotImplementedError

    def matvec_into(self, x: Tensor, out: Tensor) -> Tensor:
        """Apply the operator and write the result into `out`, without allocation if possible."""
        return out.copy_(self.matvec(x))

    def residual_into(self, x: Tensor, b: Tensor, out: Tensor) -> Tensor:
        """Write b - A x into `out`, which must not be b."""
        self.matvec_into(x, out)
        return torch.sub(b, out, out=out)

    def energy_into(self, x: Tensor, out: Tensor) -> Tensor:
        """Write A x into `out` and return x^H A x, which is real for a Hermitian A: shape (b,) for x (b, n)."""
        return inner(x, self.matvec_into(x, out)).real

    def product_round_off(self, x: Tensor) -> Tensor | None:
        """Return a bound on the norm of the round-off error of A x, shape (b,) for x (b, n); None if unknown."""
        if self.norm_upper is None:
            return None
        found: Tensor = 32 * torch.finfo(self.dtype).eps * self.norm_upper * x.norm(dim=1)  # at most 27 entries per row
        return found

    def product_sizes(self, x: Tensor) -> Tensor | None:
        """Return |A| |x|, shape (b, n); times eps it bounds the round-off of A x. None if the entries are unknown."""
        return None

    def _check_batch(self, x: Tensor) -> None:
        """Raise unless x contains vectors, and one per operator, so that compiled loops do not read out of bounds.

        Raises
        ------
        InputError
            If x is not a tensor of numbers, or has the wrong length or batch size.
        """
        tensor = isinstance(x, Tensor)
        if not tensor or x.numel() % self.shape[0] or not (x.is_floating_point() or x.is_complex()):
            dtype = str(x.dtype).removeprefix("torch.") if tensor else ""
            kind = f"{dtype} of shape {tuple(x.shape)}" if tensor else f"a {type(x).__name__}"
            raise InputError(
                f"the operator takes vectors of numbers of shape (..., {self.shape[0]}), but got {kind}; pass a torch "
                f"tensor whose last axis has length {self.shape[0]}."
            )
        vectors = x.numel() // self.shape[0]
        if self.batch not in (1, vectors):
            raise InputError(
                f"a batch of {self.batch} operators cannot be applied to {vectors} vectors; pass {self.batch} vectors."
            )

    def __matmul__(self, x: Tensor) -> Tensor:
        return self.matvec(x)

    def to_scipy(self) -> scipy.sparse.linalg.LinearOperator:
        """Return a `scipy.sparse.linalg.LinearOperator` on numpy vectors, for use as `A` or `M` in scipy.

        The scipy operator has an adjoint (`rmatvec`) if this operator is known to be symmetric.

        Raises
        ------
        InputError
            If this is a batch of operators, which scipy does not support.
        """
        if self.batch > 1:
            raise InputError(
                f"scipy does not support batches, but this is a batch of {self.batch} operators; convert each operator "
                "separately."
            )

        def apply(x: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
            vector = torch.as_tensor(np.ascontiguousarray(x).reshape(-1), dtype=self.dtype, device=self.device)
            result: np.ndarray[Any, Any] = self.matvec(vector).detach().cpu().numpy()
            return result

        numpy_dtype = np.dtype(str(self.dtype).removeprefix("torch."))
        adjoint = apply if self.symmetric else None
        return scipy.sparse.linalg.LinearOperator(self.shape, matvec=apply, rmatvec=adjoint, dtype=numpy_dtype)


class Identity(LinearOperator):
    """The identity operator."""

    symmetric = True

    def __init__(self, n: int, dtype: torch.dtype, device: torch.device) -> None:
        self.shape = (n, n)
        self.dtype = dtype
        self.device = device

    def matvec(self, x: Tensor) -> Tensor:
        """Return the vectors unchanged."""
        return x


class Diagonal(LinearOperator):
    """Diagonal matrices with entries (b, n), for example a Jacobi preconditioner."""

    symmetric = True

    def __init__(self, entries: Tensor) -> None:
        self.entries = entries
        self.shape = (entries.shape[1], entries.shape[1])
        self.dtype, self.device = entries.dtype, entries.device

    @property
    def batch(self) -> int:
        """Number of diagonals."""
        return len(self.entries)

    def matvec(self, x: Tensor) -> Tensor:
        """Multiply entrywise, differentiably."""
        self._check_batch(x)
        return (x.reshape(-1, self.shape[0]) * self.entries).view(x.shape)

    def matvec_into(self, x: Tensor, out: Tensor) -> Tensor:
        """Multiply entrywise, without allocation."""
        n = self.shape[0]
        torch.mul(x.reshape(-1, n), self.entries, out=out.view(-1, n))
        return out


class Stacked(LinearOperator):
    """A batch of operators, applied one after the other: one operator per sample, or one for all samples."""

    def __init__(self, parts: Sequence[LinearOperator]) -> None:
        self.parts = list(parts)
        first = self.parts[0]
        self.shape, self.dtype, self.device = first.shape, first.dtype, first.device
        self.symmetric, self.linear = first.symmetric, first.linear

    @property
    def batch(self) -> int:
        """Number of operators."""
        return len(self.parts)

    def matvec(self, x: Tensor) -> Tensor:
        """Apply to vectors `(..., n)`."""
        self._check_batch(x)
        return self.matvec_into(x.contiguous(), torch.empty_like(x, memory_format=torch.contiguous_format))

    def matvec_into(self, x: Tensor, out: Tensor) -> Tensor:
        """Apply the operators to x, and write the result into `out`."""
        if self.batch == 1:
            return self.parts[0].matvec_into(x, out)
        rows, results = x.view(self.batch, -1), out.view(self.batch, -1)
        for part, row, result in zip(self.parts, rows, results):
            part.matvec_into(row, result)
        return out


class MatrixOperator(LinearOperator):
    """A dense `(..., n, n)` or sparse `(n, n)` torch matrix."""

    def __init__(self, matrix: Tensor, symmetric: bool | None = None) -> None:
        _require_square(tuple(matrix.shape))
        self.matrix = matrix if matrix.ndim == 2 else matrix.reshape(-1, *matrix.shape[-2:])
        self.shape = (matrix.shape[-1], matrix.shape[-1])
        self.dtype = matrix.dtype
        self.device = matrix.device
        self.symmetric = symmetric

    @property
    def batch(self) -> int:
        """Number of matrices."""
        return 1 if self.matrix.ndim == 2 else len(self.matrix)

    def matvec(self, x: Tensor) -> Tensor:
        """Multiply vectors `(..., n)` by the matrix."""
        self._check_batch(x)
        flat = x.reshape(-1, self.shape[0])
        if self.matrix.layout == torch.strided and self.matrix.ndim == 3:
            return torch.matmul(self.matrix, flat.unsqueeze(-1)).reshape(x.shape)
        return (self.matrix @ flat.mT).mT.reshape(x.shape)

    def product_round_off(self, x: Tensor) -> Tensor:
        """Return a bound on the norm of the round-off error of A x, computed from n eps |A| |x| in each row."""
        sizes = MatrixOperator(self.matrix.abs()).matvec(x.abs())
        found: Tensor = (self.shape[0] + 2) * torch.finfo(self.dtype).eps * sizes.norm(dim=1)
        return found


class CallableOperator(LinearOperator):
    """A function of vectors `(..., n)` as an operator, with properties that the caller declares.

    Parameters
    ----------
    function : callable
        Function that maps a tensor (..., n) to a tensor of the same shape.
    n : int
        Length of the vectors.
    dtype, device : torch.dtype, torch.device or str
        Dtype and device of the vectors.
    symmetric, linear : bool, optional
        Properties of the function; None if unknown.
    """

    def __init__(
        self,
        function: Callable[[Tensor], Tensor],
        n: int,
        dtype: torch.dtype = torch.float64,
        device: torch.device | str = "cpu",
        *,
        symmetric: bool | None = None,
        linear: bool | None = None,
    ) -> None:
        self.function = function
        self.shape = (n, n)
        self.dtype = dtype
        self.device = torch.device(device)
        self.symmetric = symmetric
        self.linear = linear

    def matvec(self, x: Tensor) -> Tensor:
        """Call the function.

        Raises
        ------
        InputError
            If the function does not return a tensor of the shape of x.
        """
        result = self.function(x)
        if not isinstance(result, Tensor):
            kind = type(result).__name__
            raise InputError(f"the function of the operator returned a {kind}; let the function return a torch tensor.")
        if result.shape != x.shape:
            raise InputError(
                f"the function of the operator returned shape {tuple(result.shape)} for vectors of shape "
                f"{tuple(x.shape)}; let the function return vectors of the same shape."
            )
        return result


def aslinearoperator(A: Any, like: Tensor | None = None) -> LinearOperator:
    """Convert a matrix, callable or operator of another package to a `LinearOperator`.

    Parameters
    ----------
    A : LinearOperator, Tensor, array, sparse matrix or callable
        A `LinearOperator`, a dense or sparse torch tensor, a numpy array, a scipy sparse matrix or `LinearOperator`
        (including preconditioners of PyAMG), a PETSc matrix, or a callable.
    like : Tensor (..., n), optional
        A vector that determines length, dtype and device of the operator; required if A is a callable.

    Raises
    ------
    InputError
        If the object is none of these, not square, or not floating-point.
    """
    if isinstance(A, LinearOperator):
        return A
    if hasattr(A, "as_preconditioner"):
        kind = type(A).__name__
        raise InputError(f"a {kind} is not an operator; give the result of its method as_preconditioner().")
    if isinstance(A, Tensor | np.ndarray):
        return MatrixOperator(to_tensor(A, "the matrix"))
    if scipy.sparse.issparse(A):
        return MatrixOperator(_sparse_to_torch(A, like))
    if hasattr(A, "createVecs") and hasattr(A, "mult"):
        return _from_petsc(A)
    if isinstance(A, scipy.sparse.linalg.LinearOperator) or (hasattr(A, "matvec") and hasattr(A, "shape")):
        return _from_scipy(A)
    if callable(A):
        if like is None:
            raise InputError(
                "the length of the vectors of a callable is unknown; wrap it in "
                "sb.operators.CallableOperator(function, n)."
            )
        function = _without_batch(A) if like.ndim == 1 else A
        return CallableOperator(function, like.shape[-1], like.dtype, like.device, linear=None)
    raise InputError(
        f"a {type(A).__name__} is not an operator; pass a LinearOperator, a torch, numpy, scipy or PETSc matrix, or a "
        "callable."
    )


def _without_batch(function: Callable[[Tensor], Tensor]) -> Callable[[Tensor], Tensor]:
    """Return a function of a batch (1, n) that calls `function` with a vector (n,), as the user passed it."""

    def apply(x: Tensor) -> Tensor:
        if x.ndim != 2 or len(x) != 1:
            return function(x)
        result = function(x[0])
        return result.unsqueeze(0) if isinstance(result, Tensor) else result

    return apply


def _require_square(shape: tuple[int, ...]) -> None:
    if len(shape) < 2 or shape[-1] != shape[-2]:
        raise InputError(f"the matrix has shape {shape}; give a square matrix.")


def _require_float(dtype: Any) -> None:
    if dtype not in (np.float32, np.float64):
        raise InputError(f"the matrix has dtype {dtype}; convert it to float32 or float64 first.")


def _sparse_to_torch(A: Any, like: Tensor | None) -> Tensor:
    _require_float(A.dtype)
    return csr_tensor(A, device=None if like is None else like.device)


def csr_tensor(matrix: Any, dtype: torch.dtype | None = None, device: torch.device | None = None) -> Tensor:
    """Convert any scipy sparse matrix to a sparse torch matrix."""
    csr = scipy.sparse.csr_array(matrix, copy=True)  # a copy, as scipy may later sort the rows of the argument in place
    with warnings.catch_warnings():  # torch warns about this layout once per process
        warnings.filterwarnings("ignore", "Sparse CSR tensor support is in beta")
        return torch.sparse_csr_tensor(
            torch.as_tensor(csr.indptr, dtype=torch.int64),
            torch.as_tensor(csr.indices, dtype=torch.int64),
            torch.as_tensor(csr.data, dtype=dtype),
            size=csr.shape,
            device=device,
            check_invariants=False,
        )


def csr_matrices(A: Any) -> list[scipy.sparse.csr_array] | None:
    """Return the scipy matrix of each operator of a batch, in float64; None if only products are known."""
    if scipy.sparse.issparse(A):
        return [scipy.sparse.csr_array(A, dtype=np.float64)]
    if isinstance(A, Tensor | np.ndarray | MatrixOperator):
        matrix = A.matrix if isinstance(A, MatrixOperator) else torch.as_tensor(A)
        parts = [matrix] if matrix.ndim == 2 else matrix.reshape(-1, *matrix.shape[-2:])
        return [_csr_array(part.detach()) for part in parts]
    if hasattr(A, "to_csr"):
        return [A.to_csr(sample) for sample in range(A.batch)] if A.batch > 1 else [A.to_csr()]
    if hasattr(A, "getValuesCSR"):
        indptr, indices, data = A.getValuesCSR()
        return [scipy.sparse.csr_array((data, indices, indptr), shape=A.getSize())]
    return None


def _csr_array(matrix: Tensor) -> scipy.sparse.csr_array:
    """Return a dense or sparse torch matrix as a scipy matrix in float64, without stored zeros."""
    entries = matrix.cpu().to_sparse_coo().coalesce()
    rows, columns = entries.indices().numpy()
    csr = scipy.sparse.csr_array((entries.values().double().numpy(), (rows, columns)), shape=tuple(matrix.shape))
    csr.eliminate_zeros()
    return csr


def _from_scipy(A: Any) -> LinearOperator:
    numpy_dtype = np.dtype(A.dtype or np.float64)
    _require_float(numpy_dtype)
    _require_square(tuple(A.shape))

    def apply(x: Tensor) -> Tensor:
        rows = x.detach().cpu().reshape(-1, x.shape[-1]).numpy()
        result = np.empty_like(rows)
        for row, product in zip(rows, result):
            product[:] = np.asarray(A.matvec(row)).reshape(-1)
        return torch.as_tensor(result, device=x.device).reshape(x.shape)

    return CallableOperator(apply, A.shape[0], getattr(torch, numpy_dtype.name), linear=True)


def _from_petsc(A: Any) -> LinearOperator:
    right, left = A.createVecs()

    def apply(x: Tensor) -> Tensor:
        rows = x.detach().cpu().reshape(-1, x.shape[-1]).numpy()
        result = np.empty_like(rows)
        for row, product in zip(rows, result):
            right.setArray(row)
            A.mult(right, left)
            product[:] = left.getArray()
        return torch.as_tensor(result, device=x.device).reshape(x.shape)

    return CallableOperator(apply, A.getSize()[0], torch.float64, linear=True)
