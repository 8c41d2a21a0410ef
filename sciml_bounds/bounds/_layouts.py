"""Conversion of fields in other layouts to nodal fields, which are then certified.

An error bound refers to a function, so a field that is not nodal is converted first. The certificate contains the nodal
field.
"""

from __future__ import annotations

from typing import Literal, get_args

import numpy as np
import torch
from torch import Tensor

from sciml_bounds.arrays import require_choice
from sciml_bounds.errors import InputError
from sciml_bounds.grid import AXES, Dirichlet
from sciml_bounds.problems.diffusion import Diffusion
from sciml_bounds.problems.transfers import interpolate_nodes, sum_to_nodes

__all__ = ["Layout", "checked_field", "to_nodes"]

#: Location of the values of a field on the grid.
Layout = Literal["nodes", "cells", "interior", "coarse", "centres"]


def to_nodes(problem: Diffusion, field: Tensor, layout: Layout) -> Tensor:
    """Convert a field in any layout to a nodal field (batch..., node_shape).

    Parameters
    ----------
    problem : Diffusion
        Defines the grid and the Dirichlet values.
    field : Tensor, shape (batch..., layout shape)
        Values. A channel axis of size one before the space axes is dropped if the axes before it broadcast with the
        batch of the problem.
    layout : {"nodes", "cells", "interior", "coarse"}
        "nodes": already nodal. "cells": one value per cell; a node gets the mean of the adjacent fluid cells, and a
        Dirichlet node gets its prescribed value. "interior": the nodes that are not on a Dirichlet side; Dirichlet
        nodes get their prescribed values. "coarse": the nodes of a coarser grid of the same box, interpolated
        multilinearly. The layout "centres" has no nodal field on the same grid (see `bounds._cell_reconstruction`).

    Raises
    ------
    InputError
        If the shape of the field does not fit the layout.
    """
    field = checked_field(problem, field, layout)
    if layout == "coarse":
        return _from_coarse(problem, field)
    if layout == "cells":
        return _from_cells(problem, field)
    return _from_interior(problem, field) if layout == "interior" else field


def checked_field(problem: Diffusion, field: Tensor, layout: Layout) -> Tensor:
    """Return a field of the shape of its layout, without a channel axis.

    Raises
    ------
    InputError
        If the shape of the field does not fit the layout.
    """
    require_choice(layout, "layout", get_args(Layout))
    field = _drop_channel(problem, field)
    _check_batch(problem, field)
    if layout != "coarse":
        _check_shape(problem, field, layout)
    return field


def layout_shape(problem: Diffusion, layout: Layout) -> tuple[int, ...]:
    """Return the shape of a field in this layout, without batch axes."""
    if layout in ("cells", "centres"):
        return problem.grid.shape
    if layout == "interior":
        return tuple(len(range(n)[keep]) for n, keep in zip(problem.node_shape, _interior(problem)))
    return problem.node_shape


def _interior(problem: Diffusion) -> tuple[slice, ...]:
    def is_dirichlet(axis: int, end: int) -> bool:
        return isinstance(problem.boundary[f"{AXES[axis]}{end}"], Dirichlet)

    return tuple(slice(int(is_dirichlet(a, 0)), -1 if is_dirichlet(a, 1) else None) for a in range(problem.grid.dim))


def _batch(problem: Diffusion, field: Tensor) -> tuple[int, ...]:
    return tuple(field.shape[: max(field.ndim - problem.grid.dim, 0)])


def _drop_channel(problem: Diffusion, field: Tensor) -> Tensor:
    """Drop a channel axis of size one between batch and space axes, as in the output of networks."""
    batch = _batch(problem, field)
    has_channel = len(batch) == max(len(problem.batch_shape), 1) + 1 and batch[-1] == 1
    return field.squeeze(len(batch) - 1) if has_channel and _broadcasts(problem, batch[:-1]) else field


def _check_batch(problem: Diffusion, field: Tensor) -> None:
    batch = _batch(problem, field)
    if not _broadcasts(problem, batch):
        raise InputError(
            f"values have batch shape {batch}, which does not broadcast with the batch shape "
            f"{tuple(problem.batch_shape)} of the problem; give one field, or one per sample."
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
    hint = (
        f"This shape fits layout {fitting[0]!r}."
        if fitting
        else "For a coarser grid of the same box use layout 'coarse'."
    )
    expected = ", ".join(map(str, shape))
    raise InputError(
        f"values have shape {tuple(field.shape)}, but layout {layout!r} expects (batch..., {expected}). {hint}"
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
    counts = (0,) * (dim - field.ndim) + tuple(field.shape[-dim:])  # a missing axis counts as an axis without nodes
    for count, n, wraps in zip(counts, problem.grid.shape, problem.periodic):
        cells = count if wraps else count - 1
        if cells < 1 or n % cells:
            raise InputError(
                f"values have shape {tuple(field.shape)}, but layout 'coarse' needs values at the nodes of a coarser "
                f"grid whose numbers of cells divide those of the problem, {problem.grid.shape}; give values on such a "
                "grid."
            )
        factors.add(n // cells)
    if len(factors) > 1:
        raise InputError(
            f"values with layout 'coarse' are coarser by different factors along the axes ({sorted(factors)}); use the "
            "same factor for all axes."
        )
    return interpolate_nodes(field, factors.pop(), problem.periodic)
