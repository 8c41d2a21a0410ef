"""A learned multigrid cycle as a preconditioner of conjugate gradients, around bodies it was not trained on.

The cycle `cycle2d` has 150 weights; it is symmetric positive definite whatever they are, so that the answer is right.
"""

import matplotlib.pyplot as plt
import torch

import sciml_bounds as sb


def main() -> tuple[dict[str, float], plt.Figure]:
    grid = sb.Grid((128, 128))
    x, y = torch.meshgrid(grid.centers(0), grid.centers(1), indexing="ij")
    solid = ((6 * x % 1 - 0.5).abs() < 0.3) & ((6 * y % 1 - 0.5).abs() < 0.3)  # 36 square bodies
    sides = {"x0": sb.Dirichlet(1.0), "x1": sb.Dirichlet(0.0), "y0": sb.Neumann(), "y1": sb.Neumann()}
    problem = sb.Diffusion(grid, solid=solid, boundary=sides)
    solver = sb.prepare(problem, method="multigrid")
    learned = sb.LearnedDirections.load("cycle2d").as_preconditioner(solver)
    preconditioners = {"none": None, "multigrid": solver.as_preconditioner(), "learned cycle": learned}
    runs = {name: sb.cg(solver.operator, solver.rhs[0], M=M, rtol=1e-8) for name, M in preconditioners.items()}

    figure, axes = plt.subplots(figsize=(6, 4), layout="constrained")
    for name, run in runs.items():
        norms = run.residual_norms
        axes.loglog(range(1, len(norms) + 1), norms / norms[0], ".-", label=f"{name}: {int(run.iterations)}")
    axes.set(xlabel="iteration + 1", ylabel="relative residual")
    axes.legend(frameon=False, title="preconditioner: iterations")
    return {f"iterations, {name}": float(run.iterations) for name, run in runs.items()} | {
        "difference of the answers": float((runs["learned cycle"].x - runs["none"].x).abs().max())
    }, figure


if __name__ == "__main__":
    numbers, figure = main()
    print(*(f"{name}: {value:.5g}" for name, value in numbers.items()), sep="\n")
    figure.savefig("learned_cycle.png")
