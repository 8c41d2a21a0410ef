"""The entry point `sciml-bounds`.

Exit codes: 0 done, 2 bad input or a file that cannot be read or written, 3 not converged or error bound above the
target, 130 and 143 interrupted, 1 a bug in this package.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated, Any

import typer
from typer.core import TyperCommand, TyperGroup

import sciml_bounds
from sciml_bounds.cli._program import run_program
from sciml_bounds.cli.certify import certify
from sciml_bounds.cli.compare import compare
from sciml_bounds.cli.consolidate import consolidate
from sciml_bounds.cli.demo import demo
from sciml_bounds.cli.evaluate import evaluate
from sciml_bounds.cli.export import export
from sciml_bounds.cli.generate import generate
from sciml_bounds.cli.import_ import import_
from sciml_bounds.cli.inspect import inspect
from sciml_bounds.cli.predict import predict
from sciml_bounds.cli.solve import solve
from sciml_bounds.cli.train import train

__all__ = ["app", "run"]


class _Flags:
    """Mixin that hides the value type of flags in the help."""

    def get_params(self, context: Any) -> list[Any]:
        """Return the parameters, with an empty metavar for flags."""
        parameters: list[Any] = super().get_params(context)  # type: ignore[misc]
        for parameter in parameters:
            if getattr(parameter, "is_flag", False):
                parameter.metavar = ""
        return parameters


class _Command(_Flags, TyperCommand):
    pass


class _Group(_Flags, TyperGroup):
    pass


app = typer.Typer(
    name="sciml-bounds",
    cls=_Group,
    help="Solve partial differential equations, generate data sets, train networks on them, and certify any "
    "approximate solution of -div(a grad u) + c u = f with guaranteed error bounds.",
    epilog=(
        "Exit codes: 0 done, 2 bad input or a file that cannot be read or written, 3 not converged or error bound "
        "above the target, 130 and 143 interrupted."
    ),
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode="markdown",  # joins the lines of a paragraph, and does not interpret [default: 0]
)
for command in (solve, certify, compare, generate, consolidate, train, evaluate, predict, inspect, export):
    app.command(cls=_Command)(command)
app.command("import", cls=_Command)(import_)
app.command(cls=_Command)(demo)


def _print_version(wanted: bool) -> None:
    if wanted:
        print(f"sciml-bounds {sciml_bounds.__version__}")
        raise typer.Exit


@app.callback()
def main(
    version: Annotated[
        bool, typer.Option("--version", callback=_print_version, is_eager=True, help="Print the version and exit.")
    ] = False,
) -> None:
    """Handle the options that precede a command."""


def run(arguments: Sequence[str] | None = None) -> int:
    """Run the command line and return its exit code."""
    return run_program(app, "sciml-bounds", arguments)
