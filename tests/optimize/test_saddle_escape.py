"""Saddle points are left along negative curvature, and minima are not left."""

from __future__ import annotations

import dataclasses

import pytest
import scipy.sparse
import torch
from nonlinear_programs import double, program_at

from sciml_bounds.operators._linear_operator import csr_tensor
from sciml_bounds.optimize._products import Products
from sciml_bounds.optimize._saddle_escape import escape


def place(fun, x, multipliers=(), constraints=()):
    program, point = program_at(fun, x, constraints, double(*multipliers))
    return program, point, program.hessian(point)


def test_saddles_are_left_along_all_negative_curvature():
    program, point, H = place(lambda x: x[0] ** 2 - 3 * x[1] ** 2 - x[2] ** 2, double(0.0, 0.0, 0.0))
    away = escape(program, point, H, 1.0, 1e-8)
    assert away.fun < 0
    assert away.x[0] == 0
    assert abs(away.x[1]) > abs(away.x[2]) > 0


@pytest.mark.parametrize(("height", "leaves"), [(1.0, True), (-1.0, False)])
def test_what_the_constraints_leave_free_decides(height, leaves):
    """x1 on the unit circle: with 1 + 2 l x1 = 0, the Hessian 2 l I is negative at the top, positive at the bottom."""
    circle = place(lambda x: x[1], double(0.0, height), (-0.5 * height,), lambda x: x @ x - 1)
    assert circle[1].kkt_residual == 0.0
    assert (escape(*circle, 1.0, 1e-8) is not None) == leaves


@pytest.mark.parametrize("eta1", [1.0, 1e3])
def test_steps_follow_the_constraints(eta1):
    """Along the circle x1 falls by t^2 / 2 with a step of length t, which a penalty for t^2 / 2 would shorten."""
    away = escape(*place(lambda x: x[1], double(0.0, 1.0), (-0.5,), lambda x: x @ x - 1), eta1, 1e-8)
    assert away.constraint_violation < 1e-3
    assert 1 - away.fun == pytest.approx(0.2**2 / 2, rel=0.1)  # FIRST (1 + ||x||) = 0.2


def test_minima_are_not_left():
    """One with negative curvature that the constraint excludes, and a degenerate one."""
    for place_at in (
        place(lambda x: x[0] ** 2 - x[1] ** 2, double(0.0, 0.0), (0.0,), lambda x: x[1]),
        place(lambda x: x[0] ** 4 + x[1] ** 2 - 1e-9 * x[0] ** 2, double(0.0, 0.0)),
    ):
        assert escape(*place_at, 1.0, 1e-8) is None


# --- sparse matrices, and products ------------------------------------------------------------------------------------


def sparse(matrix):
    return csr_tensor(scipy.sparse.csr_array(matrix.numpy()))


def products(matrix):
    m, n = matrix.shape
    return Products((m, n), lambda x: matrix @ x, lambda y: matrix.mT @ y, matrix.device)


FORMS = {
    "sparse": (sparse, sparse), "sparse Hessian": (sparse, torch.clone), "sparse Jacobian": (torch.clone, sparse),
    "products": (products, products), "products and sparse": (products, sparse),
}  # fmt: skip


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize(("height", "leaves"), [(1.0, True), (-1.0, False)])
def test_entries_are_not_needed(form, height, leaves):
    """The last of 40 unknowns on a sphere, at its top and its bottom."""
    x = torch.zeros(40, dtype=torch.float64)
    x[-1] = height
    program, point, H = place(lambda x: x[-1], x, (-0.5 * height,), lambda x: x @ x - 1)
    of_H, of_G = FORMS[form]
    point = dataclasses.replace(point, jacobian=of_G(point.jacobian))
    away = escape(program, point, of_H(H), 1.0, 1e-8)
    assert (away is not None) == leaves


@pytest.mark.parametrize("form", [sparse, products], ids=["sparse", "products"])
def test_a_few_products_find_one_direction_among_many(form):
    """One of 300 eigenvalues is negative, below a spectrum from 1 to 10: twenty products tell it apart."""
    curvature = torch.linspace(1, 10, 300, dtype=torch.float64)
    curvature[123] = -2.0
    program, point, H = place(lambda x: curvature @ x**2, torch.zeros(300, dtype=torch.float64))
    away = escape(program, point, form(H), 1.0, 1e-8)
    assert away.fun < 0
    assert int(away.x.abs().argmax()) == 123


def test_many_constraints_known_by_products_hide_no_saddle():
    """Sums of pairs are fixed, so that 60 differences are free, of curvature 2 but for one, of -2."""
    pairs, n = torch.eye(60, dtype=torch.float64), 120
    rows = torch.cat([pairs, pairs], 1)
    curvature = torch.full((n,), 1.0, dtype=torch.float64)
    curvature[7] = curvature[67] = -1.0
    start, none = torch.zeros(n, dtype=torch.float64), torch.zeros(60, dtype=torch.float64)
    program, point, H = place(lambda x: curvature @ x**2, start, none, lambda x: rows @ x)
    point = dataclasses.replace(point, jacobian=products(rows))
    away = escape(program, point, products(H), 1.0, 1e-8)
    assert away.fun < 0
    assert away.constraint_violation < 1e-6
    assert int(away.x.abs().argmax()) in (7, 67)


def test_projections_are_saved_where_no_curvature_is_negative():
    """Looking at H costs 20 products, and projecting on 60 constraints many more."""
    asked = []

    def count(v):
        asked.append(v)
        return v[:60]

    G = Products((60, 80), count, lambda u: torch.cat([u, u.new_zeros(20)]), torch.device("cpu"))
    start = torch.zeros(80, dtype=torch.float64)
    program, point, H = place(lambda x: x @ x, start, torch.zeros(60, dtype=torch.float64), lambda x: x[:60])
    assert escape(program, dataclasses.replace(point, jacobian=G), products(H), 1.0, 1e-8) is None
    assert not asked


@pytest.mark.parametrize("form", [torch.clone, sparse, products], ids=["dense", "sparse", "products"])
def test_points_without_a_free_direction_stay(form):
    program, point, H = place(lambda x: -(x @ x), double(0.0, 0.0), (0.0, 0.0), lambda x: x)
    point = dataclasses.replace(point, jacobian=form(point.jacobian))
    assert escape(program, point, form(H), 1.0, 1e-8) is None
