"""Diagonal, row sums and other properties of a lattice operator, computed in one pass for the multigrid set-up."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

from sciml_bounds.kernels._backend import backend_for, run_compiled
from sciml_bounds.kernels.field_memory import new_field
from sciml_bounds.kernels.lattice import Offsets, groups, rows, shifted, strip_length

__all__ = ["Survey", "survey"]


class Survey(NamedTuple):
    """Properties of a lattice operator.

    Attributes
    ----------
    diagonal : Tensor (b, x, y, z)
        Diagonal entries, c plus the sum over j of T_ij.
    absolute : Tensor (b, x, y, z)
        Sum of |A_ij| over j, for each row i.
    conductances : Tensor (b, k, 4)
        For each offset: sum of the conductances, number of nonzero conductances, smallest positive one (infinity if no
        conductance is positive), and largest one.
    isolated : Tensor (b,)
        Number of points without neighbours in the interior of the box.
    excess : Tensor (b,)
        Sum of c over the points that have neighbours.
    contrast : Tensor (b,)
        Largest ratio of the positive conductances of two consecutive edges along an axis; at least 1.
    """

    diagonal: Tensor
    absolute: Tensor
    conductances: Tensor
    isolated: Tensor
    excess: Tensor
    contrast: Tensor


def survey(offsets: Offsets, T: Tensor, c: Tensor) -> Survey:
    """Compute the properties of the operator with conductances T and diagonal excess c in one pass."""
    if backend_for(c) != "compiled":
        return _survey_torch(offsets, T, c)
    B, X, Y, Z = c.shape
    strips = X * -(-Y // strip_length(Y, Z))
    diagonal, absolute = new_field(c), new_field(c)
    parts, points = c.new_empty((B, strips, len(T), 4)), c.new_empty((B, strips, 3))
    conductances, of_points = c.new_empty((B, len(T), 4)), c.new_empty((3, B))
    found = diagonal, absolute, parts, points, conductances, of_points
    run_compiled("survey", c.numel(), groups(offsets), rows(T), c, *found)
    return Survey(diagonal, absolute, conductances, *of_points)


# --- reference --------------------------------------------------------------------------------------------------------


def _survey_torch(offsets: Offsets, T: Tensor, c: Tensor) -> Survey:
    couplings, sizes = torch.zeros_like(c), torch.zeros_like(c)
    for k, offset in enumerate(offsets):
        back = tuple(-o for o in offset)
        couplings += T[k] + shifted(T[k], back)
        sizes += T[k].abs() + shifted(T[k].abs(), back)
    flat = T.flatten(2).movedim(0, 1)  # (b, k, n)
    smallest = torch.where(flat > 0, flat, torch.inf).amin(2)
    inside = tuple(slice(1, -1) if n > 1 else slice(None) for n in c.shape[1:])
    return Survey(
        c + couplings,
        (c + couplings).abs() + sizes,
        torch.stack([flat.sum(2), (flat != 0).sum(2).to(c), smallest, flat.amax(2)], 2),
        (sizes[:, *inside] == 0).flatten(1).sum(1).to(c),
        torch.where(sizes > 0, c, 0.0).flatten(1).sum(1),
        _contrast_torch(offsets, T),
    )


def _contrast_torch(offsets: Offsets, T: Tensor) -> Tensor:
    ratios = [torch.ones_like(T[0])]
    for offset, t in zip(offsets, T):
        if sum(map(abs, offset)) == 1:
            before = shifted(t, tuple(-o for o in offset))
            small, large = torch.minimum(t, before), torch.maximum(t, before)
            ratios.append(torch.where(small > 0, large / small, 1.0))
    return torch.stack(ratios).amax((0, 2, 3, 4))
