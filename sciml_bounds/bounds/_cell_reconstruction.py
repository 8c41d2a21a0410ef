"""The function that stands for cell pressures in a certificate, and their flux, on the grid of half the spacing.

A finite-volume scheme gives one pressure per cell and one flux per face. The function of the certificate is multilinear
on the grid whose nodes are the cell centres, the centres of faces and edges, and the vertices. At the cell centres it
has the given pressures, so wells keep their extremes. At any other node, each adjacent fluid cell proposes the pressure
of its centre plus the rise along each axis towards the node,

    h (3 y + y') / (8 a)     y at the face next to the node, y' at the opposite face, both along the axis,

which is the exact rise for a flux that is linear between the two faces. The value is the mean of the proposals, with
weights a / h^2 summed over the axes of the step: next to a cell of large coefficient its proposal prevails, as fluxes
vary less there than pressures do on the other side. Compare the local post-processing and averaging of Vohralik, SIAM
J. Numer. Anal. 45 (2007) 1570-1599. Dirichlet nodes have their prescribed values.

The flux is the lowest-order Raviart-Thomas field with the given face values, which the finer grid represents exactly.
"""

from __future__ import annotations

import itertools

import torch
from torch import Tensor

from sciml_bounds.kernels.field_memory import new_field
from sciml_bounds.problems.diffusion import Diffusion
from sciml_bounds.problems.transfers import fold_periodic_copies, repeat_cells

__all__ = ["flux_on_half_spacing", "values_on_half_spacing"]


def values_on_half_spacing(problem: Diffusion, pressure: Tensor, faces: tuple[Tensor, ...]) -> Tensor:
    """Return the nodal values of the reconstruction on the grid of half the spacing, shape (b, nodes).

    Parameters
    ----------
    problem : Diffusion
        The problem on the grid of the cells.
    pressure : Tensor, shape (b, n)
        Cell pressures, finite also in solids.
    faces : tuple of Tensor, shape (b, n + 1 along its own axis)
        Flux y ~ a grad u at the face centres.
    """
    grid, fluid = problem.grid, problem.fluid
    rises, weights = [], []
    for axis, h in enumerate(grid.spacing):
        a = torch.where(fluid, problem.samples(problem.coefficient[axis]), 1.0)
        low, high = (faces[axis].narrow(1 + axis, end, grid.shape[axis]) for end in (0, 1))
        share = h / (8 * a)
        rises.append({-1: -share * (3 * low + high), 1: share * (3 * high + low)})
        weights.append(torch.where(fluid, a / h**2, 0.0))
    size = (len(pressure), *(2 * n + 1 for n in grid.shape))
    total, sums = (new_field(pressure, size).zero_() for _ in range(2))
    centres = fluid.to(pressure.dtype)
    for offset in itertools.product((-1, 0, 1), repeat=grid.dim):
        steps = [(axis, o) for axis, o in enumerate(offset) if o]
        weight = sum((weights[axis] for axis, _ in steps[1:]), weights[steps[0][0]]) if steps else centres
        proposal = sum((rises[axis][o] for axis, o in steps), pressure)
        nodes = (slice(None), *(slice(1 + o, 2 * n + o, 2) for o, n in zip(offset, grid.shape)))
        total[nodes] += weight * proposal
        sums[nodes] += weight
    total, sums = (fold_periodic_copies(field, problem.periodic) for field in (total, sums))
    return total.div_(sums.masked_fill_(sums == 0, 1.0))


def flux_on_half_spacing(faces: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
    """Return the face values of a Raviart-Thomas flux (b, n + 1 along its own axis) on the grid of half the spacing."""
    dim, result = len(faces), []
    for axis, face in enumerate(faces):
        n = face.shape[1 + axis] - 1
        first = face.narrow(1 + axis, 0, n)
        middle = (first + face.narrow(1 + axis, 1, n)) / 2
        along = torch.stack([first, middle], 2 + axis).flatten(1 + axis, 2 + axis)
        along = torch.cat([along, face.narrow(1 + axis, n, 1)], 1 + axis).movedim(1 + axis, 1)
        result.append(repeat_cells(along, 2, dim - 1).movedim(1, 1 + axis))
    return tuple(result)
