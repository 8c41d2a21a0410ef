"""Pictures: one row of panels a result, drawn with matplotlib, which is loaded on first use."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from sciml_bounds.grid import AXES, Grid

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

__all__ = ["plot_certificate", "plot_solution"]


def plot_solution(
    grid: Grid, coefficient: Tensor, values: Tensor, indicators: Tensor | None, sample: int = 0
) -> Figure:
    """Draw coefficient, solution and error indicators of one sample side by side."""
    panels = [("coefficient a", coefficient, "cividis"), ("solution u", values, "viridis")]
    if indicators is not None:
        panels.append(("error indicator", indicators, "magma"))
    return _row(grid, panels, sample)


def plot_certificate(grid: Grid, values: Tensor, indicators: Tensor, sample: int = 0) -> Figure:
    """Draw the certified field and its error indicators of one sample side by side."""
    return _row(grid, [("field", values, "viridis"), ("error indicator", indicators, "magma")], sample)


def _row(grid: Grid, panels: list[tuple[str, Tensor, str]], sample: int) -> Figure:
    figure = new_figure(4.4 * len(panels), 3.8)
    for axes, (title, field, colours) in zip(figure.subplots(1, len(panels), squeeze=False)[0], panels):
        draw_field(axes, grid, field, title, colours, sample)
    return figure


def new_figure(width: float, height: float) -> Figure:
    """Make a figure that needs no display."""
    from matplotlib.figure import Figure

    return Figure(figsize=(width, height), layout="constrained", dpi=130)


def draw_field(axes: Axes, grid: Grid, field: Tensor, title: str, colours: str, sample: int = 0, **limits: Any) -> None:
    """Draw one sample of a cell or node field: a line, an image, or the middle slice of three dimensions."""
    data = field.detach().cpu().reshape(-1, *field.shape[field.ndim - grid.dim :])
    data = data[min(sample, len(data) - 1)]
    low, high = grid.origin, tuple(o + length for o, length in zip(grid.origin, grid.lengths))
    if grid.dim == 1:
        cells = data.shape[0] == grid.shape[0]
        place = grid.centers(0) if cells else grid.nodes(0)[: data.shape[0]]
        axes.plot(place, data, drawstyle="steps-mid" if cells else "default", linewidth=1.2)
        axes.set(title=title, xlabel=AXES[0])
        return
    if grid.dim == 3:
        data = data[:, :, data.shape[2] // 2]
        title = f"{title} (middle slice in z)"
    image = axes.imshow(
        torch.flip(data.T, (0,)),
        extent=(low[0], high[0], low[1], high[1]),
        cmap=colours,
        interpolation="nearest",
        aspect="equal",
        **limits,
    )
    axes.set(title=title, xlabel=AXES[0], ylabel=AXES[1])
    axes.figure.colorbar(image, ax=axes, shrink=0.85)
