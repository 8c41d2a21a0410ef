"""Functions of the coordinates and networks that map points to values, evaluated at the nodes of a grid."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from sciml_bounds.arrays import to_tensor
from sciml_bounds.errors import InputError
from sciml_bounds.problems.diffusion import Diffusion

__all__ = ["is_function_of_coordinates", "values_at_nodes"]

#: Number of points per forward pass of a network.
POINT_BATCH_SIZE = 65_536


def is_function_of_coordinates(candidate: Any) -> bool:
    """Return whether an object is a function or a network, and not an array."""
    return callable(candidate) and not isinstance(candidate, Tensor)


def values_at_nodes(function: Any, problem: Diffusion, layout: str | None) -> Tensor:
    """Evaluate a function at the nodes of the grid of a problem, on its device, in float64 or the dtype of a network.

    Parameters
    ----------
    function : callable or torch.nn.Module
        f(x, y, z) of coordinate tensors with the shape of the nodes; or a network that maps points (n, d) to values
        (n, 1) or (n,).
    layout : "nodes" or None
        Must be "nodes", by which the caller accepts that the interpolant of the values is certified.

    Raises
    ------
    InputError
        If `layout` is not "nodes", or the values do not have the shape of the nodes.
    """
    kind = type(function).__name__
    if layout != "nodes":
        raise InputError(
            f"values is a function of the coordinates ({kind}), of which certify knows the values at nodes only; pass "
            "layout='nodes' to certify the multilinear interpolant of these values, which may have a smaller or larger "
            "error than the function itself."
        )
    grid = problem.grid
    axes = [grid.nodes(axis)[:count].to(problem.device) for axis, count in enumerate(problem.node_shape)]
    coordinates = torch.meshgrid(*axes, indexing="ij")
    if isinstance(function, nn.Module):
        parameter = next(function.parameters(), torch.zeros((), dtype=torch.float64))
        points = torch.stack(coordinates, -1).reshape(-1, grid.dim).to(parameter)
        found = torch.cat([_forward(function, part) for part in points.split(POINT_BATCH_SIZE)])
        return found.reshape(problem.node_shape)
    found = to_tensor(function(*coordinates), f"the values of the function {kind}")
    if found.shape not in ((), problem.node_shape):
        raise InputError(
            f"the function maps {grid.dim} coordinate tensors of shape {problem.node_shape} to shape "
            f"{tuple(found.shape)}; it must return one value per node."
        )
    return found.expand(problem.node_shape)


def _forward(network: nn.Module, points: Tensor) -> Tensor:
    found: Any = network(points)
    if not isinstance(found, Tensor) or found.shape not in ((len(points), 1), (len(points),)):
        shape = tuple(found.shape) if isinstance(found, Tensor) else type(found).__name__
        raise InputError(
            f"the network maps points of shape {tuple(points.shape)} to {shape}; give a network that maps points "
            "(n, d) to values (n, 1), or one with a method predict(problem)."
        )
    return found.reshape(-1)
