"""The entry point `sciml-bounds`.

Exit codes: 0 done, 2 bad input or a file that cannot be read or written, 3 not converged or not certified as asked, 130
and 143 interrupted, 1 a bug of ours.
"""

from __future__ import annotations

import logging
import signal
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from types import FrameType
from typing import Annotated, NoReturn

import typer

import sciml_bounds
from sciml_bounds.cli._words import in_shell_words
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
from sciml_bounds.errors import InputError, MissingExtraError

__all__ = ["app", "run"]

BAD_INPUT = 2

app = typer.Typer(
    name="sciml-bounds",
    help="Solve partial differential equations, make data sets, train networks on them, and certify any answer to "
    "-div(a grad u) + c u = f with guaranteed error bounds.",
    epilog=(
        "Exit codes: 0 done, 2 bad input or a file that cannot be read or written, 3 not converged or not certified as "
        "asked, 130 and 143 interrupted."
    ),
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)
for command in (solve, certify, compare, generate, consolidate, train, evaluate, predict, inspect, export):
    app.command()(command)
app.command("import")(import_)
app.command()(demo)


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
    previous = {number: signal.signal(number, _interrupt) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        with _messages_shown():
            app(arguments, prog_name="sciml-bounds")
    except (InputError, MissingExtraError) as error:
        print(f"sciml-bounds: {in_shell_words(str(error))}", file=sys.stderr)
        return BAD_INPUT
    except (MemoryError, RuntimeError) as error:
        if not _means_out_of_memory(error):
            raise
        print("sciml-bounds: there is not enough memory for this; take fewer samples at a time, a smaller grid, or "
              "another --device.", file=sys.stderr)  # fmt: skip
        return BAD_INPUT
    except SystemExit as end:
        return end.code if isinstance(end.code, int) else int(end.code is not None)
    finally:
        for number, handler in previous.items():
            signal.signal(number, handler)
    return 0


def _means_out_of_memory(error: Exception) -> bool:
    torch = sys.modules.get("torch")
    return isinstance(error, MemoryError) or (torch is not None and isinstance(error, torch.OutOfMemoryError))


@contextmanager
def _messages_shown() -> Iterator[None]:
    """Print what the library tells its logger, one line a message."""
    logger = logging.getLogger("sciml_bounds")
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(logging.Formatter("sciml-bounds: %(message)s"))
    level = logger.level
    logger.addHandler(handler)
    logger.setLevel(logging.INFO)
    try:
        yield
    finally:
        logger.setLevel(level)
        logger.removeHandler(handler)


def _interrupt(number: int, frame: FrameType | None) -> NoReturn:
    """Leave through every `finally`, so that no half-written file stays."""
    print(f"sciml-bounds: stopped by {signal.Signals(number).name}; no half-written file is left.", file=sys.stderr)
    raise SystemExit(128 + number)
