"""A linear network in the shape of a multigrid cycle, with kernels that depend on the local geometry.

Reference: Lan, Gueidon, Kaneda, Panetta, Teran, "A neural-preconditioned Poisson solver for mixed Dirichlet and Neumann
boundary conditions", ICML 2024, arXiv:2310.00177, as implemented by its authors (`kai-lan/MLPCG`). The geometry is
converted to an image, and a convolution of the image gives, at every point of a d-dimensional lattice, the weights of
its 3^d neighbours. The map from residual to direction is linear, and in general not symmetric. Tensors have the axes
(b, channel, *space).
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

#: Values of a geometry array.
SOLID, FLUID, AIR = 0, 1, 2

#: Maximum number of levels: with more, all lattices would be padded to more than a thousand points along each axis.
MAX_LEVELS = 10

_UP = {2: "bilinear", 3: "trilinear"}


def check_geometry(geometry: Tensor) -> None:
    """Check that a geometry (b, *space) has the values 0, 1 and 2 only; skipped while compiling or capturing.

    Raises
    ------
    InputError
        If another value occurs; the message contains the first such value and its sample.
    """
    if is_recorded(geometry):
        return
    other = (geometry != SOLID) & (geometry != FLUID) & (geometry != AIR)
    if bool(other.any()):
        first = float(geometry[other][0])
        sample = f" in sample {int(other.nonzero()[0, 0])}" if len(geometry) > 1 else ""
        raise InputError(f"the geometry has the value {first:g}{sample}; use 0 (solid), 1 (fluid) and 2 (air) only.")


def geometry_image(geometry: Tensor) -> Tensor:
    """Return a geometry (b, *space) in one-hot encoding, with the channels AIR, FLUID, SOLID: shape (b, 3, *space)."""
    return torch.stack([geometry == AIR, geometry == FLUID, geometry == SOLID], 1)


@dataclass(frozen=True)
class Kernels:
    """The kernels that a network computes from a geometry.

    Attributes
    ----------
    pre, post : list of Tensor
        Kernels at each point before and after the coarse levels, finest level first, shape (b, 3^d, *space).
    own, below : list of Tensor
        Factors of the level's own field and of the field from the coarser level when the two are added, shape (b, 1, 1,
        ...).
    last : Tensor
        Kernels of the coarsest lattice.
    """

    pre: list[Tensor]
    post: list[Tensor]
    own: list[Tensor]
    below: list[Tensor]
    last: Tensor


class MultigridShapedNetwork(nn.Module):
    """Network that maps a residual and the one-hot image of a geometry to a search direction.

    Parameters
    ----------
    dim : int
        Number of space axes, 2 or 3.
    levels : int
        Number of halvings of the lattice; lattice lengths must be multiples of 2^levels.

    Raises
    ------
    InputError
        If `levels` is larger than 10.
    """

    def __init__(self, dim: int, *, levels: int = 4) -> None:
        super().__init__()
        if levels > MAX_LEVELS:
            raise InputError(
                f"levels={levels} is too large, since lattices are padded to multiples of 2^levels points along each "
                f"axis; give at most {MAX_LEVELS}."
            )
        self.levels, self.multiple = levels, 2**levels
        self.pre = nn.ModuleList([convolution(dim, 3, 3**dim, 3) for _ in range(levels)])
        self.post = nn.ModuleList([convolution(dim, 3, 3**dim, 3) for _ in range(levels)])
        self.own = nn.ModuleList([convolution(dim, 3, 1, 3) for _ in range(levels)])
        self.below = nn.ModuleList([convolution(dim, 3, 1, 3) for _ in range(levels)])
        self.last = convolution(dim, 3, 3**dim, 3)

    def kernels(self, image: Tensor) -> Kernels:
        """Return the kernels for one-hot images (b, 3, *space) of geometries, computed once for all residuals."""
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
        """Return directions (b, 1, *space) for residuals on the geometry of the kernels."""
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
        """Return directions (b, 1, *space) for residuals, and one-hot images (b, 3, *space) of their geometries."""
        return self.along(self.kernels(image), r)


def _weighted(kernels: Tensor, u: Tensor) -> Tensor:
    """Return at each point the sum of its kernel times the values of u around it; u is zero outside the lattice."""
    space = u.shape[2:]
    wide = functional.pad(u, (1, 1) * len(space))
    out = torch.zeros_like(u)
    for k, offset in enumerate(itertools.product(range(3), repeat=len(space))):
        neighbours = wide[(slice(None), slice(None), *(slice(o, o + n) for o, n in zip(offset, space)))]
        out = torch.addcmul(out, kernels[:, k : k + 1], neighbours)
    return out
