"""Fields as they come, and the nodal field that is certified in their place.

A bound holds for a function, so a field that is not nodal is first made into one; the certificate keeps that function.
"""

from __future__ import annotations

from typing import Literal, get_args

import numpy as np
import torch
from torch import Tensor

from sciml_bounds.errors import InputError
from sciml_bounds.grid import AXES, Dirichlet
from sciml_bounds.problems.diffusion import Diffusion
from sciml_bounds.problems.transfers import interpolate_nodes, sum_to_nodes

__all__ = ["Layout", "to_nodes"]

#: How a field lies on the grid.
Layout = Literal["nodes", "cells", "interior", "coarse"]


def to_nodes(problem: Diffusion, field: Tensor, layout: Layout) -> Tensor:
    """Make a nodal field (batch..., node_shape) from a field of another layout.

    Parameters
    ----------
    problem
        Gives the grid and the Dirichlet values.
    field
        Shape (batch..., layout shape); a channel axis of size one before the space axes is dropped where
        the batch before it broadcasts with that of the problem.
    layout
        "nodes": already nodal. "cells": one value a cell; a node gets the mean of the adjacent fluid cells, and
        Dirichlet nodes their prescribed value. "interior": the nodes that are not on a Dirichlet side; those get their
        prescribed value. "coarse": the nodes of a coarser grid of the same box, interpolated multilinearly.

    Raises
    ------
    InputError
        If the shape does not fit the layout.
    """
    if layout not in get_args(Layout):
        raise InputError(f"unknown layout {layout!r}; the choices are {', '.join(map(repr, get_args(Layout)))}.")
    field = _drop_channel(problem, field)
    _check_batch(problem, field)
    if layout == "coarse":
        return _from_coarse(problem, field)
    _check_shape(problem, field, layout)
    if layout == "cells":
        return _from_cells(problem, field)
    return _from_interior(problem, field) if layout == "interior" else field


def layout_shape(problem: Diffusion, layout: Layout) -> tuple[int, ...]:
    """Shape of a field of a layout, without batch."""
    if layout == "cells":
        return problem.grid.shape
    if layout == "interior":
        return tuple(len(range(n)[keep]) for n, keep in zip(problem.node_shape, _interior(problem)))
    return problem.node_shape


def _interior(problem: Diffusion) -> tuple[slice, ...]:
    def held(axis: int, end: int) -> bool:
        return isinstance(problem.boundary[f"{AXES[axis]}{end}"], Dirichlet)

    return tuple(slice(int(held(a, 0)), -1 if held(a, 1) else None) for a in range(problem.grid.dim))


def _batch(problem: Diffusion, field: Tensor) -> tuple[int, ...]:
    return tuple(field.shape[: max(field.ndim - problem.grid.dim, 0)])


def _drop_channel(problem: Diffusion, field: Tensor) -> Tensor:
    """Drop a channel axis of size one between batch and space, as networks give it; nothing else."""
    batch = _batch(problem, field)
    has_channel = len(batch) == max(len(problem.batch_shape), 1) + 1 and batch[-1] == 1
    return field.squeeze(len(batch) - 1) if has_channel and _broadcasts(problem, batch[:-1]) else field


def _check_batch(problem: Diffusion, field: Tensor) -> None:
    batch = _batch(problem, field)
    if not _broadcasts(problem, batch):
        raise InputError(
            f"values have batch {batch}, not broadcastable with the problem's {tuple(problem.batch_shape)}."
        )


def _broadcasts(problem: Diffusion, batch: tuple[int, ...]) -> bool:
    try:
        np.broadcast_shapes(batch, problem.batch_shape)
    except ValueError:
        return False
    return True


def _check_shape(problem: Diffusion, field: Tensor, layout: Layout) -> None:
    shape = layout_shape(problem, layout)
    if field.ndim >= len(shape) and tuple(field.shape[field.ndim - len(shape) :]) == shape:
        return
    space = tuple(field.shape[-len(shape) :])
    fitting = [name for name in ("nodes", "cells", "interior") if space == layout_shape(problem, name)]
    hint = f"It fits layout={fitting[0]!r}." if fitting else "For a coarser grid of the same box use layout='coarse'."
    expected = ", ".join(map(str, shape))
    raise InputError(
        f"values have shape {tuple(field.shape)}, but layout={layout!r} expects (batch..., {expected}). {hint}"
    )


def _from_cells(problem: Diffusion, field: Tensor) -> Tensor:
    fluid = problem.unflatten(problem.fluid)
    total = sum_to_nodes(torch.where(fluid, field, 0.0), problem.periodic)
    count = sum_to_nodes(fluid.to(field.dtype), problem.periodic)
    return problem.impose_boundary(total / count.clamp_min(1.0))


def _from_interior(problem: Diffusion, field: Tensor) -> Tensor:
    padding: list[int] = []
    for keep in reversed(_interior(problem)):
        padding += [keep.start, 1 if keep.stop == -1 else 0]
    return problem.impose_boundary(torch.nn.functional.pad(field, padding))


def _from_coarse(problem: Diffusion, field: Tensor) -> Tensor:
    dim = problem.grid.dim
    factors = set()
    counts = (0,) * (dim - field.ndim) + tuple(field.shape[-dim:])  # an axis that is missing has no nodes
    for count, n, wraps in zip(counts, problem.grid.shape, problem.periodic):
        cells = count if wraps else count - 1
        if cells < 1 or n % cells:
            raise InputError(
                f"values have shape {tuple(field.shape)}; layout='coarse' needs the nodes of a coarser grid, each cell "
                f"of which holds a whole number of the problem's {problem.grid.shape} cells."
            )
        factors.add(n // cells)
    if len(factors) > 1:
        raise InputError(
            f"values of layout='coarse' are coarser by different factors along the axes ({sorted(factors)}); use one."
        )
    return interpolate_nodes(field, factors.pop(), problem.periodic)
