"""Matrices known by products: the same numbers as entries give, and least squares."""

from __future__ import annotations

import numpy as np
import pytest
import scipy.sparse
import scipy.sparse.linalg
import torch
from refusals import refused

from sciml_bounds.errors import InputError
from sciml_bounds.operators._linear_operator import MatrixOperator, csr_tensor
from sciml_bounds.optimize._kkt import added, frobenius, identity, kkt_matrix, shifted, stacked
from sciml_bounds.optimize._products import Products, damped_solution, products_of
from sciml_bounds.optimize._user_functions import Function, Given

CPU = torch.device("cpu")
GENERATOR = torch.Generator().manual_seed(0)
G = torch.randn((3, 7), generator=GENERATOR, dtype=torch.float64)
S = torch.randn((7, 7), generator=GENERATOR, dtype=torch.float64)
H = S + S.T
X = torch.randn(7, generator=GENERATOR, dtype=torch.float64)


def by_products(matrix):
    m, n = matrix.shape
    return Products((m, n), lambda x: matrix @ x, lambda y: matrix.mT @ y, CPU)


def entries(products):
    """Multiply the columns of the identity, and hold the transpose to them."""
    m, n = products.shape
    matrix = torch.stack([products @ column for column in torch.eye(n, dtype=torch.float64)], 1)
    transposed = torch.stack([products.mT @ row for row in torch.eye(m, dtype=torch.float64)], 1)
    torch.testing.assert_close(matrix, transposed.mT)
    return matrix


@pytest.mark.parametrize("which", ["H", "G", "both"])
def test_sums_stacks_and_kkt_systems_are_those_of_the_entries(which):
    B = by_products(H) if which != "G" else H
    J = by_products(G) if which != "H" else G
    expected = kkt_matrix(shifted(H, 0.5), G, 1e-3)
    torch.testing.assert_close(entries(kkt_matrix(shifted(B, 0.5), J, 1e-3)), expected)
    if which != "G":
        torch.testing.assert_close(entries(added(B, H)), 2 * H)
        torch.testing.assert_close(entries(added(csr_tensor(scipy.sparse.csr_array(H.numpy())), B)), 2 * H)
        torch.testing.assert_close(entries(B * 3.0), 3 * H)
    if which != "H":
        torch.testing.assert_close(entries(stacked([J, G[:1]], X)), torch.cat([G, G[:1]]))


def test_the_norm_is_an_estimate_and_the_same_each_time():
    """Its square has the variance 2 (||A^T A||_F^2 - the squares of its diagonal) / 4: 5 % of it here."""
    diagonal = by_products(identity(G, 2.0))
    assert frobenius(diagonal) == pytest.approx(2 * 7**0.5)  # exact for diagonals
    wide = torch.randn((200, 300), generator=GENERATOR, dtype=torch.float64)
    assert frobenius(by_products(wide)) == pytest.approx(float(wide.norm()), rel=0.1)
    assert frobenius(by_products(wide)) == frobenius(by_products(wide))


@pytest.mark.parametrize("damping", [0.0, 0.3])
def test_damped_least_squares_are_those_of_the_normal_equations(damping):
    rhs = torch.arange(7.0, dtype=torch.float64)
    found = damped_solution(by_products(G.mT), rhs, damping)
    expected = torch.linalg.solve(G @ G.mT + damping * torch.eye(3, dtype=torch.float64), G @ rhs)
    torch.testing.assert_close(found, expected, rtol=1e-6, atol=1e-8)


# --- operators that users give ----------------------------------------------------------------------------------------


class Rectangular:
    """An operator of ours in shape and words."""

    def __init__(self, matrix):
        self.matrix, self.shape = matrix, tuple(matrix.shape)

    def matvec(self, x):
        return self.matrix @ x

    def rmatvec(self, y):
        return self.matrix.mT @ y


FORMS = {
    "scipy": lambda A: scipy.sparse.linalg.aslinearoperator(A.numpy()),
    "ours": Rectangular,
    "products": by_products,
}


@pytest.mark.parametrize("form", FORMS)
def test_operators_are_read(form):
    torch.testing.assert_close(entries(products_of(FORMS[form](G), "the jac", (3, 7), CPU)), G)


def test_a_symmetric_operator_needs_no_adjoint():
    torch.testing.assert_close(entries(products_of(MatrixOperator(H, symmetric=True), "the hess", (7, 7), CPU)), H)


def test_operators_that_do_not_fit_are_refused():
    refused("operator shape (3, 7) (4, 7)", lambda: products_of(Rectangular(G), "the jac", (4, 7), CPU))
    for one in (MatrixOperator(S), scipy.sparse.linalg.LinearOperator((7, 7), matvec=lambda x: x, dtype=np.float64)):
        with pytest.raises(InputError, match="rmatvec"):
            products_of(one, "the jac", (7, 7), CPU).mT @ X
    short = scipy.sparse.linalg.LinearOperator((7, 7), matvec=lambda x: x, dtype=np.float64)
    short._matvec = lambda x: x[:3]
    with pytest.raises((InputError, ValueError)):
        products_of(short, "the jac", (7, 7), CPU) @ X


# --- functions of torch -----------------------------------------------------------------------------------------------


def value(x):
    return torch.stack([torch.sin(x[0]) * x[1], x[2] ** 3 + x[0] * x[2], x[3:].square().sum()])


FUNCTIONS = {
    "nonlinear": value,
    "linear": lambda x: G @ x,
    "partly constant": lambda x: torch.stack([x[0] ** 2, 0 * x[1] + 1]),
    "linear in part": lambda x: torch.cat([G @ x, x[:1] ** 2]),
}


@pytest.mark.parametrize("name", FUNCTIONS)
def test_products_of_derivatives_are_those_of_the_matrices(name):
    function = Function(Given(FUNCTIONS[name], None, None, "c"), X, tensors_first=True)
    weights = torch.linspace(-1, 2, function.size, dtype=torch.float64)
    J, W = function.jacobian(X), function.hessian(X, weights)
    function.by_products = True
    torch.testing.assert_close(entries(function.jacobian(X)), J)
    torch.testing.assert_close(entries(function.hessian(X, weights)), W)
    assert function.calls == 1
    assert not (function.jacobian(X) @ X).requires_grad


def test_products_of_an_earlier_point_stay():
    function = Function(Given(value, None, None, "c"), X, tensors_first=True)
    function.by_products = True
    first, expected = function.jacobian(X), entries(function.jacobian(X))
    function.jacobian(X + 1) @ X
    torch.testing.assert_close(entries(first), expected)


def test_the_gradient_of_an_objective_stays_a_vector():
    function = Function(Given(lambda x: x @ x, None, None, "fun", scalar=True), X, tensors_first=True)
    function.by_products = True
    torch.testing.assert_close(function.gradient(X), 2 * X)
    operator = Given(lambda x: x @ x, lambda x: MatrixOperator(H), None, "fun", scalar=True)
    refused("operator", lambda: Function(operator, X, tensors_first=True).gradient(X))
