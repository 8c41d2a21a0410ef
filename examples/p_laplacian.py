"""Nonlinear equations have certificates of energy: the minimum of J(u) = int |u'|^q / q - u lies in the interval.

In one dimension it is known: J(u) = -2^(-p) / (p (p + 1)) with 1/p + 1/q = 1.
"""

import matplotlib.pyplot as plt

import sciml_bounds as sb


def main() -> tuple[dict[str, float], plt.Figure]:
    grid, numbers = sb.Grid((64,)), {}
    figure, axes = plt.subplots(figsize=(6, 4), layout="constrained")
    for q in (1.5, 2.0, 4.0):
        problem = sb.variational.VariationalProblem(grid, sb.variational.PLaplacian(q), source=1.0)
        solution = sb.variational.minimize_energy(problem, certify=True)
        p = q / (q - 1)
        exact = -(2**-p) / (p * (p + 1))
        low, high = solution.certificate.minimum
        numbers |= {f"lower, q = {q:g}": float(low), f"exact, q = {q:g}": exact, f"upper, q = {q:g}": float(high)}
        axes.plot(grid.nodes(0), solution.values / solution.values.max(), label=f"q = {q:g}")
    axes.set(xlabel="x", ylabel="u / max u")
    axes.legend(frameon=False)
    return numbers, figure


if __name__ == "__main__":
    numbers, figure = main()
    print(*(f"{name}: {value:.5g}" for name, value in numbers.items()), sep="\n")
    figure.savefig("p_laplacian.png")
