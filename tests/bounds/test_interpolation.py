"""What a function differs from its interpolant: constants that are attained, and certificates of functions."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch

import sciml_bounds as sb
from sciml_bounds.bounds.interpolation import CellBounds, derivative_squares, value_squares

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


def mean_squares(v, spacing, points=24):
    """Mean squares of v - I v and of its derivatives over the cell [0, h], by Gauss quadrature and polynomials."""
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
    return (weight * off.detach().numpy() ** 2).sum(), [(weight * gradient[..., i] ** 2).sum() for i in range(dim)]


@pytest.mark.parametrize("dim", [1, 2, 3])
def test_constants_are_attained_by_parabolas(dim):
    """v = sum b_i x_i^2 / 2 with b > 0: second derivatives are b, all others zero."""
    bends, spacing = np.array([2.0, 0.7, 3.0])[:dim], SPACING[:dim]
    value, slopes = mean_squares(lambda x: (x.square() * tensor(bends)).sum(-1) / 2, spacing)
    found = bounds(dim, second=np.diag(bends))
    assert float(value_squares(found, spacing, range(dim))) == pytest.approx(value, rel=1e-12)
    for axis in range(dim):
        assert float(derivative_squares(found, spacing, axis)) == pytest.approx(slopes[axis], rel=1e-12)


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


# --- certificates of functions ----------------------------------------------------------------------------------------


def sine(dim, lengths=1.0):
    """A network that is prod sin(pi x_i): the solution of -Laplace u = d pi^2 u."""
    return sb.BarronNetwork.of_series(sb.BarronFunction.sine([[1] * dim], [1.0], lengths))


@pytest.mark.parametrize("dim", [1, 2, 3])
def test_the_bound_is_that_of_the_interpolant_and_a_part_that_goes_to_zero(dim):
    network, parts = sine(dim), []
    for n in (6, 12, 24):
        problem = sb.Diffusion(sb.Grid((n,) * dim), 1.0, 1.0)
        certificate = sb.certify(problem, network)
        interpolant = sb.certify(problem, certificate.values)
        part = certificate.terms["interpolation"].sqrt()
        torch.testing.assert_close(certificate.upper, interpolant.upper + part)
        torch.testing.assert_close(certificate.lower, (interpolant.lower - part).clamp_min(0))
        torch.testing.assert_close(certificate.indicators.square().sum().sqrt(), certificate.upper)
        assert certificate.kind == "bound"
        parts.append(float(part))
    # first order; the sup over a cell is off by a further part that halves as well
    assert parts[1] < 0.55 * parts[0]
    assert parts[2] < 0.52 * parts[1]
    exact = np.pi**2 * math.sqrt(dim / 12 / 2**dim) / 24  # leading term of |||v - I v|||: h / sqrt(12) ||v_ii||, d axes
    assert exact * 0.99 < parts[2] < 1.25 * exact


def test_the_error_of_a_network_is_bounded_though_its_interpolant_is_exact():
    """v = sin(8 pi x) is zero at the nodes of 8 cells, and so is u: all of the error is between the nodes."""
    network = sb.BarronNetwork.of([[8 * np.pi]], [-np.pi / 2], [1.0])
    certificate = sb.certify(sb.Diffusion(sb.Grid(8), 1.0, 0.0), network)
    error = 8 * np.pi / math.sqrt(2)
    assert error <= float(certificate.upper) <= 1.5 * error
    assert float(certificate.l2_upper) >= 1 / math.sqrt(2)
    assert float(certificate.model.upper) >= error
    assert float(certificate.relative_upper) == math.inf


def test_batches_solids_sides_and_fluxes():
    solid = np.zeros((6, 6), dtype=bool)
    solid[2:4, 2:4] = True
    sides = {"x0": sb.Dirichlet(0.0), "x1": sb.Robin(2.0, 1.0), "y0": sb.Neumann(1.0), "y1": sb.Robin(np.ones(6), 0.0)}
    problem = sb.Diffusion(
        sb.Grid((6, 6)), np.exp(np.random.default_rng(0).standard_normal((3, 6, 6))), 1.0, boundary=sides, solid=solid,
        reaction=2.0,
    )  # fmt: skip
    certificate = sb.certify(problem, sine(2))
    assert certificate.upper.shape == (3,)
    again = sb.certify(problem, sine(2), flux=certificate.flux, lower=False)
    torch.testing.assert_close(again.upper, certificate.upper)
    assert float(again.lower.max()) == 0.0
    share = certificate.indicators.square().sum((-1, -2))
    torch.testing.assert_close(share, certificate.upper.square())
    assert float(certificate.indicators[:, solid].abs().max()) == 0.0


def test_the_robin_part_is_that_of_the_faces():
    """v = -max(y + 5, 0)^2 on two columns of cells, alpha = 3 or 0 at x = 0: the two parts differ by what is there."""
    network = sb.BarronNetwork.of([[0.0, 1.0]], [5.0], [-1.0], activation="relu", power=2)
    sides = {"x0": sb.Robin(3.0), "x1": sb.Dirichlet(0.0), "y0": sb.Neumann(0.0), "y1": sb.Neumann(0.0)}
    parts = []
    for alpha in (3.0, 0.0):
        problem = sb.Diffusion(sb.Grid((2, 4)), boundary=sides | {"x0": sb.Robin(alpha)})
        parts.append(float(sb.certify(problem, network).terms["interpolation"]))
    h = 0.25
    assert parts[0] - parts[1] == pytest.approx(
        3 * 4 * h**4 / 120
    )  # int (v - I v)^2, v'' = -2, over a side of length 1
    assert parts[1] == pytest.approx(4 * h**2 / 12)


def test_periodic_functions_on_periodic_axes_and_no_others():
    sides = {"x0": sb.Periodic(), "x1": sb.Periodic()}
    problem = sb.Diffusion(sb.Grid(16), 1.0, 0.0, boundary=sides, reaction=1.0)
    wave = sb.BarronNetwork.of_series(sb.BarronFunction.fourier([[1]], [1.0]))
    error = math.sqrt((1 + 4 * np.pi**2) / 2)
    assert error <= float(sb.certify(problem, wave).upper) <= 1.2 * error
    with pytest.raises(sb.InputError, match=r"differs by up to .* between the two sides of axis x, which is periodic"):
        sb.certify(problem, sb.BarronNetwork(1, 4, "tanh"))


def test_refusals():
    problem = sb.Diffusion(sb.Grid((4, 4)), source=1.0)
    with pytest.raises(sb.InputError, match="the network has 3 variables, and the grid has 2 axes"):
        sb.certify(problem, sine(3))
    with pytest.raises(sb.InputError, match="layout='cells' is for fields"):
        sb.certify(problem, sine(2), layout="cells")
    with pytest.raises(sb.InputError, match="differ from the prescribed boundary values"):
        sb.certify(problem, sb.BarronNetwork(2, 4), strict=True)


def test_relus_of_power_one_are_certified_by_their_slopes():
    """max(0, x - 0.35) on 10 cells: the kink lies in one of them and costs W sqrt(h) / 2."""
    problem = sb.Diffusion(sb.Grid(10), boundary={"x0": sb.Dirichlet(0.0), "x1": sb.Dirichlet(0.7)})
    kink = sb.BarronNetwork.of([[1.0]], [-0.35], [1.0], activation="relu")
    part = float(sb.certify(problem, kink).terms["interpolation"])
    assert part == pytest.approx(0.25 * 0.1)


def test_functions_are_certified_for_diffusion_problems():
    problem = sb.VariationalProblem(sb.Grid((4, 4)), sb.ShearThinning(3.0), source=1.0)
    with pytest.raises(sb.InputError, match="functions are certified for sb.Diffusion"):
        sb.certify(problem, sine(2))
