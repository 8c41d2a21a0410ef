"""The published MgNO networks, as built by the code of the paper (commit 3a68a90 of `xlliu2017/MgNO`).

Where the paper and its code differ, we follow the code. It restricts the raw data, starts coarse levels from a learnt
restriction of u, pads prolongations with zeros even for periodic fields, and uses the default initialisation of torch.
The numbers of parameters agree with the code: 572,661 (Darcy rough and multiscale), 678,093 (Darcy smooth), 783,876
(pipe), 2,885,194 (Navier-Stokes; 1,740,800 of them in layer norms) and 5,351,806 (Helmholtz; 11,241 of them unused).
"""

from __future__ import annotations

import difflib
from typing import Any

from sciml_bounds.errors import InputError

__all__ = ["PUBLISHED", "published_arguments"]

_COMMON: dict[str, Any] = {"coarse_start": "restricted", "wrapped": False, "layout": "same", "gain": "torch"}

_ROUGH = _COMMON | {
    "channels": 24,
    "layers": 4,
    "pre": (1, 1, 1, 1, 1, 2),
    "size": (256, 256),
    "normalization": ("none", "scalar"),
}

#: Keywords of `MgNO` by the name of the benchmark.
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


def published_arguments(name: str) -> dict[str, Any]:
    """Return the keyword arguments of `MgNO` for a published network."""
    if name not in PUBLISHED:
        near = sorted(PUBLISHED, key=lambda known: -difflib.SequenceMatcher(None, known, str(name)).ratio())
        raise InputError(f"there is no published network {name!r}; choose from {', '.join(near)}.")
    return dict(PUBLISHED[name])
