"""Iterations to a relative residual of 1e-8: with multigrid they do not depend on the grid, without they double.

The medium has 8 x 8 random blocks with conductivities 3 and 12.
"""

import matplotlib.pyplot as plt
import torch

import sciml_bounds as sb


def main() -> tuple[dict[str, float], plt.Figure]:
    blocks = torch.where(torch.rand(8, 8, generator=torch.Generator().manual_seed(0)) < 0.5, 3.0, 12.0).double()
    cells = [16, 32, 64, 128, 256]
    counts = {"cg": [], "multigrid": []}
    for n in cells:
        a = blocks.repeat_interleave(n // 8, 0).repeat_interleave(n // 8, 1)
        problem = sb.Diffusion(sb.Grid((n, n)), coefficient=a, source=1.0)
        for method, found in counts.items():
            found.append(int(sb.solve(problem, method=method).iterations))

    figure, axes = plt.subplots(figsize=(6, 4), layout="constrained")
    for method, found in counts.items():
        axes.loglog(cells, found, "o-", label=method)
    axes.set(xlabel="cells per axis", ylabel="iterations", xticks=cells, xticklabels=cells)
    axes.minorticks_off()
    axes.legend(frameon=False)
    return {"multigrid, 256 x 256": counts["multigrid"][-1], "multigrid, 16 x 16": counts["multigrid"][0],
            "cg, growth from 128 to 256": counts["cg"][-1] / counts["cg"][-2]}, figure  # fmt: skip


if __name__ == "__main__":
    numbers, figure = main()
    print(*(f"{name}: {value:.5g}" for name, value in numbers.items()), sep="\n")
    figure.savefig("multigrid_iterations.png")
