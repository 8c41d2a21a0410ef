"""Tests count the lines on stderr; whether kernels are compiled meanwhile depends on what ran before."""

from __future__ import annotations

import pytest

from sciml_bounds.kernels import _backend


@pytest.fixture(autouse=True)
def _nothing_is_said_about_compiling(monkeypatch) -> None:
    monkeypatch.setattr(_backend, "_say", lambda message: None)
