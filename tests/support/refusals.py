"""Calls that must be refused with one sentence that names what is wrong.

The words of a refusal are key nouns, names and numbers, in any order; how the sentence is phrased is not tested.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from sciml_bounds.errors import InputError


def refused(words: str, call: Callable[..., object], /, *arguments: object, **options: object) -> str:
    """Check that a call is refused as bad input in one sentence that contains all words, and return the sentence."""
    message = failing(InputError, words, lambda: call(*arguments, **options))
    assert "\n" not in message
    assert message.endswith((".", "?"))
    assert not message.endswith("..")
    return message


def refused_without_a_trace(folder: Path, words: str, call: Callable[..., object], *arguments: object) -> None:
    """Check that a call is refused in one sentence and that no file in the folder has come, gone or changed."""
    before = {path: path.read_bytes() if path.is_file() else None for path in folder.rglob("*")}
    refused(words, call, *arguments)
    assert {path: path.read_bytes() if path.is_file() else None for path in folder.rglob("*")} == before


def failing(error: type[Exception], words: str, call: Callable[[], object]) -> str:
    """Check that a call raises an error whose message contains all words, and return the message."""
    with pytest.raises(error) as caught:
        call()
    message = str(caught.value)
    missing = [word for word in words.split() if word.lower() not in message.lower()]
    assert not missing, f"{missing} not in {message!r}"
    return message


def refusals(*rows: tuple[Any, ...]) -> Callable[..., None]:
    """Make a test of rows (words, call) or (words, call, error); the parameters of a call are names of fixtures."""

    @pytest.mark.parametrize("row", rows, ids=[row[0].replace("::", ":") for row in rows])
    def test(row: tuple[Any, ...], request: pytest.FixtureRequest) -> None:
        words, call, *error = row
        names = [n for n, p in inspect.signature(call).parameters.items() if p.default is p.empty]
        arguments = {name: request.getfixturevalue(name) for name in names}
        if error:
            failing(*error, words, lambda: call(**arguments))
        else:
            refused(words, call, **arguments)

    return test


def complaint(capsys: pytest.CaptureFixture[str], words: str, program: str = "sciml-bounds") -> str:
    """Check that a program has printed one sentence that contains all words, on stderr, and nothing else."""
    out, err = capsys.readouterr()
    assert out == ""
    (line,) = err.splitlines()
    assert line.startswith(f"{program}: ")
    assert line.endswith((".", "?"))
    missing = [word for word in words.split() if word.lower() not in line.lower()]
    assert not missing, f"{missing} not in {line!r}"
    return line
