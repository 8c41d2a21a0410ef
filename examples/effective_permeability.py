"""The effective permeability of a checkerboard, enclosed from both sides on four grids.

For phases of conductivity 1 and 4 the exact value is sqrt(1 * 4) = 2 (Keller, J. Math. Phys. 5, 1964). The gradient is
infinite at the centre, so that the intervals shrink slowly.
"""

import matplotlib.pyplot as plt
import torch

import sciml_bounds as sb


def main() -> tuple[dict[str, float], plt.Figure]:
    sides = {"x0": sb.Dirichlet(1.0), "x1": sb.Dirichlet(0.0), "y0": sb.Neumann(), "y1": sb.Neumann()}
    cells, lower, upper = [16, 32, 64, 128], [], []
    for n in cells:
        board = lambda x, y: torch.where((x < 0.5) == (y < 0.5), 1.0, 4.0).double()  # noqa: E731
        problem = sb.Diffusion(sb.Grid((n, n)), coefficient=board, boundary=sides)
        low, high = sb.certify(problem, sb.solve(problem)).goal(sb.EffectivePermeability("x"))
        lower.append(float(low))
        upper.append(float(high))

    figure, axes = plt.subplots(figsize=(6, 4), layout="constrained")
    axes.fill_between(cells, lower, upper, alpha=0.4, label="guaranteed interval")
    axes.axhline(2.0, color="k", ls="--", lw=1, label="exact")
    axes.set(xlabel="cells per axis", ylabel="effective permeability", xscale="log", xticks=cells, xticklabels=cells)
    axes.minorticks_off()
    axes.legend(frameon=False)
    return {"lower": lower[-1], "upper": upper[-1], "exact": 2.0}, figure


if __name__ == "__main__":
    numbers, figure = main()
    print(*(f"{name}: {value:.5g}" for name, value in numbers.items()), sep="\n")
    figure.savefig("effective_permeability.png")
