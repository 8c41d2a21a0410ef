"""Certificates of cell pressures: the function between the cell centres, its flux, and what the bound says."""

from __future__ import annotations

import itertools
import math

import numpy as np
import pytest
import torch
from refusals import refusals

import sciml_bounds as sb
from sciml_bounds.bounds import _certify, _flux
from sciml_bounds.bounds._cell_reconstruction import flux_on_half_spacing, values_on_half_spacing
from sciml_bounds.problems.transfers import node_average
from sciml_bounds.simulation import Well, with_wells

SHAPE = (5, 4, 3)


def _problem(dim=2, *, contrast=1.0, **changes):
    rng = np.random.default_rng(dim)
    shape = SHAPE[:dim]
    a = tuple(np.exp(contrast * rng.standard_normal(shape)) for _ in shape)
    sides = {side: sb.Neumann(0.0) for side in sb.Grid(shape).sides} | {"x0": sb.Dirichlet(1.0), "x1": sb.Robin(2.0, 1)}
    return sb.Diffusion(
        sb.Grid(shape, lengths=(1.0, 2.0, 0.5)[:dim]), a, **{"source": 1.0, "boundary": sides} | changes
    )


def _expected(problem, p, faces):
    """Return the reconstruction of one problem node by node, from the definition."""
    grid = problem.grid
    values = np.zeros([2 * n + (not wraps) for n, wraps in zip(grid.shape, problem.periodic)])
    for node in np.ndindex(*values.shape):
        touching = [[((k - 1) // 2, k)] if k % 2 else [(k // 2 - 1, k), (k // 2, k)] for k in node]
        total = weight = 0.0
        for cells in itertools.product(*touching):
            cell, wraps = [i for i, _ in cells], problem.periodic
            if any((i < 0 or i >= n) and not w for i, n, w in zip(cell, grid.shape, wraps)):
                continue
            cell = tuple(i % n for i, n in zip(cell, grid.shape))
            if problem.solid is not None and problem.solid[cell]:
                continue
            value, share = float(p[cell]), 0.0
            for axis, (i, k) in enumerate(cells):
                if k % 2:
                    continue
                side = int(k == 2 * i + 2)  # the face of the cell at the node
                near, far = (float(faces[axis][tuple(j + end * (a == axis) for a, j in enumerate(cell))])
                             for end in (side, 1 - side))  # fmt: skip
                a, h = float(problem.coefficient[axis].expand(grid.shape)[cell]), grid.spacing[axis]
                value += (1 if side else -1) * h * (3 * near + far) / (8 * a)
                share += a / h**2
            share = share or 1.0
            total, weight = total + share * value, weight + share
        values[node] = total / weight if weight else 0.0
    return values


PERIODIC = {"x0": sb.Dirichlet(1.0), "x1": sb.Neumann(0.5), "y0": sb.Periodic(), "y1": sb.Periodic()}
SOLID = np.zeros(SHAPE[:2], dtype=bool)
SOLID[1:3, 1] = SOLID[4, 3] = True


@pytest.mark.parametrize(
    "problem",
    [_problem(1), _problem(2), _problem(3), _problem(2, boundary=PERIODIC), _problem(2, solid=SOLID)],
    ids=["1-D", "2-D", "3-D", "periodic", "solids"],
)
def test_values_are_those_of_the_definition(problem):
    s = sb.prepare(problem, unknowns="cells").solve()
    faces = tuple(y.unsqueeze(0) for y in s.flux)
    values = values_on_half_spacing(problem, s.pressure.unsqueeze(0), faces)[0]
    np.testing.assert_allclose(values, _expected(problem, s.pressure, s.flux), rtol=1e-13, atol=1e-13)
    fine = problem.refine(2)
    certificate = sb.certify(problem, s, lower=False)
    torch.testing.assert_close(certificate.values, fine.impose_boundary(values), rtol=0, atol=1e-9)
    assert certificate.grid == fine.grid


def test_the_flux_on_half_the_spacing_is_the_same_function():
    """Same values at the common faces, means in the middle, same divergence, checked at random points."""
    rng = np.random.default_rng(0)
    faces = tuple(torch.as_tensor(rng.standard_normal((1, *_flux.face_shape((4, 3), axis)))) for axis in range(2))
    fine = flux_on_half_spacing(faces)
    for axis, (coarse, halved) in enumerate(zip(faces, fine)):
        assert halved.shape == (1, *_flux.face_shape((8, 6), axis))
        for x in rng.random((50, 2)) * (4, 3):
            values = []
            for field, scale in ((coarse, 1), (halved, 2)):
                cell = [int(scale * c) for c in x]
                share = scale * x[axis] - cell[axis]
                ends = [field[(0, *(i + end * (k == axis) for k, i in enumerate(cell)))] for end in (0, 1)]
                values.append(float((1 - share) * ends[0] + share * ends[1]))
            assert values[0] == pytest.approx(values[1], abs=1e-14)


def test_a_quadratic_line_is_certified_exactly():
    """For -u'' = f with two Neumann ends, fluxes are exact and cell values are u plus a constant: a known error.

    On half cells of width k the interpolant of u has the slope error f^2 k^3 / 12; the upper bound has nothing else.
    """
    n, f = 6, np.array([3.0, 3.0, 3.0, -3.0, -3.0, -3.0])
    problem = sb.Diffusion(sb.Grid((n,)), 1.0, f, boundary=sb.Neumann(0.0))
    certificate = sb.certify(problem, sb.prepare(problem, unknowns="cells").solve(rtol=1e-13))
    inner = 9.0 / (12 * (2 * n) ** 3) * 2 * n
    assert float(certificate.upper) ** 2 >= inner
    # at the jump of f the two proposals differ by f h^2 / 4 and are averaged: slope errors of f h / 4 on two half cells
    assert float(certificate.upper) ** 2 == pytest.approx(inner + 2 * (3.0 / n / 4) ** 2 / (2 * n), rel=1e-9)


@pytest.mark.parametrize("contrast", [1.0, 3.0])
def test_the_bound_holds_for_the_flux_too(contrast):
    """Prager and Synge: the squared errors of pressure and flux sum to the square of the bound."""
    sides = {"x0": sb.Dirichlet(1.0), "x1": sb.Dirichlet(0.0), "y0": sb.Neumann(0.3), "y1": sb.Neumann(0.0)}
    problem = _problem(2, contrast=contrast, boundary=sides)
    s = sb.prepare(problem, unknowns="cells").solve(rtol=1e-13)
    certificate = sb.certify(problem, s, lower=False)
    factor = 32
    fine = problem.refine(factor)
    u = sb.solve(fine, rtol=1e-12).values
    squared = 0.0
    share = (torch.arange(factor, dtype=torch.float64) + 0.5) / factor  # midpoints of the fine cells
    for axis, (a, h) in enumerate(zip(fine.coefficient, fine.grid.spacing)):
        slope = node_average((torch.diff(u, dim=axis) / h).unsqueeze(0), (2 - axis,))[0]
        low, high = (s.flux[axis].narrow(axis, end, problem.grid.shape[axis]) for end in (0, 1))
        y = torch.stack([low + (high - low) * t for t in share], axis + 1).flatten(axis, axis + 1)
        y = y.repeat_interleave(factor, 1 - axis)
        squared += float(((y - a * slope) ** 2 / a).sum()) * fine.grid.cell_volume
    assert math.sqrt(squared) < float(certificate.upper)
    v = torch.nn.functional.interpolate(
        certificate.values[None, None], size=fine.node_shape, mode="bilinear", align_corners=True
    )[0, 0]
    error = float(sb.certify(fine, v, lower=True).lower)
    assert math.hypot(math.sqrt(squared), error) == pytest.approx(float(certificate.upper), rel=0.05)


@pytest.fixture
def no_solve(monkeypatch):
    def refuse(*arguments, **options):
        raise AssertionError("a linear system was set up")

    for module in (_flux, _certify):
        monkeypatch.setattr(module, "LinearSolver", refuse)


@pytest.mark.parametrize("dim", [1, 2, 3])
def test_the_upper_bound_of_balanced_fluxes_needs_no_solve(dim, request):
    problem = with_wells(_problem(dim, contrast=3.0), [Well((2,) * dim, index=5.0, pressure=9.0)])
    s = sb.prepare(problem, unknowns="cells").solve(rtol=1e-11)
    expected = sb.certify(problem, s, lower=False).upper
    request.getfixturevalue("no_solve")
    for flux in (s.flux, None):
        upper = sb.certify(problem, s.pressure, layout="centres", flux=flux, lower=False).upper
        torch.testing.assert_close(upper, expected, rtol=1e-6, atol=0)


def test_pressures_at_wells_keep_their_extremes():
    closed = sb.Diffusion(sb.Grid((9, 9)), boundary=sb.Neumann(0.0))
    problem = with_wells(closed, [Well((1, 1), rate=1.0), Well((7, 7), rate=-1.0)])
    s = sb.prepare(problem, unknowns="cells").solve()
    certificate = sb.certify(problem, s)
    assert certificate.values.max() == s.pressure.max() == s.pressure[1, 1]
    assert certificate.values.min() == s.pressure.min() == s.pressure[7, 7]
    assert sb.certify(problem, s, layout="cells").values.max() < 0.9 * s.pressure.max()
    assert "cell values" in repr(certificate).splitlines()[1]
    assert 0 < certificate.lower < certificate.upper


def test_a_batch_equals_single_problems_and_solids_may_contain_anything():
    a = torch.exp(torch.randn(3, 5, 4, dtype=torch.float64, generator=torch.Generator().manual_seed(0)))
    problem = sb.Diffusion(sb.Grid((5, 4)), a, 1.0, solid=SOLID)
    s = sb.prepare(problem, unknowns="cells").solve(rtol=1e-12)
    each = sb.certify(problem, s, lower=False)
    assert each.indicators.shape == (3, 10, 8)
    hidden = torch.where(torch.as_tensor(SOLID), torch.nan, s.pressure)
    torch.testing.assert_close(
        sb.certify(problem, hidden, layout="centres", flux=s.flux, lower=False).upper, each.upper
    )
    for k in range(3):
        one = sb.Diffusion(sb.Grid((5, 4)), a[k], 1.0, solid=SOLID)
        single = sb.certify(one, s.pressure[k], layout="centres", lower=False)
        torch.testing.assert_close(single.upper, each.upper[k], rtol=1e-9, atol=0)


def test_gradients_with_respect_to_the_pressures():
    problem = _problem(2)
    s = sb.prepare(problem, unknowns="cells").solve()
    p = (s.pressure + 0.1 * torch.randn(5, 4, generator=torch.Generator().manual_seed(1))).requires_grad_()
    assert torch.autograd.gradcheck(
        lambda q: sb.certify(problem, q, layout="centres", flux=s.flux, lower=False).upper, p, atol=1e-6
    )


PROBLEM = _problem(2)
CELLS = torch.zeros(5, 4, dtype=torch.float64)

test_fields_that_cannot_be_certified = refusals(
    ("(6, 5) 'centres' 5, 4 nodes", lambda: sb.certify(PROBLEM, np.zeros((6, 5)), layout="centres")),
    ("cell values finite", lambda: sb.certify(PROBLEM, CELLS * torch.nan, layout="centres")),
    (
        "flux refined faces",
        lambda: sb.certify(PROBLEM, CELLS, layout="centres", flux=(torch.zeros(11, 8), torch.zeros(10, 9))),
    ),
)
