"""The same equations by meshes and by networks, from one dimension to twenty: errors, bounds, sizes, seconds.

    python benchmarks/variational.py [--only CASE ...] [--methods METHOD ...] [--seconds 60]

Cases: `linear-1` ... `linear-20`, -Lap u + u = f with u = prod(1 + cos(pi x_i) / 4) and no flow through the sides;
`nonlinear-1`, `nonlinear-2`, -div((1 + 3 / sqrt(1 + |grad u|^2)) grad u) + u^3 = f with u a product of sines, zero on
the sides. f is given as a function of points. Methods:

  newton         ours, Newton's method with multigrid on 2^12, 256^2 or 32^3 cells
  snes           DOLFINx with PETSc's SNES, CG and GAMG on the same cells (extra `fem`)
  greedy         ours, the orthogonal greedy algorithm: ReLU^2, or waves above three dimensions
  features       ours, random features with weights by least squares
  ritz           ours, the energy at points minimised by a network
  deepxde        the network of DeepXDE by its own recipe (extra `peers`), for `--seconds` at most

Error is that of values and gradients together, relative, in H1: by three Gauss points an axis of the cells up to three
dimensions, at 2^14 quasi-random points above. "at most" is what the certificate guarantees of it without knowing u,
where it does. What a mesh would need in more dimensions follows from its order: errors fall like the width of the
cells.
"""

from __future__ import annotations

import argparse
import importlib.util
import math
import time
from collections.abc import Callable
from dataclasses import replace

import torch
from _variational_cases import Case, linear, shear_thinning
from _variational_peers import Answer, deepxde_network, snes
from torch import Tensor

import sciml_bounds as sb
from sciml_bounds.problems.elements import Elements

CASES = {f"linear-{d}": linear(d) for d in (1, 2, 3, 5, 10, 20)} | {f"nonlinear-{d}": shear_thinning(d) for d in (1, 2)}

#: Cells along an axis in one, two and three dimensions; what is asked of everybody, to count what a mesh would need.
CELLS, ASKED = {1: 4096, 2: 256, 3: 32}, 0.05

#: Three Gauss points of [0, 1].
RULE = ((0.5 - math.sqrt(0.15), 5 / 18), (0.5, 4 / 9), (0.5 + math.sqrt(0.15), 5 / 18))

#: Cells for integrals of networks along an axis, and points above three dimensions.
FINE, SAMPLES = {1: 2000, 2: 100, 3: 24}, 2**14


def points_of(case: Case) -> tuple[Tensor, Tensor]:
    """Points (q, d) and weights (q,) for errors."""
    if case.dim > 3:
        drawn = torch.quasirandom.SobolEngine(case.dim, scramble=True, seed=0).draw(SAMPLES, dtype=torch.float64)
        return drawn, torch.full((SAMPLES,), 1 / SAMPLES, dtype=torch.float64)
    elements = Elements(sb.Grid((FINE[case.dim],) * case.dim), RULE)
    x = elements.coordinates()
    weights = elements.weights.view(-1, *[1] * case.dim).expand(x.shape[:-1])
    return x.reshape(-1, case.dim), weights.reshape(-1)


def relative(case: Case, x: Tensor, weights: Tensor, values: Tensor, gradients: Tensor) -> float:
    """Return the error in H1, relative to the solution."""
    u, p = case.u(x), case.gradient(x)
    error = (values - u).square() + (gradients - p).square().sum(-1)
    return float((weights @ error / (weights @ (u.square() + p.square().sum(-1)))).sqrt())


def error_of_function(case: Case, at: Callable[[Tensor], Tensor]) -> float:
    x, weights = points_of(case)
    gradients = [torch.func.grad(lambda y: at(y).sum())(part) for part in x.split(4096)]
    values = [at(part).detach() for part in x.split(4096)]
    return relative(case, x, weights, torch.cat(values), torch.cat(gradients).detach())


def error_of_nodes(case: Case, nodes: Tensor) -> float:
    cells = nodes.shape[0] - 1
    elements = Elements(sb.Grid((cells,) * case.dim), RULE)
    x = elements.coordinates().reshape(-1, case.dim)
    values, gradients = elements.at(nodes)
    weights = elements.weights.repeat_interleave(cells**case.dim)
    return relative(case, x, weights, values.reshape(-1), gradients.reshape(-1, case.dim))


# --- methods ----------------------------------------------------------------------------------------------------------


def newton(case: Case, seconds: float) -> Answer:
    begin = time.perf_counter()
    problem = case.on_grid(CELLS[case.dim])
    solution = sb.variational.minimize_energy(problem)
    elapsed = time.perf_counter() - begin
    note = f"{solution.iterations} Newton steps" if solution.iterations else "one solve"
    error, bound = error_of_nodes(case, solution.values), bound_of_nodes(problem, solution.values)
    return Answer(solution.values.numel(), elapsed, note, error=error, bound=bound)


def greedy(case: Case, seconds: float) -> Answer:
    waves = case.dim > 3
    width = 1200 if waves else 64
    options = {"activation": "cosine"} if waves else {"power": 2}
    return of_network(case, lambda problem: sb.network_solvers.greedy_network(problem, width, **options))


def features(case: Case, seconds: float) -> Answer:
    width = {1: 64, 2: 400}.get(case.dim, 1000)
    return of_network(case, lambda problem: sb.network_solvers.random_feature_network(problem, width))


def ritz(case: Case, seconds: float) -> Answer:
    return of_network(case, lambda problem: sb.network_solvers.ritz_network(problem, 64))


def of_network(
    case: Case, fit: Callable[[sb.variational.VariationalProblem], sb.network_solvers.NetworkSolution]
) -> Answer:
    problem = case.on_box()
    begin = time.perf_counter()
    solution = fit(problem)
    elapsed = time.perf_counter() - begin
    network = solution.network
    numbers = sum(p.numel() for p in network.parameters())
    return Answer(numbers, elapsed, f"width {solution.width}", network, bound=bound_of_network(case, network))


def bound_of_network(case: Case, network: sb.BarronNetwork) -> float | None:
    """Bound the same of a network, between the nodes too."""
    if case.dim > 3:
        return None
    problem = case.on_grid(CELLS[case.dim])
    if problem.linear:
        return float(sb.certify(problem.as_diffusion(), network).relative_upper)
    return float(sb.variational.certify_energy(problem, network).relative_gradient_upper)


def bound_of_nodes(problem: sb.variational.VariationalProblem, nodes: Tensor) -> float:
    """Bound the error in energy of a linear problem, or of the gradient, relative to the solution."""
    if problem.linear:
        return float(sb.certify(problem.as_diffusion(), nodes).relative_upper)
    return float(sb.variational.certify_energy(problem, problem.impose_boundary(nodes)).relative_gradient_upper)


METHODS: dict[str, Callable[[Case, float], Answer]] = {
    "newton": newton, "snes": lambda case, _: snes(case, CELLS[case.dim]), "greedy": greedy, "features": features,
    "ritz": ritz, "deepxde": deepxde_network,
}  # fmt: skip

#: What is not installed leaves a method out.
NEEDS = {"snes": "dolfinx_solver", "deepxde": "deepxde"}


# --- tables -----------------------------------------------------------------------------------------------------------


def applies(method: str, case: Case) -> str:
    """Why a method is left out, or nothing."""
    if method in NEEDS and importlib.util.find_spec(NEEDS[method]) is None:
        return f"{NEEDS[method]} is not installed"
    if method in ("newton", "snes") and case.dim > 3:
        return "no mesh"
    if method == "greedy" and case.dirichlet:
        return "for linear equations"
    return ""


def measure(case: Case, method: str, seconds: float) -> Answer:
    """Solve, and find out the error and the bound where the method has not."""
    answer = METHODS[method](case, seconds)
    error, bound = answer.error, answer.bound
    if error is None and answer.at is not None:
        error = error_of_function(case, answer.at)
    if bound is None and answer.at is not None and case.dim <= 3:
        problem = case.on_grid(CELLS[case.dim])
        axes = torch.meshgrid(*[problem.grid.nodes(axis) for axis in range(case.dim)], indexing="ij")
        with torch.no_grad():
            nodes = answer.at(torch.stack(axes, -1).reshape(-1, case.dim)).reshape(axes[0].shape)
        bound = bound_of_nodes(problem, nodes)
    return replace(answer, error=error, bound=bound)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", nargs="+", choices=CASES, default=list(CASES), metavar="CASE")
    parser.add_argument("--methods", nargs="+", choices=METHODS, default=list(METHODS), metavar="METHOD")
    parser.add_argument("--seconds", type=float, default=60.0, help="time that DeepXDE's training may take")
    arguments = parser.parse_args()
    for case in (linear(1), shear_thinning(2)):  # what is compiled or imported on first use is not charged
        sb.variational.minimize_energy(case.on_grid(8))
    orders: dict[int, float] = {}
    for name in arguments.only:
        case = CASES[name]
        print(f"\n{case.name}\n  {'method':9} {'error':>9} {'at most':>9} {'numbers':>9} {'seconds':>9}", flush=True)
        for method in arguments.methods:
            why = applies(method, case)
            if why:
                print(f"  {method:9} {why}")
                continue
            answer = measure(case, method, arguments.seconds)
            bound = "" if answer.bound is None else f"{answer.bound:9.2%}"
            cost = f"{answer.parameters:9} {answer.seconds:9.2f}  {answer.note}"
            print(f"  {method:9} {answer.error:9.2%} {bound:>9} {cost}", flush=True)
            if method == "newton" and not case.dirichlet:
                orders[case.dim] = CELLS[case.dim] * answer.error / ASKED
        if orders and not case.dirichlet:
            cells = math.ceil(orders.get(case.dim, max(orders.values())))
            print(f"  a mesh for {ASKED:.0%}: about {cells} cells an axis, {float(cells) ** case.dim:.1e} unknowns")


if __name__ == "__main__":
    main()
