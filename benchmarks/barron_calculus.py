"""How tight the rules of Barron norms are: the norm that each carries, over the exact one, on random functions.

    python benchmarks/barron_calculus.py [--functions 2000] [--dimension 2] [--seed 0]

Functions are trigonometric polynomials of 1 to 12 waves with modes up to 4 on the unit torus. The exact norm of a
result is the sum over its own waves; "norms alone" is the rule of arXiv:2210.12101 that uses ||f||, ||g|| and the band
limit only. A violation is a carried norm below the exact one. Then the a-priori bound of solutions of
-div(a grad u) = f in one dimension, against the series of the solution. About half a minute of one core.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable

import numpy as np

import sciml_bounds as sb

B = sb.barron.BarronFunction

#: What a rule makes of f and g, and what it says if ||f||, ||g|| and the band limit W are all that is known.
RULES: dict[str, tuple[Callable[[B, B], B], Callable[[B, B], float]]] = {
    "f + g": (lambda f, g: f + g, lambda f, g: f.norm + g.norm),
    "f g": (lambda f, g: f * g, lambda f, g: f.norm * g.norm),
    "f^3": (lambda f, g: f**3, lambda f, g: f.norm**3),
    "1 - f + 2 f^3": (lambda f, g: f.polynomial([1, -1, 0, 2]), lambda f, g: 1 + f.norm + 2 * f.norm**3),
    "df / dx": (lambda f, g: f.derivative(0), lambda f, g: f.band[0] * f.norm),
    "(I - Laplace)^-1 f": (lambda f, g: f.resolvent(), lambda f, g: f.norm),
    "g df / dx (flux)": (lambda f, g: f.flux(g)[0], lambda f, g: f.band[0] * f.norm * g.norm),
}


def drawn(rng: np.random.Generator, dim: int) -> B:
    terms = int(rng.integers(1, 13))
    phases = np.exp(2j * np.pi * rng.uniform(size=terms))
    return B.fourier(rng.integers(-4, 5, (terms, dim)), rng.standard_normal(terms) * phases)


def compare_rules(functions: int, dim: int, seed: int) -> None:
    print(f"carried norm / exact norm, {functions} functions in {dim} dimensions, seed {seed}")
    print(
        f"  {'rule':20} {'violations':>10} {'least':>7} {'median':>7} {'95 %':>7} {'largest':>8}   norms alone: median"
    )
    for name, (rule, alone) in RULES.items():
        rng, ratios, coarse = np.random.default_rng(seed), [], []
        for _ in range(functions):
            f, g = drawn(rng, dim), drawn(rng, dim)
            result = rule(f, g)
            exact = result.tightened().norm
            if exact > 1e-12 * result.norm:  # a derivative or sum of nothing has no ratio
                ratios.append(result.norm / exact)
                coarse.append(alone(f, g) / exact)
        least, median, most, largest = np.quantile(ratios, [0, 0.5, 0.95, 1])
        violations = int((np.array(ratios) < 1 - 1e-12).sum())
        figures = f"{violations:10d} {least:7.3f} {median:7.2f} {most:7.2f} {largest:8.2f}"
        print(f"  {name:20} {figures}   {np.median(coarse):19.2f}", flush=True)


def compare_solutions(functions: int, seed: int) -> None:
    """Solve -(a u')' = f on the circle: a u' = y - F with F' = f, and y such that u is periodic."""
    print(f"\na-priori bound of sum |w| |U| / exact, -(a u')' = f in one dimension, {functions} problems each")
    print(f"  {'variation of a':20} {'violations':>10} {'median':>7} {'largest':>8}")
    rng, x = np.random.default_rng(seed), np.arange(1024)[:, None] / 1024
    for variation in (0.1, 0.3, 0.5, 0.7, 0.9):
        ratios = []
        for _ in range(functions):
            weights = rng.dirichlet(np.ones(4)) * np.exp(2j * np.pi * rng.uniform(size=4))
            a = B.fourier([[0], [1], [2], [3], [4]], [1.0, *(variation * weights)])
            modes = rng.integers(1, 6, (3, 1))
            c = rng.standard_normal(3) + 1j * rng.standard_normal(3)
            antiderivative = B.fourier(modes, c / (2j * np.pi * modes[:, 0]))
            values = a(x).numpy()
            free = -antiderivative(x).numpy() / values
            slope = free - free.mean() / (1 / values).mean() / values
            exact = np.abs(np.fft.fft(slope, norm="forward")).sum()
            ratios.append(sb.barron.solution_norms(a, B.fourier(modes, c)).gradient / exact)
        violations = int((np.array(ratios) < 1 - 1e-12).sum())
        print(f"  {variation:<20} {violations:10d} {np.median(ratios):7.2f} {max(ratios):8.2f}")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--functions", type=int, default=2000)
    parser.add_argument("--dimension", type=int, default=2)
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    compare_rules(options.functions, options.dimension, options.seed)
    compare_solutions(max(1, options.functions // 10), options.seed)


if __name__ == "__main__":
    main()
