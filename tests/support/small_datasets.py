"""Small data sets in the layout of ours, with numbers that a test can predict."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from sciml_bounds.recipes._recipe import Variable
from sciml_bounds.store.datasets.dataset_files import DatasetHeader, writing_dataset

HEADER = DatasetHeader(
    recipe="darcy-test",
    title="a test",
    description="Numbers that a test can predict.",
    reference="",
    parameters={},
    seed=3,
    resolution=8,
    device="cpu",
    samples=0,
    inputs=(),
    targets=(),
    layout="",
    coordinates={},
    variables={},
    lengths={},
)


def write_dataset(
    path: Path, variables: Mapping[str, Any], coordinates: Mapping[str, Any], *, first: int = 0, **about: Any
) -> Path:
    """Write variables, each (axes of a sample, array); the first sample has the index `first`."""
    count = len(next(iter(variables.values()))[1])
    known = {name: Variable(dims, name, "1", values.dtype.name) for name, (dims, values) in variables.items()}
    lengths = {dim: n for dims, values in variables.values() for dim, n in zip(dims, values.shape[1:])}
    axes = {name: (np.asarray(positions), "1") for name, positions in coordinates.items()}
    header = replace(HEADER, samples=count, variables=known, lengths=lengths, coordinates=axes, **about)
    with writing_dataset(path, header, range(first, first + count)) as writer:
        writer.write(first, {name: values for name, (_, values) in variables.items()})
    return path


def diffusion(path: Path, count: int = 12, cells: tuple[int, ...] = (8, 6), **about: Any) -> Path:
    """Write coefficients at cells, solutions at nodes that are linear in each position, and label errors."""
    rng = np.random.default_rng(0)
    names = ("x", "y", "z")[: len(cells)]
    nodes = [np.linspace(0, 1, n + 1) for n in cells]
    factors = 1 + np.arange(count).reshape(-1, *(1,) * len(cells))
    solution = factors * np.prod(np.meshgrid(*(1 + points for points in nodes), indexing="ij"), axis=0)
    variables = {
        "coefficient": (names, rng.lognormal(size=(count, *cells)).astype(np.float32)),
        "solution": (tuple(f"{name}_node" for name in names), solution),
        "label_error": ((), np.linspace(0.01, 0.02, count)),
    }
    coordinates = {name: (points[1:] + points[:-1]) / 2 for name, points in zip(names, nodes)}
    coordinates |= {f"{name}_node": points for name, points in zip(names, nodes)}
    usual = {"inputs": ("coefficient",), "targets": ("solution",), "layout": "cells->nodes"}
    usual["parameters"] = {"boundary": "dirichlet", "source": 2.0, "names": ["a", "b"]}
    return write_dataset(path, variables, coordinates, **(usual | about))


def vorticity(path: Path, count: int = 12, frames: int = 5, n: int = 8) -> Path:
    """Write trajectories whose frame t is t + 1 times the first."""
    first = np.random.default_rng(1).standard_normal((count, 1, n, n)).astype(np.float32)
    trajectories = first * (1 + np.arange(frames, dtype=np.float32))[None, :, None, None]
    points = np.arange(n) / n
    about = {"inputs": ("vorticity",), "targets": ("vorticity",), "layout": "time", "recipe": "navier-stokes-1e-3"}
    about["parameters"] = {"viscosity": 1e-3, "boundary": "periodic"}
    coordinates = {"time": np.arange(frames) * 0.5, "x": points, "y": points}
    return write_dataset(path, {"vorticity": (("time", "x", "y"), trajectories)}, coordinates, **about)
