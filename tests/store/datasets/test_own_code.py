"""Objects of a user's modules are imported by name, from the current folder too, and never hide installed modules."""

from __future__ import annotations

import json
import sys

import pytest
from refusals import refusals

from sciml_bounds.store.datasets.own_code import import_named


@pytest.fixture(autouse=True)
def _path(monkeypatch, tmp_path):
    monkeypatch.setattr(sys, "path", list(sys.path))
    monkeypatch.chdir(tmp_path)


def test_modules_of_the_folder_are_found_after_installed_ones(tmp_path):
    (tmp_path / "module_of_this_test.py").write_text("class A:\n    B = 3\n")
    (tmp_path / "json.py").write_text("loads = None\n")
    assert import_named("module_of_this_test:A.B", "the number") == 3
    assert import_named("json:loads", "the function") is json.loads


def broken(tmp_path, text):
    (tmp_path / "broken_of_this_test.py").write_text(text)
    return import_named("broken_of_this_test:A", "--class")


test_refusals = refusals(
    ("package.module:Name", lambda: import_named("CNN", "--class")),
    ("package.module:Name", lambda: import_named("a b:CNN", "--class")),
    ("--class no_such_module imported", lambda: import_named("no_such_module:CNN", "--class")),
    ("--class SyntaxError", lambda tmp_path: broken(tmp_path, "class")),
    ("json Nothing", lambda: import_named("json:Nothing", "--class")),
)
