"""The entry point `sciml-bounds`.

Exit codes: 0 done, 2 bad input, 3 not converged or not certified as asked, 130 and 143 interrupted, 1 a bug of ours.
"""

from __future__ import annotations

import signal
import sys
from collections.abc import Sequence
from types import FrameType
from typing import Annotated, NoReturn

import typer

import sciml_bounds
from sciml_bounds.cli.certify import certify
from sciml_bounds.cli.demo import demo
from sciml_bounds.cli.solve import solve
from sciml_bounds.errors import InputError

__all__ = ["app", "run"]

BAD_INPUT = 2

app = typer.Typer(
    name="sciml-bounds",
    help="Solve -div(a grad u) + c u = f on a box of cells, and certify any answer with guaranteed error bounds.",
    epilog="Exit codes: 0 done, 2 bad input, 3 not converged or not certified as asked, 130 and 143 interrupted.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)
for command in (solve, certify, demo):
    app.command()(command)


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
    """Take the options that stand before a command."""


def run(arguments: Sequence[str] | None = None) -> int:
    """Run the command line and return its exit code."""
    previous = signal.signal(signal.SIGTERM, _terminate)
    try:
        app(arguments, prog_name="sciml-bounds")
    except InputError as error:
        print(f"sciml-bounds: {error}", file=sys.stderr)
        return BAD_INPUT
    except SystemExit as end:
        return end.code if isinstance(end.code, int) else int(end.code is not None)
    finally:
        signal.signal(signal.SIGTERM, previous)
    return 0


def _terminate(number: int, frame: FrameType | None) -> NoReturn:
    """Leave through every `finally`, so that no half-written file stays."""
    raise SystemExit(128 + number)
