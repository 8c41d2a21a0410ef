"""From the nodes to the function itself: what a function differs from its multilinear interpolant, bounded.

A function v enters by what is known of it on the cells of a grid (`CellBounds`), wherever that comes from. On a box of
sides h_i let I be the multilinear interpolant, M_ij = sup |d_i d_j v|, M_ijj = sup |d_i d_j d_j v|, and W_i the length
of an interval that holds d_i v. Means are over the box, and I = I_1 ... I_d is a product of interpolations along axes.

Derivatives. d_i (v - I v) = (d_i v - m_i) + (m_i - J m_i), where m_i is the mean of d_i v along axis i and J
interpolates along the other axes: d_i I_i g is the mean of d_i g. The first part has mean zero along axis i and the
second does not depend on x_i, so that their squares add up.

- The first part, along axis i: a function with Lipschitz constant M has variance at most M^2 h^2 / 12 (half the mean of
  M^2 (x - y)^2), attained by v = x_i^2; values in an interval of length W have variance at most W^2 / 4.
- The second: |g - I_j g| <= T x (h_j - x) / 2 with T = sup |d_j d_j g|, and <= 2 L x (h_j - x) / h_j for a Lipschitz
  constant L, hence T = min(M_ijj, 4 M_ij / h_j). An interpolation does not enlarge what depends on other axes only, so
  the errors along the axes j != i add up; x (h - x) / 2 has mean h^2 / 12 and mean square h^4 / 120.
- Both d_i v and d_i I v lie in the interval of length W_i, so the mean square is never above W_i^2.

Values. |v - I v| <= sum_i S_i x_i (h_i - x_i) / 2 in the same way, S_i = min(M_ii, 2 W_i / h_i): with slopes in an
interval of length W, |g - I g| <= W x (h - x) / h. On a face the axis normal to it drops out.
"""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Sequence
from typing import Any, NamedTuple, Protocol, runtime_checkable

import torch
from torch import Tensor

from sciml_bounds.bounds.energy import EnergyForm
from sciml_bounds.errors import InputError
from sciml_bounds.grid import AXES, Grid, Robin, side_axis
from sciml_bounds.problems.diffusion import Diffusion
from sciml_bounds.problems.transfers import with_periodic_copies
from sciml_bounds.results import Certificate, Interval

__all__ = ["CellBounded", "CellBounds", "between_nodes", "derivative_squares", "nodes_of", "value_squares"]

#: Values on both sides of a periodic axis may differ by this part of the largest one, which round-off explains; what
#: that costs is part of the bound.
PERIODIC_SLACK = 1e-9


class CellBounds(NamedTuple):
    """What is known of a function on the cells of a grid with n cells along d axes; all in float64.

    Attributes
    ----------
    nodes
        Values at the nodes, shape (n + 1).
    value, gradient, second
        Lower and upper bounds of the value (n), of all first (d, n) and of all second derivatives (d, d, n); infinite
        where there are none.
    third
        Bounds of |d_i d_j d_j v|, shape (d, d, n); infinite where there are none.
    """

    nodes: Tensor
    value: tuple[Tensor, Tensor]
    gradient: tuple[Tensor, Tensor]
    second: tuple[Tensor, Tensor]
    third: Tensor


@runtime_checkable
class CellBounded(Protocol):
    """A function that bounds itself on cells."""

    def cell_bounds(self, grid: Grid) -> CellBounds:
        """Bound the function and its derivatives on every cell of a grid."""
        ...


def nodes_of(problem: Diffusion, bounds: CellBounds) -> Tensor:
    """Return the values at the nodes of a problem, shape `node_shape`.

    Raises
    ------
    InputError
        If an axis is periodic and the function is not.
    """
    nodes = bounds.nodes.to(problem.device)
    for axis, wraps in enumerate(problem.periodic):
        if wraps:
            last, first = nodes.select(axis, -1), nodes.select(axis, 0)
            gap = float((last - first).abs().max())
            if gap > PERIODIC_SLACK * float(nodes.abs().max()):
                raise InputError(
                    f"the function differs by up to {gap:.4g} between the two sides of axis {AXES[axis]}, which is "
                    f"periodic; certify one that is periodic too, such as a cosine network of whole periods."
                )
            nodes = nodes.narrow(axis, 0, nodes.shape[axis] - 1)
    return nodes


def derivative_squares(bounds: CellBounds, spacing: Sequence[float], axis: int) -> Tensor:
    """Bound the mean square of d_axis (v - I v) over each cell, shape (n)."""
    h = spacing[axis]
    width = bounds.gradient[1][axis] - bounds.gradient[0][axis]
    first = torch.minimum(h**2 / 12 * _largest(bounds, axis, axis).square(), width.square() / 4)
    others = [j for j in range(len(spacing)) if j != axis]
    bends = [torch.minimum(bounds.third[axis, j], 4 / spacing[j] * _largest(bounds, axis, j)) for j in others]
    second = _bubble_squares(bends, [spacing[j] for j in others], width)
    return torch.minimum(first + second, width.square())


def value_squares(bounds: CellBounds, spacing: Sequence[float], axes: Sequence[int]) -> Tensor:
    """Bound the mean square of v - I v over each cell, or over a face with these axes, shape (n)."""
    widths = [bounds.gradient[1][i] - bounds.gradient[0][i] for i in axes]
    bends = [torch.minimum(_largest(bounds, i, i), 2 / spacing[i] * width) for i, width in zip(axes, widths)]
    return _bubble_squares(bends, [spacing[i] for i in axes], bounds.value[0])


def _largest(bounds: CellBounds, i: int, j: int) -> Tensor:
    lower, upper = bounds.second
    return torch.maximum(lower[i, j].abs(), upper[i, j].abs())


def _bubble_squares(bends: list[Tensor], spacing: Sequence[float], like: Tensor) -> Tensor:
    """Mean square of sum_j T_j x_j (h_j - x_j) / 2: the square of the mean, and the variances."""
    mean, variance = torch.zeros_like(like), torch.zeros_like(like)
    for bend, h in zip(bends, spacing):
        mean = mean + bend * (h**2 / 12)
        variance = variance + bend.square() * (h**4 / 120 - h**4 / 144)
    return mean.square() + variance


def between_nodes(certificate: Certificate, problem: Diffusion, bounds: CellBounds, start: float) -> Certificate:
    """Turn the certificate of an interpolant into that of its function: all norms are off by |||v - I v||| at most.

    The triangle inequality asks for nothing on the sides: what the interpolant lacks there is in its certificate.
    """
    bounds = CellBounds(*(_moved(field, problem.device) for field in bounds))
    squared = _energy_squares(problem, bounds)
    batch = problem.batch_shape
    cells = squared.expand(batch.numel(), *problem.grid.shape).reshape(*batch, *problem.grid.shape)
    part = cells.flatten(len(batch)).sum(-1).sqrt() + _wrapping_part(problem, bounds).expand(batch.numel()).reshape(
        batch
    )
    in_l2 = _l2_norm(problem, bounds).expand(batch.numel()).reshape(batch)

    def parts() -> tuple[Interval, Interval]:
        mesh, model = certificate.mesh, certificate.model
        return mesh, Interval((model.lower - part).clamp_min(0), model.upper + part)

    return dataclasses.replace(
        certificate,
        upper=certificate.upper + part,
        lower=(certificate.lower - part).clamp_min(0),
        indicators=_joined(certificate, cells, part),
        terms={**certificate.terms, "interpolation": part.square()},
        layout="function",
        seconds=time.perf_counter() - start,
        _parts=parts,
        _l2=lambda: certificate.l2_upper + in_l2,
    )


def _moved(field: Any, device: torch.device) -> Any:
    return field.to(device) if isinstance(field, Tensor) else tuple(part.to(device) for part in field)


def _energy_squares(problem: Diffusion, bounds: CellBounds) -> Tensor:
    """Bound |||v - I v|||^2 on every cell, shape (b, n)."""
    grid, form = problem.grid, EnergyForm(problem)
    axes = range(grid.dim)
    squared = form.reaction * value_squares(bounds, grid.spacing, axes)
    for axis, coefficient in enumerate(form.coefficient):
        squared = squared + coefficient * derivative_squares(bounds, grid.spacing, axis)
    squared = squared * grid.cell_volume
    for side, condition in problem.boundary.items():
        if isinstance(condition, Robin):
            squared = squared + _on_side(problem, bounds, side, condition.alpha)
    return squared


def _wrapping_part(problem: Diffusion, bounds: CellBounds) -> Tensor:
    """Norm of what the nodal values lack to be periodic, shape (b,)."""
    if not any(problem.periodic):
        return bounds.nodes.new_zeros(1)
    lacking = with_periodic_copies(nodes_of(problem, bounds)[None], problem.periodic) - bounds.nodes
    return EnergyForm(problem).norm(lacking.repeat(problem.batch_shape.numel(), *(1,) * problem.grid.dim))


def _on_side(problem: Diffusion, bounds: CellBounds, side: str, alpha: Tensor) -> Tensor:
    """Bound the integral of alpha (v - I v)^2 over the faces of a side, as a part of the cells there, shape (b, n)."""
    grid = problem.grid
    axis, end = side_axis(side)
    on_faces = value_squares(bounds, grid.spacing, [i for i in range(grid.dim) if i != axis]).select(axis, -end)
    weight = torch.where(problem.fluid.select(1 + axis, -end), problem.samples(alpha, grid.dim - 1), 0.0)
    part = weight * on_faces * grid.face_area(axis)
    squared = part.new_zeros(len(part), *grid.shape)
    squared.select(1 + axis, -end).copy_(part)
    return squared


def _l2_norm(problem: Diffusion, bounds: CellBounds) -> Tensor:
    squared = torch.where(problem.fluid, value_squares(bounds, problem.grid.spacing, range(problem.grid.dim)), 0.0)
    return (squared.flatten(1).sum(1) * problem.grid.cell_volume).sqrt()


def _joined(certificate: Certificate, cells: Tensor, part: Tensor) -> Tensor:
    """Make indicators whose squares sum up to (A + B)^2 of A_K and B_K: (A + B) (A_K^2 / A + B_K^2 / B)."""
    axes = tuple(range(part.ndim, cells.ndim))

    def share(squared: Tensor, total: Tensor) -> Tensor:
        whole = squared.sum(axes)
        return (total / torch.where(whole > 0, whole, 1.0)).reshape(*total.shape, *(1,) * len(axes)) * squared

    shares = share(certificate.indicators.square(), certificate.upper) + share(cells, part)
    return (share(shares, (certificate.upper + part).square())).sqrt()
