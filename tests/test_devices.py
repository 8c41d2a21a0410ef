"""The same answers on every device as on the CPU, verb by verb, end to end."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np
import pytest
import scipy.sparse
import torch
from matplotlib import pyplot
from torch import Tensor
from torch.utils.data import TensorDataset

import sciml_bounds as sb
from sciml_bounds.barron import BarronFunction, sample_network
from sciml_bounds.control import DistributedControl
from sciml_bounds.data import read, write
from sciml_bounds.krylov._ritz_vectors import ritz_pairs
from sciml_bounds.network_solvers import (
    NetworkSolution,
    greedy_network,
    optimal_sample,
    random_feature_network,
    ritz_network,
    unfolded_network,
)
from sciml_bounds.pressure import METHODS, PressureSolver
from sciml_bounds.problems.discretization import cell_fluxes
from sciml_bounds.simulation import Well, with_wells
from sciml_bounds.sketching._accelerated_kaczmarz import accelerated_kaczmarz
from sciml_bounds.sketching._least_squares import sketched_least_squares
from sciml_bounds.sketching._low_rank import randomised_eigenpairs
from sciml_bounds.training import evaluate
from sciml_bounds.variational import (
    EnergyDensity,
    GinzburgLandau,
    PLaplacian,
    QuadraticEnergy,
    ShearThinning,
    VariationalProblem,
    minimize_energy,
)

#: Both devices solve to this relative residual, and condition numbers are below 1e4: answers agree to 1e-7.
RTOL, AGREE = 1e-11, 1e-7

#: Networks compute in single precision, and a GPU their convolutions in TF32, which has ten bits.
SINGLE = 1e-2

#: How far energies are minimised: conditions of their second derivatives are below 1e3.
ENERGY = {"rtol": 1e-10}

Place = torch.device | str
Verb = Callable[[Place], Any]

#: What returns tensors on the device that it is given, and how closely they agree with those on the CPU.
VERBS: dict[str, tuple[Verb, float]] = {}


def verb(function: Verb, name: str = "", tolerance: float = AGREE) -> Verb:
    VERBS[name or function.__name__] = function, tolerance
    return function


network_verb = partial(verb, tolerance=SINGLE)


def field(*shape: int, device: Place, seed: int = 0, dtype: torch.dtype = torch.float64) -> Tensor:
    """Random numbers between 1/2 and 2, the same on every device."""
    return torch.as_tensor(np.random.default_rng(seed).uniform(0.5, 2.0, shape), dtype=dtype).to(device)


# --- diffusion problems -----------------------------------------------------------------------------------------------

MIXED = {
    "x0": sb.Dirichlet(1.0), "x1": sb.Robin(2.0, 0.5), "y0": sb.Neumann(0.3), "y1": sb.Neumann(-0.1),
    "z0": sb.Periodic(), "z1": sb.Periodic(),
}  # fmt: skip


def problem(name: str, device: Place) -> sb.Diffusion:
    """Make one of several small problems with all fields on a device."""
    a = partial(field, device=device)
    if name == "batch":
        return sb.Diffusion(sb.Grid((21, 12)), a(3, 21, 12) ** 3, a(21, 12))
    if name == "mixed":
        parts = tuple(a(7, 6, 5, seed=axis) for axis in range(3))
        return sb.Diffusion(sb.Grid((7, 6, 5)), parts, 1.0, boundary=MIXED, reaction=a(7, 6, 5))
    if name == "solids":
        return sb.Diffusion(sb.Grid((16, 16)), a(16, 16), 1.0, solid=a(16, 16, seed=1) < 0.8, reaction=0.5)
    if name == "constant":
        return sb.Diffusion(sb.Grid((16, 16)), torch.full_like(a(16, 16), 2.0), a(16, 16))
    if name == "line":
        return sb.Diffusion(sb.Grid(16), a(16), 1.0)
    return sb.Diffusion(sb.Grid((12, 12)), a(12, 12, seed=1), a(12, 12) - a(12, 12).mean(), boundary=sb.Periodic())


PROBLEMS = ("batch", "mixed", "solids", "constant", "line", "periodic")


def solve(device: Place, name: str, method: Any) -> Tensor:
    return sb.solve(problem(name, device), method=method, rtol=RTOL).values


for name in PROBLEMS:
    for method in ("multigrid", "cg", "algebraic", "direct"):
        verb(partial(solve, name=name, method=method), f"solve {name} by {method}")
verb(partial(solve, name="constant", method="transform"), "solve by transform")
verb(partial(solve, name="constant", method="auto"), "solve by auto")
verb(partial(solve, name="batch", method=sb.Multigrid(cycle="V", accelerate=False)), "solve by V-cycles alone")


@verb
def solve_to_a_certified_error(device: Place) -> Any:
    solution = sb.solve(problem("batch", device), error=1.5, callback=lambda progress: progress.iteration > 50)
    return solution.values, solution.certificate.upper


@verb
def solve_from_a_guess(device: Place) -> Any:
    return sb.solve(problem("batch", device), x0=field(3, 22, 13, device=device), rtol=RTOL).values


@verb
def prepared_solves(device: Place) -> Any:
    solver = sb.prepare(problem("batch", device), method="multigrid")
    again = solver.update(coefficient=field(21, 12, device=device)).solve(rtol=RTOL)
    return solver.solve(source=field(21, 12, device=device, seed=9), rtol=RTOL).values, again.values


@verb
def a_problem_that_is_moved(device: Place) -> Any:
    moved = problem("mixed", "cpu").to(device)
    return sb.solve(moved, rtol=RTOL).values, sb.solve(moved.to(torch.float32), certify=True).certificate.energy


def cells(device: Place, name: str) -> Any:
    posed = with_wells(problem(name, device), [Well((3,) * 2, index=2.0, pressure=5.0), Well((0, 1), rate=-1.0)])
    s = sb.prepare(posed, method="multigrid", unknowns="cells").solve(rtol=RTOL)
    certificate = sb.certify(posed, s)
    return s.pressure, *s.rates, certificate.upper, certificate.lower, certificate.values


for name in ("batch", "solids", "constant", "periodic"):
    verb(partial(cells, name=name), f"cells of {name}")


@verb
def algebraic_preconditioner_of_ones_own_matrix(device: Place) -> Any:
    A = scipy.sparse.csr_array(sb.prepare(problem("constant", "cpu"), method="cg").operator.to_csr())
    return sb.cg(A, field(A.shape[0], device=device), M="algebraic", rtol=RTOL).x


@verb
def gradients_of_a_solve(device: Place) -> Any:
    a, f, g = (field(12, 12, device=device, seed=k).requires_grad_() for k in range(3))
    sides = {"x0": sb.Dirichlet(g[0, 0]), "x1": sb.Neumann(g[1]), "y0": sb.Robin(g[2], g[3]), "y1": sb.Neumann(0.0)}
    solution = sb.solve(sb.Diffusion(sb.Grid((12, 12)), a, f, boundary=sides), rtol=RTOL)
    return torch.autograd.grad(solution.values.square().mean(), (a, f, g))


def certify(device: Place, name: str) -> Any:
    exact = problem(name, device)
    values = exact.impose_boundary(solve(device, name, "auto") + 0.1)
    c = sb.certify(exact, values, improve=2, rtol=RTOL)
    outputs = [] if name == "periodic" else [sb.Mean()]  # the mean of a solution without a level is not an output
    outputs += [sb.BoundaryFlux("x0")] if name == "batch" else []
    ends = [end for output in outputs for end in c.goal(output)]
    again = sb.certify(exact, values, flux=c.flux, lower=False)
    energies = torch.stack([c.upper, c.lower, c.energy, again.upper, *c.mesh, *c.model])
    return energies, torch.stack([*c.terms.values()]), c.indicators, c.relative_upper, c.l2_upper, *ends


for name in PROBLEMS:
    # what solves to 1e-10 leave is a part of the intervals of `mesh` and `model`, another one on each device
    verb(partial(certify, name=name), f"certify {name}", tolerance=1e-5)


@verb
def certify_wrong_boundary_values(device: Place) -> Any:
    c = sb.certify(problem("mixed", device), field(8, 7, 5, device=device), rtol=RTOL)
    return c.upper, c.lower, c.boundary_part, c.boundary_gap


@verb
def certify_every_layout(device: Place) -> Any:
    shapes = {"cells": (16, 16), "interior": (15, 15), "coarse": (9, 9)}
    return [
        sb.certify(problem("constant", device), field(*shape, device=device), layout=layout, rtol=RTOL).upper
        for layout, shape in shapes.items()
    ]


@verb
def certify_with_a_finer_flux(device: Place) -> Any:
    coarse = problem("batch", device)
    flux = sb.certify(coarse.refine(2), field(43, 25, device=device), rtol=RTOL).flux
    return sb.certify(coarse, field(22, 13, device=device), flux=flux).upper


@verb
def effective_permeability(device: Place) -> Any:
    sides = {"x0": sb.Dirichlet(1.0), "x1": sb.Dirichlet(0.0), "y0": sb.Neumann(0.0), "y1": sb.Neumann(0.0)}
    channel = sb.Diffusion(sb.Grid((12, 8)), field(12, 8, device=device), boundary=sides)
    values = sb.solve(channel, rtol=RTOL).values
    return [*sb.certify(channel, values, rtol=RTOL).goal(sb.EffectivePermeability("x"))]


@verb
def gradients_of_a_certificate(device: Place) -> Any:
    a, v = (field(*shape, device=device).requires_grad_() for shape in ((12, 12), (13, 13)))
    c = sb.certify(sb.Diffusion(sb.Grid((12, 12)), a, 1.0), v, rtol=RTOL)
    return torch.autograd.grad(c.upper + c.indicators.sum() + c.energy, (a, v))


# --- pressure and linear algebra --------------------------------------------------------------------------------------


def pressure(device: Place, method: str, shape: tuple[int, ...]) -> Tensor:
    solid = field(*shape, device=device, seed=1) < 0.6 if len(shape) == 2 else None
    source = field(*shape, device=device)
    system = cell_fluxes(sb.Diffusion(sb.Grid(shape), torch.ones_like(source), source, solid=solid)).system
    return PressureSolver(method)(system, None, 1e-10).x


for method in METHODS:
    verb(partial(pressure, method=method, shape=(8, 8, 8)), f"pressure by {method} in 3-D")
    if method != "dcdm":  # whose weights are for three axes
        verb(partial(pressure, method=method, shape=(16, 16)), f"pressure by {method} in 2-D")


def definite(device: Place) -> Tensor:
    """A matrix with the eigenvalues 1 to 30, far from each other."""
    Q = torch.linalg.qr(torch.as_tensor(np.random.default_rng(0).standard_normal((20, 20))))[0]
    return ((Q * torch.linspace(1, 30, 20, dtype=torch.float64)) @ Q.T).to(device)


@verb
def conjugate_gradients(device: Place) -> Any:
    A, b = definite(device), field(3, 20, device=device)
    sparse = scipy.sparse.diags_array([-1.0, 2.0, -1.0], offsets=[-1, 0, 1], shape=(20, 20)).tocsr()
    plain = sb.cg(A, b, rtol=RTOL, lambda_min=0.5, lambda_min_preconditioned=0.5)
    others = sb.cg(A, b, M=lambda r: r / 2, rtol=RTOL), sb.cg(sparse, b, rtol=RTOL)
    return plain.x, plain.error_upper, *(s.x for s in others)


@verb
def minimal_residuals(device: Place) -> Any:
    A, b = definite(device), field(3, 20, device=device)
    indefinite = A - 10.3 * torch.eye(20, dtype=A.dtype, device=A.device)
    solver = sb.prepare(problem("constant", device), method="multigrid")
    preconditioned = sb.minres(solver.operator, solver.rhs, M=solver.as_preconditioner(), rtol=RTOL)
    return sb.minres(A, b, rtol=RTOL).x, sb.minres(indefinite, b, rtol=RTOL).x, preconditioned.x


@verb
def sketched_linear_algebra(device: Place) -> Any:
    A, b = definite(device), field(20, device=device)
    tall = torch.as_tensor(np.random.default_rng(1).standard_normal((40, 8))).to(device)
    least = sketched_least_squares(tall, field(40, device=device)).x
    pairs = [*randomised_eigenpairs(A, 3), *ritz_pairs(A, 3)]
    return least, accelerated_kaczmarz(A, b, size=4, rtol=1e-10).x, *(part.abs() for part in pairs)  # up to signs


# --- optimisation -----------------------------------------------------------------------------------------------------


def minimize(device: Place, **options: Any) -> Any:
    def valley(x: Tensor) -> Tensor:
        return (1 - x[0]) ** 2 + 10 * (x[1] - x[0] ** 2) ** 2 + x[2] ** 2

    start = torch.tensor([1.2, 0.5, -0.3], dtype=torch.float64).to(device)
    return torch.as_tensor(sb.minimize(valley, start, atol=1e-9, **options).x)


ON_A_PLANE = {"type": "eq", "fun": lambda x: x.sum() - 1}
verb(minimize, "minimize")
verb(partial(minimize, constraints=ON_A_PLANE), "minimize on a plane")
verb(partial(minimize, constraints=ON_A_PLANE, method="sketched"), "minimize by sketches")


@verb
def optimal_control(device: Place) -> Any:
    state = sb.Diffusion(sb.Grid((12, 12)), field(12, 12, device=device))
    control = DistributedControl(state, field(13, 13, device=device), weight=1e-2)
    found = control.minimize(rtol=1e-10)
    control.to_xarray(found.x)
    control.plot(found.x)
    return control.fields(found.x)


def density(name: str, device: Place) -> EnergyDensity:
    if name == "weighted":
        return QuadraticEnergy(field(10, 10, device=device), reaction=field(10, 10, device=device, seed=3))
    if name == "declared":
        return EnergyDensity(lambda x, u, p: (1 + x[..., 0]) * p.square().sum(-1) / 2 + u**4 / 4, convex=True)
    return {
        "p-Laplacian": PLaplacian(3),
        "shear": ShearThinning(3.0),
        "Ginzburg": GinzburgLandau(0.3),
    }[name]


def energy(device: Place, name: str, method: Any) -> Any:
    posed = VariationalProblem(sb.Grid((10, 10)), density(name, device), field(10, 10, device=device))
    solution = minimize_energy(posed, method=method, **ENERGY, certify=name in ("weighted", "p-Laplacian", "shear"))
    repr(solution)
    c = solution.certificate
    return [solution.values] if c is None else [solution.values, c.upper, c.lower, c.indicators, *c.minimum]


for name in ("weighted", "p-Laplacian", "shear", "Ginzburg", "declared"):
    verb(partial(energy, name=name, method="newton"), f"energy of {name}")
for method in ("kacanov", "gns"):
    verb(partial(energy, name="shear", method=method), f"energy by {method}")
verb(partial(energy, name="weighted", method="gradient"), "energy by gradient")


@verb
def energy_between_all_kinds_of_sides(device: Place) -> Any:
    held, pushed = (field(10, device=device, seed=seed) for seed in range(2))
    sides = {"x0": sb.Dirichlet(held), "x1": sb.Neumann(pushed), "y0": sb.Periodic(), "y1": sb.Periodic()}
    posed = VariationalProblem(sb.Grid((10, 10)), ShearThinning(3.0), 1.0, boundary=sides)
    return minimize_energy(posed, **ENERGY).values


@verb
def a_moved_energy(device: Place) -> Any:
    posed = VariationalProblem(sb.Grid((8, 8)), PLaplacian(3), field(8, 8, device="cpu")).to(device)
    return minimize_energy(posed, **ENERGY).values


# --- networks ---------------------------------------------------------------------------------------------------------


def medium(device: Place) -> sb.Diffusion:
    """Two materials, as the networks that ship were trained on."""
    a = torch.where(field(64, 64, device=device) > 1.25, 12.0, 3.0).double()
    return sb.Diffusion(sb.Grid((64, 64)), a, 1.0)


@network_verb
def mgno(device: Place) -> Any:
    model = sb.MgNO.load("darcy-rough").to(device)
    values = model.predict(medium(device))
    inputs = field(2, 1, 64, 64, device=device, dtype=torch.float32)
    gradients = torch.autograd.grad(model(inputs).square().mean(), list(model.parameters()), allow_unused=True)
    guessed = sb.solve(medium(device), x0=model).values
    return values, sb.certify(medium(device), values).upper, guessed, *filter(torch.is_tensor, gradients)


@network_verb
def certified_mgno(device: Place) -> Any:
    model = sb.CertifiedMgNO.load("darcy-rough-certified").to(device)
    posed = medium(device)
    improved, certificate = (sb.certify(posed, model, lower=False, improve=steps) for steps in (1, 0))
    return improved.upper, certificate.upper, *model.predict_flux(posed)


@network_verb
def learned_directions(device: Place) -> Any:
    model = sb.LearnedDirections.load("poisson3d-64").to(device)
    source = field(12, 12, 12, device=device)
    cube = sb.Diffusion(sb.Grid((12, 12, 12)), torch.ones_like(source), source)
    solver = sb.prepare(cube)
    return sb.cg(solver.operator, solver.rhs, M=model.as_preconditioner(cube), rtol=1e-8).x


@network_verb
def training(device: Place) -> Any:
    model = sb.MgNO(in_channels=1, out_channels=1, dim=2, channels=4, layers=1, levels=2)
    samples = TensorDataset(torch.rand(6, 1, 16, 16), torch.rand(6, 1, 17, 17))
    sb.train(model, samples, samples, device=device, epochs=2, batch_size=3, loss="l2", lr=1e-3)
    evaluate(model, samples, device=device)
    return [parameter.detach() for parameter in model.parameters()]


@verb
def a_barron_network(device: Place) -> Any:
    model = sb.BarronNetwork(2, 12, "tanh", seed=0).to(device)
    x, c = field(5, 2, device=device), sb.certify(problem("constant", device), model, rtol=RTOL)
    return model(x), model.gradient(x), model.laplacian(x), c.upper, c.lower, c.indicators


@verb
def a_barron_function(device: Place) -> Any:
    f = BarronFunction.cosine([[1, 1], [2, 0]], [1.0, 0.5])
    x, source = field(5, 2, device=device), sb.Diffusion(sb.Grid((16, 16)), field(16, 16, device=device), f).source
    return source, f(x), sample_network(f, 16).network.to(device)(x)


def fitted(device: Place, solver: Callable[..., NetworkSolution], options: dict[str, Any]) -> Any:
    weighted = QuadraticEnergy(field(8, 8, device=device))
    posed = VariationalProblem(sb.Grid((8, 8)), weighted, field(8, 8, device=device))
    solution = solver(posed, 12, lifting=sb.BarronNetwork.of(torch.zeros(0, 2), [], []).to(device), **options)
    c = sb.variational.certify_energy(posed, solution)
    return solution.network(field(5, 2, device=device)), c.upper, c.lower


FITS: dict[str, tuple[Any, dict[str, Any]]] = {
    "greedy": (greedy_network, {}), "random features": (random_feature_network, {}),
    "Ritz": (ritz_network, {"steps": 5}), "unfolded": (unfolded_network, {}),
}  # fmt: skip
for name, (solver, options) in FITS.items():
    verb(partial(fitted, solver=solver, options=options), f"{name} network")


@verb
def calibrated_errors(device: Place) -> Any:
    calibration = sb.calibrate(field(40, 4, device=device))
    interval = calibration.interval(field(3, 4, device=device))
    elsewhere = sb.calibrate(field(40, 4, device="cpu")).interval(field(3, 4, device=device))
    return calibration.threshold, calibration.apply(), interval.lower, elsewhere.upper


@verb
def points_drawn_for_least_squares(device: Place) -> Any:
    sample = optimal_sample(field(30, 4, device=device), 8)
    return sample.indices, sample.weights


# --- all of them ------------------------------------------------------------------------------------------------------


def tensors(place: Place, function: Verb) -> list[Tensor]:
    torch.manual_seed(0)
    found = function(place)
    return [part.detach() for part in ([found] if isinstance(found, Tensor) else found)]


@pytest.mark.parametrize("name", VERBS)
def test_every_device_gives_the_answers_of_the_cpu(name, device):
    function, tolerance = VERBS[name]
    here, there = tensors("cpu", function), tensors(device, function)
    pyplot.close("all")
    assert {part.device for part in there} == {device}
    for ours, theirs in zip(there, here, strict=True):
        size = float(theirs.abs().nan_to_num(posinf=0.0).max())
        torch.testing.assert_close(ours.cpu(), theirs, rtol=tolerance, atol=tolerance * size)


def test_results_are_written_and_drawn(device, tmp_path):
    solution = sb.solve(problem("batch", device), certify=True)
    repr((solution, solution.linear, solution.certificate))
    for result in (solution, solution.certificate):
        path = tmp_path / f"{type(result).__name__}.nc"
        write(result, path)
        torch.testing.assert_close(read(path).values, result.values.cpu(), rtol=0, atol=0)
        result.to_xarray()
        result.plot()
    pyplot.close("all")


def test_devices_do_not_mix(device):
    with pytest.raises(sb.InputError, match="device"):
        sb.certify(problem("batch", device), torch.zeros(22, 13, dtype=torch.float64))
    with pytest.raises(sb.InputError, match="device"):
        sb.Diffusion(sb.Grid((4, 4)), torch.ones(4, 4, device="cpu").to(device), torch.ones(4, 4))
    with pytest.raises(sb.InputError, match="device"):
        VariationalProblem(sb.Grid((4, 4)), QuadraticEnergy(torch.ones(4, 4)), torch.ones(4, 4).to(device))


# --- how often the host waits -----------------------------------------------------------------------------------------

#: Waits of a solve beside one an iteration: whether the start is good enough, whether another sample runs when one has
#: ended, whether the recomputed residual agrees, and why all have ended.
HANDFUL = 4

#: Problems whose level is free are asked how many parts they have, before and after.
WAITS = {
    ("line", "multigrid"): HANDFUL, ("mixed", "multigrid"): HANDFUL, ("batch", "multigrid"): HANDFUL,
    ("constant", "transform"): HANDFUL, ("mixed", "cg"): HANDFUL, ("periodic", "multigrid"): HANDFUL + 3,
}  # fmt: skip


@pytest.mark.parametrize(("name", "method"), WAITS)
def test_the_host_waits_once_an_iteration(name, method, device, waits):
    solver = sb.prepare(problem(name, device), method=method)
    waits.clear()
    solution = solver.solve(rtol=1e-6)
    assert len(waits) <= int(solution.iterations.max()) + WAITS[name, method], waits


def test_a_new_source_is_looked_at_once(device, waits):
    solver = sb.prepare(problem("line", device), method="multigrid")
    sources = [field(16, device=device, seed=seed) for seed in range(2)]
    solver.solve(source=sources[0])  # what the sides give is assembled here
    waits.clear()
    solution = solver.solve(source=sources[1])
    assert len(waits) <= 1 + int(solution.iterations) + HANDFUL, waits


def test_samples_that_end_one_after_the_other_cost_one_wait_more_each(device, waits):
    """The k-th matrix has the eigenvalues 1 to k, so that conjugate gradients take k iterations."""
    diagonals = [torch.arange(20).remainder(k + 1) + 1.0 for k in range(6)]
    matrices, b = torch.stack([torch.diag(d) for d in diagonals]).double().to(device), field(6, 20, device=device)
    sb.cg(matrices, b, atol=1e9)  # which zero reaches
    posing = len(waits)
    waits.clear()
    solution = sb.cg(matrices, b)
    assert sorted(solution.iterations.tolist()) == [1, 2, 3, 4, 5, 6]
    assert len(waits) <= posing + 6 + 6


def test_a_problem_is_posed_and_set_up_with_few_waits(device, waits):
    """One for each field that is an array; the set-up asks how each level is to be coarsened."""
    a, f = field(16, 16, device=device), field(16, 16, device=device, seed=1)
    waits.clear()
    posed = sb.Diffusion(sb.Grid((16, 16)), a, f)
    assert len(waits) == 2, waits
    sb.prepare(posed, method="multigrid")
    assert len(waits) <= 2 + 7, waits
