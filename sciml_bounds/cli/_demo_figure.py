"""Figure of the demo: four answers to one problem, their error indicators and their error bounds."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import TYPE_CHECKING

import torch

from sciml_bounds.cli._study import HIGH, LOW, Answer, Study
from sciml_bounds.plot import draw_field, indicator_colours, new_figure

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

__all__ = ["draw_study"]

BOUND_COLOUR, TRUE_COLOUR = "#7fa8d9", "#c0392b"


def draw_study(study: Study, sample: int = 0) -> Figure:
    """Draw one sample: coefficient and answers above, bounds and error indicators below."""
    from matplotlib.cm import ScalarMappable
    from matplotlib.colors import Normalize

    answers, grid = study.answers, study.problem.grid
    figure = new_figure(13.0, 5.5)
    figure.set_layout_engine("constrained", rect=(0.0, 0.0, 0.99, 1.0))  # space for the labels of the colour bars
    count = len(answers[0].certificate.values)
    figure.suptitle(f"Field {sample + 1} of {count}; errors in the energy norm, in % of |||u|||")
    panels = figure.subplots(2, 1 + len(answers))
    values = torch.stack([answer.certificate.values[sample] for answer in answers])
    indicators = torch.stack([answer.certificate.indicators[sample] for answer in answers])
    value_norm, indicator_norm = Normalize(0.0, float(values.max())), indicator_colours(indicators)

    title = f"coefficient a\ndark {LOW:g}, bright {HIGH:g}"
    draw_field(panels[0, 0], grid, study.problem.coefficient[0], title, "cividis", nodal=False, sample=sample)
    for i, answer in enumerate(answers):
        title = f"{answer.name}\n{_interval(study, answer, sample)}"
        draw_field(panels[0, i + 1], grid, values[i], title, "viridis", nodal=True, norm=value_norm)
        draw_field(panels[1, i + 1], grid, indicators[i], "", "inferno", nodal=False, norm=indicator_norm)
    for axes in panels.flat:
        axes.set(xticks=[], yticks=[], xlabel="", ylabel="")
    for row, norm, colours, label in (
        (0, value_norm, "viridis", "u"),
        (1, indicator_norm, "inferno", "error indicator of a cell"),
    ):
        mappable = ScalarMappable(norm, colours)
        figure.colorbar(mappable, ax=panels[row, 1:], shrink=0.9, pad=0.01, label=label)
    _draw_bounds(panels[1, 0], study, sample)
    return figure


def _interval(study: Study, answer: Answer, sample: int) -> str:
    lower, upper = study.relative(answer.bounds)
    left, right = _percent(float(lower[sample]), math.floor), _percent(float(upper[sample]), math.ceil)
    return rf"{left} $\leq$ error $\leq$ {right}"


def _percent(part: float, rounding: Callable[[float], int]) -> str:
    """Write a bound in percent, rounded outwards."""
    digits = 2 if part < 0.1 else 1
    return f"{rounding(100 * part * 10**digits) / 10**digits:.{digits}f} %"


def _draw_bounds(axes: Axes, study: Study, sample: int) -> None:
    """Draw the guaranteed interval of each answer and its true error, relative to the energy norm of the solution."""
    for row, answer in enumerate(study.answers):
        lower, upper = (100 * float(end[sample]) for end in study.relative(answer.bounds))
        true = 50 * sum(float(end[sample]) for end in study.relative(answer.error))
        # The outline keeps a narrow interval visible; the marker is below it.
        axes.barh(row, upper - lower, 0.3, lower, color=BOUND_COLOUR, edgecolor=BOUND_COLOUR, linewidth=1.5)
        axes.plot(true, row + 0.3, "^", color=TRUE_COLOUR, markersize=6, markeredgewidth=0)
        axes.text(0.04, row - 0.28, answer.name, transform=axes.get_yaxis_transform(), fontsize=9)
    axes.set_xscale("log")
    axes.set(xlim=(0.5, 200), ylim=(len(study.answers) - 0.5, -0.75), xticks=[1, 10, 100], box_aspect=1)
    axes.set_xticklabels(["1 %", "10 %", "100 %"])
    axes.grid(axis="x", alpha=0.3)
    axes.set_title("guaranteed interval (blue)\nand true error (red)", fontsize=10)
