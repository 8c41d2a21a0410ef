"""Conversion and checks of what users give for a problem on a mesh: functions, boundary conditions and data."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sciml_bounds.errors import InputError
from sciml_bounds.fem._equilibrated_flux import MeshProblem
from sciml_bounds.fem._mesh_arrays import CellField, MeshArrays

__all__ = ["read_function", "read_problem"]

Array = NDArray[np.float64]

#: Highest order of functions that can be certified; for higher orders the patch problems become large.
_MAX_ORDER = 3
#: Largest difference of boundary values from the prescribed ones that counts as round-off, relative to the largest
#: value.
_BOUNDARY_TOLERANCE = 1e-10


def read_function(uh: Any) -> CellField:
    """Return a DOLFINx function as a field; raise unless it is a continuous Lagrange function of order 1 to 3."""
    if not hasattr(uh, "function_space"):
        raise InputError(
            f"uh is a {type(uh).__name__}; give a dolfinx.fem.Function, for example by interpolation into a space."
        )
    field = CellField(uh, "uh")
    if field.element.discontinuous or not 1 <= field.degree <= _MAX_ORDER:
        kind = "discontinuous" if field.element.discontinuous else "continuous"
        raise InputError(
            f"uh is {kind} of order {field.degree}, but bounds need a continuous Lagrange function of order 1 to "
            f"{_MAX_ORDER}; interpolate uh into such a space."
        )
    return field


def read_problem(
    field: CellField, a: Any, f: Any, c: Any, bcs: Sequence[Any], neumann: Sequence[tuple[Any, Any]]
) -> tuple[MeshProblem, NDArray[np.int64]]:
    """Return the problem and its prescribed degrees of freedom, after checking the boundary values of the field."""
    mesh = MeshArrays(field.function.function_space.mesh)
    prescribed = _prescribed(field, bcs)
    dirichlet = _dirichlet_facets(mesh, field, prescribed)
    reaction = _cellwise(c, mesh, "c")
    if (reaction < 0).any():
        worst = int(reaction.argmin())
        raise InputError(f"c must not be negative, but cell {worst} has {reaction[worst]:.6g}; check the sign of c.")
    problem = MeshProblem(
        mesh=mesh,
        tensor=_tensor(a, mesh),
        reaction=reaction,
        source=_source(f, mesh),
        dirichlet=dirichlet,
        flux=_boundary_flux(mesh, dirichlet, neumann),
    )
    return problem, prescribed


def _prescribed(field: CellField, bcs: Sequence[Any]) -> NDArray[np.int64]:
    """Return all prescribed degrees of freedom; raise if the field has other values there."""
    values = field.function.x.array
    wanted = values.copy()
    dofs = [np.zeros(0, dtype=np.int64)]
    for bc in bcs:
        space = getattr(bc, "function_space", None)
        if space is None or space != field.function.function_space._cpp_object:
            raise InputError(
                "bcs are not on the space of uh; give conditions dolfinx.fem.dirichletbc(...) on this space."
            )
        bc.set(wanted)
        dofs.append(np.asarray(bc.dof_indices()[0], dtype=np.int64))
    gap = np.abs(wanted - values)
    if gap.max(initial=0.0) > _BOUNDARY_TOLERANCE * max(
        np.abs(values).max(initial=0.0), np.abs(wanted).max(initial=0.0)
    ):
        raise InputError(
            f"uh differs from the values that bcs prescribe by up to {gap.max():.3g}; set them with "
            "bc.set(uh.x.array), or give the conditions that uh satisfies."
        )
    return np.unique(np.concatenate(dofs))


def _dirichlet_facets(mesh: MeshArrays, field: CellField, prescribed: NDArray[np.int64]) -> NDArray[np.bool_]:
    """Return which boundary facets have prescribed values at all their degrees of freedom."""
    known = np.zeros(int(field.dofs.max()) + 1, dtype=bool)
    known[prescribed] = True
    closures = field.element.entity_closure_dofs[-2]
    cells = mesh.facet_cells[mesh.boundary_facets, 0]
    local = (mesh.cell_facets[cells] == mesh.boundary_facets[:, None]).argmax(1)
    on_facet = field.dofs[cells[:, None], np.array(closures)[local]]
    found = np.zeros(len(mesh.facet_cells), dtype=bool)
    found[mesh.boundary_facets] = known[on_facet].all(1)
    return found


def _boundary_flux(mesh: MeshArrays, dirichlet: NDArray[np.bool_], neumann: Sequence[tuple[Any, Any]]) -> Array:
    values = np.zeros(len(mesh.facet_cells))
    outer = np.zeros(len(values), dtype=bool)
    outer[mesh.boundary_facets] = True
    for facets, g in neumann:
        facets = np.asarray(facets)
        if facets.dtype.kind not in "iu" or facets.ndim != 1 or (facets < 0).any() or (facets >= len(values)).any():
            raise InputError(
                "neumann has an invalid array of facets; give pairs (facets, g) with facet numbers, as from "
                "locate_entities_boundary."
            )
        if not outer[facets].all():
            raise InputError(
                f"facet {facets[~outer[facets]][0]} of neumann is inside the mesh; give boundary facets only."
            )
        if dirichlet[facets].any():
            raise InputError(
                f"facet {facets[dirichlet[facets]][0]} has prescribed values and a Neumann condition; remove one of "
                "the two."
            )
        g = np.asarray(g, dtype=float)
        if g.ndim > 1 or (g.ndim == 1 and len(g) != len(facets)) or not np.isfinite(g).all():
            raise InputError("g of neumann is invalid; give a finite number, or one finite number per facet.")
        values[facets] = g
    return values


def _source(f: Any, mesh: MeshArrays) -> CellField | Array:
    if not hasattr(f, "function_space"):
        return _cellwise(f, mesh, "f")
    if f.function_space.mesh != mesh.mesh:
        raise InputError("f is on another mesh than uh; interpolate it into a space on the mesh of uh.")
    return CellField(f, "f")


def _cellwise(value: Any, mesh: MeshArrays, name: str) -> Array:
    """Return one finite value per cell from a number, an array or a piecewise constant function."""
    array = _array(value, mesh, name)
    if array.ndim > 1:
        raise InputError(f"{name} has shape {array.shape}; give one number, or one number per cell.")
    return _filled(array, mesh, name, ())


def _tensor(a: Any, mesh: MeshArrays) -> Array:
    """Return a symmetric positive definite matrix per cell (cells, d, d)."""
    array = _array(a, mesh, "a")
    dim = mesh.jacobian.shape[-1]
    if array.ndim < 2:
        tensor = _filled(array, mesh, "a", ())[:, None, None] * np.eye(dim)
    else:
        if array.shape[-2:] != (dim, dim):
            raise InputError(
                f"a has shape {array.shape}; give one number, one number per cell, or one matrix ({dim}, {dim}) per "
                "cell."
            )
        tensor = _filled(array, mesh, "a", (dim, dim))
    if np.abs(tensor - tensor.transpose(0, 2, 1)).max() > 1e-14 * np.abs(tensor).max():
        raise InputError("a has a matrix that is not symmetric; give symmetric positive definite matrices.")
    smallest = np.linalg.eigvalsh(tensor)[:, 0]
    if not (smallest > 0).all():
        worst = int(smallest.argmin())
        raise InputError(
            f"a must be positive (definite), but its smallest eigenvalue in cell {worst} is {smallest[worst]:.6g}; "
            "check a there."
        )
    return tensor


def _array(value: Any, mesh: MeshArrays, name: str) -> Array:
    if hasattr(value, "function_space"):
        if value.function_space.mesh != mesh.mesh:
            raise InputError(f"{name} is on another mesh than uh; interpolate it into a space on the mesh of uh.")
        field = CellField(value, name)
        if field.degree != 0:
            raise InputError(
                f"{name} is not constant on each cell; interpolate it into functionspace(mesh, ('DG', 0))."
            )
        return np.asarray(field.coefficients[:, 0])
    if callable(value) or hasattr(value, "ufl_shape"):
        raise InputError(
            f"{name} is a formula, but bounds are for polynomial data; interpolate it into a Function, which then "
            "defines the certified problem."
        )
    try:
        return np.asarray(value, dtype=float)
    except (TypeError, ValueError):
        raise InputError(
            f"{name} is of type {type(value).__name__}; give a number, an array with one value per cell, or a Function."
        ) from None


def _filled(array: Array, mesh: MeshArrays, name: str, shape: tuple[int, ...]) -> Array:
    cells = len(mesh.corners)
    if array.ndim > len(shape) and array.shape[0] != cells:
        raise InputError(
            f"{name} has {array.shape[0]} values, but the mesh has {cells} cells; give one value per cell."
        )
    if not np.isfinite(array).all():
        raise InputError(f"{name} has values that are NaN or infinite; remove them.")
    return np.broadcast_to(array, (cells, *shape)).astype(float)
