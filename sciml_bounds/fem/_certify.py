"""Guaranteed bounds on the energy error of finite-element functions on meshes."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sciml_bounds.errors import InputError
from sciml_bounds.fem._dolfinx import require_dolfinx
from sciml_bounds.fem._equilibrated_flux import MeshProblem, balance, complete_flux, divergence_moments, solve_patches
from sciml_bounds.fem._flux_element import FluxElement, flux_element, quadrature
from sciml_bounds.fem._galerkin import GalerkinSystem, facet_points
from sciml_bounds.fem._mesh_arrays import CellField
from sciml_bounds.fem._mesh_problem import read_function, read_problem
from sciml_bounds.reports import summary_table

__all__ = ["MeshCertificate", "MeshFlux", "certify"]

Array = NDArray[np.float64]

#: A function whose residual is below this fraction of its energy norm counts as a Galerkin solution of an iterative
#: solver.
_GALERKIN_TOLERANCE = 1e-5
#: Round-off of the sums of the lower bound, relative to the sum of the absolute values of their terms.
_ROUND_OFF = 64 * float(np.finfo(float).eps)


@dataclass(frozen=True, eq=False, repr=False)
class MeshFlux:
    """Equilibrated flux and potential of a problem, with which any field on the same mesh can be certified.

    Attributes
    ----------
    coefficients : ndarray (cells, n)
        Coefficients of the flux in the basis of its element.
    degree : int
        Degree k of the flux, which is in RT_k.
    galerkin : CellField
        The Galerkin solution, whose reaction term the flux balances.
    potential : CellField
        Continuous function of one order more that is close to the exact solution; used for lower bounds.
    """

    problem: MeshProblem
    coefficients: Array
    degree: int
    galerkin: CellField
    potential: CellField


@dataclass(frozen=True, eq=False, repr=False)
class MeshCertificate:
    """Guaranteed bounds on the energy error of a function on a mesh.

    The energy norm is |||w|||^2 = integral of a |grad w|^2 + c w^2. The bounds are valid, up to floating-point
    round-off, for the problem on the polygon or polyhedron of the mesh with the data as given.

    Attributes
    ----------
    upper, lower : float
        Bounds lower <= |||u - uh||| <= upper, where u is the exact solution.
    energy : float
        Energy norm |||uh|||.
    indicators : ndarray (cells,)
        Error indicator of each cell; the sum of their squares is `upper`**2.
    terms : dict of str to float
        Squares of the parts of the upper bound: flux, oscillation, reaction.
    flux : MeshFlux
        The equilibrated flux; pass it to `certify` for other functions of the same problem.
    certified : str
        Description of the certified function.
    kind : {"bound"}
    """

    upper: float
    lower: float
    energy: float
    indicators: Array
    terms: dict[str, float]
    flux: MeshFlux = field(repr=False)
    certified: str
    kind: str = "bound"

    @property
    def relative_upper(self) -> float:
        """Upper bound on the error relative to |||u|||; infinite if `upper` is not below |||uh|||."""
        rest = self.energy - self.upper
        return self.upper / rest if rest > 0 else float("inf")

    def indicator_function(self) -> Any:
        """Return the indicators as a piecewise constant DOLFINx function."""
        from dolfinx import fem

        mesh = self.flux.problem.mesh.mesh
        function = fem.Function(fem.functionspace(mesh, ("DG", 0)), name="indicators")
        function.x.array[function.function_space.dofmap.list[:, 0]] = self.indicators
        return function

    def __repr__(self) -> str:
        mesh = self.flux.problem.mesh
        return summary_table(
            "MeshCertificate",
            {
                "certified": self.certified,
                "mesh": f"{len(mesh.corners)} cells ({mesh.cell})",
                "energy error": f"{self.lower:.4g} <= error <= {self.upper:.4g}  ({self.kind})",
                "relative": f"<= {self.relative_upper:.4g}",
            },
        )


def certify(
    uh: Any,
    *,
    a: Any = 1.0,
    f: Any = 0.0,
    c: Any = 0.0,
    bcs: Sequence[Any] = (),
    neumann: Sequence[tuple[Any, Any]] = (),
    flux: MeshFlux | None = None,
    lower: bool = True,
) -> MeshCertificate:
    """Bound the energy error of a DOLFINx function from any source, without a reference solution.

    The problem is -div(a grad u) + c u = f with u = uD on the Dirichlet part of the boundary and a du/dn = g elsewhere.
    The upper bound is that of Prager and Synge (Quart. Appl. Math. 5 (1947) 241-269) with a flux equilibrated on vertex
    patches; the theory page "Upper bound on the energy error" contains the derivation.

    Parameters
    ----------
    uh : dolfinx.fem.Function
        Continuous Lagrange function of order 1 to 3 on affine triangles, quadrilaterals, tetrahedra or hexahedra.
    a : float, array (cells,) or (cells, d, d), or piecewise constant Function, default 1.0
        Coefficient: positive, or a symmetric positive definite matrix per cell.
    f : float, array (cells,) or Function, default 0.0
        Source. A Function is a polynomial on each cell; interpolate a formula into a Function first.
    c : float, array (cells,) or piecewise constant Function, default 0.0
        Reaction, not negative.
    bcs : sequence of dolfinx.fem.DirichletBC
        Prescribed values in the space of `uh`. Facets are Dirichlet facets if all their degrees of freedom are
        prescribed.
    neumann : sequence of (facets, g)
        Pairs of boundary facets (array of int) and g, a float or one value per facet, with a du/dn = g. On all other
        boundary facets that are not Dirichlet facets, g is zero.
    flux : MeshFlux, optional
        `certificate.flux` of another function for the same problem; then no patch problems are solved.
    lower : bool, default True
        Whether to compute the lower bound; otherwise it is zero.

    Returns
    -------
    MeshCertificate

    Raises
    ------
    InputError
        If the function, the mesh or the data are not of these kinds, or the boundary values of `uh` differ from the
        prescribed values.
    MissingExtraError
        If DOLFINx is not installed.

    Notes
    -----
    If `uh` is not the Galerkin solution of its space, this solution is computed once to obtain the flux.
    """
    require_dolfinx()
    v = read_function(uh)
    if flux is None:
        flux = equilibrate(*read_problem(v, a, f, c, bcs, neumann), v)
    elif flux.problem.mesh.mesh is not uh.function_space.mesh:
        raise InputError("flux belongs to another mesh; give certificate.flux of a function on the mesh of uh.")
    return _evaluate(flux, v, lower)


def equilibrate(problem: MeshProblem, prescribed: NDArray[np.int64], v: CellField) -> MeshFlux:
    """Return the equilibrated flux for the Galerkin solution in the space of a field."""
    system = GalerkinSystem(problem, v, prescribed)
    galerkin = v if _is_galerkin(system) else v.replace(system.solve())
    element = flux_element(problem.mesh.cell, v.degree)
    divergences = divergence_moments(problem, element, galerkin)
    moments = solve_patches(problem, element, galerkin)
    constant = 1 / np.sqrt(element.volume)  # value of the first polynomial
    moments = balance(problem, element, moments, divergences[:, 0] / constant)
    coefficients = complete_flux(problem, element, moments, divergences, galerkin)
    potential = _potential(problem, element, coefficients, galerkin)
    return MeshFlux(problem, coefficients, element.degree, galerkin, potential)


def _is_galerkin(system: GalerkinSystem) -> bool:
    """Return whether the residual is so small that the field is a Galerkin solution of an iterative solver."""
    applied = system.apply(system.u.coefficients)
    residual = (system.load() - applied)[system.free]
    diagonal = system.diagonal()[system.free]
    full = np.zeros(system.size)
    full[system.u.dofs] = system.u.coefficients
    energy = float(full @ applied)
    return float((residual**2 / diagonal).sum()) <= _GALERKIN_TOLERANCE**2 * energy


def _potential(problem: MeshProblem, element: FluxElement, coefficients: Array, galerkin: CellField) -> CellField:
    """Return a continuous function of one order more, whose gradient is close to y / a for the flux y.

    On each cell, the polynomial is computed whose gradient is closest to y / a and whose mean is the mean of the
    Galerkin solution. At each node the result is the mean over the adjacent cells.
    """
    from dolfinx import fem

    mesh = problem.mesh
    space = fem.functionspace(mesh.mesh, ("Lagrange", galerkin.degree + 1))
    function = fem.Function(space)
    function.interpolate(galerkin.function)
    field = CellField(function, "potential")
    points, weights = quadrature(mesh.cell, 2 * galerkin.degree + 2)
    table = field.element.tabulate(1, points)[..., 0]
    inverse = mesh.inverse_jacobian
    metric = np.einsum("cij,cjk,clk,c->cil", inverse, problem.tensor, inverse, mesh.scale)
    stiffness = np.einsum("q,aqi,bqj->abij", weights, table[1:], table[1:], optimize=True)
    matrix = np.einsum("cab,abij->cij", metric, stiffness, optimize=True)
    values, _ = element.tabulate(points)
    pairing = np.einsum("q,qjd,dqi->ij", weights, values, table[1:], optimize=True)
    right = coefficients @ pairing.T
    # The mean is prescribed by adding its square to the least-squares functional, which does not change the gradient.
    mean = weights @ table[0]
    size = np.einsum("cii->c", matrix) / mean.sum() ** 2
    matrix += size[:, None, None] * np.outer(mean, mean)
    right += size[:, None] * (weights @ galerkin.values(points).T)[:, None] * mean
    local = np.linalg.solve(matrix, right[..., None])[..., 0]
    count = np.bincount(field.dofs.ravel())
    average = np.bincount(field.dofs.ravel(), local.ravel()) / count
    boundary = _dirichlet_dofs(problem, field)
    average[boundary] = function.x.array[boundary]
    return field.replace(average)


def _dirichlet_dofs(problem: MeshProblem, field: CellField) -> NDArray[np.int64]:
    mesh = problem.mesh
    facets = np.flatnonzero(problem.dirichlet)
    cells = mesh.facet_cells[facets, 0]
    local = (mesh.cell_facets[cells] == facets[:, None]).argmax(1)
    return np.unique(field.dofs[cells[:, None], np.array(field.element.entity_closure_dofs[-2])[local]])


def _evaluate(flux: MeshFlux, v: CellField, with_lower: bool) -> MeshCertificate:
    """Return the certificate of a field, given the flux of its problem."""
    problem, mesh = flux.problem, flux.problem.mesh
    element = flux_element(mesh.cell, flux.degree)
    points, weights = quadrature(mesh.cell, 2 * max(flux.degree + 1, v.degree, problem.source_degree))
    values, divergence = element.tabulate(points)
    gradient = np.einsum("cqd,cde->cqe", v.reference_gradients(points), mesh.inverse_jacobian)
    y = (
        np.einsum("cde,qje,cj->cqd", mesh.jacobian, values, flux.coefficients, optimize=True)
        / mesh.scale[:, None, None]
    )
    gap = np.einsum("cde,cqe->cqd", problem.tensor, gradient) - y
    inverse = np.linalg.inv(problem.tensor)
    measure = mesh.scale[:, None] * weights
    flux_part = np.sqrt((np.einsum("cqd,cde,cqe->cq", gap, inverse, gap, optimize=True) * measure).sum(1))

    u = v.values(points)
    r = (
        problem.source_values(points)
        + flux.coefficients @ divergence.T / mesh.scale[:, None]
        - problem.reaction[:, None] * u
    )
    mean = (r * measure).sum(1) / mesh.volumes
    rest = np.sqrt((((r - mean[:, None]) ** 2) * measure).sum(1))
    # Payne and Weinberger: a convex cell has Poincare constant diameter / pi.
    smallest = np.linalg.eigvalsh(problem.tensor)[:, 0]
    oscillation = mesh.diameters / (np.pi * np.sqrt(smallest)) * rest
    reacting = problem.reaction > 0
    reaction = np.zeros(len(mean))
    reaction[reacting] = mean[reacting] ** 2 * mesh.volumes[reacting] / problem.reaction[reacting]
    in_reaction = np.zeros(len(mean), dtype=bool)
    in_reaction[reacting] = rest[reacting] ** 2 / problem.reaction[reacting] < oscillation[reacting] ** 2
    reaction[in_reaction] += rest[in_reaction] ** 2 / problem.reaction[in_reaction]
    oscillation[in_reaction] = 0.0
    squares = (flux_part + oscillation) ** 2 + reaction
    return MeshCertificate(
        upper=float(np.sqrt(squares.sum())),
        lower=_lower(flux, v) if with_lower else 0.0,
        energy=_energy(problem, gradient, u, measure),
        indicators=np.sqrt(squares),
        terms={
            "flux": float((flux_part**2).sum()),
            "oscillation": float((oscillation**2).sum()),
            "reaction": float(reaction.sum()),
        },
        flux=flux,
        certified=f"the given function of order {v.degree}, as it is",
    )


def _lower(flux: MeshFlux, v: CellField) -> float:
    """Return R(w) / |||w||| for w = potential - v and the residual R of v, reduced by an allowance for round-off."""
    problem, mesh, s = flux.problem, flux.problem.mesh, flux.potential
    points, weights = quadrature(mesh.cell, 2 * max(s.degree, v.degree) + problem.source_degree)
    measure = mesh.scale[:, None] * weights
    f, c, v_values = problem.source_values(points), problem.reaction[:, None], v.values(points)
    s_gradient = np.einsum("cqd,cde->cqe", s.reference_gradients(points), mesh.inverse_jacobian)
    v_gradient = np.einsum("cqd,cde->cqe", v.reference_gradients(points), mesh.inverse_jacobian)
    v_flux = np.einsum("cde,cqe->cqd", problem.tensor, v_gradient)
    w, w_gradient = s.values(points) - v_values, s_gradient - v_gradient
    residual = float((((f - c * v_values) * w - (v_flux * w_gradient).sum(-1)) * measure).sum())
    norm = _energy(problem, w_gradient, w, measure)

    # The same sums, but of absolute values of the terms.
    size = np.abs(s.values(points)) + np.abs(v_values)
    gradient_size = np.abs(s_gradient) + np.abs(v_gradient)
    sizes = (((np.abs(f) + c * np.abs(v_values)) * size + (np.abs(v_flux) * gradient_size).sum(-1)) * measure).sum()
    boundary, boundary_size = _boundary_work(problem, s, v)
    allowance = _ROUND_OFF * (float(sizes) + boundary_size)
    norm += _ROUND_OFF * _energy(problem, gradient_size, size, measure)
    return max(residual + boundary - allowance, 0.0) / norm if norm > 0 else 0.0


def _energy(problem: MeshProblem, gradient: Array, values: Array, measure: Array) -> float:
    """Return the energy norm from gradients (cells, q, d) and values (cells, q)."""
    square = np.einsum("cqd,cde,cqe,cq->", gradient, problem.tensor, gradient, measure, optimize=True)
    return float(np.sqrt(square + (problem.reaction[:, None] * values**2 * measure).sum()))


def _boundary_work(problem: MeshProblem, s: CellField, v: CellField) -> tuple[float, float]:
    """Return the integrals of g (s - v) and of |g| (|s| + |v|) over the boundary."""
    mesh = problem.mesh
    active = np.flatnonzero(problem.flux)
    cells = mesh.facet_cells[active, 0]
    local = (mesh.cell_facets[cells] == active[:, None]).argmax(1)
    total, size = 0.0, 0.0
    for number, points, weights in facet_points(flux_element(mesh.cell, 1), max(s.degree, v.degree)):
        facets, owners = active[local == number], cells[local == number]
        flow = (problem.flux[facets] * mesh.facet_measures[facets])[:, None] * (weights / weights.sum())
        s_values, v_values = s.values(points)[owners], v.values(points)[owners]
        total += float((flow * (s_values - v_values)).sum())
        size += float((np.abs(flow) * (np.abs(s_values) + np.abs(v_values))).sum())
    return total, size
