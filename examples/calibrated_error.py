"""Where no bound is known, a calibrated level: the error of a coarse Navier-Stokes solver on 150 random flows.

The error of a new flow is below the level with a probability of 90 % or more (split conformal calibration).
"""

import math

import matplotlib.pyplot as plt
import torch

import sciml_bounds as sb


def main() -> tuple[dict[str, float], plt.Figure]:
    x = torch.arange(32, dtype=torch.float64) / 32
    waves = torch.stack([torch.ones(32), *(f(2 * math.pi * k * x) for k in (1, 2, 3) for f in (torch.sin, torch.cos))])
    amplitudes = torch.randn(300, 7, 7, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    start = torch.einsum("bij,ix,jy->bxy", amplitudes, waves.double(), waves.double())
    start = start - start.mean((1, 2), keepdim=True)
    fine = sb.simulation.NavierStokes(32, viscosity=0.01).evolve(start, [0.1])[:, 0, ::2, ::2]
    coarse = sb.simulation.NavierStokes(16, viscosity=0.01).evolve(start[:, ::2, ::2], [0.1])[:, 0]
    scores = (coarse - fine).norm(dim=(1, 2)) / fine.norm(dim=(1, 2))
    level = sb.calibrate(scores[:150], coverage=0.9)

    figure, axes = plt.subplots(figsize=(6, 4), layout="constrained")
    axes.hist(scores[150:].numpy(), bins=30, alpha=0.6, label="150 new flows")
    axes.axvline(float(level.threshold), color="k", ls="--", label="calibrated level, 90 %")
    axes.set(xlabel="relative error", ylabel="flows")
    axes.legend(frameon=False)
    covered = (scores[150:] <= level.threshold).double().mean()
    return {"level": float(level.threshold), "share of new flows below it": float(covered)}, figure


if __name__ == "__main__":
    numbers, figure = main()
    print(*(f"{name}: {value:.5g}" for name, value in numbers.items()), sep="\n")
    figure.savefig("calibrated_error.png")
