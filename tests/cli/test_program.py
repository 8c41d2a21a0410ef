"""How programs end: one line for what went wrong."""

from __future__ import annotations

import signal
import time
import warnings
import weakref

import pytest
import torch
import typer
from refusals import complaint

from sciml_bounds.cli._program import run_program
from sciml_bounds.reports import Reason, report_failure


def run(command) -> int:
    app = typer.Typer()
    app.command()(command)
    return run_program(app, "program", [])


def test_what_does_not_converge_is_one_line(capsys):
    """Not two, the second of which shows the line of the program that called."""

    def command() -> None:
        report_failure("the energy", Reason.MAXITER, "after 2 iterations", throw=False)
        warnings.warn("of others", UserWarning, stacklevel=1)

    shown = warnings.showwarning
    with pytest.warns(UserWarning, match="of others"):
        assert run(command) == 0
    assert warnings.showwarning is shown
    said = capsys.readouterr().err
    assert said.startswith("program: the energy did not converge: maxiter reached; after 2 iterations.")
    assert said.count("\n") == 1


def test_too_little_memory_is_one_line(capsys):
    def command() -> None:
        torch.empty(10**15, dtype=torch.float64)

    assert run(command) == 2
    complaint(capsys, "memory", "program")


def test_other_errors_are_shown_as_they_are():
    def command() -> None:
        raise RuntimeError("a mistake")

    with pytest.raises(RuntimeError, match="a mistake"):
        run(command)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_an_interrupt_during_garbage_collection_is_not_lost(capsys, number):
    """Python drops what is raised in the callback of a weak reference."""
    reached = []

    def work() -> None:
        reference = weakref.ref(set(), lambda _: signal.raise_signal(number))  # which nothing keeps alive
        reached.append(reference() is None)
        time.sleep(60)

    assert run(work) == 128 + number
    assert reached == [True]
    assert number.name in capsys.readouterr().err
