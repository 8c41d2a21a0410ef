"""A plugin of pytest that puts our `cg` in the place of scipy's and keeps scipy's own tests of it (test_scipy.py)."""

from __future__ import annotations

import pytest
import scipy.sparse.linalg
from scipy._lib._array_api import xp_capabilities_table
from scipy.sparse.linalg import _isolve

from sciml_bounds import scipy_api

CALLS = 0


def cg(*args, **kwargs):
    """Count, and solve with ours."""
    global CALLS
    CALLS += 1
    return scipy_api.cg(*args, **kwargs)


xp_capabilities_table[cg] = xp_capabilities_table[_isolve.cg]  # which array libraries scipy tests it with
for module in (_isolve, _isolve.iterative, scipy.sparse.linalg):
    module.cg = cg


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Keep the tests that take our function as the solver."""
    kept = [item for item in items if _solver(item) is cg]
    config.hook.pytest_deselected(items=[item for item in items if item not in kept])
    items[:] = kept


def _solver(item: pytest.Item) -> object:
    params = item.callspec.params if hasattr(item, "callspec") else {}
    return params.get("solver", getattr(params.get("case"), "solver", None))


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """Say how often ours was called."""
    terminalreporter.write_line(f"sciml_bounds.scipy_api.cg was called {CALLS} times")
