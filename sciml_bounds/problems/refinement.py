"""The same problem on a finer grid."""

from __future__ import annotations

from typing import TYPE_CHECKING

from torch import Tensor

from sciml_bounds.grid import Boundary, Dirichlet, Neumann, Robin, side_axis
from sciml_bounds.problems.transfers import interpolate_nodes, repeat_cells

if TYPE_CHECKING:
    from sciml_bounds.problems.diffusion import Diffusion

__all__ = ["refine_problem"]


def refine_problem(problem: Diffusion, factor: int) -> Diffusion:
    """Divide every cell into `factor` along each axis; the data, and so the exact solution, stay the same."""
    dim, grid = problem.grid.dim, problem.grid.refine(factor)

    def repeat(field: Tensor) -> Tensor:
        return repeat_cells(field, factor, dim)

    scalar = problem.has_scalar_coefficient
    parts = problem.coefficient[:1] if scalar else problem.coefficient
    refined = tuple(repeat(part) for part in parts)
    refined_problem = type(problem)(
        grid,
        coefficient=refined[0] if scalar else refined,
        source=repeat(problem.source),
        boundary={side: _refine_side(problem, side, condition, factor) for side, condition in problem.boundary.items()},
        reaction=repeat(problem.reaction),
        solid=None if problem.solid is None else repeat(problem.solid),
    )
    return refined_problem.broadcast(problem.batch_shape)


def _refine_side(problem: Diffusion, side: str, condition: Boundary, factor: int) -> Boundary:
    axis, _ = side_axis(side)
    dim = problem.grid.dim - 1
    along = tuple(p for a, p in enumerate(problem.periodic) if a != axis)
    if isinstance(condition, Dirichlet):
        return Dirichlet(interpolate_nodes(condition.value, factor, along))
    if isinstance(condition, Neumann):
        return Neumann(repeat_cells(condition.flux, factor, dim))
    if isinstance(condition, Robin):
        parts = (repeat_cells(part, factor, dim) for part in (condition.alpha, condition.g))
        return Robin(*parts)
    return condition
