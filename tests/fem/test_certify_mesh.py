"""Bounds on meshes: attacked with known solutions, compared with nested refinements, and refused with a reason."""

from __future__ import annotations

import os

import numpy as np
import pytest
from refusals import refused

import sciml_bounds as sb
from sciml_bounds.errors import MissingExtraError

try:
    sb.fem.require_dolfinx()
except MissingExtraError as missing:
    pytest.skip(str(missing), allow_module_level=True)

import ufl
from dolfinx import fem, mesh
from mesh_problems import (
    CELLS,
    DIMENSION,
    BubblePolynomial,
    as_function,
    boundary_facets,
    random_mesh,
    unit_box,
    zero_on_boundary,
)
from mpi4py import MPI

from sciml_bounds.fem._flux_element import flux_element, quadrature

pytestmark = pytest.mark.fem
#: `make verify` sets 20,200: 2,400 problems with four fields each.
PROBLEMS = max(2, int(os.environ.get("SCIML_BOUNDS_CASES", "200")) // 100)


@pytest.mark.parametrize("order", [1, 2, 3])
@pytest.mark.parametrize("cell", CELLS)
def test_no_random_problem_breaks_a_bound(cell, order):
    """Galerkin solutions and interpolants, exact up to 10 times wrong, matrices over eight decades."""
    for seed in range(PROBLEMS):
        rng = np.random.default_rng([seed, order, CELLS.index(cell)])
        domain = random_mesh(rng, cell)
        problem = BubblePolynomial(rng, domain)
        space = fem.functionspace(domain, ("Lagrange", order))
        data = problem.data(space)
        interpolant = fem.Function(space)
        interpolant.interpolate(problem)
        data["bcs"][0].set(interpolant.x.array)
        flux = sb.fem.certify(interpolant, **data).flux
        noise = rng.standard_normal(len(interpolant.x.array)) * np.abs(interpolant.x.array).max()
        noise[data["bcs"][0].dof_indices()[0]] = 0.0
        for start in (interpolant, as_function(flux.galerkin, space)):
            for size in (0.0, 10.0 ** rng.uniform(-3, 1)):
                field = fem.Function(space)
                field.x.array[:] = start.x.array + size * noise
                found, true = sb.fem.certify(field, flux=flux), problem.energy_error(field)
                # Where the field is the solution, the true error itself is round-off of the energy norm.
                allowance = 1e-9 * true + 1e-12 * found.energy
                assert found.lower - allowance <= true <= found.upper + allowance, (seed, size)


@pytest.mark.parametrize("order", [1, 2])
def test_layers_of_high_contrast_with_fluxes_on_the_sides(order):
    """Layers across x with f per layer: the solution is a parabola on each layer, and known."""
    rng = np.random.default_rng(order)
    for decades in (0, 4, 8):
        domain = unit_box("triangle", (8, 3))
        domain.topology.create_connectivity(2, 0)
        space = fem.functionspace(domain, ("Lagrange", order))
        layer = (8 * midpoints(domain)[:, 0]).astype(int)
        a, f, g = 10.0 ** rng.uniform(0, decades, 8), rng.standard_normal(8), 0.7
        # a u' = g + integral of f over the layers to the right, u(0) = 0.
        right = mesh.locate_entities_boundary(domain, 1, lambda x: np.isclose(x[0], 1))
        left = fem.locate_dofs_geometrical(space, lambda x: np.isclose(x[0], 0))
        data = {"a": a[layer], "f": f[layer], "bcs": [fem.dirichletbc(0.0, left, space)], "neumann": [(right, g)]}
        zero = fem.Function(space)
        found = sb.fem.certify(zero, **data)
        h, tail = 1 / 8, g + np.concatenate([np.cumsum(f[::-1])[::-1][1:], [0.0]]) / 8
        # integral over a layer of (tail + f s)^2 / a, s from 0 to h
        square = ((tail**2 * h + tail * f * h**2 + f**2 * h**3 / 3) / a).sum()
        assert found.lower <= np.sqrt(square) * (1 + 1e-9)
        assert found.upper >= np.sqrt(square) * (1 - 1e-9)
        galerkin = sb.fem.certify(as_function(found.flux.galerkin, space), **data)
        true = np.sqrt(max(square - galerkin.energy**2, 0.0))  # Pythagoras
        round_off = 1e-5 * np.sqrt(square)  # the root of 1e-10: a solve with contrast 1e8, then a difference of squares
        assert galerkin.lower - round_off <= true <= galerkin.upper + round_off


@pytest.mark.parametrize("cell", ["triangle", "tetrahedron"])
def test_rough_coefficients_against_a_nested_refinement(cell):
    """For zero boundary values |||u_ref - v|||^2 = |||u_ref|||^2 - 2 l(v) + |||v|||^2 is below the squared error."""
    dim = DIMENSION[cell]
    for seed in range(PROBLEMS):
        rng = np.random.default_rng(seed)
        domain = unit_box(cell, (4, 4) if dim == 2 else (2, 2, 2))
        domain.topology.create_entities(1)
        fine, parents, _ = mesh.refine(domain, option=mesh.RefinementOption.parent_cell)
        parents = parents[fine.topology.original_cell_index]  # the new mesh sorts its cells
        cells = len(midpoints(domain))
        a = 10.0 ** rng.uniform(0, rng.choice([1, 4, 8]), cells)
        f, c = rng.standard_normal(cells), rng.choice([0.0, 1.0]) * 10.0 ** rng.uniform(-2, 3, cells)
        space, fine_space = fem.functionspace(domain, ("Lagrange", 1)), fem.functionspace(fine, ("Lagrange", 3))
        reference = sb.fem.certify(
            fem.Function(fine_space), a=a[parents], f=f[parents], c=c[parents], bcs=[zero_on_boundary(fine_space)]
        )
        reference = sb.fem.certify(as_function(reference.flux.galerkin, fine_space), flux=reference.flux)
        v = fem.Function(space)
        bc = zero_on_boundary(space)
        v.x.array[:] = rng.standard_normal(len(v.x.array)) * 10.0 ** rng.uniform(-4, 0)
        bc.set(v.x.array)
        found = sb.fem.certify(v, a=a, f=f, c=c, bcs=[bc])
        for field in (v, as_function(found.flux.galerkin, space)):
            got = sb.fem.certify(field, flux=found.flux)
            points, weights = quadrature(cell, 2)
            values = field.x.array[space.dofmap.list] @ flux_hats(cell, points)
            load = float((f[:, None] * values * weights * found.flux.problem.mesh.scale[:, None]).sum())
            near = reference.energy**2 - 2 * load + got.energy**2
            assert got.upper**2 >= near * (1 - 1e-9)
            assert got.lower**2 <= (near + reference.upper**2) * (1 + 1e-9)


def flux_hats(cell: str, points: np.ndarray) -> np.ndarray:
    return np.vstack([1 - points.sum(1), points.T])


def midpoints(domain: mesh.Mesh) -> np.ndarray:
    nodes = domain.geometry.dofmaps[0]
    return domain.geometry.x[nodes].mean(1)


@pytest.mark.parametrize("cell", CELLS)
def test_flux_is_continuous_and_balanced(cell):
    rng = np.random.default_rng(3)
    domain = random_mesh(rng, cell)
    space = fem.functionspace(domain, ("Lagrange", 2))
    cells = len(midpoints(domain))
    f = rng.standard_normal(cells)
    found = sb.fem.certify(fem.Function(space), a=10.0 ** rng.uniform(-3, 3, cells), f=f, bcs=[zero_on_boundary(space)])
    flux, arrays = found.flux, found.flux.problem.mesh
    element = flux_element(cell, flux.degree)
    points, _ = quadrature(cell, 4)
    _, divergence = element.tabulate(points)
    size = np.abs(f).max()
    np.testing.assert_allclose(
        flux.coefficients @ divergence.T / arrays.scale[:, None],
        np.tile(-f[:, None], (1, len(points))),
        atol=1e-9 * size,
    )
    # The normal component from both sides of a facet, at the same points.
    corners = np.array(element.facets)
    for facet in np.flatnonzero(arrays.facet_cells[:, 1] >= 0):
        sides = []
        for one in arrays.facet_cells[facet]:
            local = int((arrays.cell_facets[one] == facet).argmax())
            vertices = arrays.cell_vertices[one][corners[local]]
            ends = arrays.corners[one][corners[local]][np.argsort(vertices)]
            weights = np.random.default_rng(0).dirichlet(np.ones(len(ends)), 5)
            x = weights @ ends
            reference = (x - arrays.corners[one, 0]) @ arrays.inverse_jacobian[one].T
            values, _ = element.tabulate(reference)
            y = np.einsum("de,qje,j->qd", arrays.jacobian[one], values, flux.coefficients[one]) / arrays.scale[one]
            spanning = ends[1:3] - ends[0] if len(ends) > 2 else ends[1:] - ends[0]
            normal = np.cross(*spanning) if len(spanning) == 2 else np.array([spanning[0][1], -spanning[0][0]])
            sides.append(y @ (normal / np.linalg.norm(normal)))
        np.testing.assert_allclose(sides[0], sides[1], atol=1e-8 * max(1.0, np.abs(flux.coefficients).max()))


@pytest.mark.parametrize("cell", CELLS)
def test_galerkin_solution_is_that_of_dolfinx(cell):
    """The package sums its own matrices; DOLFINx compiles forms."""
    rng = np.random.default_rng(5)
    domain = unit_box(cell, (3, 4, 2))
    space = fem.functionspace(domain, ("Lagrange", 2))
    cells = len(midpoints(domain))
    constant = fem.functionspace(domain, ("DG", 0))
    a, c = fem.Function(constant), fem.Function(constant)
    a.x.array[:], c.x.array[:] = 10.0 ** rng.uniform(-1, 1, cells), rng.random(cells)
    bc = zero_on_boundary(space)
    found = sb.fem.certify(fem.Function(space), a=a, f=1.5, c=c, bcs=[bc]).flux.galerkin
    u, w = ufl.TrialFunction(space), ufl.TestFunction(space)
    matrix = fem.assemble_matrix(fem.form((a * ufl.inner(ufl.grad(u), ufl.grad(w)) + c * u * w) * ufl.dx), bcs=[bc])
    load = fem.assemble_vector(fem.form(1.5 * w * ufl.dx)).array.copy()
    bc.set(load)
    values = np.zeros(len(load))
    values[found.dofs] = found.coefficients
    np.testing.assert_allclose(matrix.to_scipy() @ values, load, atol=1e-10 * np.abs(load).max())


def test_iterative_solutions_keep_their_own_error():
    """Patches that a residual of 1e-6 unbalances still give the bounds of the rounded solution itself."""
    domain = unit_box("triangle", (12, 12))
    space = fem.functionspace(domain, ("Lagrange", 1))
    bc = zero_on_boundary(space)
    exact = as_function(sb.fem.certify(fem.Function(space), f=1.0, bcs=[bc]).flux.galerkin, space)
    rough = fem.Function(space)
    rough.x.array[:] = exact.x.array * (1 + 1e-7 * np.random.default_rng(0).standard_normal(len(exact.x.array)))
    found, best = sb.fem.certify(rough, f=1.0, bcs=[bc]), sb.fem.certify(exact, f=1.0, bcs=[bc])
    assert np.array_equal(found.flux.galerkin.coefficients, found.flux.galerkin.function.x.array[space.dofmap.list])
    assert found.upper == pytest.approx(best.upper, rel=1e-5)
    assert found.lower == pytest.approx(best.lower, rel=1e-5)


def test_certificate_prints_and_gives_its_indicators():
    domain = unit_box("triangle", (4, 4))
    space = fem.functionspace(domain, ("Lagrange", 1))
    found = sb.fem.certify(fem.Function(space), f=1.0, bcs=[zero_on_boundary(space)])
    assert "32 cells (triangle)" in repr(found)
    assert found.relative_upper == np.inf
    indicators = found.indicator_function()
    assert np.sqrt((indicators.x.array**2).sum()) == pytest.approx(found.upper)


def test_what_is_refused():
    domain = unit_box("triangle", (3, 3))
    space = fem.functionspace(domain, ("Lagrange", 1))
    u, bc = fem.Function(space), zero_on_boundary(space)
    certify = sb.fem.certify

    refused("dolfinx.fem.Function ndarray", certify, np.zeros(16), f=1.0)
    for kind, order in (("DG", 1), ("Lagrange", 4)):
        refused("continuous order 1 3", certify, fem.Function(fem.functionspace(domain, (kind, order))), f=1.0)
    refused("scalar", certify, fem.Function(fem.functionspace(domain, ("Lagrange", 1, (2,)))))
    refused("c negative cell 0", certify, u, c=-1.0, bcs=[bc])
    refused("a positive cell 0", certify, u, a=0.0, bcs=[bc])
    refused("a symmetric", certify, u, a=np.array([[1.0, 0.5], [0.0, 1.0]]), bcs=[bc])
    refused("f 5 values 18 cells", certify, u, f=np.ones(5), bcs=[bc])
    refused("f formula interpolate", certify, u, f=lambda x: x[0], bcs=[bc])
    refused("a constant each cell DG", certify, u, a=u, bcs=[bc])
    refused("f NaN", certify, u, f=np.nan, bcs=[bc])
    refused("no side prescribed source sum", certify, u, f=1.0)
    refused("facet inside neumann", certify, u, bcs=[bc], neumann=[(inner_facets(domain), 1.0)])
    refused("facet prescribed Neumann", certify, u, bcs=[bc], neumann=[(boundary_facets(domain), 1.0)])
    off = fem.Function(space)
    off.x.array[:] = 1.0
    refused("uh differs bcs bc.set", certify, off, bcs=[bc])
    other = fem.Function(fem.functionspace(unit_box("triangle", (3, 3)), ("Lagrange", 1)))
    refused("flux another mesh", certify, other, flux=certify(u, f=1.0, bcs=[bc]).flux)
    refused("bcs space uh", certify, other, bcs=[bc])
    skew = mesh.create_rectangle(MPI.COMM_SELF, [[0, 0], [1, 1]], (2, 2), mesh.CellType.quadrilateral)
    skew.geometry.x[0, 0] -= 0.1
    refused("parallelogram triangles", certify, fem.Function(fem.functionspace(skew, ("Lagrange", 1))), f=1.0)


def inner_facets(domain: mesh.Mesh) -> np.ndarray:
    domain.topology.create_connectivity(1, 2)
    return np.setdiff1d(np.arange(domain.topology.index_map(1).size_local), boundary_facets(domain)).astype(np.int32)
