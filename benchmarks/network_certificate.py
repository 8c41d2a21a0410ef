"""Certified error of networks over their true error, on finer and finer grids, and what it costs.

    python benchmarks/network_certificate.py [--cells 8] [--width 40] [--seed 0]

-Laplace u = 1 with u = 0 at both ends of x and no flux through all other sides, so that u = x (1 - x) / 2 in one, two
and three dimensions. Networks are u plus a random network of each activation, held at both ends, scaled to an error of
10 %. Index: upper bound / true error of the network, and in the second column the bound of its interpolant over the
same; the true error by Gauss quadrature. About half a minute of one core.
"""

from __future__ import annotations

import argparse
import itertools
import math
import time

import numpy as np
import torch

import sciml_bounds as sb

KINDS = [("cosine", 1), ("tanh", 1), ("relu", 3), ("relu", 2), ("relu", 1)]
#: Gauss points along each axis, on cells of a grid that is fine for the networks.
QUADRATURE = {1: (200, 6), 2: (48, 4), 3: (16, 3)}


def places(dim: int) -> tuple[torch.Tensor, torch.Tensor]:
    cells, points = QUADRATURE[dim]
    nodes, weights = np.polynomial.legendre.leggauss(points)
    line = ((np.arange(cells)[:, None] + (nodes + 1) / 2) / cells).reshape(-1)
    weight = np.tile(weights / 2 / cells, cells)
    x = np.stack(np.meshgrid(*[line] * dim, indexing="ij"), -1).reshape(-1, dim)
    return torch.as_tensor(x), torch.as_tensor([math.prod(w) for w in itertools.product(weight, repeat=dim)])


def energy_error(network: sb.BarronNetwork, x: torch.Tensor, weight: torch.Tensor) -> float:
    parts = [network.gradient(chunk).detach() for chunk in x.split(20000)]
    gradient = torch.cat(parts)
    gradient[:, 0] -= 0.5 - x[:, 0]
    return math.sqrt(float(weight @ gradient.square().sum(-1)))


def drawn(dim: int, activation: str, power: int, width: int, seed: int) -> sb.BarronNetwork:
    """Add a random network to u, both as one: the parabola of the Dirichlet sides carries the constant 1 / 8."""
    network = sb.BarronNetwork(
        dim, width, activation, power=power, dirichlet_sides=[(0, 0), (0, 1)], scale=4.0, seed=seed
    )
    with torch.no_grad():
        network.offset.fill_(1 / 8)
        error = energy_error(network, *places(dim))
        network.outer *= 0.1 / math.sqrt(12) / error
    return network


def compare(dim: int, cells: int, width: int, seed: int) -> None:
    sides = {side: sb.Neumann(0.0) for side in sb.Grid((2,) * dim).sides}
    sides |= {"x0": sb.Dirichlet(0.0), "x1": sb.Dirichlet(0.0)}
    x, weight = places(dim)
    print(f"\n{dim}-D, networks of {width} neurons; index on n, 2 n and 4 n cells an axis, n = {cells}")
    print(f"  {'activation':10} {'network':>24} {'interpolant':>24} {'lower / error':>24} {'seconds at 4 n':>15}")
    for activation, power in KINDS:
        network = drawn(dim, activation, power, width, seed)
        error = energy_error(network, x, weight)
        columns: list[list[float]] = [[], [], []]
        for n in (cells, 2 * cells, 4 * cells):
            problem = sb.Diffusion(sb.Grid((n,) * dim), 1.0, 1.0, boundary=sides)
            start = time.perf_counter()
            certificate = sb.certify(problem, network)
            seconds = time.perf_counter() - start
            nodal = sb.certify(problem, certificate.values, flux=certificate.flux, lower=False)
            for column, number in zip(columns, (certificate.upper, nodal.upper, certificate.lower)):
                column.append(float(number) / error)
        cellwise = " ".join(f"{' '.join(f'{number:7.3f}' for number in column):>24}" for column in columns)
        name = activation + (f"^{power}" if power > 1 else "")
        print(f"  {name:10} {cellwise} {seconds:15.2f}", flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--cells", type=int, default=8)
    parser.add_argument("--width", type=int, default=40)
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    for dim in (1, 2, 3):
        compare(dim, options.cells, options.width, options.seed)


if __name__ == "__main__":
    main()
