"""A plugin of pytest: our solvers take the place of scipy's, and scipy's own tests of them are kept (test_scipy.py)."""

from __future__ import annotations

from collections import Counter

import pytest
import scipy.sparse.linalg
from scipy._lib._array_api import xp_capabilities_table
from scipy.sparse.linalg import _isolve

from sciml_bounds import scipy_api

CALLS: Counter[str] = Counter()


def cg(*args, **kwargs):
    """Count, and solve with ours."""
    CALLS["cg"] += 1
    return scipy_api.cg(*args, **kwargs)


def minres(*args, **kwargs):
    """Count, and solve with ours."""
    CALLS["minres"] += 1
    return scipy_api.minres(*args, **kwargs)


OURS = (cg, minres)
for ours in OURS:
    theirs = getattr(_isolve, ours.__name__)
    if theirs in xp_capabilities_table:
        xp_capabilities_table[ours] = xp_capabilities_table[theirs]  # which array libraries scipy tests it with
    for module in (_isolve, _isolve.iterative, scipy.sparse.linalg):
        setattr(module, ours.__name__, ours)


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Keep the tests that take one of our functions as the solver, and those of MINRES alone."""
    kept = [item for item in items if _solver(item) in OURS or "test_minres" in item.nodeid.split("::")[0]]
    config.hook.pytest_deselected(items=[item for item in items if item not in kept])
    items[:] = kept


def _solver(item: pytest.Item) -> object:
    params = item.callspec.params if hasattr(item, "callspec") else {}
    return params.get("solver", getattr(params.get("case"), "solver", None))


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """Say how often ours were called."""
    for name, count in CALLS.items():
        terminalreporter.write_line(f"sciml_bounds.scipy_api.{name} was called {count} times")
