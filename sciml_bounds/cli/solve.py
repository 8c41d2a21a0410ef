"""`sciml-bounds solve`: solve a diffusion problem from files."""

from __future__ import annotations

import warnings
from typing import TYPE_CHECKING, Annotated

import typer

from sciml_bounds.cli import _output as output
from sciml_bounds.cli import _problem as problem_options

if TYPE_CHECKING:
    import sciml_bounds as sb

__all__ = ["solve"]


def solve(
    context: typer.Context,
    coefficient: problem_options.CoefficientOption,
    source: problem_options.SourceOption = None,
    reaction: problem_options.ReactionOption = None,
    solid: problem_options.SolidOption = None,
    shape: problem_options.ShapeOption = None,
    lengths: problem_options.LengthsOption = None,
    origin: problem_options.OriginOption = None,
    boundary: problem_options.BoundaryOption = None,
    sample: problem_options.SampleOption = None,
    method: Annotated[
        str, typer.Option(metavar="NAME", help="auto, transform, multigrid, cg, algebraic or direct.")
    ] = "auto",
    rtol: Annotated[
        float | None,
        typer.Option(help="Relative residual tolerance. [default: 1e-8, in float32 1e-5]", show_default=False),
    ] = None,
    maxiter: Annotated[int | None, typer.Option(help="Maximum number of iterations.", show_default=False)] = None,
    error: Annotated[
        float | None,
        typer.Option(help="Stop once the guaranteed relative energy error is at most this.", show_default=False),
    ] = None,
    certify: Annotated[bool, typer.Option("--certify", help="Bound the error of the solution.")] = False,
    out: output.OutOption = None,
    plot: output.PlotOption = None,
    as_json: output.JsonOption = False,
) -> None:
    """Solve -div(a grad u) + c u = f on a box of cells.

    Example: sciml-bounds solve --coefficient a.npy --source 1 --error 0.05 --out u.nc --plot u.png
    """
    output.check_targets(out, plot, "Solution")
    options = problem_options.ProblemOptions(
        coefficient, source, reaction, solid, shape, lengths, origin, boundary, sample
    )
    problem = problem_options.build_problem(options, certified=certify or error is not None)
    solution, failure = _solve(problem, method=method, rtol=rtol, maxiter=maxiter, error=error, certify=certify)
    rows = output.solution_rows(solution)
    record = {"command": "solve", **output.problem_record(problem), **output.solution_record(solution)}
    record["certificate"] = None
    if solution.certificate is not None:
        rows |= output.certificate_rows(solution.certificate)
        record["certificate"] = output.certificate_record(solution.certificate)
    asked = {"command": "solve", **context.params}
    output.finish("Solution", rows, record, solution, asked, out=out, plot=plot, as_json=as_json, failure=failure)


def _solve(problem: sb.Diffusion, **options: object) -> tuple[sb.Solution, str | None]:
    """Return the solution, and the warning if the tolerance was not reached."""
    import sciml_bounds as sb

    with output.iteration_progress() as callback, warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always", sb.ConvergenceWarning)
        solution = sb.solve(problem, callback=callback, **options)  # type: ignore[arg-type]
    messages = [str(warning.message) for warning in caught if issubclass(warning.category, sb.ConvergenceWarning)]
    return solution, messages[0] if messages else None
