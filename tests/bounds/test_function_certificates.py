"""Certificates of functions: exact cases, comparison with certificates of interpolants, refusals."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from refusals import refused

import sciml_bounds as sb
import sciml_bounds.bounds._function_certificates as module
from sciml_bounds.bounds._interpolation_error import CellBounds


def sine(dim, lengths=1.0):
    """A network that is prod sin(pi x_i): the solution of -Laplace u = d pi^2 u."""
    return sb.BarronNetwork.of_series(sb.barron.BarronFunction.sine([[1] * dim], [1.0], lengths))


@pytest.mark.parametrize("dim", [1, 2, 3])
def test_the_bound_is_that_of_the_interpolant_and_a_part_that_goes_to_zero(dim, monkeypatch):
    """Of functions that are not known to be multilinear on the sides."""
    monkeypatch.setattr(module, "_equals_interpolant_on_sides", lambda problem, bounds: False)
    network, parts = sine(dim), []
    for n in (6, 12, 24):
        problem = sb.Diffusion(sb.Grid((n,) * dim), 1.0, 1.0)
        certificate = sb.certify(problem, network)
        interpolant = sb.certify(problem, certificate.values)
        part = certificate.terms["interpolation"].sqrt()
        torch.testing.assert_close(certificate.upper, interpolant.upper + part)
        assert float(certificate.lower) >= float(interpolant.lower - part)
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
    wave = sb.BarronNetwork.of_series(sb.barron.BarronFunction.fourier([[1]], [1.0]))
    error = math.sqrt((1 + 4 * np.pi**2) / 2)
    assert error <= float(sb.certify(problem, wave).upper) <= 1.2 * error
    refused("sides axis x periodic", lambda: sb.certify(problem, sb.BarronNetwork(1, 4, "tanh")))


def test_refusals():
    problem = sb.Diffusion(sb.Grid((4, 4)), source=1.0)
    refused("network 3 variables grid 2 axes", lambda: sb.certify(problem, sine(3)))
    refused("layout='cells' function", lambda: sb.certify(problem, sine(2), layout="cells"))
    broken = sine(2)
    with torch.no_grad():
        broken.outer[0] = math.nan
    refused("parameter network 1 NaN", sb.certify, problem, broken)
    refused("boundary values", lambda: sb.certify(problem, sb.BarronNetwork(2, 4), strict=True))


def test_relus_of_power_one_are_certified_by_their_slopes():
    """max(0, x - 0.35) on 10 cells: the kink lies in one of them and costs W sqrt(h) / 2."""
    problem = sb.Diffusion(sb.Grid(10), boundary={"x0": sb.Dirichlet(0.0), "x1": sb.Dirichlet(0.7)})
    kink = sb.BarronNetwork.of([[1.0]], [-0.35], [1.0], activation="relu")
    part = float(sb.certify(problem, kink).terms["interpolation"])
    assert part == pytest.approx(0.25 * 0.1)


# --- curved -----------------------------------------------------------------------------------------------------------


def parabola_problem(dim, n):
    """-Laplace u = 1 with u = 0 at both ends of x and no flux elsewhere: u = x (1 - x) / 2."""
    sides = {side: sb.Neumann(0.0) for side in sb.Grid((2,) * dim).sides}
    return sb.Diffusion(sb.Grid((n,) * dim), 1.0, 1.0, boundary=sides | {"x0": sb.Dirichlet(), "x1": sb.Dirichlet()})


ENDS = [(0, 0), (0, 1)]


@pytest.mark.parametrize("dim", [1, 2, 3])
def test_the_exact_solution_has_no_error(dim):
    """D / 8 is u, and its flux is that of the cells: nothing is left but round-off, whatever the grid."""
    exact = sb.BarronNetwork.of(np.zeros((0, dim)), [], [], offset=0.125, dirichlet_sides=ENDS)
    certificate = sb.certify(parabola_problem(dim, 3), exact, rtol=1e-12)
    assert float(certificate.upper) < 1e-10
    assert float(sb.certify(parabola_problem(dim, 3), certificate.values).upper) > 0.05


@pytest.mark.parametrize("activation", ["cosine", "tanh", "sigmoid", "relu"])
@pytest.mark.parametrize("dim", [1, 2])
def test_networks_that_fit_have_sharp_bounds(activation, dim):
    """u + a network, the error by quadrature of the difference; on 30 cells both bounds are within 6 %."""
    network = sb.BarronNetwork(
        dim, 15, activation, power=3 if activation == "relu" else 1, dirichlet_sides=ENDS, scale=3.0
    )
    x = torch.stack(torch.meshgrid(*[(torch.arange(60, dtype=torch.float64) + 0.5) / 60] * dim, indexing="ij"), -1)
    with torch.no_grad():
        network.offset.fill_(0.125)
        slopes = network.gradient(x)
        slopes[..., 0] -= 0.5 - x[..., 0]
        error = float(slopes.square().sum(-1).mean().sqrt())  # midpoints: off by some h^2 / 24 of 60 cells
    certificate = sb.certify(parabola_problem(dim, 30), network)
    assert 0.999 * error <= float(certificate.upper) <= 1.06 * error
    assert 0.94 * error <= float(certificate.lower) <= 1.001 * error
    torch.testing.assert_close(certificate.indicators.square().sum(), certificate.upper.square())


def test_functions_that_do_not_fit_are_certified_by_the_triangle(monkeypatch):
    """The same values, but not known to be multilinear on the sides, which the bound does not require."""
    network = sb.BarronNetwork(1, 9, "tanh", dirichlet_sides=ENDS)
    problem = parabola_problem(1, 12)
    curved = sb.certify(problem, network)
    monkeypatch.setattr(module, "_equals_interpolant_on_sides", lambda problem, bounds: False)
    triangle = sb.certify(problem, network)
    assert float(curved.upper) < 0.95 * float(triangle.upper)


def test_which_functions_fit():
    ramp = sb.BarronNetwork.of(np.zeros((0, 2)), [], [], slope=[0.0, 1.0])
    cases = {
        (): sb.BarronNetwork(2, 3),
        ("x0", "y1"): sb.BarronNetwork(2, 3, dirichlet_sides=[(0, 0), (1, 1)], lifting=ramp),
        ("y0",): sb.BarronNetwork(2, 3, dirichlet_sides=[(0, 1), (1, 0)], lengths=(2.0, 1.0)),
    }
    for sides, network in cases.items():
        assert network.cell_bounds(sb.Grid((2, 2))).multilinear_sides == sides
    bent = sb.BarronNetwork(2, 3, dirichlet_sides="all", lifting=sb.BarronNetwork(2, 1, "tanh"))
    assert bent.cell_bounds(sb.Grid((2, 2))).multilinear_sides == ()
    # on an interval, a side is a point
    assert sb.BarronNetwork(1, 3).cell_bounds(sb.Grid(2)).multilinear_sides == ("x0", "x1")


def test_waves_cancel_on_multilinear_sides():
    """Products of sines vanish at multiples of their half periods, and nowhere else."""
    series = sb.barron.BarronFunction.sine([[1, 2, 1], [3, 1, 2]], [0.5, -0.3], (1.0, 2.0, 1.0))
    network = sb.BarronNetwork.of_series(series)
    every = sb.Grid((2, 2, 2), (1.0, 2.0, 1.0))
    assert network.cell_bounds(every).multilinear_sides == tuple(every.sides)
    half = sb.Grid((2, 2, 2), (0.5, 2.0, 1.0))  # sin(pi x) is 1 at its end, sin(3 pi x) is -1
    assert network.cell_bounds(half).multilinear_sides == ("x0", "y0", "y1", "z0", "z1")
    with torch.no_grad():
        network.outer[0] *= 1 + 1e-9
    assert network.cell_bounds(every).multilinear_sides == ()
    columns = sb.BarronNetwork.of([[2.0, 0.0], [0.0, 3.0]], [0.2, 0.1], [1.0, 0.0])  # cos(2 x + 0.2)
    assert columns.cell_bounds(sb.Grid((2, 2))).multilinear_sides == ("x0", "x1")


def test_bounds_are_attained_where_nothing_is_left():
    """No source and u = 0, so that y = 0. 4 x (1 - x) has slopes 4 - 8 x of mean square 16 / 3; x y is bilinear."""
    problem = parabola_problem(1, 3).replace(source=0.0)
    bump = sb.BarronNetwork.of(np.zeros((0, 1)), [], [], offset=1.0, dirichlet_sides=ENDS)
    assert float(sb.certify(problem, bump).upper) == pytest.approx(4 / math.sqrt(3), rel=1e-12)
    sides = {"x0": sb.Dirichlet(0.0), "x1": sb.Neumann(0.0), "y0": sb.Dirichlet(0.0), "y1": sb.Neumann(0.0)}
    product = sb.BarronNetwork.of(np.zeros((0, 2)), [], [], offset=1.0, dirichlet_sides=[(0, 0), (1, 0)])
    for coefficient in (1.0, (2.0, 5.0)):
        certificate = sb.certify(sb.Diffusion(sb.Grid((2, 3)), coefficient, boundary=sides), product)
        total = 2.0 if coefficient == 1.0 else 7.0
        assert float(certificate.upper) == pytest.approx(math.sqrt(total / 3), rel=1e-12)  # a int y^2 + b int x^2


def test_what_is_left_counts_with_the_reaction_too():
    """sin(8 pi x) is zero at all nodes and centres of 4 cells, and u = 0: everything is left, a = 1e-6 and c = 1."""
    sides = dict.fromkeys(("x0", "x1"), sb.Neumann(0.0))
    wave = sb.BarronNetwork.of([[8 * np.pi]], [-np.pi / 2], [1.0])
    certificate = sb.certify(sb.Diffusion(sb.Grid(4), 1e-6, boundary=sides, reaction=1.0), wave)
    assert float(certificate.upper) >= math.sqrt((1 + 1e-6 * (8 * np.pi) ** 2) / 2)


class Nodal:
    """A function that is multilinear on every cell, and knows it."""

    def __init__(self, nodes):
        self.nodes = torch.tensor(nodes, dtype=torch.float64)

    def cell_bounds(self, grid):
        (h,) = grid.spacing
        low, high = self.nodes[:-1], self.nodes[1:]
        slopes = ((high - low) / h)[None]
        none = torch.zeros((1, 1, *grid.shape), dtype=torch.float64)
        ends = torch.minimum(low, high), torch.maximum(low, high)
        return CellBounds(self.nodes, ends, (slopes, slopes), (none, none), none[0, 0][None, None], ("x0", "x1"))


NODES = ([1.0, 0.0, 0.0, -2.0], [1.0, 1.0, 1.0, 1.0], [1.0, 2.0, 0.0, -1.0], [1.0, -2.0, 2.0, -1.0])


@pytest.mark.parametrize("reaction", [0.0, 2.0, 1000.0])
@pytest.mark.parametrize("nodes", NODES)
def test_wrong_values_on_the_sides_are_part_of_both_bounds(nodes, reaction):
    """u = 0 on three cells of length 1: of 1, 0, 0, -2 nothing but the lifting is wrong, of 1, 1, 1, 1 much less.

    With a large reaction, the last ones with a lifting are further from u than without.
    """
    problem = sb.Diffusion(sb.Grid(3, 3.0), reaction=reaction)
    certificate = sb.certify(problem, Nodal(nodes))
    v = np.array(nodes)
    squares = (v[1:] ** 2 + v[1:] * v[:-1] + v[:-1] ** 2) / 3
    error = math.sqrt((np.diff(v) ** 2).sum() + reaction * squares.sum())
    assert float(certificate.lower) <= error + 1e-12
    assert error - 1e-12 <= float(certificate.upper)
    assert float(certificate.upper) == pytest.approx(float(sb.certify(problem, v).upper))  # a field says the same


@pytest.mark.parametrize("reaction", [0.0, 2.0])
def test_without_bounds_of_the_gradient_there_is_no_bound_of_the_error(reaction):
    """Infinite, not NaN, also where no reaction weighs what is infinite."""

    class Unknown(Nodal):
        def cell_bounds(self, grid):
            known = super().cell_bounds(grid)
            gradient, second = ((low - math.inf, high + math.inf) for low, high in (known.gradient, known.second))
            return known._replace(gradient=gradient, second=second)

    certificate = sb.certify(sb.Diffusion(sb.Grid(3, 3.0), reaction=reaction), Unknown([0.0, 1.0, 2.0, 0.0]))
    assert float(certificate.upper) == math.inf
    assert float(certificate.lower) >= 0


def test_large_weights_that_cancel_leave_their_round_off():
    """A tanh(t + d) - A tanh(t) = A sinh(d) / (cosh t cosh(t + d)), but values of 1e13 are off by a thousandth.

    With u = 0, that is most of the gradient of the nodal values on fine grids; it is not an error of the network.
    """
    A, first, last = 1e13, 1.0, 1.0 + 450 * 2.0**-52
    network = sb.BarronNetwork.of([[1.0], [1.0]], [last, first], [A, -A], activation="tanh")
    t, w = np.polynomial.legendre.leggauss(40)
    x, w = first + (1 + t) / 2, w / 2
    v = A * (last - first) / np.cosh(x) ** 2
    squares = w @ (v**2 + (2 * v * np.tanh(x)) ** 2)
    sides = dict.fromkeys(("x0", "x1"), sb.Neumann(0.0))
    error = sb.certify(sb.Diffusion(sb.Grid(1000), boundary=sides, reaction=1.0), network)
    energy = sb.variational.certify_energy(
        sb.variational.VariationalProblem(sb.Grid(1000), sb.variational.QuadraticEnergy(1.0, 1.0), boundary=sides),
        network,
    )
    assert float(error.lower) <= math.sqrt(squares) <= float(error.upper)
    assert float(energy.lower) <= squares / 2 <= float(energy.upper)
    assert float(energy.energy.lower) <= squares / 2 <= float(energy.energy.upper)
    small = sb.BarronNetwork.of([[1.0], [1.0]], [1.1, 1.0], [1.0, -1.0], activation="tanh")
    assert small.cell_bounds(sb.Grid(1000)).round_off < 1e-14


def test_units_change_nothing():
    """All of a, c, f and alpha times 7: bounds grow by its root."""
    network = sb.BarronNetwork(2, 9, "tanh", dirichlet_sides=[(0, 0)])
    uppers = []
    for factor in (1.0, 7.0):
        sides = {"x0": sb.Dirichlet(0.0), "x1": sb.Robin(2 * factor), "y0": sb.Neumann(0.0), "y1": sb.Neumann(0.0)}
        problem = sb.Diffusion(sb.Grid((5, 4)), (factor, 3 * factor), factor, boundary=sides, reaction=9 * factor)
        certificate = sb.certify(problem, network, rtol=1e-10)
        uppers.append((float(certificate.upper), float(certificate.lower)))
    np.testing.assert_allclose(uppers[1], np.sqrt(7) * np.array(uppers[0]), rtol=1e-5)
