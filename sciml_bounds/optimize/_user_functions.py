"""User functions with their first and second derivatives, as float64 tensors.

Torch functions are differentiated automatically: one forward pass per point, then one vectorised backward pass for all
rows of a Jacobian or Hessian, or one pass per product with a vector. Numpy functions have user-supplied derivatives; a
missing Jacobian is computed by differences.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import scipy.sparse
import torch
from torch import Tensor

from sciml_bounds.errors import InputError
from sciml_bounds.operators._linear_operator import csr_tensor
from sciml_bounds.optimize._kkt import scaled_rows
from sciml_bounds.optimize._products import Matrix, Products, is_operator, products_of

__all__ = ["Function", "Given", "as_matrix"]

#: Relative step of forward differences, which balances truncation and round-off.
FORWARD_STEP = float(np.sqrt(np.finfo(np.float64).eps))

#: Relative step of central differences.
CENTRAL_STEP = float(np.cbrt(np.finfo(np.float64).eps))

#: A Hessian counts as symmetric if u.Hv and v.Hu differ by at most this fraction of |u| |Hv|. For differences of
#: gradients, the fraction is about 1e-7.
SYMMETRY_TOL = 1e-5

#: Hessians with products below this are not checked for symmetry: they are round-off, far out on a tail.
NEGLIGIBLE_PRODUCT = 1e-50

#: Errors that a torch function raises for arrays, and a numpy function for tensors.
_WRONG_KIND = (TypeError, AttributeError, RuntimeError)


@dataclass(frozen=True)
class Given:
    """A user function, its derivatives (None if they are to be computed), and its name in messages."""

    fun: Callable[[Any], Any]
    jac: Callable[[Any], Any] | None
    hess: Callable[..., Any] | None
    name: str
    scalar: bool = False


class Function:
    """A function R^n -> R^m with derivatives.

    Parameters
    ----------
    given : Given
        The function. If it is `scalar`, `hess` is a function of x, otherwise of x and m weights.
    x0 : Tensor
        A point, float64, shape (n,), where the function is called once to check its argument and value.
    tensors_first : bool
        Whether to call it with a tensor first, and with an array only if that fails; or the reverse.

    Attributes
    ----------
    by_products : bool
        Whether torch computes products of derivatives with vectors instead of matrices.
    scale : float or Tensor
        Factor of values and derivatives: one number, or one per value (m,).
    central : bool
        Whether differences are central, with twice as many calls.

    Raises
    ------
    InputError
        If the value at x0 has the wrong shape or dtype, is not finite, or cannot be differentiated.
    """

    def __init__(self, given: Given, x0: Tensor, *, tensors_first: bool) -> None:
        self.given = given
        self.calls = 0
        self.of_torch = tensors_first
        self.by_products = False
        self.scale: float | Tensor = 1.0
        self.central = False
        self._last: tuple[Tensor, Tensor | None, Any] | None = None
        self._count: int | None = None
        self._symmetric = False  # whether the user's Hessian has passed the check
        value = self._first_value(x0)
        self.size = self._count = len(value)
        if not bool(torch.isfinite(value).all()):
            raise InputError(f"{given.name} is NaN or infinite at x0; choose an x0 where it is finite.")
        self._differentiable = self.of_torch and _has_graph(self._evaluated(x0)[1])
        if self.of_torch and given.jac is None:
            self._graph(x0)

    def _first_value(self, x0: Tensor) -> Tensor:
        try:
            return self.value(x0)
        except _WRONG_KIND as error:
            self.of_torch = not self.of_torch
            try:
                return self.value(x0)
            except _WRONG_KIND:
                raise error from None  # the error for the kind of x0

    @property
    def has_jacobian(self) -> bool:
        """Whether first derivatives are exact."""
        return self.given.jac is not None or self._differentiable

    @property
    def has_hessian(self) -> bool:
        """Whether exact second derivatives are available."""
        return self.given.hess is not None or self._differentiable

    def value(self, x: Tensor) -> Tensor:
        """Return the values, shape (m,)."""
        return self._value(x) * self.scale

    def _value(self, x: Tensor) -> Tensor:
        return self._checked(self._evaluated(x)[1])

    def _evaluated(self, x: Tensor) -> tuple[Tensor | None, Any]:
        """Return a leaf tensor at x (None for numpy) and the value; repeated calls at the same x are cached."""
        if self._last is None or not torch.equal(self._last[0], x):
            leaf = x.detach().clone().requires_grad_() if self.of_torch else None
            self.calls += 1
            with torch.enable_grad():
                y = self.given.fun(
                    self._argument(x) if leaf is None else leaf.clone()
                )  # a copy, which it may overwrite
                if leaf is not None and isinstance(y, list | tuple) and any(isinstance(part, Tensor) for part in y):
                    y = torch.stack([torch.as_tensor(part).to(leaf) for part in y])
            self._last = (x.detach().clone(), leaf, y)
        return self._last[1:]

    def _graph(self, x: Tensor) -> tuple[Tensor, Tensor]:
        leaf, y = self._evaluated(x)
        if leaf is None or not _has_graph(y):
            raise InputError(
                f"{self.given.name} returns a value that torch cannot differentiate: a constant, or one computed "
                "outside torch (.item(), .detach(), numpy); give jac=, or write a constant as 0 * x.sum()."
            )
        return leaf, y

    def _checked(self, y: Any) -> Tensor:
        name = self.given.name
        vector = as_numbers(y, name)
        if self.given.scalar and vector.numel() != 1:
            raise InputError(f"{name} returns shape {tuple(vector.shape)}; it must return one number.")
        if not self.given.scalar and vector.ndim > 1:
            raise InputError(f"{name} returns shape {tuple(vector.shape)}; it must return a vector (m,).")
        vector = vector.reshape(-1)
        if self._count not in (None, len(vector)):
            raise InputError(
                f"{name} returned {self._count} values at x0 but {len(vector)} now; their number must not change."
            )
        return vector

    def gradient(self, x: Tensor) -> Tensor:
        """Return the gradient of a scalar function, shape (n,).

        Raises
        ------
        InputError
            If `jac` does not return a vector (n,).
        """
        if self.given.jac is None:
            row = self._jacobian(x)
            assert isinstance(row, Tensor)
            return row.to_dense().view(-1) * self.scale
        return as_gradient(self.given.jac(self._argument(x)), f"the jac of {self.given.name}", x) * self.scale

    def jacobian(self, x: Tensor) -> Matrix:
        """Return the Jacobian, shape (m, n): dense, CSR, or an operator."""
        by_products = self.by_products and self.given.jac is None and self._differentiable
        return scaled_rows(self._jacobian_products(x) if by_products else self._jacobian(x), self.scale)

    def _jacobian(self, x: Tensor) -> Matrix:
        shape = (self.size, len(x))
        if self.given.jac is not None:
            return as_matrix(self.given.jac(self._argument(x)), f"the jac of {self.given.name}", shape, x.device)
        if not self._differentiable:
            return self._differences(x)
        leaf, y = self._graph(x)
        return _rows(y.reshape(-1), leaf).detach()

    def _jacobian_products(self, x: Tensor) -> Products:
        """Return J as operator: J^T u is a backward pass; J v is a backward pass through the linear map u -> J^T u."""
        leaf, y = self._graph(x)
        flat = y.reshape(-1)
        seed = torch.zeros_like(flat).requires_grad_()

        @functools.cache
        def pulled() -> Tensor:
            with torch.enable_grad():
                return _pull(flat, leaf, seed, create_graph=True)

        return Products(
            (self.size, len(x)), lambda v: _pull(pulled(), seed, v), lambda u: _pull(flat, leaf, u), x.device
        )

    def _argument(self, x: Tensor) -> Any:
        return x.detach().clone() if self.of_torch else x.detach().cpu().numpy().copy()

    def _differences(self, x: Tensor) -> Tensor:
        return self._central(x, CENTRAL_STEP) if self.central else self._forward(x)

    def _forward(self, x: Tensor) -> Tensor:
        here = self._value(x)
        columns = []
        for i in range(len(x)):
            moved = _moved(x, i, FORWARD_STEP)
            columns.append((self._value(moved) - here) / (moved[i] - x[i]))
        return torch.stack(columns, 1)

    def _central(self, x: Tensor, relative: float) -> Tensor:
        """Return central differences, or forward differences where the function is not defined on both sides."""
        columns = []
        for i in range(len(x)):
            above, below = _moved(x, i, relative), _moved(x, i, -relative)
            try:
                columns.append((self._value(above) - self._value(below)) / (above[i] - below[i]))
            except (ArithmeticError, ValueError):
                columns.append(torch.full((self.size,), math.nan, dtype=x.dtype, device=x.device))
        found = torch.stack(columns, 1)
        return found if bool(torch.isfinite(found).all()) else torch.where(found.isfinite(), found, self._forward(x))

    def difference_error(self, x: Tensor) -> Tensor:
        """Estimate the errors of central differences (m, n) by doubling their step; zero for exact derivatives."""
        if self.has_jacobian:
            return x.new_zeros(self.size, len(x))
        error = (self._central(x, 2 * CENTRAL_STEP) - self._central(x, CENTRAL_STEP)).abs() / 3
        return error * (self.scale.unsqueeze(1) if isinstance(self.scale, Tensor) else self.scale)

    def hessian(self, x: Tensor, weights: Tensor) -> Matrix:
        """Return the Hessian of the inner product with m weights, shape (n, n): dense, CSR, or an operator."""
        shape, weights = (len(x), len(x)), weights * self.scale
        if self.given.hess is None:
            return self._automatic_hessian(x, weights)
        name = f"the hess of {self.given.name}"
        argument = self._argument(x)
        if self.given.scalar:
            found = as_matrix(self.given.hess(argument), name, shape, x.device)
        else:
            along = weights if self.of_torch else weights.cpu().numpy()
            found = as_matrix(self.given.hess(argument, along), name, shape, x.device)
        if not (self._symmetric and isinstance(found, Products)):  # products are expensive: check operators once
            _require_symmetric(found, name, x)
            self._symmetric = True
        return found * float(weights) if self.given.scalar else found

    def _automatic_hessian(self, x: Tensor, weights: Tensor) -> Matrix:
        leaf, y = self._graph(x)
        with torch.enable_grad():
            gradient = _pull(y.reshape(-1) @ weights, leaf, None, create_graph=True)
        if self.by_products:
            return Products.symmetric(len(x), lambda v: _pull(gradient, leaf, v), x.device)
        if not gradient.requires_grad:  # a linear function
            return x.new_zeros(len(x), len(x))
        rows = _rows(gradient, leaf).detach()
        return (rows + rows.mT) / 2  # exactly symmetric, as factorisations need it


def _moved(x: Tensor, i: int, relative: float) -> Tensor:
    moved = x.clone()
    moved[i] += relative * max(1.0, abs(float(x[i])))
    return moved


def _pull(y: Tensor, leaf: Tensor, seed: Tensor | None, *, create_graph: bool = False) -> Tensor:
    """Return the product of a vector `seed` with the derivative of y by the leaf; zeros if y does not depend on it."""
    if not y.requires_grad:
        return torch.zeros_like(leaf)
    (found,) = torch.autograd.grad(
        y, leaf, seed, create_graph=create_graph, retain_graph=True, allow_unused=True, materialize_grads=True
    )
    return found


def _has_graph(y: Any) -> bool:
    return isinstance(y, Tensor) and y.requires_grad


def _rows(y: Tensor, leaf: Tensor) -> Tensor:
    """Return the derivatives (m, n) of y (m,) by the leaf (n,), in one backward pass if torch can do that."""
    if len(y) <= 1:
        return _pull(y, leaf, torch.ones_like(y)).unsqueeze(0)[: len(y)]
    seeds = torch.eye(len(y), dtype=y.dtype, device=y.device)
    try:
        rows: Tensor = torch.func.vmap(lambda seed: _pull(y, leaf, seed))(seeds)
    except RuntimeError:  # user-defined backward passes may take one vector only
        rows = torch.stack([_pull(y, leaf, seed) for seed in seeds])
    return rows


def _require_symmetric(H: Matrix, name: str, like: Tensor) -> None:
    """Check symmetry: compare u.Hv with v.Hu for one random pair of vectors.

    Raises
    ------
    InputError
        If they differ by more than the error of Hessians computed by differences.
    """
    u, v = torch.randn((2, len(like)), generator=torch.Generator().manual_seed(0), dtype=like.dtype).to(like.device)
    Hu, Hv = H @ u, H @ v
    scale = float(u.norm() * Hv.norm() + v.norm() * Hu.norm())
    difference = abs(float(u @ Hv) - float(v @ Hu))
    if scale > NEGLIGIBLE_PRODUCT and difference > SYMMETRY_TOL * scale:
        raise InputError(
            f"{name} is not symmetric (u.Hv and v.Hu differ by {difference / scale:.2g} of their size); return both "
            "triangles, for example (H + H.T) / 2."
        )


def as_gradient(found: Any, name: str, like: Tensor) -> Tensor:
    """Convert a gradient (n,), or a row (1, n), dense or sparse, to a float64 tensor (n,).

    Raises
    ------
    InputError
        If its shape is wrong, or its entries are not float64.
    """
    if is_operator(found):
        raise InputError(f"{name} returns an operator; it must return a vector (n,).")
    entries = _entries(found, name, like.device)
    if tuple(entries.shape) not in ((len(like),), (1, len(like))):
        raise InputError(f"{name} returns shape {tuple(entries.shape)}; it must return ({len(like)},).")
    return entries.to_dense().view(-1)


def as_numbers(y: Any, name: str) -> Tensor:
    """Convert the value of a function to a float64 tensor; integers of Python and numpy are accepted.

    Raises
    ------
    InputError
        If it is not numeric, or not in double precision.
    """
    try:
        found = y.detach() if isinstance(y, Tensor) else torch.from_numpy(np.array(y, order="C"))
    except (TypeError, ValueError):
        raise InputError(f"{name} returns a {type(y).__name__}; it must return numbers.") from None
    if found.dtype in (torch.int64, torch.int32) and not isinstance(y, Tensor):
        return found.double()
    if found.dtype != torch.float64:
        dtype = str(found.dtype).removeprefix("torch.")
        raise InputError(f"{name} returns {dtype}; it must compute in float64, as x is.")
    return found


def as_matrix(matrix: Any, name: str, shape: tuple[int, int], device: torch.device) -> Matrix:
    """Convert a matrix of torch, numpy or scipy to a strided or CSR float64 tensor, or an operator to `Products`.

    Raises
    ------
    InputError
        If its shape is wrong, or its entries are not float64.
    """
    if is_operator(matrix):
        return products_of(matrix, name, shape, device)
    found = _entries(matrix, name, device)
    if found.ndim == 1 and shape[0] == 1:
        found = found.unsqueeze(0)
    if tuple(found.shape) != shape:
        raise InputError(f"{name} returns shape {tuple(found.shape)}; it must return {shape}.")
    return found


def _entries(matrix: Any, name: str, device: torch.device) -> Tensor:
    if scipy.sparse.issparse(matrix):
        return csr_tensor(matrix, dtype=torch.float64, device=device)
    if not isinstance(matrix, Tensor) or matrix.layout == torch.strided:
        return as_numbers(matrix, name).to(device)
    coo = matrix.detach().to_sparse_coo().coalesce().cpu()
    entries = (coo.values().numpy(), tuple(coo.indices().numpy()))
    # via scipy, since torch issues warnings for its sparse layouts
    return csr_tensor(scipy.sparse.coo_array(entries, tuple(coo.shape)), dtype=torch.float64, device=device)
