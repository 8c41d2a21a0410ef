"""`sciml-bounds certify`: bound the error of a field from a file."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from sciml_bounds.cli import _output as output
from sciml_bounds.cli import _problem as problem_options
from sciml_bounds.errors import InputError

if TYPE_CHECKING:
    import sciml_bounds as sb

__all__ = ["certify"]


def certify(
    context: typer.Context,
    coefficient: problem_options.CoefficientOption,
    values: Annotated[str, typer.Option(metavar="FILE or NUMBER", help="The field to certify.")],
    source: problem_options.SourceOption = None,
    reaction: problem_options.ReactionOption = None,
    solid: problem_options.SolidOption = None,
    shape: problem_options.ShapeOption = None,
    lengths: problem_options.LengthsOption = None,
    origin: problem_options.OriginOption = None,
    boundary: problem_options.BoundaryOption = None,
    sample: problem_options.SampleOption = None,
    layout: Annotated[
        str,
        typer.Option(
            metavar="NAME",
            help="How the field lies on the grid: nodes, cells, interior (nodes without Dirichlet sides), or coarse "
            "(nodes of a coarser grid).",
        ),
    ] = "nodes",
    strict: Annotated[bool, typer.Option("--strict", help="Refuse a field with other boundary values.")] = False,
    target: Annotated[
        float | None,
        typer.Option(help="Exit with 3 if the guaranteed relative energy error is larger.", show_default=False),
    ] = None,
    no_lower: Annotated[bool, typer.Option("--no-lower", help="Leave out the lower bound, which is faster.")] = False,
    out: output.OutOption = None,
    plot: output.PlotOption = None,
    as_json: output.JsonOption = False,
) -> None:
    """Bound the energy error of any field, wherever it comes from.

    Example: sciml-bounds certify --coefficient a.npy --source 1 --values prediction.npy --target 0.05
    """
    import sciml_bounds as sb

    output.targets(out, plot, "Certificate")
    if target is not None and not target > 0:
        raise InputError(
            f"--target {target:g} must be positive: the guaranteed relative energy error that is asked for."
        )
    options = problem_options.ProblemOptions(
        coefficient, source, reaction, solid, shape, lengths, origin, boundary, sample
    )
    problem = problem_options.build_problem(options, certified=True)
    field = problem_options.read_values(values, problem, sample, "the field to certify", "values")
    lower = not no_lower
    certificate = sb.certify(problem, field, layout=layout, strict=strict, lower=lower)  # type: ignore[call-overload]
    rows = {"grid": output.grid_row(certificate.grid, tuple(certificate.upper.shape))}
    rows |= {"values": f"{tuple(certificate.values.shape)} nodes, given as {layout}"}
    rows |= output.certificate_rows(certificate)
    record = {"command": "certify", **output.problem_record(problem), **output.certificate_record(certificate)}
    asked = {"command": "certify", **context.params}
    failure = None if target is None else _missed(certificate, target)
    output.finish("Certificate", rows, record, certificate, asked, out=out, plot=plot, as_json=as_json, failure=failure)


def _missed(certificate: sb.Certificate, target: float) -> str | None:
    from sciml_bounds.reports import describe_upper

    worst = certificate.relative_upper.max()
    if float(worst) <= target:
        return None
    return f"the guaranteed relative error is {describe_upper(worst)} where {target:g} was asked."
