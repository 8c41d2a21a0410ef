"""The Helmholtz equation: orders of convergence, balance of fluxes, pollution, and an assembly by DOLFINx."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch

from sciml_bounds.errors import ConvergenceError, MissingExtraError
from sciml_bounds.fem import require_dolfinx
from sciml_bounds.problems.helmholtz import Helmholtz, Strip

FREQUENCY = 9.2  # squared, it lies in the middle between the resonances 8 pi^2 and 9 pi^2
KX = 6.0
KY = math.sqrt(FREQUENCY**2 - KX**2)


def plane_waves(x: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
    """cos(kx x) cos(ky y + 0.3), which solves the equation for c = 1."""
    return torch.cos(KX * x) * torch.cos(KY * y + 0.3)


#: Its outward normal derivatives.
FLUX = {
    "x1": lambda y: -KX * math.sin(KX) * torch.cos(KY * y + 0.3),
    "y0": lambda x: KY * math.sin(0.3) * torch.cos(KX * x),
    "y1": lambda x: -KY * math.sin(KY + 0.3) * torch.cos(KX * x),
}


def error(cells: int, degree: int) -> float:
    """Root mean square error on a lattice that is not contained in any mesh here."""
    points = torch.linspace(0, 1, 38, dtype=torch.float64)
    solution = Helmholtz(cells, 1.0, frequency=FREQUENCY, flux=FLUX).solve(degree)
    exact = plane_waves(*torch.meshgrid(points, points, indexing="ij"))
    return float((solution.at(points, points) - exact).square().mean().sqrt())


def test_bilinear_elements_have_order_two():
    """Where the mesh resolves the waves and the resonances (k^3 h^2 < 1, h < 1/28)."""
    coarse, fine = error(60, 1), error(120, 1)
    assert 3.8 < coarse / fine < 4.2  # the next term is of relative size (k h)^2 ~ 0.04


@pytest.mark.parametrize("degree", [2, 3, 4])
def test_order_is_one_more_than_the_degree(degree):
    coarse, fine = error(16, degree), error(32, degree)
    assert abs(math.log2(coarse / fine) - degree - 1) < 0.5


def test_degree_ten_reaches_round_off():
    assert error(4, 10) < 1e-8


def test_graded_lines_give_the_same_solution():
    lines = [0.0, 0.1, 0.35, 0.6, 0.9, 1.0]
    graded = Helmholtz((lines, [0.0, 0.5, 0.7, 1.0]), 1.0, frequency=FREQUENCY, flux=FLUX).solve(12)
    x, y = torch.tensor(lines, dtype=torch.float64), torch.tensor([0.0, 0.5, 0.7, 1.0], dtype=torch.float64)
    exact = plane_waves(*torch.meshgrid(x, y, indexing="ij"))
    torch.testing.assert_close(graded.values, exact, rtol=0, atol=1e-8)


def varying(x: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
    """A wave speed between 0.7 and 1.3."""
    return 1 + 0.3 * torch.sin(4 * x) * torch.cos(3 * y)


@pytest.mark.parametrize("degree", [1, 3, 8])
def test_fluxes_balance(degree):
    """The equation tested with 1: the integral of (w / c)^2 u is minus that of du/dn, by the mesh's Gauss points."""
    flux = {"y1": Strip(0.35, 0.65), "x0": -0.4}
    solution = Helmholtz(7, varying, frequency=9.0, flux=flux).solve(degree)
    points = [torch.from_numpy(p) for p in solution.elements.gauss_points]
    u, c = solution.at(*points), varying(*torch.meshgrid(*points, indexing="ij"))
    weights = np.tile(np.polynomial.legendre.leggauss(degree + 2)[1] / 14, 7)
    total = weights @ (81 * u / c**2).numpy() @ weights
    assert total == pytest.approx(-(0.3 - 0.4), rel=1e-9)


def test_nodal_wave_speed_is_interpolated_bilinearly():
    """A wave speed that is bilinear gives the same as a callable and at the corners."""
    lines = torch.linspace(0, 1, 10, dtype=torch.float64)

    def bilinear(x: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
        return 1 + 0.2 * x + 0.3 * x * y

    nodal = bilinear(*torch.meshgrid(lines, lines, indexing="ij"))
    by_values = Helmholtz(9, nodal, frequency=8.0, flux={"y1": 1.0}).solve()
    by_function = Helmholtz(9, bilinear, frequency=8.0, flux={"y1": 1.0}).solve()
    torch.testing.assert_close(by_values.values, by_function.values, rtol=1e-10, atol=1e-10)


def test_a_batch_is_its_samples():
    speeds = 1 + torch.rand(2, 3, 9, 9, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    together = Helmholtz(8, speeds, frequency=8.0, flux={"y1": 1.0}).solve(2)
    assert together.values.shape == (2, 3, 9, 9)
    assert together.residuals.shape == (2, 3)
    alone = Helmholtz(8, speeds[1, 2], frequency=8.0, flux={"y1": 1.0}).solve(2)
    assert torch.equal(together.coefficients[1, 2], alone.coefficients)


def test_strip_ends_anywhere():
    """A strip is the difference of two wider ones, whether its ends are lines of the mesh or not."""

    def solve(low: float, high: float) -> torch.Tensor:
        return Helmholtz(6, 1.0, frequency=8.0, flux={"y1": Strip(low, high)}).solve(3).coefficients

    torch.testing.assert_close(solve(0.21, 0.77), solve(0.1, 0.77) - solve(0.1, 0.21), rtol=1e-9, atol=1e-10)


def test_low_degree_pollutes_and_high_degree_does_not():
    """With twelve nodes per wave length over eight wave lengths, bilinear elements fail, and degree 6 succeeds."""
    lines = torch.linspace(0, 1, 101, dtype=torch.float64)
    flux = {"y1": Strip(0.35, 0.65)}
    reference = Helmholtz(20, 1.0, frequency=50.0, flux=flux).solve(10).at(lines, lines)
    bilinear = Helmholtz(100, 1.0, frequency=50.0, flux=flux).solve().values
    high = Helmholtz(20, 1.0, frequency=50.0, flux=flux).solve(6).at(lines, lines)
    assert (bilinear - reference).norm() > 0.3 * reference.norm()
    assert (high - reference).norm() < 1e-3 * reference.norm()


@pytest.mark.fem
@pytest.mark.parametrize(("degree", "rule"), [(1, 5), (4, 11)])
def test_dolfinx_assembles_the_same_equation(degree, rule):
    """DOLFINx numbers, integrates (at the same Gauss points) and assembles; scipy solves."""
    try:
        require_dolfinx()
    except MissingExtraError as missing:
        pytest.skip(str(missing))
    import scipy.sparse.linalg
    import ufl
    from dolfinx import fem, mesh
    from mpi4py import MPI

    n, frequency = 10, 12.0
    nodal = 1 + torch.rand(n + 1, n + 1, dtype=torch.float64, generator=torch.Generator().manual_seed(1))
    ours = Helmholtz(n, nodal, frequency=frequency, flux={"y1": Strip(0.3, 0.7)}).solve(degree)

    domain = mesh.create_unit_square(MPI.COMM_SELF, n, n, mesh.CellType.quadrilateral)
    space, corners = fem.functionspace(domain, ("Lagrange", degree)), fem.functionspace(domain, ("Lagrange", 1))
    speed = fem.Function(corners)
    i, j = np.rint(corners.tabulate_dof_coordinates()[:, :2].T * n).astype(int)
    speed.x.array[:] = nodal.numpy()[i, j]
    top = mesh.locate_entities_boundary(
        domain, 1, lambda x: np.isclose(x[1], 1) & (x[0] > 0.3 - 1e-9) & (x[0] < 0.7 + 1e-9)
    )
    tags = mesh.meshtags(domain, 1, np.sort(top), np.ones(len(top), dtype=np.int32))
    strip = ufl.Measure("ds", domain, subdomain_data=tags)(1)
    u, v = ufl.TrialFunction(space), ufl.TestFunction(space)
    dx = ufl.dx(domain, metadata={"quadrature_degree": rule})  # degree + 2 Gauss points an axis
    form = (ufl.inner(ufl.grad(u), ufl.grad(v)) - (frequency / speed) ** 2 * u * v) * dx
    A = fem.assemble_matrix(fem.form(form)).to_scipy().tocsc()
    b = fem.assemble_vector(fem.form(v * strip)).array
    theirs = scipy.sparse.linalg.spsolve(A, b)

    points = space.tabulate_dof_coordinates()[:, :2]
    along_x = ours.elements.interpolation(0, np.clip(points[:, 0], 0, 1)).toarray()
    along_y = ours.elements.interpolation(1, np.clip(points[:, 1], 0, 1)).toarray()
    at_nodes = np.einsum("pi,ij,pj->p", along_x, ours.coefficients.numpy(), along_y)
    np.testing.assert_allclose(at_nodes, theirs, rtol=0, atol=1e-9 * np.abs(theirs).max())


# --- resonances -------------------------------------------------------------------------------------------------------


def test_cells_that_resonate_by_themselves_are_not_eliminated():
    problem = Helmholtz(2, 1.0, frequency=20.0, flux={"y1": 1.0})
    with pytest.raises(AssertionError):
        problem.solve(6)


def test_a_resonance_is_an_error():
    """One bilinear cell has the matrix h(K) - w^2 M, singular where w^2 is the eigenvalue 12 of (1, -1) x (1, 1)."""
    with pytest.raises(ConvergenceError, match=r"singular.*precision"):
        Helmholtz(1, 1.0, frequency=math.sqrt(12.0), flux={"y1": 1.0}).solve()
