"""Fluxes in equilibrium with the data of a problem on a mesh, from patch problems and an exact sweep.

For the Galerkin solution u_G of -div(a grad u) + c u = f, the patch problem of vertex z finds the flux y_z in RT_k that
is closest to psi_z a grad u_G in the norm of 1/a, with div y_z = psi_z (c u_G - f) + a grad u_G . grad psi_z and no
flux out of the patch, where psi_z is the hat function of z. The sum y of all y_z satisfies div y = c u_G - f, projected
on polynomials of degree k (Braess and Schoeberl, Math. Comp. 77 (2008) 651-672; Ern and Vohralik, SIAM J. Numer. Anal.
53 (2015) 1058-1081).

In a cell, the flux is determined by its facet moments, so the unknowns of a patch problem are facet moments and one
multiplier per cell. Any imbalance that the patch problems leave, such as the residual of an iterative solver, is moved
out of the domain along a spanning tree of the cells.

Axis letters: p patch, c cell, s facet at a corner of a cell, j moment on a facet, q quadrature point, m polynomial.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from sciml_bounds.errors import InputError
from sciml_bounds.fem._flux_element import FluxElement, facet_quadrature, quadrature
from sciml_bounds.fem._mesh_arrays import CellField, Indices, MeshArrays

__all__ = ["MeshProblem", "balance", "complete_flux", "divergence_moments", "solve_patches"]

Array = NDArray[np.float64]

#: Number of entries in the matrices of the patch problems that are solved at once: 100 MB.
_BATCH_NUMBERS = 12_000_000


@dataclass(frozen=True)
class MeshProblem:
    """The problem -div(a grad u) + c u = f on a mesh, as arrays.

    Attributes
    ----------
    mesh : MeshArrays
    tensor : ndarray (cells, d, d)
        The coefficient a, one matrix per cell.
    reaction : ndarray (cells,)
        The reaction c.
    source : CellField or ndarray (cells,)
        The source f.
    dirichlet : ndarray of bool (facets,)
        Boundary facets with prescribed values.
    flux : ndarray (facets,)
        Values of a du/dn on the other boundary facets; zero on inner facets.
    """

    mesh: MeshArrays
    tensor: Array
    reaction: Array
    source: CellField | Array
    dirichlet: NDArray[np.bool_]
    flux: Array

    @property
    def source_degree(self) -> int:
        """Polynomial degree of the source on each cell."""
        return self.source.degree if isinstance(self.source, CellField) else 0

    def source_values(self, points: Array) -> Array:
        """Return f (cells, q) at reference points (q, d)."""
        if isinstance(self.source, CellField):
            return self.source.values(points)
        return np.repeat(self.source[:, None], len(points), 1)


def divergence_moments(problem: MeshProblem, element: FluxElement, u: CellField) -> Array:
    """Return the moments (cells, m) of c u - f with the polynomials of degree k."""
    points, weights = quadrature(element.cell, element.degree + max(u.degree, problem.source_degree))
    polynomials = element.polynomial_values(points)
    density = problem.reaction[:, None] * u.values(points) - problem.source_values(points)
    return np.asarray((density @ (weights * polynomials).T) * problem.mesh.scale[:, None])


def solve_patches(problem: MeshProblem, element: FluxElement, u: CellField) -> Array:
    """Return the sum of the fluxes of all patches as facet moments (facets, j).

    Parameters
    ----------
    u : CellField
        The Galerkin solution. For other functions the result is a flux that is not in equilibrium.
    """
    mesh = problem.mesh
    tables = _PatchTables(problem, element, u)
    moments = np.zeros((len(mesh.facet_cells), element.facet_polynomials))
    corners = mesh.cell_vertices.shape[1]
    order = np.argsort(mesh.cell_vertices.ravel(), kind="stable")
    starts = np.concatenate([[0], np.cumsum(np.bincount(mesh.cell_vertices.ravel()))])
    pairs = _vertex_facets(mesh, tables.corner_facets)
    facet_starts = np.concatenate([[0], np.cumsum(np.bincount(pairs[:, 0], minlength=len(starts) - 1))])
    sizes = np.column_stack([np.diff(starts), np.diff(facet_starts)])
    for cells_of, facets_of in np.unique(sizes, axis=0):
        vertices = np.flatnonzero((sizes == (cells_of, facets_of)).all(1))
        if cells_of == 0:
            continue
        batch = max(1, _BATCH_NUMBERS // (facets_of * element.facet_polynomials + cells_of) ** 2)
        for chunk in np.split(vertices, range(batch, len(vertices), batch)):
            incident = order[starts[chunk][:, None] + np.arange(cells_of)]
            facets = pairs[facet_starts[chunk][:, None] + np.arange(facets_of), 1]
            values = tables.solve(incident // corners, incident % corners, facets, chunk)
            np.add.at(moments, facets, values)
    return moments


def _vertex_facets(mesh: MeshArrays, corner_facets: Indices) -> Indices:
    """Return all pairs of a vertex and a facet that contains it, sorted."""
    vertices = np.repeat(mesh.cell_vertices[:, :, None], corner_facets.shape[1], 2)
    facets = mesh.cell_facets[:, corner_facets]
    return np.unique(np.column_stack([vertices.ravel(), facets.ravel()]), axis=0)


class _PatchTables:
    """Tables on the reference cell, from which the patch problems are assembled."""

    def __init__(self, problem: MeshProblem, element: FluxElement, u: CellField) -> None:
        self.problem, self.element, self.mesh = problem, element, problem.mesh
        nf = element.facet_count
        self.corner_facets = np.array(
            [[i for i, facet in enumerate(element.facets) if corner in facet] for corner in _corners(element)]
        )
        self.products = _flux_products(element)
        # <basis function, psi_i grad u> and the moments of the divergence, linear in the coefficients of u.
        points, weights = quadrature(element.cell, 2 * element.degree + u.degree + 1)
        values, _ = element.tabulate(points)
        hats, hat_gradients = _hat_functions(element, points)
        self.targets = np.einsum(
            "q,qjd,iq,cqd->cij", weights, values, hats, u.reference_gradients(points), optimize=True
        )
        polynomials = element.polynomial_values(points)
        density = problem.reaction[:, None] * u.values(points) - problem.source_values(points)
        metric = np.einsum("cij,cjk,clk->cil", self.mesh.inverse_jacobian, problem.tensor, self.mesh.inverse_jacobian)
        fluxes = np.einsum("cij,cqj->cqi", metric, u.reference_gradients(points))
        slopes = np.einsum("cqd,iqd->ciq", fluxes, hat_gradients, optimize=True)
        integrand = density[:, None] * hats + slopes
        self.divergences = np.einsum("q,mq,ciq,c->cim", weights, polynomials, integrand, self.mesh.scale, optimize=True)
        self.constant = polynomials[0, 0]
        self.gram = self.mesh.gram(np.linalg.inv(problem.tensor))
        self.prescribed = _hat_moments(element)
        self.facet_count = nf

    def solve(self, cells: Indices, corners: Indices, facets: Indices, vertices: Indices) -> Array:
        """Return the facet moments (p, facets, j) of patches with cells and corners (p, c) and facets (p, f)."""
        element, mesh = self.element, self.mesh
        n, (patches, count), total = element.facet_polynomials, cells.shape, facets.shape[1]
        matrix, load = self._condense(cells, corners)
        local = self.corner_facets[corners]  # (p, c, s)
        globals_ = mesh.cell_facets[cells[..., None], local]
        signs = mesh.facet_signs[cells[..., None], local]
        turn = signs[..., None, None] * mesh.facet_transformations(element, cells[..., None], local)
        s = local.shape[-1]
        matrix = np.einsum("pcsjtk,pcsja->pcsatk", matrix.reshape(patches, count, s, n, s, n), turn, optimize=True)
        matrix = np.einsum("pcsatk,pctkb->pcsatb", matrix, turn, optimize=True)
        load = np.einsum("pcsj,pcsja->pcsa", load.reshape(patches, count, s, n), turn)

        position = (globals_[..., None] == facets[:, None, None, :]).argmax(-1)
        size = total * n
        index = position[..., None] * n + np.arange(n)  # (p, c, s, j)
        system = np.zeros((patches, size + count, size + count))
        right = np.zeros((patches, size + count))
        patch = np.arange(patches)
        rows = index.reshape(patches, count, s * n)
        block = matrix.reshape(patches, count, s * n, s * n)
        scale = np.einsum("pcii->p", block) / (count * s * n)  # the patch problem does not depend on the unit of a
        for c in range(count):
            # No two rows of one cell are equal, so that the sums need no `add.at`.
            system[patch[:, None, None], rows[:, c, :, None], rows[:, c, None, :]] += block[:, c] / scale[:, None, None]
            right[patch[:, None], rows[:, c]] += load[:, c].reshape(patches, s * n) / scale[:, None]
            through = index[:, c, :, 0]  # the first moment is the flux through the facet
            system[patch[:, None], size + c, through] = element.flux_factor * signs[:, c]
            system[patch[:, None], through, size + c] = element.flux_factor * signs[:, c]
        balance = self.divergences[cells, corners, 0] / self.constant
        right[:, size:] = balance

        known, values = self._prescribed_moments(facets, vertices)
        dirichlet = self.problem.dirichlet[facets]
        closed = ~dirichlet.any(1)
        defect = balance.sum(1) - element.flux_factor * (values[..., 0] * known).sum(1)
        volumes = mesh.volumes[cells]
        right[:, size:] -= np.where(closed, defect, 0.0)[:, None] * volumes / volumes.sum(1, keepdims=True)
        system[closed, size, size] = -1.0  # fixes the constant of the multipliers, which is zero by the line above

        mask = np.repeat(known, n, axis=1)
        fixed = np.concatenate([(values * known[..., None]).reshape(patches, size), np.zeros((patches, count))], axis=1)
        right -= np.einsum("pij,pj->pi", system, fixed)
        keep = np.concatenate([~mask, np.ones((patches, count), dtype=bool)], axis=1)
        system *= keep[:, :, None] & keep[:, None, :]
        diagonal = np.arange(size + count)
        system[:, diagonal, diagonal] += ~keep
        right *= keep
        solution = np.linalg.solve(system, right[..., None])[..., 0] + fixed
        return np.asarray(solution[:, :size].reshape(patches, total, n))

    def _condense(self, cells: Indices, corners: Indices) -> tuple[Array, Array]:
        """Return matrix and load for the moments on the facets at the corners; the rest of the flux is eliminated."""
        element, nf = self.element, self.facet_count
        chosen = (
            self.corner_facets[corners][..., None] * element.facet_polynomials + np.arange(element.facet_polynomials)
        ).reshape(*corners.shape, -1)
        full = np.einsum("pcab,abij->pcij", self.gram[cells], self.products, optimize=True)
        target = self.targets[cells, corners]
        inner = slice(nf, nf + element.divergence_count)
        bubbles = slice(nf + element.divergence_count, None)
        target = target - np.einsum("pcij,pcj->pci", full[..., inner], self.divergences[cells, corners, 1:])
        matrix, load = full[..., :nf, :nf], target[..., :nf]
        if full.shape[-1] > nf + element.divergence_count:
            coupling, solver = full[..., :nf, bubbles], full[..., bubbles, bubbles]
            solved = np.linalg.solve(
                solver, np.concatenate([coupling.swapaxes(-1, -2), target[..., bubbles, None]], -1)
            )
            matrix = matrix - coupling @ solved[..., :-1]
            load = load - (coupling @ solved[..., -1:])[..., 0]
        matrix = np.take_along_axis(np.take_along_axis(matrix, chosen[..., :, None], -2), chosen[..., None, :], -1)
        return matrix, np.take_along_axis(load, chosen, -1)

    def _prescribed_moments(self, facets: Indices, vertices: Indices) -> tuple[NDArray[np.bool_], Array]:
        """Return which facets (p, f) have a prescribed flux, and the moments (p, f, j) of this flux times psi_z."""
        mesh, problem = self.mesh, self.problem
        known = (mesh.facet_cells[facets, 1] < 0) & ~problem.dirichlet[facets]
        values = np.zeros((*facets.shape, self.element.facet_polynomials))
        at = np.nonzero(known)
        if len(at[0]):
            rank = _facet_ranks(mesh, self.element, facets[at], vertices[at[0]])
            size = mesh.facet_measures[facets[at]]
            values[at] = (problem.flux[facets[at]] * size)[:, None] * self.prescribed[rank]
        return known, values


def balance(problem: MeshProblem, element: FluxElement, moments: Array, wanted: Array) -> Array:
    """Change facet moments (facets, j) so that the flux out of every cell is exactly the integral in `wanted`.

    Parameters
    ----------
    wanted : ndarray (cells,)
        Integral of the divergence over each cell.

    Raises
    ------
    InputError
        If there is no Dirichlet facet and no reaction, and the data do not sum to zero.
    """
    mesh = problem.mesh
    moments = moments.copy()
    tree = _spanning_tree(problem)
    signs = mesh.facet_signs * element.flux_factor
    excess = wanted - (signs * moments[mesh.cell_facets, 0]).sum(1)
    for cells in reversed(tree.levels):  # from the leaves to the roots
        facets, owner = tree.facets[cells], tree.owner_sign[cells]
        inside = facets >= 0
        np.add.at(moments[:, 0], facets[inside], owner[inside] * excess[cells[inside]] / element.flux_factor)
        parents = tree.parents[cells]
        hands = inside & (parents >= 0)
        np.add.at(excess, parents[hands], excess[cells[hands]])
    left = np.abs(excess[tree.closed_roots]).max(initial=0.0)
    size = np.abs(wanted).sum()
    if left > 1e-8 * size:
        raise InputError(
            f"no side has prescribed values and there is no reaction, but source and boundary fluxes sum to {left:.3g} "
            "instead of zero; subtract the mean from the source, or prescribe values on a part of the boundary."
        )
    return moments


@dataclass(frozen=True)
class _Tree:
    parents: Indices
    facets: Indices
    owner_sign: Array
    levels: list[Indices]
    closed_roots: Indices


def _spanning_tree(problem: MeshProblem) -> _Tree:
    """Return a breadth-first tree of the cells whose roots have a Dirichlet facet or a reaction."""
    mesh = problem.mesh
    cells = len(mesh.cell_facets)
    parents, facets = np.full(cells, -1), np.full(cells, -1)
    seen = problem.reaction > 0
    outlets = np.flatnonzero(problem.dirichlet)
    roots = mesh.facet_cells[outlets, 0]
    facets[roots] = outlets
    seen[roots] = True
    facets[problem.reaction > 0] = -1
    closed: list[int] = []
    levels = [np.flatnonzero(seen)]
    while True:
        front = levels[-1]
        while len(front):
            front = _next_front(mesh, front, seen, parents, facets)
            levels.append(front)
        rest = np.flatnonzero(~seen)
        if len(rest) == 0:
            break
        closed.append(int(rest[0]))
        seen[rest[0]] = True
        levels.append(rest[:1])
    signs = np.where(mesh.facet_cells[np.maximum(facets, 0), 0] == np.arange(cells), 1.0, -1.0)
    return _Tree(parents, facets, signs, levels, np.array(closed, dtype=int))


def _next_front(
    mesh: MeshArrays, front: Indices, seen: NDArray[np.bool_], parents: Indices, facets: Indices
) -> Indices:
    """Return the cells next to `front` that have not been seen before, after storing their parents and facets."""
    through = mesh.cell_facets[front].ravel()
    source = np.repeat(front, mesh.cell_facets.shape[1])
    pair = mesh.facet_cells[through]
    other = np.where(pair[:, 0] == source, pair[:, 1], pair[:, 0])
    new = (other >= 0) & ~seen[np.maximum(other, 0)]
    found, first = np.unique(other[new], return_index=True)
    parents[found] = source[new][first]
    facets[found] = through[new][first]
    seen[found] = True
    return found


def complete_flux(
    problem: MeshProblem, element: FluxElement, moments: Array, divergences: Array, u: CellField
) -> Array:
    """Return the flux (cells, basis functions) with given facet moments and divergence that is closest to a grad u.

    Parameters
    ----------
    moments : ndarray (facets, j)
        Facet moments in the global parametrisation.
    divergences : ndarray (cells, m)
        Moments of the divergence with the polynomials of degree k on each cell.
    """
    mesh, nf = problem.mesh, element.facet_count
    every = np.arange(len(element.facets))
    turn = mesh.facet_transformations(element, np.arange(len(mesh.cell_facets))[:, None], every[None])
    local = np.einsum("cs,csja,csa->csj", mesh.facet_signs, turn, moments[mesh.cell_facets])
    known = np.concatenate([local.reshape(len(local), nf), divergences[:, 1:]], axis=1)
    count = len(element.transformation)
    if known.shape[1] == count:
        return known
    points, weights = quadrature(element.cell, element.degree + 1 + u.degree)
    values, _ = element.tabulate(points)
    rest = slice(known.shape[1], None)
    target = np.einsum("q,qjd,cqd->cj", weights, values[:, rest], u.reference_gradients(points), optimize=True)
    gram = mesh.gram(np.linalg.inv(problem.tensor))
    products = _flux_products(element)
    coupling = np.einsum("cab,abij->cij", gram, products[:, :, rest, : known.shape[1]], optimize=True)
    matrix = np.einsum("cab,abij->cij", gram, products[:, :, rest, rest], optimize=True)
    bubbles = np.linalg.solve(matrix, (target - np.einsum("cij,cj->ci", coupling, known))[..., None])[..., 0]
    return np.concatenate([known, bubbles], axis=1)


def _flux_products(element: FluxElement) -> Array:
    """Return the integrals (d, d, i, j) of component a of function i times component b of function j."""
    points, weights = quadrature(element.cell, 2 * element.degree + 2)
    values, _ = element.tabulate(points)
    return np.asarray(np.einsum("q,qia,qjb->abij", weights, values, values, optimize=True))


def _corners(element: FluxElement) -> range:
    return range(1 + max(corner for facet in element.facets for corner in facet))


def _hat_functions(element: FluxElement, points: Array) -> tuple[Array, Array]:
    """Return values (i, q) and gradients (i, q, d) of the linear or multilinear hat functions of the corners."""
    import basix

    first = basix.create_element(basix.ElementFamily.P, basix.CellType[element.cell], 1)
    table = first.tabulate(1, points)[..., 0]
    return table[0].T, table[1:].transpose(2, 1, 0)


def _hat_moments(element: FluxElement) -> Array:
    """Return the facet moments (rank, j) of hat functions on a facet of unit size, by the rank of the corner."""
    points, weights = facet_quadrature(element, 2 * element.degree + 2)
    polynomials = element.facet_polynomial_values(points)
    hats = element.facet_hats(points)
    return np.asarray(np.einsum("q,rq,jq->rj", weights / weights.sum(), hats, polynomials))


def _facet_ranks(mesh: MeshArrays, element: FluxElement, facets: Indices, vertices: Indices) -> Indices:
    """Return the positions of vertices among the corners of facets in the global parametrisation."""
    cells = mesh.facet_cells[facets, 0]
    local = (mesh.cell_facets[cells] == facets[:, None]).argmax(1)
    corners = mesh.cell_vertices[cells[:, None], np.array(element.facets)[local]]
    return element.global_positions(corners, vertices)
