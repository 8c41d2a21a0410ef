"""Matrix-free operators: matrices given by products with vectors, and with their transpose."""

from __future__ import annotations

from collections.abc import Callable
from functools import cached_property
from typing import Any

import numpy as np
import scipy.sparse.linalg
import torch
from torch import Tensor

from sciml_bounds.errors import InputError

__all__ = ["Matrix", "Products", "damped_solution", "is_operator", "products_of"]

#: Number of random vectors for the estimate of the Frobenius norm: E ||A w||^2 = ||A||_F^2 for entries of -1 and 1.
PROBES = 4

#: Maximum number of LSMR iterations, and their tolerance; Newton's method can use inaccurate solutions.
LSMR_MAXITER, LSMR_TOL = 200, 1e-8

Apply = Callable[[Tensor], Tensor]


class Products:
    """A real matrix (m, n) given by its products, with the tensor interface that Newton's method needs.

    Parameters
    ----------
    shape : (int, int)
        (m, n).
    forward, adjoint : callable
        Products of the matrix with a vector (n,), and of its transpose with a vector (m,).
    device : torch.device
        Device of the vectors, which are float64.
    """

    def __init__(self, shape: tuple[int, int], forward: Apply, adjoint: Apply, device: torch.device) -> None:
        self.shape, self.device = shape, device
        self._forward, self._adjoint = forward, adjoint

    @classmethod
    def symmetric(cls, n: int, forward: Apply, device: torch.device) -> Products:
        """Return a symmetric operator (n, n)."""
        return cls((n, n), forward, forward, device)

    def __matmul__(self, x: Tensor) -> Tensor:
        return self._forward(x)

    @property
    def mT(self) -> Products:
        """The transpose."""
        return Products((self.shape[1], self.shape[0]), self._adjoint, self._forward, self.device)

    def __mul__(self, factor: float) -> Products:
        return Products(
            self.shape, lambda x: factor * self._forward(x), lambda y: factor * self._adjoint(y), self.device
        )

    @cached_property
    def frobenius(self) -> float:
        """Estimate of the Frobenius norm, with fixed random vectors."""
        generator = torch.Generator().manual_seed(0)
        signs = torch.randint(0, 2, (PROBES, self.shape[1]), generator=generator).to(self.device, torch.float64)
        squares = [float((self @ row).square().sum()) for row in 2 * signs - 1]
        return float(np.sqrt(np.mean(squares)))


#: A dense (strided) or sparse (CSR) tensor, or an operator.
Matrix = Tensor | Products


def is_operator(matrix: Any) -> bool:
    """Whether an object is an operator of this package or of scipy, rather than a matrix."""
    known = isinstance(matrix, Products | scipy.sparse.linalg.LinearOperator)
    return known or (hasattr(matrix, "matvec") and not isinstance(matrix, Tensor | np.ndarray))


def products_of(operator: Any, name: str, shape: tuple[int, int], device: torch.device) -> Products:
    """Convert an operator of this package or of scipy to `Products`.

    Raises
    ------
    InputError
        If its shape is wrong; or later, if a product has the wrong shape, or the transpose is needed, but the operator
        is not symmetric and does not have `rmatvec`.
    """
    if tuple(operator.shape) != shape:
        raise InputError(f"{name} returns an operator of shape {tuple(operator.shape)}; it must be {shape}.")
    if isinstance(operator, Products):
        return operator
    ours = not isinstance(operator, scipy.sparse.linalg.LinearOperator)

    def of_scipy(product: Callable[[Any], Any], x: Tensor, size: int) -> Tensor:
        try:
            y = product(x.cpu().numpy())
        except ValueError as error:  # raised by scipy or by the user's function
            raise InputError(
                f"{name} returns an operator whose product with a vector of {len(x)} numbers fails ({error}); it must "
                f"return {size} numbers."
            ) from error
        return torch.as_tensor(y, dtype=torch.float64).to(device)

    def apply(product: Callable[[Any], Any], x: Tensor, size: int) -> Tensor:
        y = product(x) if ours else of_scipy(product, x, size)
        if not isinstance(y, Tensor) or y.numel() != size:
            raise InputError(
                f"{name} returns an operator whose products are not vectors; they must be of {size} numbers."
            )
        return y.reshape(-1)

    def adjoint(y: Tensor) -> Tensor:
        symmetric = getattr(operator, "symmetric", None) is True
        product = operator.matvec if symmetric else getattr(operator, "rmatvec", None)
        try:
            if product is not None:
                return apply(product, y, shape[1])
        except NotImplementedError:
            pass
        raise InputError(f"{name} returns an operator without rmatvec; add rmatvec, the product with its transpose.")

    return Products(shape, lambda x: apply(operator.matvec, x, shape[0]), adjoint, device)


def damped_solution(G: Products, rhs: Tensor, damping: float, steps: int = LSMR_MAXITER) -> Tensor:
    """Minimise ||G x - rhs||^2 + damping ||x||^2 by at most `steps` iterations of LSMR.

    Every iterate is better than zero, so truncated solves are useful too.
    """

    def forward(x: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
        return _array(G @ torch.from_numpy(x.reshape(-1)).to(rhs))

    def adjoint(y: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
        return _array(G.mT @ torch.from_numpy(y.reshape(-1)).to(rhs))

    operator = scipy.sparse.linalg.LinearOperator(G.shape, matvec=forward, rmatvec=adjoint, dtype=np.float64)
    found = scipy.sparse.linalg.lsmr(
        operator, _array(rhs), damp=damping**0.5, atol=LSMR_TOL, btol=LSMR_TOL, conlim=0, maxiter=steps
    )
    return torch.from_numpy(found[0]).to(rhs)


def _array(vector: Tensor) -> np.ndarray[Any, Any]:
    array: np.ndarray[Any, Any] = vector.detach().cpu().numpy()
    return array
