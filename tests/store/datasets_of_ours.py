"""Small data sets in the layout of ours, with numbers that a test can predict."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import xarray

from sciml_bounds.store.results import write
from sciml_bounds.store.splits import split_of

SPLIT = {"flag_values": np.arange(3, dtype=np.int8), "flag_meanings": "train validation test"}


def write_dataset(path: Path, variables: Mapping[str, Any], coordinates: Mapping[str, Any], **attributes: Any) -> Path:
    """Write variables, each (axes of a sample, array)."""
    count = len(next(iter(variables.values()))[1])
    index = np.arange(count)
    fields = {name: (("sample", *dims), values) for name, (dims, values) in variables.items()}
    about = {"recipe": "darcy-test", "seed": 3, "resolution": 8, "title": "a test", "parameters": "{}"} | attributes
    axes = {name: (name, positions, {"units": "1"}) for name, positions in coordinates.items()}
    fields["split"] = ("sample", split_of(index), SPLIT)
    write(xarray.Dataset(fields, coords={"sample": index, **axes}, attrs=about), path)
    return path


def diffusion(path: Path, count: int = 12, cells: tuple[int, int] = (8, 6), **attributes: Any) -> Path:
    """Write coefficients at cells, solutions at nodes that are bilinear in the positions, and label errors."""
    rng = np.random.default_rng(0)
    nodes = [np.linspace(0, 1, n + 1) for n in cells]
    centres = [(points[1:] + points[:-1]) / 2 for points in nodes]
    factor = 1 + np.arange(count)[:, None, None]
    variables = {
        "coefficient": (("x", "y"), rng.lognormal(size=(count, *cells))),
        "solution": (("x_node", "y_node"), factor * np.outer(nodes[0], 1 + nodes[1])),
        "label_error": ((), np.linspace(0.01, 0.02, count)),
    }
    coordinates = {"x": centres[0], "y": centres[1], "x_node": nodes[0], "y_node": nodes[1]}
    parameters = json.dumps({"boundary": "dirichlet", "contrast": 4.0, "names": ["a", "b"]})
    about = {"inputs": ["coefficient"], "targets": ["solution"], "layout": "cells->nodes", "parameters": parameters}
    return write_dataset(path, variables, coordinates, **(about | attributes))


def vorticity(path: Path, count: int = 12, frames: int = 5, n: int = 8) -> Path:
    """Write trajectories whose frame t is t times the first, plus the first."""
    first = np.random.default_rng(1).standard_normal((count, 1, n, n)).astype(np.float32)
    trajectories = first * (1 + np.arange(frames, dtype=np.float32))[None, :, None, None]
    points = np.arange(n) / n
    about = {"inputs": ["vorticity"], "targets": ["vorticity"], "layout": "time", "recipe": "navier-stokes-1e-3"}
    about["parameters"] = json.dumps({"viscosity": 1e-3})
    coordinates = {"time": np.arange(frames) * 0.5, "x": points, "y": points}
    return write_dataset(path, {"vorticity": (("time", "x", "y"), trajectories)}, coordinates, **about)
