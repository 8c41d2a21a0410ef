"""The published MgNO networks, as in the code of the paper (commit 3a68a90 of `xlliu2017/MgNO`).

Where the paper and its code differ, we follow the code. The code restricts the data f instead of the residual, starts
coarse levels from a learnt restriction of u, pads prolongations with zeros even for periodic fields, and uses the
default initialisation of torch. The numbers of parameters agree with the code: 572,661 (Darcy rough and multiscale),
678,093 (Darcy smooth), 783,876 (pipe), 2,885,194 (Navier-Stokes; 1,740,800 of them in layer norms) and 5,351,806
(Helmholtz; 11,241 of them unused).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from torch import Tensor, nn

from sciml_bounds.arrays import require_choice
from sciml_bounds.errors import InputError
from sciml_bounds.multigrid._convolution_cycle import ConvolutionCycle
from sciml_bounds.multigrid._mgno import MgNO, jsonable, require_normalization
from sciml_bounds.nn.normalizer import KINDS, Normalizer

__all__ = ["PUBLISHED", "PublishedMgNO"]

#: Layer norms with one weight per node: none, of u on each level, or of the output of each cycle.
NORMS = ("none", "levels", "layers")
#: Last linear map: a matrix product at each node, or a cycle.
HEADS = ("linear", "cycle")

_COMMON: dict[str, Any] = {"coarse_start": "restricted", "wrapped": False, "layout": "same", "gain": "torch"}

_ROUGH = _COMMON | {
    "channels": 24,
    "layers": 4,
    "pre": (1, 1, 1, 1, 1, 2),
    "size": (256, 256),
    "normalization": ("none", "scalar"),
}

#: Keywords of `PublishedMgNO` by the name of the benchmark.
PUBLISHED: dict[str, dict[str, Any]] = {
    "darcy-rough": _ROUGH,
    "darcy-multiscale": _ROUGH | {"normalization": ("scalar", "scalar")},
    "darcy-smooth": _ROUGH
    | {
        "layers": 5,
        "size": (211, 211),
        "kernel": (3, 4, 3, 3, 4),  # 211, 106, 53, 27, 14, 7
        "normalization": ("pointwise", "pointwise"),
    },
    "pipe": _ROUGH
    | {
        "in_channels": 2,  # the coordinates of the mesh
        "layers": 5,
        "post": (0, 0, 0, 0, 1),
        "size": (128, 128),
        "normalization": ("none", "none"),
    },
    "navier-stokes": _COMMON
    | {
        "boundary": "periodic",
        "channels": 32,
        "layers": 5,
        "pre": (1, 1, 1, 2, 2),
        "bias": True,
        "local": False,
        "norm": "levels",
        "increment": True,
        "size": (64, 64),
        "normalization": ("none", "none"),
    },
    "helmholtz": _COMMON
    | {
        "boundary": "neumann",
        "channels": (20, 40, 60, 80, 100),
        "layers": 4,
        "pre": (1, 1, 1, 1, 2),
        "alignment": "interior",
        "kernel": (3, 4, 4, 3),  # 101, 50, 24, 11, 5
        "bias": True,
        "local": False,
        "norm": "layers",
        "head": "cycle",
        "idle_operator": True,
        "size": (101, 101),
        "normalization": ("scalar", "scalar"),
    },
}


class PublishedMgNO(MgNO):
    """MgNO with the additional parts of the published networks.

    Parameters
    ----------
    in_channels, out_channels : int
        Numbers of input and output channels.
    size : sequence of int or None
        The only lattice that the network accepts, as points along each axis; required by layer norms and pointwise
        normalisation.
    norm : str
        Layer norms with one weight per node: "none", "levels" (of u on each level) or "layers" (of the output of each
        cycle).
    head : str
        Last linear map: "linear" (a matrix product at each node) or "cycle".
    idle_operator : bool
        Add operators that are never applied, only to reproduce the number of parameters.
    normalization : sequence of str
        Normalisation of input and target, each "scalar" (one mean and standard deviation per channel), "pointwise" (per
        channel and node) or "none". Data are not normalised until `fit_normalizer` is called.
    **network
        Options of `MgNO`.

    Raises
    ------
    InputError
        If options are unknown or inconsistent; from `forward`, also if the input has another lattice than `size`.

    Examples
    --------
    >>> import torch
    >>> import sciml_bounds as sb
    >>> model = sb.multigrid.PublishedMgNO.named("navier-stokes").eval()
    >>> sum(parameter.numel() for parameter in model.parameters())
    2885194
    """

    def __init__(
        self,
        in_channels: int = 1,
        out_channels: int = 1,
        *,
        size: Sequence[int] | None = None,
        norm: str = "none",
        head: str = "linear",
        idle_operator: bool = False,
        normalization: Sequence[str] = ("scalar", "scalar"),
        **network: Any,
    ) -> None:
        super().__init__(in_channels, out_channels, **network)
        require_choice(norm, "norm", NORMS)
        require_choice(head, "head", HEADS)
        require_normalization(normalization, KINDS)
        if size is None and (norm != "none" or "pointwise" in normalization):
            raise InputError(
                "layer norms and pointwise normalisation have one weight per node; give the lattice as size=(...)."
            )
        if size is not None and (not isinstance(size, Sequence) or len(size) != self.dim or min(size) < 2):
            raise InputError(
                f"size={size!r} is not a lattice; give {self.dim} numbers of points, one per axis, each at least 2."
            )
        self.size = None if size is None else tuple(size)
        self.arguments |= jsonable(
            size=size, norm=norm, head=head, idle_operator=idle_operator, normalization=normalization
        )
        points = self.size or (1,) * self.dim
        lattice = tuple(n - 1 for n in points) if self.layout == "cells->nodes" else points
        if head == "cycle":
            self.head = self._cycle(self.widths[0], out_channels)
        for cycle in [module for module in self.modules() if isinstance(module, ConvolutionCycle)]:
            if norm == "levels":
                cycle.add_norms(lattice)
            if idle_operator:
                cycle.add_idle_operator()
        if norm == "layers":
            for layer in self.layers:
                layer.norm = nn.LayerNorm([self.widths[0], *lattice])
        self.input_normalizer = Normalizer(in_channels, points, normalization[0])
        self.target_normalizer = Normalizer(out_channels, lattice, normalization[1])
        self._store_channels_last()

    @classmethod
    def named(cls, name: str) -> PublishedMgNO:
        """Return a published network with random weights.

        Names are "darcy-rough", "darcy-multiscale", "darcy-smooth", "pipe", "navier-stokes" and "helmholtz".

        Raises
        ------
        InputError
            If there is no such network.
        """
        return cls(**PUBLISHED[require_choice(name, "the published network", PUBLISHED)])

    def _check(self, x: Tensor) -> None:
        super()._check(x)
        if self.size is not None and tuple(x.shape[2:]) != self.size:
            raise InputError(
                f"the network is for a lattice of {'x'.join(map(str, self.size))} only, but the input has "
                f"{'x'.join(map(str, x.shape[2:]))}; use sb.MgNO, which accepts any lattice."
            )
