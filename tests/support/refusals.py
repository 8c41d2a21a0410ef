"""Tables of calls that must be refused: one sentence that names what is wrong.

The words of a row are key nouns, names and numbers, in any order; how the sentence is phrased is not tested.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable
from typing import Any

import pytest

from sciml_bounds.errors import InputError


def refused(words: str, call: Callable[[], object], error: type[Exception] = InputError) -> str:
    """Check that a call is refused in one sentence that contains all words, and return the sentence."""
    with pytest.raises(error) as caught:
        call()
    message = str(caught.value)
    missing = [word for word in words.split() if word.lower() not in message.lower()]
    assert not missing, f"{missing} not in {message!r}"
    if error is InputError:
        assert "\n" not in message
        assert message.endswith(".")
        assert not message.endswith("..")
    return message


def refusals(*rows: tuple[Any, ...]) -> Callable[..., None]:
    """Make a test of rows (words, call) or (words, call, error); the parameters of a call are names of fixtures."""

    @pytest.mark.parametrize("row", rows, ids=[row[0].replace("::", ":") for row in rows])
    def test(row: tuple[Any, ...], request: pytest.FixtureRequest) -> None:
        words, call, *error = row
        names = [n for n, p in inspect.signature(call).parameters.items() if p.default is p.empty]
        arguments = {name: request.getfixturevalue(name) for name in names}
        refused(words, lambda: call(**arguments), *error)

    return test
