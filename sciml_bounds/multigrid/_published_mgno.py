"""The networks of the paper as its authors' code makes them (commit 3a68a90 of `xlliu2017/MgNO`).

Where the text and the code differ, the code counts: it restricts the raw data, starts coarse levels from a learnt
restriction of u, closes prolongations with zeros even around a torus, and draws weights as torch does. Numbers of
parameters are those of the code: 572,661 (Darcy rough and multiscale), 678,093 (Darcy smooth), 783,876 (pipe),
2,885,194 (Navier-Stokes, of which 1,740,800 belong to norms over the lattice) and 5,351,806 (Helmholtz, with 11,241
that are never used).
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
    """Keywords of a published network."""
    if name not in PUBLISHED:
        near = sorted(PUBLISHED, key=lambda known: -difflib.SequenceMatcher(None, known, str(name)).ratio())
        raise InputError(f"there is no published network {name!r}; choose from {', '.join(near)}.")
    return dict(PUBLISHED[name])
