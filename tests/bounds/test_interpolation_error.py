"""What a function differs from its interpolant: constants that are attained, and bounds that hold."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch

from sciml_bounds.bounds._interpolation_error import (
    CellBounds,
    across_squares,
    derivative_squares,
    remainder_squares,
    value_squares,
)

SPACING = (0.5, 0.2, 0.3)


def tensor(array):
    return torch.as_tensor(np.asarray(array, dtype=float))


def bounds(dim, second=None, third=None, gradient=(-math.inf, math.inf)):
    """Bounds on one cell, the same number for all that is not given."""
    second = np.zeros((dim, dim)) if second is None else np.asarray(second)
    third = np.zeros((dim, dim)) if third is None else np.asarray(third)
    slopes = tuple(torch.full((dim, 1), end, dtype=torch.float64) for end in gradient)
    zero = torch.zeros(1, dtype=torch.float64)
    return CellBounds(
        torch.zeros(2), (zero, zero), slopes, (-tensor(second)[..., None], tensor(second)[..., None]),
        tensor(third)[..., None],
    )  # fmt: skip


def mean_squares(v, spacing, points=24, curvatures=(0.0, 0.0, 0.0)):
    """Mean squares of v - I v and its derivatives less b (x - h / 2) over the cell [0, h], by Gauss quadrature."""
    dim = len(spacing)
    nodes, weights = np.polynomial.legendre.leggauss(points)
    axes = [(nodes + 1) / 2 * h for h in spacing]
    mesh = np.meshgrid(*axes, indexing="ij")
    weight = np.ones(())
    for _ in range(dim):
        weight = np.multiply.outer(weight, weights / 2)
    x = torch.tensor(np.stack(mesh, -1), requires_grad=True)
    corners = torch.tensor(np.stack(np.meshgrid(*[[0.0, h] for h in spacing], indexing="ij"), -1))
    off = v(x)
    for bits in np.ndindex(*(2,) * dim):
        hat = torch.ones(())
        for axis, bit in enumerate(bits):
            s = x[..., axis] / spacing[axis]
            hat = hat * (s if bit else 1 - s)
        off = off - v(corners)[bits] * hat
    gradient = torch.autograd.grad(off.sum(), x)[0].numpy()
    slopes = [gradient[..., i] - curvatures[i] * (mesh[i] - spacing[i] / 2) for i in range(dim)]
    return (weight * off.detach().numpy() ** 2).sum(), [(weight * slope**2).sum() for slope in slopes]


@pytest.mark.parametrize("dim", [1, 2, 3])
def test_constants_are_attained_by_parabolas(dim):
    """v = sum b_i x_i^2 / 2 with b > 0: second derivatives are b, all others zero."""
    curvatures, spacing = np.array([2.0, 0.7, 3.0])[:dim], SPACING[:dim]
    value, slopes = mean_squares(lambda x: (x.square() * tensor(curvatures)).sum(-1) / 2, spacing)
    found = bounds(dim, second=np.diag(curvatures))
    assert float(value_squares(found, spacing, range(dim))) == pytest.approx(value, rel=1e-12)
    for axis in range(dim):
        assert float(derivative_squares(found, spacing, axis)) == pytest.approx(slopes[axis], rel=1e-12)
        assert float(remainder_squares(found, spacing, axis)) == pytest.approx(slopes[axis], rel=1e-12)  # b = 0
    exact = found._replace(second=(found.second[1], found.second[1]))
    assert exact.curvatures[:, 0].tolist() == curvatures.tolist()
    assert float(remainder_squares(exact, spacing, 0)) == 0.0


def test_mixed_derivatives_are_attained():
    """v = x (y^2 + 2 z^2) / 2: d_x v has an error of its own along y and z."""
    _, slopes = mean_squares(lambda x: x[..., 0] * (x[..., 1] ** 2 + 2 * x[..., 2] ** 2) / 2, SPACING)
    third = np.zeros((3, 3))
    third[0, 1], third[0, 2] = 1.0, 2.0
    found = bounds(3, second=np.full((3, 3), 1e9) * (1 - np.eye(3)), third=third)
    assert float(derivative_squares(found, SPACING, 0)) == pytest.approx(slopes[0], rel=1e-12)


@pytest.mark.parametrize("seed", range(40))
def test_bounds_hold_for_random_polynomials(seed):
    """All bounds from dense samples of the derivatives, with and without third ones or second ones."""
    rng = np.random.default_rng(seed)
    dim = int(rng.integers(1, 4))
    spacing = tuple(rng.uniform(0.2, 1.0, dim))
    powers, a = rng.integers(0, 4, (5, dim)), rng.standard_normal(5)

    def v(x):
        return sum(c * (x ** tensor(p)).prod(-1) for c, p in zip(a, powers))

    def derivative(x, order):
        """Of the monomials, by hand."""
        total = np.zeros(x.shape[:-1])
        for c, p in zip(a, powers):
            factors = [
                math.perm(int(n), k) * x[..., i] ** max(n - k, 0) if n >= k else 0
                for i, (n, k) in enumerate(zip(p, order))
            ]
            total = total + c * np.prod(np.broadcast_arrays(*factors, total)[:-1], axis=0)
        return total

    x = np.stack(np.meshgrid(*[np.linspace(0, h, 41 if dim < 3 else 15) for h in spacing], indexing="ij"), -1)
    unit = np.eye(dim, dtype=int)
    largest = lambda order: np.abs(derivative(x, order)).max()  # noqa: E731
    second = [[largest(unit[i] + unit[j]) for j in range(dim)] for i in range(dim)]
    third = [[largest(unit[i] + 2 * unit[j]) for j in range(dim)] for i in range(dim)]
    slopes = [derivative(x, unit[i]) for i in range(dim)]
    infinite = np.full((dim, dim), np.inf)
    value, gradient = mean_squares(v, spacing)
    ends = tuple(torch.stack([tensor([getattr(s, end)()]) for s in slopes]) for end in ("min", "max"))
    whole = bounds(dim, second, third)._replace(gradient=ends)
    variants = (
        whole,
        bounds(dim, second, infinite),
        bounds(dim, infinite, infinite)._replace(gradient=ends),
        bounds(dim, second, third),
    )
    ranges = [[derivative(x, unit[i] + unit[j]) for j in range(dim)] for i in range(dim)]
    low, high = (tensor([[getattr(part, end)() for part in row] for row in ranges]) for end in ("min", "max"))
    found = whole._replace(second=(low[..., None], high[..., None]))
    _, curved = mean_squares(v, spacing, curvatures=found.curvatures[:, 0].tolist())
    for axis in range(dim):
        assert float(remainder_squares(found, spacing, axis)) >= curved[axis] * (1 - 1e-3) - 1e-15
    for found in variants:
        assert float(value_squares(found, spacing, range(dim))) >= value * (1 - 1e-3)  # samples miss a maximum
        for axis in range(dim):
            assert float(derivative_squares(found, spacing, axis)) >= gradient[axis] * (1 - 1e-3)


def test_a_kink_in_the_middle_attains_the_bound_of_slopes():
    """v = |x - h / 2|: slopes -1 and 1, v - I v has the same ones; on a line that is the variance W^2 / 4."""
    infinite = np.full((1, 1), np.inf)
    found = bounds(1, infinite, infinite, gradient=(-1.0, 1.0))
    assert float(derivative_squares(found, SPACING[:1], 0)) == 1.0
    assert float(value_squares(found, SPACING[:1], [0])) >= SPACING[0] ** 2 / 12  # of h / 2 - |x - h / 2|
    assert float(remainder_squares(found, SPACING[:1], 0)) == 1.0  # b = 0 where no second derivative is known


def test_round_off_of_the_nodes_is_attained():
    """v = 0 whose nodes are t and -t in turn: I v has the slope 2 t / h; of what else is left the norms add up."""
    off = bounds(2)._replace(round_off=0.1)
    for axis, h in enumerate(SPACING[:2]):
        for squares in (derivative_squares, remainder_squares, across_squares):
            assert float(squares(off, SPACING[:2], axis)) == pytest.approx((0.2 / h) ** 2)
    assert float(value_squares(off, SPACING[:2], range(2))) == pytest.approx(0.01)
    bent = bounds(1, second=[[3.0]])
    together = derivative_squares(bent._replace(round_off=0.1), SPACING[:1], 0).sqrt()
    assert float(together) == pytest.approx(float(derivative_squares(bent, SPACING[:1], 0).sqrt()) + 0.4)


def test_a_fold_across_the_axis_is_within_the_bound_of_mixed_derivatives():
    """v = x |y - h / 2|: d_x d_y v is 1 or -1, and d_x (v - I v) = |y - h / 2| - h / 2 of mean square h^2 / 12."""
    infinite, h = np.full((2, 2), np.inf), SPACING[1]
    found = bounds(2, np.array([[0.0, 1.0], [1.0, np.inf]]), infinite, gradient=(-1e9, 1e9))
    bound = float(derivative_squares(found, SPACING[:2], 0))
    assert h**2 / 12 <= bound <= 1.7 * h**2 / 12  # that of the parabola above the fold, 16 / 120
