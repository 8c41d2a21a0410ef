"""A cycle of convolutions with fixed weights: geometric multigrid for -Laplace(u) = f.

A is the stencil of 2 dim + 1 points on each level, S a damped Jacobi step, R full weighting, and P linear
interpolation. The residual is restricted, and coarse levels start from zero. Reference: Trottenberg, Oosterlee,
Schueller, "Multigrid" (2001), sections 2.1 to 2.4; smoothing factors: section 2.9.
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from typing import cast

import torch
from torch import Tensor, nn

from sciml_bounds.multigrid._chebyshev import chebyshev_weights
from sciml_bounds.multigrid._convolution_cycle import ConvolutionCycle, CycleLevel

__all__ = ["SMOOTHERS", "poisson_cycle", "poisson_operator"]

#: Damping of the smoothing steps: the same factor for all steps, or factors from the zeros of a Chebyshev polynomial.
SMOOTHERS = ("richardson", "chebyshev")


def poisson_cycle(
    cells: int,
    *,
    dim: int = 2,
    boundary: str = "dirichlet",
    pre: int = 1,
    post: int = 1,
    smoother: str = "richardson",
) -> ConvolutionCycle:
    """Return a V-cycle for -Laplace(u) = f on the unit cube, with one channel, in float64.

    Parameters
    ----------
    cells : int
        Number of cells along each axis, a power of two. The unknowns are the `cells` - 1 interior nodes ("dirichlet"),
        all `cells` + 1 nodes ("neumann": zero normal derivative, by reflection) or the `cells` nodes of a torus
        ("periodic").
    dim : int
        Number of axes, 1 to 3.
    boundary : str
        "dirichlet", "neumann" or "periodic"; with the last two, u is determined up to a constant only.
    pre, post : int
        Smoothing steps before and after the coarse correction; `pre` is at least one.
    smoother : str
        Damping factors: "richardson" (the best constant factor) or "chebyshev" (the best polynomial), both for the
        modes that the coarse level cannot represent, with eigenvalues of D^-1 A in [1 / dim, 2], where D is the
        diagonal of A.

    Examples
    --------
    >>> import torch
    >>> cycle, operator = poisson_cycle(16, dim=1), poisson_operator(16, dim=1)
    >>> f = torch.ones(1, 1, 15, dtype=torch.float64)
    >>> u = torch.zeros_like(f)
    >>> for _ in range(20):
    ...     u = u + cycle(f - operator(u)).detach()
    >>> round(float(u.max()), 12)
    0.125
    """
    depth = int(cells).bit_length() - 1
    assert cells == 2**depth >= 2
    assert smoother in SMOOTHERS
    if boundary == "neumann":
        depth += 1  # the coarsest level has two nodes per axis
    coarsest = _coarsest_steps(dim, boundary)
    cycle = ConvolutionCycle(
        1,
        1,
        dim=dim,
        boundary=boundary,
        pre=(*(pre,) * (depth - 1), len(coarsest)),
        post=post,
        residual=True,
        alignment="interior" if boundary == "dirichlet" else "first",
    ).double()
    before, after = (_dampings(count, dim, smoother) for count in (pre, post))
    for l, level in enumerate(cycle.hierarchy):
        _set_level(level, dim, 2.0**l / cells, coarsest if l == depth - 1 else (*before, *after))
    return cycle


def poisson_operator(cells: int, *, dim: int = 2, boundary: str = "dirichlet") -> nn.Module:
    """Return -Laplace by second differences, the operator of the finest level of `poisson_cycle`."""
    operator = ConvolutionCycle(1, 1, dim=dim, boundary=boundary, levels=1, pre=1).double()
    _set_kernel(operator.hierarchy[0].smoothers[0], _stencil(dim, 1 / cells))
    return operator


def _dampings(steps: int, dim: int, smoother: str) -> tuple[float, ...]:
    if smoother == "chebyshev":
        return chebyshev_weights(steps, 1 / dim, 2.0)
    return chebyshev_weights(1, 1 / dim, 2.0) * steps


def _coarsest_steps(dim: int, boundary: str) -> tuple[float, ...]:
    """Return the dampings that solve the coarsest level exactly: the reciprocals of the nonzero eigenvalues of D^-1 A.

    With one interior node the eigenvalue is 1. With two nodes per axis, reflected or periodic, the eigenvalues are 0
    and 2 in one dimension, and averages of these in more dimensions.
    """
    return (1.0,) if boundary == "dirichlet" else tuple(dim / (2 * k) for k in range(1, dim + 1))


def _set_level(level: CycleLevel, dim: int, h: float, dampings: Sequence[float]) -> None:
    for operator in level.operators:
        _set_kernel(operator, _stencil(dim, h))
    for smoother, damping in zip(level.smoothers, dampings):
        center = torch.zeros((3,) * dim, dtype=torch.float64)
        center[(1,) * dim] = damping * h**2 / (2 * dim)
        _set_kernel(smoother, center)
    if level.restriction is not None and level.prolongation is not None:
        linear = torch.tensor([0.5, 1.0, 0.5, 0.0])
        _set_kernel(level.restriction, _product(linear[:3] / 2, dim))
        _set_kernel(level.prolongation.kernel, _product(linear, dim))


def _stencil(dim: int, h: float) -> Tensor:
    """Return the stencil of second differences, (2 u - left - right) / h^2 along each axis."""
    stencil = torch.zeros((3,) * dim, dtype=torch.float64)
    stencil[(1,) * dim] = 2 * dim / h**2
    for axis, side in itertools.product(range(dim), (0, 2)):
        stencil[tuple(side if k == axis else 1 for k in range(dim))] = -1 / h**2
    return stencil


def _product(weights: Tensor, dim: int) -> Tensor:
    """Return the tensor product of one-dimensional weights."""
    product = weights
    for _ in range(dim - 1):
        product = product.unsqueeze(-1) * weights
    return product


@torch.no_grad()
def _set_kernel(convolution: nn.Module, kernel: Tensor) -> None:
    cast(Tensor, convolution.weight).copy_(kernel)
