"""Functions with derivatives: those of torch against those written out, differences, and calls that are saved."""

from __future__ import annotations

import math

import numpy as np
import pytest
import scipy.sparse
import torch

import sciml_bounds as sb
from sciml_bounds.optimize._user_functions import Function, Given

X = torch.tensor([0.5, -1.5, 2.0], dtype=torch.float64)
WEIGHTS = torch.tensor([2.0, -1.0], dtype=torch.float64)


def value(x):
    return torch.stack([torch.sin(x[0]) * x[1], x[2] ** 3 + x[0] * x[2]])


def value_numpy(x):
    return np.array([np.sin(x[0]) * x[1], x[2] ** 3 + x[0] * x[2]])


def jacobian(x):
    return np.array([[np.cos(x[0]) * x[1], np.sin(x[0]), 0.0], [x[2], 0.0, 3 * x[2] ** 2 + x[0]]])


def hessian(x, v):
    first = np.array([[-np.sin(x[0]) * x[1], np.cos(x[0]), 0], [np.cos(x[0]), 0, 0], [0, 0, 0]])
    second = np.array([[0, 0, 1.0], [0, 0, 0], [1, 0, 6 * x[2]]])
    return v[0] * first + v[1] * second


def function(fun, jac=None, hess=None, tensors_first=True):
    return Function(Given(fun, jac, hess, "c"), X, tensors_first=tensors_first)


def test_derivatives_of_torch_are_those_written_out():
    c = function(value)
    torch.testing.assert_close(c.jacobian(X), torch.from_numpy(jacobian(X.numpy())))
    torch.testing.assert_close(c.hessian(X, WEIGHTS), torch.from_numpy(hessian(X.numpy(), WEIGHTS.numpy())))
    assert torch.equal(c.hessian(X, WEIGHTS), c.hessian(X, WEIGHTS).mT)
    assert c.has_jacobian
    assert c.has_hessian


class Cube(torch.autograd.Function):
    """x^3 with a pass backward by hand, which cannot be vectorised: it looks at a number."""

    @staticmethod
    def forward(ctx, x):
        ctx.save_for_backward(x)
        return x**3

    @staticmethod
    def backward(ctx, gradient):
        (x,) = ctx.saved_tensors
        return gradient * 3 * x**2 if bool(gradient.any()) else torch.zeros_like(x)


def test_passes_backward_that_users_wrote_are_taken_one_by_one():
    """x_i^3 + x_0^3."""
    c = function(lambda x: Cube.apply(x) + Cube.apply(x[0]))
    expected = torch.diag(3 * X**2)
    expected[:, 0] += 3 * X[0] ** 2
    torch.testing.assert_close(c.jacobian(X), expected)
    weights = torch.tensor([4.0, 1.0, 1.0], dtype=torch.float64)
    torch.testing.assert_close(c.hessian(X, torch.ones_like(X)), torch.diag(6 * X * weights))


def test_missing_dependences_are_zeros():
    assert function(lambda x: x[:0]).jacobian(X).shape == (0, 3)
    assert not function(lambda x: torch.stack([x.sum(), 2 * x[0]])).hessian(X, WEIGHTS).any()
    assert not function(lambda x: torch.stack([x[0] ** 2, x[1]])).jacobian(X)[:, 2].any()
    c = function(lambda x: torch.stack([x[0] * 0 + 1, torch.tensor(2.0, dtype=torch.float64)]))
    assert not c.jacobian(X).any()


def test_values_and_derivatives_at_one_point_take_one_call():
    c = function(value)
    c.value(X), c.jacobian(X), c.hessian(X, WEIGHTS), c.value(X.clone())
    assert c.calls == 1
    c.value(X + 1)
    assert c.calls == 2


def test_differences_have_half_the_digits():
    """A step of 1.5e-8 leaves a truncation of 1.5e-8 / 2 |f''| and a round-off of 2.2e-16 |f| / 1.5e-8."""
    c = function(value_numpy, tensors_first=False)
    torch.testing.assert_close(c.jacobian(X), torch.from_numpy(jacobian(X.numpy())), rtol=0, atol=3e-7)
    assert not c.has_jacobian
    assert not c.has_hessian
    assert c.calls == 4


@pytest.mark.parametrize("form", [np.asarray, scipy.sparse.csr_array, scipy.sparse.coo_matrix, torch.as_tensor],
                         ids=["numpy", "csr", "coo", "torch"])  # fmt: skip
def test_given_derivatives_may_come_in_any_form(form):
    c = function(value_numpy, lambda x: form(jacobian(x)), lambda x, v: form(hessian(x, v)), tensors_first=False)
    torch.testing.assert_close(c.jacobian(X).to_dense(), torch.from_numpy(jacobian(X.numpy())))
    torch.testing.assert_close(c.hessian(X, WEIGHTS).to_dense(), torch.from_numpy(hessian(X.numpy(), WEIGHTS.numpy())))


def test_sparse_tensors_are_kept_sparse():
    def rows(x):
        return torch.as_tensor(jacobian(x.numpy())).to_sparse_coo()

    c = function(value, rows)
    assert c.jacobian(X).layout == torch.sparse_csr
    torch.testing.assert_close(c.jacobian(X).to_dense(), torch.from_numpy(jacobian(X.numpy())))


@pytest.mark.parametrize(("fun", "tensors_first", "of_torch"), [
    (value, True, True), (value, False, True), (value_numpy, False, False), (value_numpy, True, False),
    (lambda x: x[:2] ** 2, True, True), (lambda x: x[:2] ** 2, False, False),
])  # fmt: skip
def test_the_kind_of_a_function_is_found_out(fun, tensors_first, of_torch):
    """What can take both kinds is given that of x0; differences stand in for torch only where they have to."""
    assert function(fun, tensors_first=tensors_first).of_torch == of_torch


def test_lists_of_numbers_of_torch_are_vectors():
    x0 = torch.tensor([3.0, 1.0], dtype=torch.float64)
    result = sb.minimize(lambda x: x @ x, x0, constraints=lambda x: [x[0] + x[1] - 1, 0.0])
    torch.testing.assert_close(result.x, torch.tensor([0.5, 0.5], dtype=torch.float64))


def test_central_differences_stay_in_the_domain():
    """Below zero math.sqrt raises: the first entry is a forward difference, and the other one has an error of 2e-11."""
    x = torch.tensor([1e-7, 1.0], dtype=torch.float64)
    given = Given(lambda x: math.sqrt(x[0]) + math.exp(x[1]), None, None, "fun", True)
    function = Function(given, x, tensors_first=False)
    forward = function.gradient(x)
    function.central = True
    central = function.gradient(x)
    assert central[0] == forward[0]
    assert abs(float(forward[1]) - math.e) > 1e-9
    assert abs(float(central[1]) - math.e) < 1e-9
    assert 1e-12 < float(function.difference_error(x)[0, 1]) < 1e-9
