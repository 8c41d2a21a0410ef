"""Right-hand sides with one value per node: the lumped mass matrix, and the conversion of nodal load vectors."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

from sciml_bounds.arrays import convert, require_finite
from sciml_bounds.errors import InputError
from sciml_bounds.operators._lattice_operator import LatticeSystem
from sciml_bounds.problems.components import BALANCE_TOL
from sciml_bounds.problems.diffusion import Diffusion
from sciml_bounds.problems.fields import require_samples
from sciml_bounds.problems.transfers import sum_to_nodes

__all__ = ["nodal_volumes", "read_load", "require_balanced_load"]


def nodal_volumes(problem: Diffusion) -> Tensor:
    """Return the integrals of the nodal basis functions over the fluid, shape (b, nodes): the lumped mass matrix."""
    share = problem.fluid.to(problem.dtype) * (problem.grid.cell_volume / 2**problem.grid.dim)
    return sum_to_nodes(share, problem.periodic)


def read_load(problem: Diffusion, value: Any) -> Tensor:
    """Convert a nodal load vector to a tensor (batch..., nodes) in the dtype and on the device of the problem.

    Raises
    ------
    InputError
        If the load does not have one finite value per node, or its batch and the batch of the problem do not broadcast.
    """
    load = convert(value, "rhs", problem.dtype, problem.device)
    nodes, dim = problem.node_shape, problem.grid.dim
    space = tuple(load.shape[max(load.ndim - dim, 0) :])
    if space != nodes:
        flat = load.ndim > 0 and load.shape[-1] == math.prod(nodes)
        remedy = "reshape it" if flat else "pass values per cell as source=" if space == problem.grid.shape else ""
        raise InputError(
            f"rhs has shape {tuple(load.shape)}, but it needs one value per node, (batch..., "
            f"{', '.join(map(str, nodes))}); {remedy or 'give an array of that shape'}."
        )
    require_samples(load, "rhs")
    require_finite(load, "rhs")
    batch = load.shape[: load.ndim - dim]
    try:
        np.broadcast_shapes(batch, problem.batch_shape)
    except ValueError:
        raise InputError(
            f"the batch axes {tuple(batch)} of rhs do not broadcast with the batch axes {tuple(problem.batch_shape)} "
            "of the problem; give one right-hand side per sample."
        ) from None
    return load


def require_balanced_load(system: LatticeSystem, terms: Sequence[Tensor]) -> None:
    """Raise unless the right-hand side of a system sums to zero on every floating component.

    Parameters
    ----------
    system : LatticeSystem
        The system.
    terms : sequence of Tensor (b, x, y, z)
        Terms of the right-hand side, whose absolute values determine the tolerance.

    Raises
    ------
    InputError
        If the sum is not zero on some component, as no solution exists then.
    """
    if system.components is None:
        return
    rhs = system.rhs.detach()
    size = rhs.new_zeros(rhs.shape)
    for term in terms:
        size += term.detach().abs()
    mean, mean_size = (field - system.into_range(field) for field in (rhs, size))
    bad = mean.abs() > BALANCE_TOL * torch.finfo(rhs.dtype).eps * mean_size
    if bool(bad.any()):
        raise InputError(
            f"rhs and the boundary fluxes have mean {float(mean[bad][0]):.6g} per unknown on a part of the domain "
            "where nothing fixes the level of u (only Neumann or periodic sides, and no reaction), but they must sum "
            "to zero; subtract the mean from rhs."
        )
