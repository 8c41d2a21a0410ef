"""Plots of results with matplotlib, which is imported on first use."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from sciml_bounds.errors import InputError
from sciml_bounds.grid import AXES, Grid

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.colors import LogNorm, Normalize
    from matplotlib.figure import Figure
    from matplotlib.image import AxesImage

__all__ = ["draw_field", "indicator_colours", "new_figure", "plot_certificate", "plot_convergence", "plot_solution"]

#: Smallest indicator on the colour scale, relative to the largest indicator.
INDICATOR_RANGE = 1e-3
#: Largest ratio of side lengths for drawing to scale; longer boxes would be too thin to read.
MAX_ASPECT_RATIO = 4.0


def plot_solution(
    grid: Grid, coefficient: Tensor, values: Tensor, indicators: Tensor | None, sample: int = 0
) -> Figure:
    """Plot coefficient, solution and error indicators of one sample side by side."""
    figure, panels = _row(2 if indicators is None else 3)
    _panel(panels[0], grid, coefficient, "coefficient a", "cividis", sample, nodal=False)
    _panel(panels[1], grid, values, "solution u", "viridis", sample, nodal=True)
    if indicators is not None:
        _indicator_panel(panels[2], grid, indicators, sample)
    return figure


def plot_certificate(grid: Grid, values: Tensor, indicators: Tensor, sample: int = 0) -> Figure:
    """Plot the certified field and its error indicators of one sample side by side."""
    figure, panels = _row(2)
    _panel(panels[0], grid, values, "certified field", "viridis", sample, nodal=True)
    _indicator_panel(panels[1], grid, indicators, sample)
    return figure


def plot_convergence(histories: Mapping[str, Sequence[tuple[float, float]]], rtol: float) -> Figure:
    """Plot relative residuals against iterations and against time.

    Parameters
    ----------
    histories : mapping of str to sequence of (float, float)
        For each method, pairs of seconds and relative residual: one for the initial guess and one after each iteration.
        A direct method has one pair, at its end.
    rtol : float
        Requested relative residual, drawn as a line.
    """
    figure = new_figure(11.5, 4.6)
    by_count, by_time = figure.subplots(1, 2, sharey=True)
    for number, (name, history) in enumerate(histories.items()):
        seconds, residuals = zip(*history)
        style = {"color": f"C{number % 10}", "linestyle": ("-", "--", "-.", ":")[number % 4], "linewidth": 1.5}
        style |= {"marker": "osD^vPX*"[number % 8], "markersize": 4, "markevery": max(1, len(history) // 8)}
        by_time.loglog(seconds, residuals, label=name, **style)
        if len(history) > 1:
            by_count.semilogy(range(len(history)), residuals, **style)
    counts = [len(history) - 1 for history in histories.values() if len(history) > 1]
    if counts and max(counts) > 20 * max(1, min(counts)):
        by_count.set_xscale("symlog", linthresh=10)
    for axes in (by_count, by_time):
        axes.axhline(rtol, color="0.4", linewidth=0.8, linestyle=(0, (4, 3)))
        axes.grid(alpha=0.3)
    by_count.set(xlabel="iteration", ylabel=r"relative residual $\|b - A x\| / \|b\|$", xlim=(0, None))
    by_time.set(xlabel="seconds since the start of the set-up")
    _label_plainly(by_time)
    figure.legend(loc="outside right upper", fontsize=9)
    return figure


def _label_plainly(axes: Axes) -> None:
    """Label a logarithmic x axis of less than two decades by 0.04 instead of 4 x 10^-2, whose labels would overlap."""
    from matplotlib.ticker import FormatStrFormatter, LogLocator, MaxNLocator, NullLocator

    first, last = axes.get_xlim()
    if last < 100 * first:
        few = last < 10 * first
        axes.xaxis.set_major_locator(MaxNLocator(5, steps=[1, 2, 5, 10]) if few else LogLocator(subs=(1, 2, 5)))
        axes.xaxis.set_major_formatter(FormatStrFormatter("%g"))
        axes.xaxis.set_minor_locator(NullLocator())


def new_figure(width: float, height: float) -> Figure:
    """Return a figure that needs no display."""
    from matplotlib.figure import Figure

    return Figure(figsize=(width, height), layout="constrained", dpi=130)


def indicator_colours(indicators: Tensor) -> LogNorm | None:
    """Return a logarithmic colour scale that ends at the largest indicator; None if all indicators are zero."""
    from matplotlib.colors import LogNorm

    top = float(indicators.max())
    return LogNorm(INDICATOR_RANGE * top, top, clip=True) if top > 0 else None


def draw_field(
    axes: Axes,
    grid: Grid,
    field: Tensor,
    title: str,
    colours: str,
    *,
    nodal: bool,
    sample: int = 0,
    norm: Normalize | None = None,
) -> AxesImage | None:
    """Plot one sample of a cell or node field.

    Parameters
    ----------
    axes : matplotlib.axes.Axes
        Axes to draw on.
    grid : Grid
        The grid of the field.
    field : Tensor (batch..., space)
        The field. A field without batch axes applies to every sample.
    title, colours : str
        Title and colour map.
    nodal : bool
        Whether the field is given at nodes rather than in cells.
    sample : int
        Index of the sample, in batch order.
    norm : Normalize, optional
        Colour scale, if several panels share one.

    Returns
    -------
    AxesImage or None
        The image in 2-D, the image of the middle slice in 3-D, and None in 1-D, where a line is drawn.
    """
    data = _one_sample(field, grid, sample)
    if grid.dim == 1:
        _draw_line(axes, grid, data, title, nodal=nodal)
        return None
    if grid.dim == 3:
        data = _middle_slice(data, grid, nodal=nodal)
        title = f"{title} (middle slice in z)"
    return _draw_image(axes, grid, data, title, colours, nodal=nodal, norm=norm)


def _middle_slice(data: Tensor, grid: Grid, *, nodal: bool) -> Tensor:
    """Return the slice half way along z, or the mean of the two nearest slices."""
    twice = grid.shape[2] - (0 if nodal else 1)
    low, high = twice // 2, (twice + 1) // 2 % data.shape[2]
    return data[:, :, low] if low == high else (data[:, :, low] + data[:, :, high]) / 2


def _one_sample(field: Tensor, grid: Grid, sample: int) -> Tensor:
    """Return one sample of a field (batch..., space); a field without batch axes applies to every sample."""
    data = field.detach().cpu().reshape(-1, *field.shape[field.ndim - grid.dim :])
    if len(data) > 1 and not 0 <= sample < len(data):
        raise InputError(f"sample is {sample}, but the batch has {len(data)} samples; use 0 to {len(data) - 1}.")
    return data[sample if len(data) > 1 else 0]


def _draw_line(axes: Axes, grid: Grid, data: Tensor, title: str, *, nodal: bool) -> None:
    place = grid.nodes(0)[: len(data)] if nodal else grid.centers(0)
    axes.plot(place.numpy(), data.numpy(), drawstyle="default" if nodal else "steps-mid", linewidth=1.2)
    axes.set(title=title, xlabel=AXES[0], xlim=_box(grid, 0))
    axes.grid(alpha=0.3)


def _draw_image(
    axes: Axes, grid: Grid, data: Tensor, title: str, colours: str, *, nodal: bool, norm: Normalize | None
) -> AxesImage:
    edges = [_pixel_edges(grid, axis, data.shape[axis], nodal=nodal) for axis in (0, 1)]
    longest = max(grid.lengths[:2]) / min(grid.lengths[:2])
    image = axes.imshow(
        torch.flip(data.T, (0,)).numpy(),
        extent=(*edges[0], *edges[1]),
        cmap=colours,
        norm=norm,
        aspect="equal" if longest <= MAX_ASPECT_RATIO else "auto",
    )
    axes.set(title=title, xlabel=AXES[0], ylabel=AXES[1], xlim=_box(grid, 0), ylim=_box(grid, 1))
    return image


def _pixel_edges(grid: Grid, axis: int, count: int, *, nodal: bool) -> tuple[float, float]:
    """Return the outer edges of the first and last pixel; the pixel of a node extends half a spacing to both sides."""
    h = grid.spacing[axis]
    first = grid.origin[axis] - (h / 2 if nodal else 0.0)
    return first, first + count * h


def _box(grid: Grid, axis: int) -> tuple[float, float]:
    return grid.origin[axis], grid.origin[axis] + grid.lengths[axis]


def _row(count: int) -> tuple[Figure, list[Axes]]:
    figure = new_figure(4.4 * count, 3.8)
    return figure, list(figure.subplots(1, count, squeeze=False)[0])


def _panel(axes: Axes, grid: Grid, field: Tensor, title: str, colours: str, sample: int, *, nodal: bool) -> None:
    image = draw_field(axes, grid, field, title, colours, nodal=nodal, sample=sample)
    if image is not None:
        axes.figure.colorbar(image, ax=axes, shrink=0.85)


def _indicator_panel(axes: Axes, grid: Grid, indicators: Tensor, sample: int) -> None:
    norm = indicator_colours(_one_sample(indicators, grid, sample))
    image = draw_field(axes, grid, indicators, "error indicator", "magma", nodal=False, sample=sample, norm=norm)
    if image is not None:
        axes.figure.colorbar(image, ax=axes, shrink=0.85)
    elif norm is not None:
        axes.set_yscale("log")
