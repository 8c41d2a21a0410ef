"""Boundary conditions on the faces of a finer grid."""

from __future__ import annotations

from sciml_bounds.grid import Boundary, Dirichlet, Neumann, Robin
from sciml_bounds.problems.transfers import interpolate_nodes, repeat_cells

__all__ = ["refine_condition"]


def refine_condition(condition: Boundary, factor: int, periodic: tuple[bool, ...]) -> Boundary:
    """Divide every face of a side into `factor` along each of its axes, given which of them are periodic."""
    if isinstance(condition, Dirichlet):
        return Dirichlet(interpolate_nodes(condition.value, factor, periodic))
    if isinstance(condition, Neumann):
        return Neumann(repeat_cells(condition.flux, factor, len(periodic)))
    if isinstance(condition, Robin):
        return Robin(*(repeat_cells(part, factor, len(periodic)) for part in (condition.alpha, condition.g)))
    return condition
