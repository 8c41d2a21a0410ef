"""`sciml-bounds demo`: solve and certify on public Darcy fields."""

from __future__ import annotations

import time
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from sciml_bounds.errors import InputError

if TYPE_CHECKING:
    from rich.table import Table
    from torch import Tensor

    from sciml_bounds.cli._study import Answer, Study

__all__ = ["demo"]


def demo(
    data: Annotated[
        Path, typer.Option(help="Folder with the neuraloperator-0.3.0 wheel, which contains the public Darcy fields.")
    ] = Path(".cache/darcy"),
    out: Annotated[Path, typer.Option(help="Folder for the figure.")] = Path("demo"),
    fields: Annotated[int, typer.Option(min=1, help="Number of fields.")] = 6,
    split: Annotated[int, typer.Option(min=4, help="Divide every cell into SPLIT x SPLIT, a multiple of 4.")] = 16,
) -> None:
    """Solve and certify public Darcy problems, and show a table and a figure.

    Four approximate solutions are certified: our solution, the prediction of a shipped network, our solution with an
    added error, and the solution stored with the fields. Their true errors are computed on a finer grid.
    """
    start = time.perf_counter()
    if split % 4:
        raise InputError(f"--split {split} must be a multiple of 4; give 8 or 16.")
    _make_folder(out)

    from rich.console import Console

    from sciml_bounds.cli._darcy import load_fields
    from sciml_bounds.cli._demo_figure import draw_study
    from sciml_bounds.cli._study import run_study
    from sciml_bounds.store.safety.writer import replacing

    console = Console(highlight=False, width=max(80, Console().width))  # the width of the table
    chosen = load_fields(data, fields)
    n = chosen.phases.shape[-1] * split
    console.print(f"Fields: {chosen.origin}", soft_wrap=True)
    console.print(
        f"{fields} problems -div(a grad u) = 1 on {n} x {n} cells, a = 12 and 3, u = 0 on the boundary\n",
        soft_wrap=True,
    )
    with Console(stderr=True).status("solving, certifying, and solving on a finer grid"):
        study = run_study(chosen.phases, chosen.answers, split)
    console.print(_table(study))
    console.print(_explanation(study), soft_wrap=True)
    figure = out / "demo.png"
    with replacing(figure) as part:
        draw_study(study).savefig(part, format="png")
    seconds = time.perf_counter() - start
    console.print(
        f"\nFigure: {figure} (the first field)\nTotal time: {seconds:.0f} s, finer solve included", soft_wrap=True
    )


def _make_folder(folder: Path) -> None:
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise InputError(
            f"the folder {folder} cannot be created: {error.strerror}; choose another with --out."
        ) from None


def _table(study: Study) -> Table:
    from rich.box import SIMPLE_HEAD
    from rich.table import Table

    title = "Energy error in % of |||u|||, median over the fields"
    table = Table(title=title, title_justify="left", box=SIMPLE_HEAD, show_edge=False, padding=(0, 1, 0, 0))
    table.add_column("answer", no_wrap=True)
    for heading in ("lower", "upper", "ratio", "true error", "upper/true", "boundary"):
        table.add_column(heading, justify="right", no_wrap=True)
    for answer in study.answers:
        table.add_row(answer.name, *_numbers(study, answer))
    return table


def _numbers(study: Study, answer: Answer) -> list[str]:
    true_low, true_high = study.relative(answer.error)
    true, uncertain = _percent((true_low + true_high) / 2), _percent((true_high - true_low) / 2)
    lower, upper = map(_percent, study.relative(answer.bounds))
    boundary = _percent(answer.certificate.boundary_part / study.energy.lower)
    return [lower, upper, _ratio(upper, lower), f"{true} ± {uncertain}", _ratio(upper, true), boundary]


def _ratio(upper: str, other: str) -> str:
    """Return the ratio of two rounded entries of the table, so that readers can check it."""
    return f"{float(upper) / float(other):.2f}" if float(other) else "inf"


def _median(numbers: Tensor) -> float:
    return float(numbers.quantile(0.5))


def _percent(numbers: Tensor) -> str:
    return f"{100 * _median(numbers):.2f}"


def _explanation(study: Study) -> str:
    from sciml_bounds.cli._study import NETWORK, TRAINED_CELLS

    inside = sum(
        int(((a.bounds.lower <= a.error.lower) & (a.error.upper <= a.bounds.upper)).sum()) for a in study.answers
    )
    total = sum(a.error.lower.numel() for a in study.answers)
    gap = max(float(a.certificate.boundary_gap.max()) for a in study.answers)
    return (
        f"\nTrue error between its bounds: {inside} of {total}; ± is the uncertainty of the finer solve.\n\n"
        f"network prediction  by {NETWORK} on {TRAINED_CELLS} x {TRAINED_CELLS} cells, trained with a = 12 and 2\n"
        "spoilt solution     our solution with an error added in a small disc\n"
        "stored answer       distributed with the fields; read at cell centres, scaled by least squares\n"
        f"boundary            part of the upper bound due to nonzero boundary values (up to {gap:.2g})"
    )
