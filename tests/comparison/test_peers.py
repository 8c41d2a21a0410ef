"""The methods of other packages: counted as they count themselves, and a missing package is said."""

from __future__ import annotations

import importlib
from functools import partial

import pytest

from sciml_bounds.comparison import Comparison
from sciml_bounds.comparison.peers import pyamg_cg, scipy_cg
from sciml_bounds.errors import MissingExtraError


@pytest.mark.parametrize("set_up", [scipy_cg, partial(pyamg_cg, "ruge_stuben_solver")], ids=["scipy", "pyamg"])
def test_every_iterate_is_watched_and_counted(equations, set_up):
    residuals = []
    x, iterations = set_up(equations)(1e-9, 500, lambda x: residuals.append(equations.relative_residual(x)))
    assert iterations == len(residuals) > 1
    assert residuals[0] > 1e-9 >= residuals[-1] == equations.relative_residual(x)


def test_a_missing_package_is_one_sentence_with_the_command(equations, monkeypatch):
    def missing(name):
        raise ModuleNotFoundError(name)

    monkeypatch.setattr(importlib, "import_module", missing)
    with pytest.raises(MissingExtraError, match=r"'sciml-bounds\[fem\]'"):
        Comparison(equations, ["petsc:gamg"])
