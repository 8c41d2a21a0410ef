"""Subsampled and sketched Hessians of sums of many terms, for `minimize(hess=...)`.

For f = 1/N sum_i f_i(x), a gradient costs one pass over the terms, and a Hessian many. A sample of the terms, or a
sketch of a square root of the Hessian, approximates H up to a relative error e = O(sqrt(n / size)). A Newton step with
it costs about as much as a gradient and reduces the error by a factor of about e (Roosta-Khorasani and Mahoney, Math.
Program. 174, 2019; Pilanci and Wainwright, SIAM J. Optim. 27, 2017).
"""

from __future__ import annotations

import zlib
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from sciml_bounds.arrays import require_count, to_tensor
from sciml_bounds.errors import InputError
from sciml_bounds.sketching._sketches.count_sketch import CountSketch
from sciml_bounds.sketching._sketches.sparse_sign import SparseSign
from sciml_bounds.sketching._sketches.srht import SRHT

__all__ = ["SampledHessian", "SketchedHessian"]


@dataclass(frozen=True)
class SampledHessian:
    """Hessian of a mean over a random sample of its terms, for `minimize(hess=...)`.

    The sample is a function of `seed` and x.

    Parameters
    ----------
    mean : callable
        Torch function of x, shape (n,), and of the indices of some terms, an integer tensor (size,). It returns the
        mean of these terms.
    count : int
        Total number N of terms.
    size : int
        Number of terms in a sample; at least a few times n.
    hess : callable or None
        Function of x and indices that returns the Hessian of that mean, shape (n, n); by default torch differentiates
        `mean`.
    seed : int
        Random seed of the samples.

    Raises
    ------
    InputError
        If a number is out of range, or `size` is larger than `count`.

    Examples
    --------
    Logistic regression, with a fifth of the samples in each Hessian:

    >>> import torch, sciml_bounds as sb
    >>> from sciml_bounds.sketching._sampled_hessians import SampledHessian
    >>> generator = torch.Generator().manual_seed(0)
    >>> z = torch.randn((1000, 3), generator=generator, dtype=torch.float64)
    >>> y = torch.sign(z[:, 0] + 0.5 * torch.randn(1000, generator=generator, dtype=torch.float64))
    >>> def mean(x, terms=slice(None)):
    ...     return torch.nn.functional.softplus(-y[terms] * (z[terms] @ x)).mean()
    >>> sphere = lambda x: x @ x - 1
    >>> x0 = torch.ones(3, dtype=torch.float64)
    >>> r = sb.minimize(mean, x0, hess=SampledHessian(mean, 1000, 200), constraints=sphere)
    >>> r.success, bool((r.x - sb.minimize(mean, x0, constraints=sphere).x).norm() < 1e-6)
    (True, True)
    """

    mean: Callable[[Tensor, Tensor], Tensor]
    count: int
    size: int
    hess: Callable[[Tensor, Tensor], Tensor] | None = None
    seed: int = 0

    def __post_init__(self) -> None:
        if not callable(self.mean):
            raise InputError(f"the mean is {self.mean!r}; give a function of x and of the indices of some terms.")
        require_count(self.count, "count", 1)
        require_count(self.size, "size", 1)
        require_count(self.seed, "seed", 0)
        if not (self.hess is None or callable(self.hess)):
            raise InputError(f"hess is {self.hess!r}; give a function of x and of the indices of some terms, or None.")
        if self.size > self.count:
            raise InputError(f"size={self.size} is larger than count={self.count}, the number of terms; reduce it.")

    def __call__(self, x: Any) -> Tensor:
        """Return the Hessian at x, shape (n, n)."""
        point = to_tensor(x, "x")
        terms = torch.randperm(self.count, generator=_generator(point, self.seed))[: self.size].to(point.device)
        if self.hess is not None:
            return self.hess(point, terms)
        H: Tensor = torch.autograd.functional.hessian(lambda x: self._number(x, terms), point, vectorize=True)
        return (H + H.mT) / 2

    def _number(self, x: Tensor, terms: Tensor) -> Tensor:
        value = self.mean(x, terms)
        if not isinstance(value, Tensor) or value.numel() != 1:
            found = f"shape {tuple(value.shape)}" if isinstance(value, Tensor) else f"a {type(value).__name__}"
            raise InputError(f"the mean returns {found}; it must return a tensor with one number.")
        return value


@dataclass(frozen=True)
class SketchedHessian:
    """Approximation (S^T F)^T (S^T F) of a Hessian F^T F with a random sketch S, for `minimize(hess=...)`.

    The sketch is a function of `seed` and x.

    Parameters
    ----------
    root : callable
        Function of x, shape (n,), that returns a tensor F (N, n) with F^T F the Hessian; or, for a sum of squares, the
        Jacobian of the squared terms (Gauss-Newton). For a mean of l(z_i.x), row i is sqrt(l''(z_i.x) / N) z_i.
    sketch : CountSketch, SparseSign or SRHT
        A sketch with a few times n columns.
    seed : int
        Random seed of the sketches.

    Raises
    ------
    InputError
        If `root` is not a function, `sketch` is of another kind, or F is not a matrix with n columns.

    Examples
    --------
    >>> import torch
    >>> from sciml_bounds.sketching._sampled_hessians import SketchedHessian
    >>> from sciml_bounds.sketching._sketches.sparse_sign import SparseSign
    >>> F = torch.randn((5000, 2), dtype=torch.float64)
    >>> H = SketchedHessian(lambda x: F, SparseSign(200, 4))(torch.zeros(2, dtype=torch.float64))
    >>> bool((H - F.T @ F).norm() < 0.5 * (F.T @ F).norm())
    True
    """

    root: Callable[[Tensor], Tensor]
    sketch: CountSketch | SparseSign | SRHT
    seed: int = 0

    def __post_init__(self) -> None:
        require_count(self.seed, "seed", 0)
        if not callable(self.root):
            raise InputError(f"the root of the Hessian is {self.root!r}; give a function of x that returns (N, n).")
        if not isinstance(self.sketch, CountSketch | SparseSign | SRHT):
            raise InputError(
                f"the sketch {self.sketch} does not preserve lengths on average; use CountSketch, SparseSign or SRHT."
            )

    def __call__(self, x: Any) -> Tensor:
        """Return the Hessian at x, shape (n, n)."""
        point = to_tensor(x, "x")
        F = self.root(point)
        if not isinstance(F, Tensor) or F.ndim != 2 or F.shape[1] != len(point):
            found = f"shape {tuple(F.shape)}" if isinstance(F, Tensor) else f"a {type(F).__name__}"
            raise InputError(f"the root of the Hessian returns {found}; it must return a tensor (N, {len(point)}).")
        F = F.detach()
        (sketched,), _ = self.sketch.draw(F, F.new_zeros(len(F)), 1, _generator(point, self.seed))
        H: Tensor = sketched.mT @ sketched
        return H


def _generator(x: Tensor, seed: int) -> torch.Generator:
    """Return a random generator seeded by x and `seed`, so that repeated calls at one x agree."""
    start = zlib.crc32(str(seed).encode())
    return torch.Generator().manual_seed(zlib.crc32(x.detach().cpu().numpy().tobytes(), start))
