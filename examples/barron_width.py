"""How wide must a two-layer network be? A Barron norm says it, in any dimension.

For a function of 20 variables, the mean over all networks drawn from its waves of the squared error is below the
proven bound, which falls like 1 / width; 20 draws scatter about it.
"""

import math

import matplotlib.pyplot as plt
import torch

import sciml_bounds as sb


def main() -> tuple[dict[str, float], plt.Figure]:
    generator = torch.Generator().manual_seed(0)
    modes = torch.randint(-2, 3, (40, 20), generator=generator)
    amplitudes = torch.randn(40, generator=generator, dtype=torch.float64) / 40
    f = sb.barron.BarronFunction.fourier(modes, amplitudes)
    x = torch.rand((2000, 20), generator=generator, dtype=torch.float64)
    widths, errors, bounds = [16, 64, 256, 1024], [], []
    for width in widths:
        draws = [sb.barron.sample_network(f, width, seed=seed) for seed in range(20)]
        squares = [float((draw.network(x) - f(x)).detach().square().mean()) for draw in draws]
        errors.append(math.sqrt(sum(squares) / len(squares)))
        bounds.append(draws[0].error_bound)

    figure, axes = plt.subplots(figsize=(6, 4), layout="constrained")
    axes.loglog(widths, bounds, "k--", label="proven bound")
    axes.loglog(widths, errors, "o-", label="root mean square of 20 draws")
    axes.set(xlabel="width", ylabel="error in L2", xticks=widths, xticklabels=widths)
    axes.legend(frameon=False)
    return {"Barron norm": f.norm, "width for an error of 0.01": sb.barron.width_for(f, 0.01),
            "error / bound at width 1024": errors[-1] / bounds[-1],
            "order in the width": math.log(errors[0] / errors[-1], 64)}, figure  # fmt: skip


if __name__ == "__main__":
    numbers, figure = main()
    print(*(f"{name}: {value:.5g}" for name, value in numbers.items()), sep="\n")
    figure.savefig("barron_width.png")
