"""`sciml-bounds certify`: bound the error of a field from a file."""

from __future__ import annotations

from typing import Annotated

import typer

from sciml_bounds.cli import _html as html
from sciml_bounds.cli import _output as output
from sciml_bounds.cli import _problem as problem_options
from sciml_bounds.errors import InputError

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
            help="Location of the values: nodes, cells, interior (nodes without Dirichlet sides), coarse (nodes of a "
            "coarser grid), or centres (cell pressures of a finite-volume scheme).",
        ),
    ] = "nodes",
    strict: Annotated[bool, typer.Option("--strict", help="Fail if the field violates the boundary values.")] = False,
    target: Annotated[
        float | None,
        typer.Option(help="Exit with code 3 if the guaranteed relative energy error is larger.", show_default=False),
    ] = None,
    no_lower: Annotated[bool, typer.Option("--no-lower", help="Skip the lower bound, to save time.")] = False,
    out: output.OutOption = None,
    plot: output.PlotOption = None,
    report: output.ReportOption = None,
    as_json: output.JsonOption = False,
) -> None:
    """Bound the energy error of any approximate solution.

    Example: sciml-bounds certify --coefficient a.npy --source 1 --values prediction.npy --target 0.05
    """
    import sciml_bounds as sb

    output.check_targets(out, plot, "Certificate")
    html.check_report(report)
    if target is not None and not target > 0:
        raise InputError(f"--target {target:g} must be positive: it is the largest relative energy error to accept.")
    options = problem_options.ProblemOptions(
        coefficient, source, reaction, solid, shape, lengths, origin, boundary, sample
    )
    problem = problem_options.build_problem(options, certified=True)
    field = problem_options.read_values(values, problem, sample, "the field to certify", "values")
    lower = not no_lower
    certificate = sb.certify(problem, field, layout=layout, strict=strict, lower=lower)  # type: ignore[arg-type]
    rows = {"grid": output.grid_row(certificate.grid, tuple(certificate.upper.shape))}
    rows |= {"values": f"{tuple(certificate.values.shape)} nodes, given as {layout}"}
    rows |= output.certificate_rows(certificate)
    if report is not None:
        table = html.Table("Certificate", ["quantity", "value"], list(rows.items()))
        html.write_report(report, "Certificate", [table], {"Field and error indicators": certificate.plot()})
    record = {"command": "certify", **output.problem_record(problem), **output.certificate_record(certificate)}
    asked = {"command": "certify", **context.params}
    failure = None if target is None else output.target_failure(certificate, target)
    output.finish("Certificate", rows, record, certificate, asked, out=out, plot=plot, as_json=as_json, failure=failure)
