"""Boundary conditions on refined grids."""

from __future__ import annotations

from sciml_bounds.grid import Boundary, Dirichlet, Neumann, Robin
from sciml_bounds.problems.transfers import interpolate_nodes, repeat_cells

__all__ = ["refine_condition"]


def refine_condition(condition: Boundary, factor: int, periodic: tuple[bool, ...]) -> Boundary:
    """Return a boundary condition on the grid whose faces are divided by `factor` along each axis.

    Parameters
    ----------
    condition : Boundary
        Condition with tensors as data.
    factor : int
        Refinement factor.
    periodic : tuple of bool
        Whether each axis of the side is periodic.
    """
    if isinstance(condition, Dirichlet):
        return Dirichlet(interpolate_nodes(condition.value, factor, periodic))
    if isinstance(condition, Neumann):
        return Neumann(repeat_cells(condition.flux, factor, len(periodic)))
    if isinstance(condition, Robin):
        return Robin(*(repeat_cells(part, factor, len(periodic)) for part in (condition.alpha, condition.g)))
    return condition
