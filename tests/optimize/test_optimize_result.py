from __future__ import annotations

from typing import Any

import pytest
import torch

from sciml_bounds.optimize import OptimizeResult
from sciml_bounds.optimize._optimize_result import NewtonStep
from sciml_bounds.results import Reason


def double(values: list[float]) -> torch.Tensor:
    return torch.tensor(values, dtype=torch.float64)


def step_of(**changes: Any) -> NewtonStep:
    """A step of made-up numbers."""
    fields = {
        "fun": 1.0, "kkt_residual": 1e-9, "constraint_violation": 0.0, "step_length": 1.0, "trials": 1, "not_finite": 0,
        "shift": 0.0, "damping": 0.0, "eta1": 1.0, "eta2": 0.1, "inner_steps": 0, "inner_residual": 0.0,
        "inner_capped": False,
    }  # fmt: skip
    return NewtonStep(**(fields | changes))


def optimum_of(**changes: Any) -> OptimizeResult:
    """A result of made-up numbers."""
    fields = {
        "x": double([1.0, 2.0]), "fun": 1.0, "multipliers": double([3.0]), "kkt_residual": 1e-9,
        "constraint_violation": 0.0, "tolerance": 1e-8, "reason": Reason.CONVERGED, "nit": 1, "nfev": 2, "njev": 2,
        "nhev": 1, "history": (step_of(),), "method": "magic", "seconds": 0.1,
    }  # fmt: skip
    return OptimizeResult(**(fields | changes))


def test_an_optimum_prints_what_was_reached():
    assert repr(optimum_of()).splitlines() == [
        "OptimizeResult",
        "  method                magic",
        "  unknowns              2, constraints 1",
        "  reason                converged",
        "  fun                   1",
        "  KKT residual          1e-09 (tolerance 1e-08)",
        "  constraint violation  0",
        "  iterations            1",
        "  evaluations           2 of fun, 2 with first, 1 with second derivatives",
    ]


def test_an_optimum_says_where_inner_solves_were_cut_short_and_jacobians_regularised():
    history = (step_of(inner_steps=64, inner_capped=True), step_of(inner_steps=6, damping=1e-8))
    result = optimum_of(history=history, nit=2)
    assert "inner steps           70 (1 inner solve of 2 stopped at the cap of steps)" in repr(result)
    assert "the Jacobian of the constraints, in 1 iteration; regularised" in repr(result)
    assert result.message.endswith("1 inner solve of 2 stopped at the cap of steps.")


@pytest.mark.parametrize("reason", list(Reason), ids=lambda reason: reason.name)
def test_status_is_zero_for_success_only(reason):
    result = optimum_of(reason=reason)
    assert (result.status == 0) == result.success == (reason in (Reason.CONVERGED, Reason.ROUND_OFF))
    assert result.message.startswith(str(reason).capitalize())


def test_advice_is_for_what_was_called():
    assert "M=" not in optimum_of(reason=Reason.MAXITER).message  # an option of linear solvers
