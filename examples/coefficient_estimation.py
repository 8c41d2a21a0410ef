"""Where does the ground let water pass? Estimate the coefficient from noisy pressures at one node in five.

Minimise ||u - observations||^2 / 2 plus smoothing of log a, subject to -div(a grad u) = 10. The
estimate has less than half the error of the guess, a = 1.
"""

import matplotlib.pyplot as plt
import torch

import sciml_bounds as sb


def main() -> tuple[dict[str, float], plt.Figure]:
    sides = {"x0": sb.Dirichlet(0.0), "x1": sb.Dirichlet(1.0), "y0": sb.Neumann(), "y1": sb.Neumann()}
    guess = sb.Diffusion(sb.Grid((32, 32)), source=10.0, boundary=sides)
    truth = guess.replace(coefficient=lambda x, y: 1 + 2 * (torch.hypot(x - 0.6, y - 0.5) < 0.25).double())
    pressure = sb.solve(truth).values
    generator = torch.Generator().manual_seed(0)
    noise = 0.01 * float(pressure.std())
    observations = pressure + noise * torch.randn(pressure.shape, generator=generator, dtype=torch.float64)
    observed = torch.rand(pressure.shape, generator=generator) < 0.2
    estimation = sb.control.CoefficientEstimation(
        guess, observations, observed=observed, smoothing=10 * noise**2 * guess.grid.cell_volume
    )
    state, coefficient = estimation.fields(estimation.minimize().x)

    seen = torch.where(observed, observations, torch.nan)
    fields = {"true coefficient": truth.coefficient[0], "observations": seen, "estimate": coefficient}
    figure, panels = plt.subplots(1, 3, figsize=(11, 3.2), layout="constrained")
    for axes, (title, field) in zip(panels, fields.items()):
        figure.colorbar(axes.imshow(field.T, origin="lower", extent=(0, 1, 0, 1)), ax=axes, shrink=0.85)
        axes.set_title(title)
    misfit = (state - observations)[observed].square().mean().sqrt() / noise
    error, before = ((a - truth.coefficient[0]).norm() / truth.coefficient[0].norm() for a in (coefficient, 1.0))
    return {"misfit / noise": float(misfit), "relative error of the estimate": float(error),
            "of the guess": float(before)}, figure  # fmt: skip


if __name__ == "__main__":
    numbers, figure = main()
    print(*(f"{name}: {value:.5g}" for name, value in numbers.items()), sep="\n")
    figure.savefig("coefficient_estimation.png")
