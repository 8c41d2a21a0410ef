"""Constraints in every form: the same values, the same derivatives, stacked in the order in which they are given."""

from __future__ import annotations

import numpy as np
import pytest
import scipy.sparse
import torch
from refusals import refusals
from scipy.optimize import LinearConstraint, NonlinearConstraint

from sciml_bounds.optimize._constraints import as_constraints

X = torch.tensor([0.5, -1.5], dtype=torch.float64)
EXPECTED = torch.tensor([0.5 + 2.25 - 3.0, 4.0 - 1.0], dtype=torch.float64)  # x0 + x1^2 - 3, 2 x0 - 2 x1 - 1
JACOBIAN = torch.tensor([[1.0, -3.0], [2.0, -2.0]], dtype=torch.float64)


def first(x):
    return x[0] + x[1] ** 2 - 3


def both(x):
    stack = torch.stack if isinstance(x, torch.Tensor) else np.stack
    return stack([first(x), 2 * x[0] - 2 * x[1] - 1])


LINE = [[2.0, -2.0]]
FORMS = {
    "function": both,
    "list": [first, lambda x: 2 * x[:1] - 2 * x[1:] - 1],
    "nonlinear": NonlinearConstraint(lambda x: both(x) + 1, 1, [1, 1]),
    "nonlinear and linear": (NonlinearConstraint(first, 0, 0), LinearConstraint(LINE, 1, 1)),
    "sparse linear": [first, LinearConstraint(scipy.sparse.csr_array(LINE), [1], [1])],
    "dictionary": {"type": "eq", "fun": lambda x, level: both(x) + level, "args": (0.0,)},
}


@pytest.mark.parametrize("tensors_first", [True, False])
@pytest.mark.parametrize("name", FORMS)
def test_all_forms_mean_the_same(name, tensors_first):
    parts = as_constraints(FORMS[name], X, tensors_first=tensors_first)
    torch.testing.assert_close(torch.cat([part.value(X) for part in parts]), EXPECTED)
    jacobian = torch.cat([part.jacobian(X).to_dense() for part in parts])
    torch.testing.assert_close(jacobian, JACOBIAN, rtol=0, atol=1e-7)  # of differences too


def test_linear_constraints_have_no_second_derivatives():
    for rows in (LINE, scipy.sparse.csr_array(LINE)):
        (part,) = as_constraints(LinearConstraint(rows, 1, 1), X, tensors_first=True)
        assert part.has_hessian
        assert not part.hessian(X, torch.ones(1, dtype=torch.float64)).to_dense().any()


def test_extra_arguments_of_a_dictionary_reach_both_functions():
    constraint = {"type": "eq", "fun": lambda x, a: a * x, "jac": lambda x, a: a * np.eye(2), "args": (3.0,)}
    (part,) = as_constraints(constraint, X, tensors_first=False)
    torch.testing.assert_close(part.value(X), 3 * X)
    torch.testing.assert_close(part.jacobian(X), 3 * torch.eye(2, dtype=torch.float64))


def test_no_constraints_have_no_parts():
    assert as_constraints((), X, tensors_first=True) == []


test_bad_input = refusals(
    ("constraint 1 int", lambda: as_constraints([first, 3], X, tensors_first=True)),
    ("jac constraint", lambda: as_constraints(FORMS["dictionary"] | {"jac": "2-point"}, X, tensors_first=True)),
    ("args constraint", lambda: as_constraints(FORMS["dictionary"] | {"args": 3}, X, tensors_first=True)),
)
