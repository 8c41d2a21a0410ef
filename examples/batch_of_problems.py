"""One call solves and certifies a batch of 16 random media; leading axes of the fields are batch axes.

The mean of each solution is enclosed within 1 %.
"""

import matplotlib.pyplot as plt
import torch

import sciml_bounds as sb


def main() -> tuple[dict[str, float], plt.Figure]:
    blocks = torch.rand(16, 8, 8, generator=torch.Generator().manual_seed(0)) < 0.5
    a = torch.where(blocks, 12.0, 3.0).double().repeat_interleave(8, 1).repeat_interleave(8, 2)
    problem = sb.Diffusion(sb.Grid((64, 64)), coefficient=a, source=1.0)
    solution = sb.solve(problem, certify=True)
    mean = solution.certificate.goal(sb.Mean())

    alone = sb.solve(problem.replace(coefficient=a[5])).values
    figure, axes = plt.subplots(figsize=(6, 4), layout="constrained")
    centre = (mean.lower + mean.upper) / 2
    axes.errorbar(range(16), centre, yerr=(mean.upper - mean.lower) / 2, fmt="o", ms=3, capsize=3)
    axes.set(xlabel="sample", ylabel="mean of u", title="Guaranteed intervals")
    width = ((mean.upper - mean.lower) / centre).max()
    difference = (solution.values[5] - alone).abs().max() / alone.max()
    return {"largest relative width": float(width), "difference from a solve alone": float(difference)}, figure


if __name__ == "__main__":
    numbers, figure = main()
    print(*(f"{name}: {value:.5g}" for name, value in numbers.items()), sep="\n")
    figure.savefig("batch_of_problems.png")
