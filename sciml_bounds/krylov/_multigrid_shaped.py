"""A linear network in the shape of a multigrid cycle, whose kernels vary in space with the geometry.

Reference: Lan, Gueidon, Kaneda, Panetta, Teran, "A neural-preconditioned Poisson solver for mixed Dirichlet and Neumann
boundary conditions", ICML 2024, arXiv:2310.00177, as the code of its authors makes it (`kai-lan/MLPCG`). A convolution
of an image of the geometry gives, at every point, the 3^d weights with which the point sees its neighbours. The map
from residual to direction is linear, and in general not symmetric. Axes are (b, channel, *space).
"""

from __future__ import annotations

import itertools
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional

from sciml_bounds.errors import InputError
from sciml_bounds.krylov._dcdm import convolution, pooled
from sciml_bounds.nn.network_input import is_recorded

__all__ = ["AIR", "FLUID", "SOLID", "MultigridShapedNetwork", "check_geometry", "geometry_image"]

#: What a point of a geometry is.
SOLID, FLUID, AIR = 0, 1, 2

#: More would continue every lattice to more than a thousand points along each axis.
MOST_LEVELS = 10

_UP = {2: "bilinear", 3: "trilinear"}


def check_geometry(geometry: Tensor) -> None:
    """Refuse a geometry (b, *space) of other numbers, unless what is done with it is compiled or captured.

    Raises
    ------
    InputError
        With the first of them, and its sample.
    """
    if is_recorded(geometry):
        return
    other = (geometry != SOLID) & (geometry != FLUID) & (geometry != AIR)
    if bool(other.any()):
        first = float(geometry[other][0])
        sample = f" in sample {int(other.nonzero()[0, 0])}" if len(geometry) > 1 else ""
        raise InputError(f"the geometry is {first:g}{sample}; give 0 (solid), 1 (fluid) or 2 (air) for each point.")


def geometry_image(geometry: Tensor) -> Tensor:
    """Turn a geometry (b, *space) of SOLID, FLUID and AIR into three channels (b, 3, *space), zero or one each."""
    return torch.stack([geometry == AIR, geometry == FLUID, geometry == SOLID], 1)


@dataclass(frozen=True)
class Kernels:
    """What a network makes of a geometry.

    Attributes
    ----------
    pre, post
        The kernels at each point of a level, finest first, (b, 3^d, *space).
    own, below
        With which factors the level and what comes from below it are added, (b, 1, 1, ...).
    last
        The kernels of the coarsest lattice.
    """

    pre: list[Tensor]
    post: list[Tensor]
    own: list[Tensor]
    below: list[Tensor]
    last: Tensor


class MultigridShapedNetwork(nn.Module):
    """From a residual and the image of a geometry to a direction.

    Parameters
    ----------
    dim
        Number of space axes, 2 or 3.
    levels
        How often the lattice is halved; lengths are multiples of 2^levels.

    Raises
    ------
    InputError
        If there are more levels than any lattice in memory has.
    """

    def __init__(self, dim: int, *, levels: int = 4) -> None:
        super().__init__()
        if levels > MOST_LEVELS:
            raise InputError(
                f"levels={levels} must be at most {MOST_LEVELS}: lattices are continued to multiples of 2^levels "
                "points along each axis."
            )
        self.levels, self.multiple = levels, 2**levels
        self.pre = nn.ModuleList([convolution(dim, 3, 3**dim, 3) for _ in range(levels)])
        self.post = nn.ModuleList([convolution(dim, 3, 3**dim, 3) for _ in range(levels)])
        self.own = nn.ModuleList([convolution(dim, 3, 1, 3) for _ in range(levels)])
        self.below = nn.ModuleList([convolution(dim, 3, 1, 3) for _ in range(levels)])
        self.last = convolution(dim, 3, 3**dim, 3)

    def kernels(self, image: Tensor) -> Kernels:
        """Make the kernels of an image (b, 3, *space), once for all residuals on it."""
        axes = tuple(range(2, image.ndim))
        images = [image]
        for _ in range(self.levels):
            images.append(pooled(images[-1]))
        return Kernels(
            pre=[kernel(level) for kernel, level in zip(self.pre, images)],
            post=[kernel(level) for kernel, level in zip(self.post, images)],
            own=[factor(level).mean(axes, keepdim=True) for factor, level in zip(self.own, images)],
            below=[factor(level).mean(axes, keepdim=True) for factor, level in zip(self.below, images)],
            last=self.last(images[-1]),
        )

    def along(self, kernels: Kernels, r: Tensor) -> Tensor:
        """Give the directions (b, 1, *space) of residuals on the geometry of the kernels."""
        levels = []
        for pre in kernels.pre:
            levels.append(_weighted(pre, r))
            r = pooled(levels[-1])
        x = _weighted(kernels.last, r)
        mode = _UP[r.ndim - 2]
        for u, post, own, below in zip(levels[::-1], kernels.post[::-1], kernels.own[::-1], kernels.below[::-1]):
            raised = functional.interpolate(x, scale_factor=2, mode=mode)
            x = own * u + below * _weighted(post, raised)
        return x

    def forward(self, r: Tensor, image: Tensor) -> Tensor:
        """Give the directions (b, 1, *space) of residuals, given the image (b, 3, *space) of their geometries."""
        return self.along(self.kernels(image), r)


def _weighted(kernels: Tensor, u: Tensor) -> Tensor:
    """Sum the neighbours of each point with the weights of its kernel; beyond the lattice u is zero."""
    space = u.shape[2:]
    wide = functional.pad(u, (1, 1) * len(space))
    out = torch.zeros_like(u)
    for k, offset in enumerate(itertools.product(range(3), repeat=len(space))):
        neighbours = wide[(slice(None), slice(None), *(slice(o, o + n) for o, n in zip(offset, space)))]
        out = torch.addcmul(out, kernels[:, k : k + 1], neighbours)
    return out
