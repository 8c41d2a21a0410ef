"""Output of the commands: tables, JSON, files and progress."""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

import sciml_bounds

if TYPE_CHECKING:
    from rich.console import Console
    from torch import nn

    import sciml_bounds as sb
    from sciml_bounds.results import Progress

__all__ = [
    "ClassOption",
    "JsonOption",
    "OutOption",
    "PlotOption",
    "ReportOption",
    "certificate_record",
    "certificate_rows",
    "check_targets",
    "error_console",
    "finish",
    "grid_row",
    "iteration_progress",
    "named_class",
    "print_json",
    "print_table",
    "problem_record",
    "solution_record",
    "solution_rows",
    "target_failure",
]

OutOption = Annotated[
    Path | None,
    typer.Option(metavar="FILE.nc", help="Write the result as netCDF-4 (HDF5); replaces only a file of the same kind."),
]
PlotOption = Annotated[Path | None, typer.Option(metavar="FILE.png", help="Draw the result as .png, .pdf or .svg.")]
ReportOption = Annotated[
    Path | None,
    typer.Option(metavar="FILE.html", help="Write a self-contained page with tables and pictures.", show_default=False),
]
JsonOption = Annotated[
    bool,
    typer.Option("--json", help="Print one JSON object instead of a table; infinite or missing values become null."),
]

ClassOption = Annotated[
    str | None,
    typer.Option(
        "--class",
        metavar="package.module:Class",
        help="Class of a network of your own; importing it runs its module.",
        show_default=False,
    ),
]

PICTURES = (".png", ".pdf", ".svg")
NOT_REACHED = 3


def error_console() -> Console:
    """Return the console on stderr, for everything except the result."""
    from rich.console import Console

    return Console(stderr=True, highlight=False, soft_wrap=True)


def named_class(location: str | None) -> type[nn.Module] | None:
    """Import the class of networks in the option `--class`; None if it is not given.

    Raises
    ------
    InputError
        If it cannot be imported, or is not a class of networks.
    """
    from sciml_bounds.store.datasets.network_classes import import_class

    return None if location is None else import_class(location, "--class")


def check_targets(out: Path | None, plot: Path | None, content: str = "") -> None:
    """Check before the work that the output files can be written, `out` with a result of this kind.

    Raises
    ------
    InputError
        If one of them cannot be written.
    """
    from sciml_bounds.store.datasets.saved_results import check_replaceable
    from sciml_bounds.store.safety.writer import check_target

    if out is not None:
        check_replaceable(out, content)
    if plot is not None:
        check_target(plot, PICTURES)


# --- progress ---------------------------------------------------------------------------------------------------------


@contextmanager
def iteration_progress() -> Iterator[Callable[[Progress], None]]:
    """Show iterations on stderr: in place on a terminal, otherwise one line after 1, 2, 4, 8, ... iterations."""
    console = error_console()
    if console.is_terminal:
        with console.status("setting up") as status:
            yield lambda progress: status.update(_progress_line(progress))
        return

    def print_some(progress: Progress) -> None:
        if progress.iteration & (progress.iteration - 1) == 0:
            console.print(_progress_line(progress))

    yield print_some


def _progress_line(progress: Progress) -> str:
    line = f"iteration {progress.iteration}: residual {float(progress.residual_norm.max()):.3g}"
    if progress.relative_upper is not None:
        line += f", guaranteed relative error {float(progress.relative_upper.max()):.3g}"
    return line


# --- results ----------------------------------------------------------------------------------------------------------


def problem_record(problem: sb.Diffusion) -> dict[str, Any]:
    """Return the JSON record of a problem."""
    return {
        "version": sciml_bounds.__version__,
        "shape": problem.grid.shape,
        "batch_shape": tuple(problem.batch_shape),
        "dtype": str(problem.dtype).removeprefix("torch."),
        "boundary": {side: type(condition).__name__ for side, condition in problem.boundary.items()},
    }


def solution_record(solution: sb.Solution) -> dict[str, Any]:
    """Return the JSON record of a solution, with one number per sample for a batch."""
    reason = solution.reason
    return {
        "method": solution.method,
        "converged": solution.converged.tolist(),
        "reason": str(reason) if isinstance(reason, str) else [str(one) for one in reason],
        "iterations": solution.iterations.tolist(),
        "residual_norm": solution.residual_norm.tolist(),
        "tolerance": solution.tolerance.tolist(),
        "seconds": solution.seconds,
    }


def certificate_record(certificate: sb.Certificate) -> dict[str, Any]:
    """Return the JSON record of a certificate, with one number per sample for a batch."""
    names = ("lower", "upper", "relative_upper", "energy", "boundary_part", "boundary_gap")
    return {
        "kind": certificate.kind,
        **{name: getattr(certificate, name).tolist() for name in names},
        "terms": {name: term.tolist() for name, term in certificate.terms.items()},
        "layout": certificate.layout,
        "seconds": certificate.seconds,
    }


def solution_rows(solution: sb.Solution) -> dict[str, str]:
    """Return the table rows of a solution."""
    from sciml_bounds.reports import describe, describe_reason, describe_residual

    return {
        "grid": grid_row(solution.grid, tuple(solution.converged.shape)),
        "method": solution.method,
        "reason": describe_reason(solution.reason),
        "iterations": describe(solution.iterations),
        "residual": describe_residual(solution.residual_norm, solution.tolerance, solution.reason),
        "seconds": f"{solution.seconds:.3g}",
    }


def certificate_rows(certificate: sb.Certificate) -> dict[str, str]:
    """Return the table rows of a certificate."""
    from sciml_bounds.reports import describe, describe_interval, describe_upper

    interval = describe_interval(certificate.lower, certificate.upper, "error")
    rows = {
        "energy norm": describe(certificate.energy),
        f"energy error ({certificate.kind})": interval,
        f"relative ({certificate.kind})": f"<= {describe_upper(certificate.relative_upper)}",
    }
    if bool((certificate.boundary_part > 0).any()):
        rows["boundary values"] = f"off by up to {describe(certificate.boundary_gap)}"
        rows["part from boundary"] = describe(certificate.boundary_part)
    return rows


def grid_row(grid: sb.Grid, batch: tuple[int, ...]) -> str:
    """Return a short description of a grid and the batch on it."""
    cells, count = " x ".join(map(str, grid.shape)), math.prod(batch)
    samples = "1 sample" if count == 1 else f"{count} samples"
    return f"{cells} cells" + (f", {samples}" if batch else "")


def target_failure(certificate: sb.Certificate, target: float) -> str | None:
    """Return the message if the guaranteed relative error exceeds the target, otherwise None."""
    from sciml_bounds.reports import describe_upper

    worst = certificate.relative_upper.max()
    if float(worst) <= target:
        return None
    return f"the guaranteed relative error is {describe_upper(worst)}, above the target {target:g}."


def finish(
    title: str,
    rows: dict[str, str],
    record: dict[str, Any],
    result: sb.Solution | sb.Certificate,
    parameters: Mapping[str, Any],
    *,
    out: Path | None,
    plot: Path | None,
    as_json: bool,
    failure: str | None,
) -> None:
    """Write the files, print the result, and exit with code 3 if there is a failure.

    Raises
    ------
    typer.Exit
        If `failure` is not None.
    """
    from sciml_bounds.store.datasets.saved_results import write
    from sciml_bounds.store.safety.writer import replacing

    if out is not None:
        write(result, out, parameters=parameters)
    if plot is not None:
        with replacing(plot) as part:
            result.plot().savefig(part, format=plot.suffix[1:].lower())
    files = {name: str(path) for name, path in (("out", out), ("plot", plot)) if path is not None}
    if as_json:
        print_json(record | files)
    else:
        print_table(title, rows | files)
    if failure is not None:
        error_console().print(f"sciml-bounds: {failure}", markup=False)
        raise typer.Exit(NOT_REACHED)


def print_json(record: Mapping[str, Any]) -> None:
    """Print one JSON object on one line."""
    print(json.dumps(_finite(dict(record)), allow_nan=False))


def _finite(value: Any) -> Any:
    """Replace NaN and infinity, which JSON cannot represent, by None."""
    if isinstance(value, Mapping):
        return {key: _finite(part) for key, part in value.items()}
    if isinstance(value, list | tuple):
        return [_finite(part) for part in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value


def print_table(title: str, rows: Mapping[str, str]) -> None:
    """Print a table of two columns."""
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    table = Table(title=title, title_justify="left", show_header=False)
    for key, value in rows.items():
        table.add_row(key, Text(value, overflow="fold"))
    Console(highlight=False).print(table)
