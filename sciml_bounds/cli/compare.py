"""`sciml-bounds compare`: benchmark methods of this package and of others on one problem."""

from __future__ import annotations

import math
import os
import sys
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from sciml_bounds.cli import _html as html
from sciml_bounds.cli import _output as output
from sciml_bounds.cli import _problem as problem_options
from sciml_bounds.errors import InputError

if TYPE_CHECKING:
    from sciml_bounds.comparison import Comparison, Equations, Result

__all__ = ["compare"]

ON_GRIDS = "auto,multigrid,cg,algebraic,scipy:cg,pyamg:ruge-stuben,pyamg:smoothed-aggregation"
ON_MATRICES = "cg,algebraic,scipy:cg,pyamg:ruge-stuben,pyamg:smoothed-aggregation"
INTERRUPTED = 130


def compare(
    coefficient: problem_options.OptionalCoefficientOption = None,
    source: problem_options.SourceOption = None,
    reaction: problem_options.ReactionOption = None,
    solid: problem_options.SolidOption = None,
    shape: problem_options.ShapeOption = None,
    lengths: problem_options.LengthsOption = None,
    origin: problem_options.OriginOption = None,
    boundary: problem_options.BoundaryOption = None,
    sample: problem_options.SampleOption = None,
    reference: Annotated[
        str | None,
        typer.Option(metavar="FILE", help="Nodal values of a reference for the energy error, such as u.nc:solution."),
    ] = None,
    matrix: Annotated[
        Path | None,
        typer.Option(metavar="FILE", help="Matrix A instead of a problem: MatrixMarket (.mtx) or scipy.sparse (.npz)."),
    ] = None,
    rhs: Annotated[
        str | None,
        typer.Option(metavar="FILE", help="Right-hand side b for --matrix, as .mtx or a field. [default: ones]"),
    ] = None,
    methods: Annotated[
        str | None,
        typer.Option(
            metavar="NAME,NAME",
            help=(
                "auto, transform, multigrid, cg, algebraic, direct; scipy:cg, scipy:spsolve; pyamg:ruge-stuben, "
                "pyamg:smoothed-aggregation; petsc:gamg, petsc:cg-jacobi (extra fem). [default: the iterative ones]"
            ),
        ),
    ] = None,
    rtol: Annotated[float, typer.Option(help="Relative residual tolerance of all methods.")] = 1e-8,
    maxiter: Annotated[int, typer.Option(help="Maximum number of iterations.")] = 5000,
    repeat: Annotated[int, typer.Option(min=1, help="Number of rounds; times are medians over the rounds.")] = 3,
    plot: output.PlotOption = None,
    report: output.ReportOption = None,
    as_json: output.JsonOption = False,
) -> None:
    """Compare methods on one problem, or on a matrix from a file.

    All methods solve to the same relative residual, which is recomputed from each solution. Set-up time is shown and
    included in the total. Methods that fail or do not converge are marked.

    Example: sciml-bounds compare --coefficient a.npy --source 1 --plot convergence.png
    """
    if "numpy" not in sys.modules:  # numpy reads the variable when it is imported
        os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")
    from sciml_bounds.comparison import Comparison

    output.check_targets(None, plot)
    html.check_report(report)
    options = problem_options.ProblemOptions(
        coefficient or "", source, reaction, solid, shape, lengths, origin, boundary, sample
    )
    equations = _equations(options, reference, matrix, rhs)
    names = (methods or (ON_GRIDS if equations.system is not None else ON_MATRICES)).split(",")
    comparison = Comparison(equations, [name.strip() for name in names], rtol=rtol, maxiter=maxiter)
    interrupted = _run(comparison, repeat, histories=plot is not None or report is not None or as_json)
    results = comparison.results
    if plot is not None and any(result.history for result in results):
        _draw(results, rtol, plot)
    if report is not None:
        _write_report(report, equations, results, rtol, repeat)
    if as_json:
        output.print_json(_record(equations, results, rtol, maxiter, repeat, interrupted))
    else:
        _print(equations, results, rtol, repeat, "ones" if matrix is not None and rhs is None else None)
    if interrupted:
        progress = f"{len(results)} of {len(names)} methods were measured"
        output.error_console().print(f"sciml-bounds: interrupted; {progress}.", markup=False)
        raise typer.Exit(INTERRUPTED)
    if not any(result.converged for result in results):
        output.error_console().print("sciml-bounds: no method reached the requested residual.", markup=False)
        raise typer.Exit(output.NOT_REACHED)


def _equations(
    options: problem_options.ProblemOptions, reference: str | None, matrix: Path | None, rhs: str | None
) -> Equations:
    from sciml_bounds.comparison import from_matrix, from_problem
    from sciml_bounds.store.reading.matrices import read_matrix, read_vector

    if (matrix is None) == (not options.coefficient):
        raise InputError("give either a problem (--coefficient and related options) or a matrix (--matrix).")
    if matrix is not None:
        _reject_problem_options(options, reference)
        return from_matrix(read_matrix(matrix), None if rhs is None else read_vector(rhs))
    if rhs is not None:
        raise InputError("--rhs can be used only with --matrix; for a problem give --source.")
    problem = problem_options.build_problem(options, certified=False)
    if reference is None:
        return from_problem(problem)
    nodes = problem_options.read_values(reference, problem, options.sample, "the reference", "reference")
    return from_problem(problem, nodes)


def _reject_problem_options(options: problem_options.ProblemOptions, reference: str | None) -> None:
    """Raise if options of a problem are given together with a matrix."""
    if reference is not None:
        raise InputError("--reference cannot be used with --matrix: the energy error is defined only for a problem.")
    for name, value in asdict(options).items():
        if value not in (None, "", []):
            raise InputError(
                f"--{name} describes a problem and cannot be used with --matrix, whose right-hand side is --rhs."
            )


def _run(comparison: Comparison, repeat: int, *, histories: bool) -> bool:
    """Run the comparison, and return whether it was interrupted."""
    console = output.error_console()
    try:
        with console.status("starting") as status:
            notify = status.update if console.is_terminal else lambda text: console.print(text, markup=False)
            comparison.run(repeat, histories=histories, notify=notify)
    except KeyboardInterrupt:
        return True
    return False


def _record(
    equations: Equations, results: list[Result], rtol: float, maxiter: int, repeat: int, interrupted: bool
) -> dict[str, Any]:
    import torch

    import sciml_bounds

    return {
        "command": "compare", "version": sciml_bounds.__version__, "unknowns": len(equations.rhs),
        "entries": equations.matrix.nnz, "rtol": rtol, "maxiter": maxiter, "repeat": repeat,
        "threads": torch.get_num_threads(), "blas_threads": _blas_threads(), "interrupted": interrupted,
        "methods": [asdict(result) | {"total_seconds": result.total_seconds} for result in results],
    }  # fmt: skip


def _draw(results: list[Result], rtol: float, path: Path) -> None:
    from sciml_bounds.plot import plot_convergence
    from sciml_bounds.store.safety.writer import replacing

    with replacing(path) as part:
        histories = {result.method: result.history for result in results if result.history}
        plot_convergence(histories, rtol).savefig(part, format=path.suffix[1:].lower())


def _write_report(path: Path, equations: Equations, results: list[Result], rtol: float, repeat: int) -> None:
    from sciml_bounds.plot import plot_convergence

    with_energy = any(result.energy_error is not None for result in results)
    fastest = min((result.total_seconds for result in results if result.converged), default=math.nan)
    rows = [_cells(result, fastest, with_energy) for result in results]
    caption = f"{len(equations.rhs)} unknowns, relative residual {rtol:g}, medians of {repeat}; click a heading to sort"
    histories = {result.method: result.history for result in results if result.history}
    figures = {"Convergence": plot_convergence(histories, rtol)} if histories else {}
    html.write_report(path, "Comparison of solvers", [html.Table(caption, _headings(with_energy), rows)], figures)


def _headings(with_energy: bool) -> list[str]:
    numbers = ["set-up s", "solve s", "total s", "ratio", "iterations", "residual"]
    return ["method", *numbers, *(["energy error"] if with_energy else []), "converged"]


def _print(equations: Equations, results: list[Result], rtol: float, repeat: int, rhs: str | None) -> None:
    import torch
    from rich.box import SIMPLE_HEAD
    from rich.console import Console
    from rich.table import Table

    from sciml_bounds.reports import counted

    with_energy = any(result.energy_error is not None for result in results)
    title = f"{len(equations.rhs)} unknowns, {equations.matrix.nnz} entries, relative residual {rtol:g}"
    title += "" if rhs is None else f", right-hand side b: {rhs}"
    table = Table(title=title, title_justify="left", box=SIMPLE_HEAD, show_edge=False, padding=(0, 1, 0, 0))
    table.add_column("method", no_wrap=True)
    numbers = ("set-up s", "solve s", "total s", "ratio", "iterations", "residual")
    for heading in (*numbers, *(["energy error"] if with_energy else [])):
        table.add_column(heading, justify="right", no_wrap=True)
    table.add_column("converged", no_wrap=True)
    fastest = min((result.total_seconds for result in results if result.converged), default=math.nan)
    for result in results:
        table.add_row(*_cells(result, fastest, with_energy))
    needed = Console(width=200).measure(table).maximum  # never truncate names and reasons
    console = Console(highlight=False, width=max(needed, Console().width))
    console.print(table)
    for result in results:
        if result.reason.startswith("failed"):
            console.print(f"{result.method} {result.reason}", soft_wrap=True, markup=False)
    rounds = "of one round" if repeat == 1 else f"medians of {repeat} rounds"
    console.print(
        f"\nTimes are {rounds} after a warm-up, with {counted(torch.get_num_threads(), 'thread')}, from the assembled "
        "equations to the solution. ratio: total time divided by that of the fastest method that converged. residual: "
        "||b - A x|| / ||b||, recomputed from the returned x. converged: the residual is at most "
        f"{rtol:g}, or at most its round-off level 10 eps ||A|| ||x|| / ||b|| (up to 0.1) if that is larger. "
        f"OPENBLAS_NUM_THREADS={_blas_threads()} for inner products in numpy, which scipy and PyAMG use "
        "(several threads are slow on a busy machine).",
        soft_wrap=True,
    )


def _blas_threads() -> str:
    return os.environ.get("OPENBLAS_NUM_THREADS", "not set")


def _cells(result: Result, fastest: float, with_energy: bool) -> list[str]:
    def formatted(number: float, form: str) -> str:
        return "-" if math.isnan(number) else f"{number:{form}}"

    seconds = [result.setup_seconds, result.solve_seconds, result.total_seconds]
    energy = math.nan if result.energy_error is None else result.energy_error
    reason = {"converged": "yes", "converged to round-off": "yes, to round-off"}.get(result.reason)
    return [
        result.method,
        *(formatted(number, ".3f") for number in seconds),
        formatted(result.total_seconds / fastest if result.converged else math.nan, ".1f"),
        "direct" if result.iterations == 0 and result.converged else str(result.iterations or "-"),
        formatted(result.residual, ".1e"),
        *([formatted(energy, ".2e")] if with_energy else []),
        reason or f"no: {result.reason.partition(':')[0]}",
    ]
