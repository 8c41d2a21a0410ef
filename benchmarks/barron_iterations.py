"""How many preconditioned gradient iterations are guaranteed, and how many are needed: standard and published steps.

    python benchmarks/barron_iterations.py [--cells 64] [--steps 20000]

E(u) = int |grad u|^2 / 2 + c (sqrt(1 + |grad u|^2) - 1) - f u on the unit square, u = 0 on its sides, bilinear elements
with 2 x 2 Gauss points, f = 200 x. Eigenvalues of the second derivative lie between 1 and 1 + c. Inner products are
inverted by sine transforms. Guaranteed: iterations after which the error is 1e-6 of that of u = 0; observed: when it
is, against a solution iterated to round-off. Then the bounds of norms of iterates, as published and corrected.
About a minute of one core; `--steps` limits those of the published step.
"""

from __future__ import annotations

import argparse
import math

import numpy as np
import scipy.fft

from sciml_bounds.barron._norm_growth import (
    GradientIteration,
    corrected_growth,
    published_growth,
    published_iteration,
    standard_iteration,
)

REDUCTION = 1e-6
#: Of the unit square.
POINCARE = 1 / (math.pi * math.sqrt(2))


class Elements:
    """Bilinear elements on n x n cells; u has the inner nodes."""

    def __init__(self, c: float, n: int) -> None:
        self.c, self.n = c, n
        x = np.arange(1, n) / n
        self.load = np.broadcast_to(200 * x[:, None], (n - 1, n - 1)) / n**2
        angle = np.pi * x
        mass, stiffness = (2 + np.cos(angle)) / 3 / n, 2 * (1 - np.cos(angle)) * n
        self.laplace = stiffness[:, None] * mass + mass[:, None] * stiffness
        self.mass = mass[:, None] * mass

    def derivative(self, u: np.ndarray) -> np.ndarray:
        """E'(u) for every hat function."""
        full, total = np.pad(u, 1), np.zeros((self.n + 1, self.n + 1))
        corners = [full[i : i + self.n, j : j + self.n] for i in (0, 1) for j in (0, 1)]
        places = (0.5 - 0.5 / math.sqrt(3), 0.5 + 0.5 / math.sqrt(3))
        for s in places:
            for t in places:
                along_x = np.array([-(1 - t), -t, 1 - t, t]) * self.n
                along_y = np.array([-(1 - s), 1 - s, -s, s]) * self.n
                p, q = (sum(w * v for w, v in zip(weights, corners)) for weights in (along_x, along_y))
                factor = (1 + self.c / np.sqrt(1 + p**2 + q**2)) / 4 / self.n**2
                for k, (i, j) in enumerate(((0, 0), (0, 1), (1, 0), (1, 1))):
                    total[i : i + self.n, j : j + self.n] += factor * (along_x[k] * p + along_y[k] * q)
        return total[1:-1, 1:-1] - self.load

    def inverse(self, residual: np.ndarray, with_mass: bool) -> np.ndarray:
        """Apply the Riesz map, P^-1."""
        symbol = self.laplace + with_mass * self.mass
        return scipy.fft.idstn(scipy.fft.dstn(residual, type=1) / symbol, type=1)

    def norm(self, u: np.ndarray, with_mass: bool) -> float:
        """Of the inner product."""
        coefficients = scipy.fft.dstn(u, type=1, norm="ortho")
        return math.sqrt(((self.laplace + with_mass * self.mass) * coefficients**2).sum())

    def solution(self) -> np.ndarray:
        """By the standard iteration, to round-off."""
        u, step = np.zeros_like(self.load), standard_iteration(1.0, 1.0 + self.c).step
        for _ in range(60 * int(2 + self.c)):
            u = u - step * self.inverse(self.derivative(u), False)
        return u

    def observed(self, step: float, with_mass: bool, exact: np.ndarray, limit: int) -> tuple[int | None, float]:
        """Count iterations to the reduction (None: not within the limit); also return the worst contraction."""
        u = np.zeros_like(self.load)
        norms = [self.norm(exact, with_mass)]
        while norms[-1] > REDUCTION * norms[0] and len(norms) <= limit:
            u = u - step * self.inverse(self.derivative(u), with_mass)
            norms.append(self.norm(u - exact, with_mass))
        ratios = np.array(norms[1:]) / np.array(norms[:-1])
        return (len(norms) - 1 if norms[-1] <= REDUCTION * norms[0] else None), float(ratios.max())


def compare_contractions(cells: int, limit: int) -> None:
    print(f"iterations to {REDUCTION:g} of the first error, {cells} x {cells} elements")
    header = f"{'proven factor':>14} {'observed':>9} {'guaranteed':>11} {'observed':>9}"
    print(f"  {'upper / lower':13} {'step':10} {'P':12} {header}")
    for ratio in (2.0, 4.0, 16.0):
        elements = Elements(ratio - 1, cells)
        exact = elements.solution()
        rows: list[tuple[str, str, bool, GradientIteration]] = [
            ("standard", "-Laplace", False, standard_iteration(1.0, ratio)),
            ("standard", "I - Laplace", True, standard_iteration(1.0, ratio, POINCARE)),
            ("published", "I - Laplace", True, published_iteration(1.0, ratio, POINCARE)),
        ]
        for name, inner, with_mass, iteration in rows:
            count, worst = elements.observed(iteration.step, with_mass, exact, limit)
            shown = f"> {limit}" if count is None else str(count)
            numbers = f"{iteration.factor:14.7f} {worst:9.4f} {iteration.iterations(REDUCTION):11,} {shown:>9}"
            print(f"  {ratio:<13g} {name:10} {inner:12} {numbers}", flush=True)


def compare_growth() -> None:
    print(
        "\nlog10 of the norm after T iterations, as published / corrected: d = 2, W = 2 pi, k = 2, B = 1, ||u_0|| = 10"
    )
    print(f"  {'upper / lower':13} {'p':>2} " + " ".join(f"{f'T = {T}':>19}" for T in (1, 5, 10, 20)))
    for ratio in (2.0, 4.0):
        for power in (1, 2):
            step = published_iteration(1.0, ratio, POINCARE).step
            options = {"start": 10.0, "band": 2 * math.pi, "widening": 2, "size": 1.0, "power": power}
            cells = [
                f"{published_growth(T, step, 2, **options):8.1f} / {corrected_growth(T, step, 2, **options):8.1f}"
                for T in (1, 5, 10, 20)
            ]
            print(f"  {ratio:<13g} {power:2d} " + " ".join(cells))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--cells", type=int, default=64)
    parser.add_argument("--steps", type=int, default=20000)
    options = parser.parse_args()
    compare_contractions(options.cells, options.steps)
    compare_growth()


if __name__ == "__main__":
    main()
