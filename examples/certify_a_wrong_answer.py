"""Spoil a solution on purpose: the guaranteed interval follows the true error, however large it is.

For -Laplace u = 1 the true error of any v is known: its square is |||v|||^2 - 2 int v + int u, where a series gives the
last integral.
"""

import math

import matplotlib.pyplot as plt
import torch

import sciml_bounds as sb


def main() -> tuple[dict[str, float], plt.Figure]:
    grid = sb.Grid((64, 64))
    problem = sb.Diffusion(grid, source=1.0)
    x, y = torch.meshgrid(grid.nodes(0), grid.nodes(1), indexing="ij")
    wave = 0.1 * torch.sin(3 * math.pi * x) * torch.sin(2 * math.pi * y)
    sizes = torch.logspace(-4, 1, 26, dtype=torch.float64)
    certificate = sb.certify(problem, sb.solve(problem).values + sizes[:, None, None] * wave)  # a batch of 26 fields

    series = sum(math.tanh(n * math.pi / 2) / n**5 for n in range(1, 200, 2))
    integral_of_u = (1 - 192 / math.pi**5 * series) / 12
    integrals = certificate.values.sum((-2, -1)) * grid.cell_volume  # exact for bilinear fields, zero on the sides
    true = (certificate.energy**2 - 2 * integrals + integral_of_u).sqrt()
    figure, axes = plt.subplots(figsize=(6, 4), layout="constrained")
    axes.fill_between(sizes, certificate.lower, certificate.upper, alpha=0.4, label="guaranteed interval")
    axes.loglog(sizes, true, "k.", label="true error")
    axes.set(xlabel="size of the wave", ylabel="energy error")
    axes.legend(frameon=False)
    inside = (certificate.lower <= true) & (true <= certificate.upper)
    return {"share of true errors inside": float(inside.double().mean()),
            "upper / true error at size 10": float(certificate.upper[-1] / true[-1])}, figure  # fmt: skip


if __name__ == "__main__":
    numbers, figure = main()
    print(*(f"{name}: {value:.5g}" for name, value in numbers.items()), sep="\n")
    figure.savefig("certify_a_wrong_answer.png")
