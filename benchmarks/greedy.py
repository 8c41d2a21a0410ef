"""Networks that solve equations: errors and orders of the greedy algorithm, ten dimensions, points of least squares.

    python benchmarks/greedy.py [--only one two ten points nonlinear] [--width 64] [--cosines 640] [--draws 200]

- one, two: -Laplace u + u = f on (-1, 1)^d without flow through the sides, u the product of cos(pi x_i), by ReLU^k
  networks of 8, 16, ... `--width` neurons. Errors are by Gauss points of cells that the solver does not use. Orders
  are those of the last two doublings, and "proven" is n^(-1/2 - (2 (k - m) + 1) / (2d)) in H^m.
- ten: the same equation on (0, 1)^10 with u = prod(1 + cos(pi x_i) / 4), by cosines whose frequencies are searched,
  with exact integrals of the source, and with values of it only. Errors are relative in H1, in closed form, and not
  those that the solver knows. "theory" is the width at which `sb.barron.width_for` says that some network is that
  close.
- points: mean and median of the squared error over the best one, least squares with Legendre polynomials.
- nonlinear: shear thinning on the unit square by a mesh and by networks, and what `sb.variational.certify_energy`
  guarantees: the L2 error of the gradient, relative, of the values at the nodes (with a flux on cells of half the
  spacing), and of the networks themselves.

A few minutes of one core.
"""

from __future__ import annotations

import argparse
import itertools
import math
import time

import numpy as np
import torch

import sciml_bounds as sb
from sciml_bounds.barron import BarronFunction, Box, width_for
from sciml_bounds.network_solvers import (
    greedy_network,
    optimal_sample,
    random_feature_network,
    ritz_network,
    unfolded_network,
)
from sciml_bounds.network_solvers._cosine_integrals import cosine_products, series_load
from sciml_bounds.network_solvers._quadrature import gauss
from sciml_bounds.variational import QuadraticEnergy, ShearThinning, VariationalProblem, minimize_energy

PI = math.pi
NEUMANN = sb.Neumann(0.0)
DENSITY = QuadraticEnergy(reaction=1.0)

#: Cells of the points where errors are computed, by dimension.
FINE = {1: 5000, 2: 150}


def cosine_problem(dim: int) -> VariationalProblem:
    box = Box([2.0] * dim, [-1.0] * dim)
    return VariationalProblem(box, DENSITY, lambda x: (1 + dim * PI**2) * (PI * x).cos().prod(-1), boundary=NEUMANN)


def errors(network: sb.BarronNetwork, problem: VariationalProblem) -> tuple[float, float]:
    """L2 and H1 errors."""
    rule = gauss(problem.box, (FINE[problem.dim],) * problem.dim)
    l2 = h1 = 0.0
    with torch.no_grad():
        for x, w in zip(rule.points.split(2**14), rule.weights.split(2**14)):
            cos, sin = (PI * x).cos(), (PI * x).sin()
            others = torch.stack([cos[:, [j for j in range(x.shape[1]) if j != i]].prod(-1) for i in range(x.shape[1])])
            l2 += float(w @ (network(x) - cos.prod(-1)).square())
            h1 += float(w @ (network.gradient(x) + PI * sin * others.T).square().sum(-1))
    return math.sqrt(l2), math.sqrt(l2 + h1)


def greedy_orders(dim: int, powers: tuple[int, ...], width: int) -> None:
    problem = cosine_problem(dim)
    print(f"\ngreedy ReLU^k, d = {dim}: -Laplace u + u = f on (-1, 1)^{dim}, u = prod cos(pi x_i)")
    of_norm = " ".join(f"{norm:>9} {'order':>6} {'proven':>7}" for norm in ("L2", "H1"))
    print(f"  {'k':>2} {'n':>5} {of_norm} {'norm':>7} {'s':>6}")
    for power in powers:
        found: list[tuple[float, float]] = []
        for n in [2**i for i in range(3, 20) if 2**i <= width]:
            solution = greedy_network(problem, n, power=power)
            found.append(errors(solution.network, problem))
            seen = [math.log(a / b, 4) for a, b in zip(found[-3], found[-1])] if len(found) > 2 else [math.nan] * 2
            proven = [0.5 + (2 * (power - m) + 1) / (2 * dim) for m in (0, 1)]
            figures = " ".join(f"{found[-1][m]:9.1e} {seen[m]:6.2f} {proven[m]:7.2f}" for m in (0, 1))
            print(f"  {power:2d} {n:5d} {figures} {solution.history[-1].norm:7.1f} {solution.seconds:6.1f}", flush=True)


def product_solution(dim: int) -> tuple[BarronFunction, BarronFunction, float]:
    """U = prod(1 + cos(pi x_i) / 4), f = u - Laplace u, and the squared H1 norm of u."""
    modes = torch.tensor(list(itertools.product((0, 1), repeat=dim)))
    ones = modes.sum(-1).double()
    values = 0.25**ones
    u, f = (BarronFunction.cosine(modes, c) for c in (values, values * (1 + PI**2 * ones)))
    return u, f, float((values**2 * 0.5**ones * (1 + PI**2 * ones)).sum())


def values_only(x: torch.Tensor) -> torch.Tensor:
    """Evaluate the source of `product_solution`."""
    waves = (PI * x).cos() / 4
    return (1 + waves).prod(-1) * (1 + PI**2 * (waves / (1 + waves)).sum(-1))


def ten_dimensions(width: int, dim: int = 10) -> None:
    u, f, square = product_solution(dim)
    box = Box([1.0] * dim)
    print(f"\ngreedy cosines, d = {dim}: u = prod(1 + cos(pi x_i) / 4), frequencies not given; relative H1 errors")
    print(f"  {'source':9} {'n':>5} {'error':>7} {'theory':>7} {'norm':>7} {'s':>6}")
    for name, source in (("integrals", f), ("values", values_only)):
        problem = VariationalProblem(box, DENSITY, source, boundary=NEUMANN)
        for n in sorted({width // 4, width // 2, 3 * width // 4, width}):
            solution = greedy_network(problem, n, activation="cosine")
            error = relative_error(solution.network, f, square, box)
            theory = width_for(u, error * math.sqrt(square), "H1", "cosine")
            figures = f"{solution.width:5d} {error:7.4f} {theory:7d} {solution.network.barron_norm:7.1f}"
            print(f"  {name:9} {figures} {solution.seconds:6.1f}", flush=True)


def relative_error(network: sb.BarronNetwork, f: BarronFunction, square: float, box: Box) -> float:
    """|||u - v|||^2 = |||u|||^2 - 2 int f v + |||v|||^2, all in closed form."""
    modes = (network.weights.detach() / PI).round().long()
    mass, stiffness = cosine_products(modes, modes, box)
    c = network.outer.detach()
    return math.sqrt(
        max(square - 2 * float(c @ series_load(f, modes, box)) + float(c @ (mass + stiffness) @ c), 0) / square
    )


def points(draws: int) -> None:
    x, w = np.polynomial.legendre.leggauss(1000)
    w = w / 2
    print(
        f"\nleast squares with m Legendre polynomials at n points, {draws} draws: squared error / best, mean (median)"
    )
    print(f"  {'function':13} {'m':>3} {'n':>3} {'independent':>20} {'determinantal':>16}")
    for m, n in ((10, 20), (10, 40), (20, 40), (20, 80)):
        table = np.polynomial.legendre.legvander(x, m - 1) * np.sqrt(2 * np.arange(m) + 1)
        for name, values in (("1/(1 + 25 x^2)", 1 / (1 + 25 * x**2)), ("|x - 0.1|", abs(x - 0.1))):
            best = values - table @ (table.T @ (w * values))
            found = []
            for method in ("iid", "dpp"):
                ratios = []
                for seed in range(draws):
                    sample = optimal_sample(table, n, weights=w, method=method, seed=seed)
                    i, root = sample.indices.numpy(), np.sqrt(sample.weights.numpy())
                    c = np.linalg.lstsq(root[:, None] * table[i], root * values[i], rcond=None)[0]
                    ratios.append(float(w @ (values - table @ c) ** 2 / (w @ best**2)))
                found.append(f"{np.mean(ratios):.4g} ({np.median(ratios):.2f})")
            print(f"  {name:13} {m:3d} {n:3d} {found[0]:>20} {found[1]:>16}", flush=True)


def nonlinear(cells: int, width: int) -> None:
    density = ShearThinning(3.0)
    problem = VariationalProblem(sb.Grid((cells, cells)), density, source=20.0)
    for_networks = VariationalProblem(Box([1.0, 1.0]), density, 20.0)
    print(f"\nshear thinning on {cells}^2 cells: certified relative error of the gradient")
    print(f"  {'method':28} {'unknowns':>8} {'J <=':>12} {'nodes':>8} {'network':>8} {'s':>6}")
    start = time.perf_counter()
    classical = minimize_energy(problem)
    show("Newton, multigrid", classical.values.numel(), time.perf_counter() - start, problem, classical.values, None)
    solvers = {
        "random features": lambda: random_feature_network(for_networks, width),
        "gradient iteration, networks": lambda: unfolded_network(for_networks, width, steps=20),
        "deep Ritz": lambda: ritz_network(for_networks, width, steps=300),
    }
    for name, solver in solvers.items():
        solution = solver()
        network = solution.network
        unknowns = sum(p.numel() for p in network.parameters()) if name == "deep Ritz" else width + 3
        nodes = torch.stack(torch.meshgrid(*[problem.grid.nodes(i) for i in (0, 1)], indexing="ij"), -1)
        with torch.no_grad():
            values = problem.impose_boundary(network(nodes))
        show(name, unknowns, solution.seconds, problem, values, network)


def show(
    name: str,
    unknowns: int,
    seconds: float,
    problem: VariationalProblem,
    values: torch.Tensor,
    network: sb.BarronNetwork | None,
) -> None:
    """Print what is guaranteed of the nodal values, with a flux on finer cells, and of the network itself."""
    of_nodes = sb.variational.certify_energy(problem, values, halvings=1)
    bounds = f"{float(of_nodes.relative_gradient_upper):8.4f}"
    energy = of_nodes.energy.upper
    if network is not None:
        of_network = sb.variational.certify_energy(problem, network)
        bounds += f" {float(of_network.relative_gradient_upper):8.4f}"
        energy = of_network.energy.upper
    print(f"  {name:28} {unknowns:8d} {float(energy):12.7f} {bounds:17} {seconds:6.1f}", flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--only", nargs="+", choices=["one", "two", "ten", "points", "nonlinear"])
    parser.add_argument("--width", type=int, default=64)
    parser.add_argument("--cosines", type=int, default=640)
    parser.add_argument("--draws", type=int, default=200)
    parser.add_argument("--cells", type=int, default=256)
    given = parser.parse_args()
    chosen = given.only or ["one", "two", "ten", "points", "nonlinear"]
    if "one" in chosen:
        greedy_orders(1, (1, 2, 3), given.width)
    if "two" in chosen:
        greedy_orders(2, (2,), given.width)
    if "ten" in chosen:
        ten_dimensions(given.cosines)
    if "points" in chosen:
        points(given.draws)
    if "nonlinear" in chosen:
        nonlinear(given.cells, 3 * given.width)


if __name__ == "__main__":
    main()
