"""DOLFINx with PETSc's SNES, and DeepXDE's network, on a variational problem of the benchmark."""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
from _variational_cases import Case
from torch import Tensor

#: DeepXDE's own recipe for such equations: three layers of fifty, Adam at 1e-3, so many steps at most.
LAYERS, RATE, STEPS = [50] * 3, 1e-3, 20_000

#: Points inside and on the sides that it takes.
INSIDE, ON_SIDES = 1000, 200


@dataclass(frozen=True)
class Answer:
    """A solution: how many numbers it is made of, and what it cost; its values at points, or its error in H1.

    Attributes
    ----------
    at
        A function of points (..., d), where the answer is one that can be evaluated anywhere.
    error, bound
        Of values and gradients, relative; None where it is not known yet, or never.
    """

    parameters: int
    seconds: float
    note: str
    at: Callable[[Tensor], Tensor] | None = None
    error: float | None = None
    bound: float | None = None


def snes(case: Case, cells: int) -> Answer:
    """Solve with multilinear elements on as many cubes, by Newton's method with GAMG, both of PETSc."""
    from sciml_bounds.fem import require_dolfinx

    require_dolfinx()
    import ufl
    from dolfinx import fem, mesh
    from dolfinx.fem.petsc import NonlinearProblem
    from mpi4py import MPI

    begin = time.perf_counter()
    domain = _cubes(case.dim, cells, mesh, MPI.COMM_WORLD)
    space = fem.functionspace(domain, ("Lagrange", 1))
    u, v, x = fem.Function(space), ufl.TestFunction(space), ufl.SpatialCoordinate(domain)
    exact = case.exact([x[i] for i in range(case.dim)], ufl)

    def weighted(w):
        return case.weight(ufl.inner(ufl.grad(w), ufl.grad(w)), ufl) * ufl.grad(w)

    f = case.reaction(exact) - ufl.div(weighted(exact))
    dx = ufl.dx(metadata={"quadrature_degree": 5})
    residual = ufl.inner(weighted(u), ufl.grad(v)) * dx + case.reaction(u) * v * dx - f * v * dx
    held = []
    if case.dirichlet:
        domain.topology.create_connectivity(case.dim - 1, case.dim)
        sides = mesh.exterior_facet_indices(domain.topology)
        places = fem.locate_dofs_topological(space, case.dim - 1, sides)
        held = [fem.dirichletbc(0.0, places, space)]
    options = {
        "snes_type": "newtonls", "snes_rtol": 1e-8, "ksp_type": "cg", "ksp_rtol": 1e-4, "pc_type": "gamg",
    }  # fmt: skip
    problem = NonlinearProblem(residual, u, bcs=held, petsc_options_prefix="benchmark_", petsc_options=options)
    problem.solve()
    seconds = time.perf_counter() - begin
    difference = u - exact
    squares = [
        fem.assemble_scalar(fem.form((ufl.inner(ufl.grad(w), ufl.grad(w)) + w * w) * dx)) for w in (difference, exact)
    ]
    note = f"{problem.solver.getIterationNumber()} Newton steps, {problem.solver.getLinearSolveIterations()} of CG"
    size = space.dofmap.index_map.size_global
    return Answer(size, seconds, note, error=float(np.sqrt(squares[0] / squares[1])))


def _cubes(dim, cells, mesh, comm):
    if dim == 1:
        return mesh.create_unit_interval(comm, cells)
    if dim == 2:
        return mesh.create_unit_square(comm, cells, cells, mesh.CellType.quadrilateral)
    return mesh.create_unit_cube(comm, cells, cells, cells, mesh.CellType.hexahedron)


def deepxde_network(case: Case, seconds: float) -> Answer:
    """Train DeepXDE's network on residuals at points by its own recipe, for so many seconds at most."""
    os.environ["DDE_BACKEND"] = "pytorch"
    import deepxde

    deepxde.config.set_random_seed(0)
    begin = time.perf_counter()
    geometry = _geometry(case.dim, deepxde.geometry)

    def equation(x: Tensor, u: Tensor, f: Tensor) -> Tensor:
        p = torch.cat([deepxde.grad.jacobian(u, x, i=0, j=j) for j in range(case.dim)], 1)
        flux = case.weight(p.square().sum(1, keepdim=True), torch) * p
        divergence = sum(deepxde.grad.jacobian(flux, x, i=j, j=j) for j in range(case.dim))
        return case.reaction(u) - divergence - f

    def source(x: np.ndarray) -> np.ndarray:
        return case.source(torch.from_numpy(x).double()).unsqueeze(1).numpy()

    def everywhere(_: np.ndarray, on_boundary: bool) -> bool:
        return on_boundary

    condition = deepxde.icbc.DirichletBC if case.dirichlet else deepxde.icbc.NeumannBC
    sides = condition(geometry, lambda x: 0.0, everywhere)
    data = deepxde.data.PDE(
        geometry, equation, sides, num_domain=INSIDE, num_boundary=2 if case.dim == 1 else ON_SIDES,
        auxiliary_var_function=source,
    )  # fmt: skip
    network = deepxde.nn.FNN([case.dim, *LAYERS, 1], "tanh", "Glorot uniform")
    model = deepxde.Model(data, network)
    model.compile("adam", lr=RATE, verbose=0)
    timer = deepxde.callbacks.Timer(seconds / 60)
    model.train(iterations=STEPS, callbacks=[timer], display_every=1000, verbose=0)
    parameters = sum(p.numel() for p in network.parameters())

    def at(points: Tensor) -> Tensor:
        return network(points.float()).squeeze(-1).double()

    return Answer(parameters, time.perf_counter() - begin, f"{model.train_state.step} steps of Adam", at)


def _geometry(dim, geometry):
    if dim == 1:
        return geometry.Interval(0, 1)
    if dim == 2:
        return geometry.Rectangle([0, 0], [1, 1])
    return geometry.Hypercube([0.0] * dim, [1.0] * dim)
