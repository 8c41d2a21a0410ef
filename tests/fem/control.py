"""Control of an equation on meshes of DOLFINx; prints what came out as JSON."""

from __future__ import annotations

import json

import numpy as np

from sciml_bounds.fem import require_dolfinx

require_dolfinx()

import torch
from dolfinx import fem, mesh
from mpi4py import MPI

from sciml_bounds.control._distributed_control import TrackingProgram
from sciml_bounds.fem import MeshStiffness

WEIGHT = 1e-4


def program(n: int, *, bent: bool) -> TrackingProgram:
    """Track x y on n x n x 2 triangles of the unit square, or of a quarter of a ring."""
    domain = mesh.create_unit_square(MPI.COMM_SELF, n, n)
    if bent:
        radius, angle = 1 + domain.geometry.x[:, 0], np.pi / 2 * domain.geometry.x[:, 1]
        domain.geometry.x[:, 0], domain.geometry.x[:, 1] = radius * np.cos(angle), radius * np.sin(angle)
    space = fem.functionspace(domain, ("Lagrange", 1))
    domain.topology.create_connectivity(1, 2)
    dirichlet_dofs = fem.locate_dofs_topological(space, 1, mesh.exterior_facet_indices(domain.topology))
    stiffness = MeshStiffness(space, dirichlet_dofs)
    place = torch.from_numpy(space.tabulate_dof_coordinates()[stiffness.free])
    return TrackingProgram(
        stiffness, torch.zeros(len(place), dtype=torch.float64), place[:, 0] * place[:, 1], WEIGHT, lambda u: u**3
    )  # fmt: skip


found = {}
for name, bent in (("square", False), ("ring", True)):
    for n in (16, 32):
        control = program(n, bent=bent)
        direct = control.minimize(inner="direct")
        products = control.minimize()
        found[f"{name} {n}"] = {
            "direct": direct.fun, "products": products.fun, "success": direct.success and products.success,
            "inner": sum(step.inner_steps for step in products.history) / products.nit,
        }  # fmt: skip
print(json.dumps(found))
