"""Distributed control: published optima, derivatives, the adjoint; a preconditioner that no mesh or weight hurts."""

from __future__ import annotations

import math

import numpy as np
import pytest
import scipy.linalg
import scipy.sparse.linalg
import torch
from control_problems import general_control
from refusals import refusals

import sciml_bounds as sb
from sciml_bounds.control._constraint_equations import MatrixStiffness
from sciml_bounds.control._distributed_control import TrackingProgram

#: Objectives of the published problem by the number of free nodes along an axis, solved by sparse LU.
PUBLISHED = {3: 9.64444205, 32: 1177.82129923, 64: 4067.77371213, 128: 9538.72015339}


def published(n, weight=0.1, nonlinearity=None):
    """Control of -Lap u = z on (-1, 1)^2 (Hong, Na, Mahoney, Kolar, 2023); there squares are not weighted by h^2."""
    index = torch.arange(n + 2, dtype=torch.float64) - (n + 1) / 2
    target = torch.sin(4 + 0.1 / math.sqrt(15) * index)[:, None] + torch.cos(3 + 0.1 / math.sqrt(15) * index)
    problem = sb.Diffusion(sb.Grid((n + 1, n + 1), lengths=(2.0, 2.0), origin=(-1.0, -1.0)))
    return sb.control.DistributedControl(problem, target, weight=weight, nonlinearity=nonlinearity)


@pytest.mark.parametrize("n", [3, 32, pytest.param(64, marks=pytest.mark.slow)])
def test_published_optima(n):
    r = published(n).minimize(inner="direct")
    assert r.success
    assert r.nit == 1  # it is quadratic
    assert r.fun / (2 / (n + 1)) ** 2 == pytest.approx(PUBLISHED[n], abs=1e-8)


@pytest.mark.parametrize("nonlinearity", [None, lambda u: u**3], ids=["linear", "cubic"])
@pytest.mark.parametrize("n", [3, 16, pytest.param(64, marks=pytest.mark.slow)])
def test_cycles_and_factors_give_the_same_control(n, nonlinearity):
    """Errors are as small as asked: |u - u*|^2 + w |z - z*|^2 = 2 (J - J*) <= 2 |g|_P^2 for the linear equation.

    Cycles instead of inverses, and the cubic, may cost another factor of two; factorisations are exact to 1e-12.
    """
    control = published(n, nonlinearity=nonlinearity)
    r, exact = control.minimize(), control.minimize(inner="direct", rtol=1e-13)
    assert r.success
    assert r.constraint_violation < 1e-13
    errors = (part.square() @ control.stiffness.mass for part in control.split(r.x - exact.x))
    size = float(control.stiffness.mass @ control.target.square()) ** 0.5
    assert r.tolerance == pytest.approx(1e-8 * size)
    assert math.sqrt(next(errors) + 0.1 * next(errors)) <= 2 * math.sqrt(2) * 1e-8 * size
    torch.testing.assert_close(r.multipliers, exact.multipliers, rtol=1e-6, atol=1e-7)


def test_published_state():
    control = published(3)
    state, _ = control.fields(control.minimize(inner="direct").x)
    assert state[1:4, 1].tolist() == pytest.approx([-0.4134, -0.5619, -0.416], abs=1e-4)
    assert not state[0].any()


def test_derivatives_are_those_of_differences():
    control = general_control()
    generator = torch.Generator().manual_seed(1)
    x, v = (torch.randn(2 * control.n, generator=generator, dtype=torch.float64) for _ in range(2))
    multipliers = torch.randn(control.n, generator=generator, dtype=torch.float64)
    t = 1e-5  # central differences: an error of t^2 times third derivatives of about one

    def slope(function):
        return (function(x + t * v) - function(x - t * v)) / (2 * t)

    assert float(slope(control.fun)) == pytest.approx(float(control.jac(x) @ v), rel=1e-8)
    np.testing.assert_allclose(slope(control.jac), control.hess(x) @ v, atol=1e-9)
    np.testing.assert_allclose(slope(control.equation), control.equation_jac(x) @ v, atol=1e-8)
    along = slope(lambda y: control.equation_jac(y).mT @ multipliers)
    np.testing.assert_allclose(along, control.equation_hess(x, multipliers) @ v, atol=1e-8)


def jacobian(control, x):
    return control.matrices()["constraints"].jac(x)


def test_matrices_are_those_of_the_products():
    control = general_control()
    generator = torch.Generator().manual_seed(3)
    x, v = (torch.randn(2 * control.n, generator=generator, dtype=torch.float64) for _ in range(2))
    y = torch.randn(control.n, generator=generator, dtype=torch.float64)
    matrices, products = control.matrices(), control.equation_jac(x)
    J, tight = jacobian(control, x), {"rtol": 1e-12, "atol": 1e-12}
    np.testing.assert_allclose(J @ v.numpy(), products @ v, **tight)
    np.testing.assert_allclose(J.T @ y.numpy(), products.mT @ y, **tight)
    np.testing.assert_allclose(matrices["hess"](x) @ v.numpy(), control.hess(x) @ v, **tight)
    H = matrices["constraints"].hess(x, y)
    np.testing.assert_allclose(H @ v.numpy(), control.equation_hess(x, y) @ v, **tight)


def state_of(control, z):
    """Solve the equation for the state, by Newton's method without globalisation."""
    u = torch.zeros_like(z)
    for _ in range(30):
        x = torch.cat([u, z])
        K = jacobian(control, x)[:, : control.n].tocsc()
        u = u - torch.from_numpy(scipy.sparse.linalg.spsolve(K, control.equation(x).numpy()))
    return u


def test_gradient_of_the_reduced_objective_by_the_adjoint():
    """Where l solves the adjoint equation, the gradient of the Lagrangian in z is that of J(u(z), z)."""
    control = general_control(lambda u: u**3)
    generator = torch.Generator().manual_seed(2)
    z, v = (torch.randn(control.n, generator=generator, dtype=torch.float64) for _ in range(2))
    x = torch.cat([state_of(control, z), z])
    J, g = jacobian(control, x), control.jac(x).numpy()
    multipliers = scipy.sparse.linalg.spsolve(J[:, : control.n].T.tocsc(), -g[: control.n])
    gradient = (g + J.T @ multipliers)[control.n :]
    ends = [control.fun(torch.cat([state_of(control, z + t * v), z + t * v])) for t in (1e-5, -1e-5)]
    assert float(ends[0] - ends[1]) / 2e-5 == pytest.approx(gradient @ v.numpy(), rel=1e-7)


def test_multipliers_are_the_implicit_adjoint_of_solve():
    """Another way to the adjoint: gradients through `sb.solve` with respect to the source of a cell.

    That source acts through 2^-d of its volume at each of its nodes, where the derivative by the load is -l.
    """
    control = general_control(None)
    problem = control.grid_stiffness.problem
    source = problem.source.expand(problem.grid.shape).clone().requires_grad_()
    u = sb.solve(problem.replace(source=source), method="direct").values.reshape(-1)[control.grid_stiffness.free]
    misfit = (control.stiffness.mass @ (u - control.target) ** 2) / 2
    (gradient,) = torch.autograd.grad(misfit, source)
    x = torch.cat([u.detach(), torch.zeros_like(u)])
    K = jacobian(control, x)[:, : control.n].tocsc()
    multipliers = torch.from_numpy(scipy.sparse.linalg.spsolve(K, -control.jac(x)[: control.n].numpy()))
    nodes = control.grid_stiffness.field(multipliers)
    mean = (nodes[1:, 1:] + nodes[1:, :-1] + nodes[:-1, 1:] + nodes[:-1, :-1]) / 4
    torch.testing.assert_close(gradient, -problem.grid.cell_volume * mean, rtol=1e-8, atol=1e-12)


def kkt_matrix(control, x, multipliers):
    matrices = control.matrices()
    H = (matrices["hess"](x) + matrices["constraints"].hess(x, multipliers)).toarray()
    J = matrices["constraints"].jac(x).toarray()
    return np.block([[H, J.T], [J, np.zeros((len(J), len(J)))]])


@pytest.mark.parametrize("n", [7, 15])
@pytest.mark.parametrize("weight", [1e-1, 1e-3, 1e-6])
def test_preconditioned_spectra_depend_on_neither_mesh_nor_weight(n, weight):
    """With S of the docstring exact, the spectrum of P A has three parts; cycles for L move them by a little.

    A block of mu S, mu in [1/2, 1], instead of the Schur complement itself: eigenvalues 1 and, from
    s^2 - s = mu, (1 +- sqrt(1 + 4 mu))/2 in [-0.619, -0.366] and [1.366, 1.619].
    """
    control = published(n, weight)
    x, multipliers = torch.zeros(2 * control.n, dtype=torch.float64), torch.zeros(control.n, dtype=torch.float64)
    P = control.preconditioner(x, multipliers)
    columns = torch.stack([P.matvec(unit) for unit in torch.eye(3 * control.n, dtype=torch.float64)]).numpy()
    np.testing.assert_allclose(columns, columns.T, atol=1e-5 * np.abs(columns).max())  # cycles are in float32
    root = np.linalg.cholesky((columns + columns.T) / 2)
    spectrum = np.linalg.eigvalsh(root.T @ kkt_matrix(control, x, multipliers) @ root)
    assert -0.65 < spectrum.min() < spectrum[spectrum < 0].max() < -0.3
    assert spectrum[spectrum > 0].min() > 0.99
    assert spectrum.max() < 1.65


def test_a_mesh_given_as_matrices_gives_the_control_of_the_grid():
    control = published(7)
    other = TrackingProgram(
        MatrixStiffness(control.stiffness.to_csr(), control.stiffness.mass), control.load, control.target, 0.1
    )  # fmt: skip
    assert other.minimize(inner="direct").fun == pytest.approx(control.minimize(inner="direct").fun, rel=1e-12)


def test_steps_are_cut_where_the_nonlinearity_is_nan():
    """log(1 + u) is NaN below -1, and the target is there."""
    control = sb.control.DistributedControl(sb.Diffusion(sb.Grid((8, 8))), -3.0, weight=1e-6, nonlinearity=torch.log1p)
    r = control.minimize()
    assert r.success
    assert sum(step.not_finite for step in r.history) > 0


@pytest.mark.parametrize("equation", ["equation", "constraints"])
def test_own_terms_are_added_to_the_objective(equation):
    """With w/4 mass z^4 added, where the mass is h^2: the minimum of the same objective that is written out."""
    control = sb.control.DistributedControl(sb.Diffusion(sb.Grid((8, 8))), target=1.0, weight=1e-3)
    n, start = control.n, torch.zeros(2 * control.n, dtype=torch.float64)
    K, mass = torch.from_numpy(control.stiffness.to_csr().toarray()), control.stiffness.mass

    def own(x):
        return 1e-3 * (x[n:] ** 4).sum() / n

    def written_out(x):
        u, z = x[:n], x[n:]
        return (mass @ (u - 1) ** 2 + 1e-3 * (mass @ z**2)) / 2 + own(x)

    expected = sb.minimize(written_out, start, constraints=lambda x: K @ x[:n] - mass * x[n:])
    found = sb.minimize(lambda x: control.fun(x) + own(x), start, constraints=getattr(control, equation))
    assert found.success
    assert found.nit > 0
    assert found.fun == pytest.approx(expected.fun, rel=1e-9)
    # a KKT residual of 1e-8 over the least eigenvalue of the Hessian, weight times mass, is what x may be off by
    torch.testing.assert_close(found.x, expected.x, rtol=0, atol=2e-8 / (1e-3 / 64))


def on_square(target=1.0, weight=1.0, nonlinearity=None):
    return sb.control.DistributedControl(
        sb.Diffusion(sb.Grid((4, 4))), target, weight=weight, nonlinearity=nonlinearity
    )


test_bad_input = refusals(
    ("weight 0.0 positive number", lambda: on_square(weight=0.0)),
    ("target shape (4, 4) nodal field (5, 5)", lambda: on_square(torch.ones(4, 4))),
    ("target nan", lambda: on_square(math.nan)),
    *[
        (words, lambda nonlinearity=nonlinearity: on_square(nonlinearity=nonlinearity))
        for words, nonlinearity in [
            ("nonlinearity 3 function", 3),
            ("nonlinearity float64 () 9 values", torch.sum),
            ("nonlinearity float64 (9,) 9 values", torch.detach),
            ("nonlinearity int 9 values", len),
            ("entries", lambda u: u * u.sum()),
            ("entries", lambda u: u.cumsum(0)),
            ("entries", lambda u: torch.roll(u, 1)),
            ("entries", lambda u: 3 * u.mean() * u**2),
            ("float64", lambda u: u.float()),
            ("argument", lambda u: u.mul_(2)),
            ("function", np.sin),
        ]
    ],
    ("derivative NaN infinite x0", lambda: on_square(nonlinearity=torch.sqrt).minimize()),
    ("inner='auto' seed inner='direct'", lambda: published(3).minimize(seed=1)),
    ("forcing=0.1 inner='auto'", lambda: published(3).minimize(inner="direct", forcing=0.1)),
)


def test_plots_of_the_control_are_centred_at_zero():
    control = sb.control.DistributedControl(sb.Diffusion(sb.Grid((8, 8))), target=1.0, weight=1e-3)
    figure = control.plot(control.minimize().x)
    (image,) = (*figure.axes[2].collections, *figure.axes[2].images)
    assert image.norm.vmin == -image.norm.vmax
