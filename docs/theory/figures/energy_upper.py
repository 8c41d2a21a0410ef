"""Upper bound over true error, as fields come closer to the discrete solution, in three media.

With a certified solution w on cells of an eighth of the size, 2 (J(v) - J(w)) + [lower(w)^2, upper(w)^2] encloses the
square of the true error; bars show what is left open.
"""

from pathlib import Path

import matplotlib.pyplot as plt
import torch

import sciml_bounds as sb

plt.style.use(Path(__file__).with_name("pictures.mplstyle"))
CELLS, FACTOR, CONTRAST = 32, 8, 100.0


def media():
    """Coefficients: constant, four inclusions that do not touch, and squares that touch at their corners."""
    one = torch.ones(CELLS, CELLS, dtype=torch.float64)
    inclusions, board = one.clone(), one.clone()
    for i in (4, 20):
        for j in (4, 20):
            inclusions[i : i + 8, j : j + 8] = CONTRAST
    squares = torch.arange(CELLS) // 8
    board[(squares[:, None] + squares) % 2 == 0] = CONTRAST
    return {"constant": one, "inclusions": inclusions, "checkerboard": board}


figure, panel = plt.subplots()
x = torch.linspace(0, 1, CELLS + 1, dtype=torch.float64)
bump = torch.sin(torch.pi * x)[:, None] * torch.sin(3 * torch.pi * x)
print("medium        true error  upper / true")
for name, a in media().items():
    problem = sb.Diffusion(sb.Grid((CELLS, CELLS)), coefficient=a, source=1.0)
    energy = sb.variational.VariationalProblem(problem.grid, sb.variational.QuadraticEnergy(a), source=1.0)
    fine = energy.refine(FACTOR)
    reference = sb.certify(fine.as_diffusion(), sb.solve(fine.as_diffusion()))
    least = fine.energy(reference.values)
    discrete = sb.solve(problem).values
    size = sb.certify(problem, bump, lower=False).energy / reference.energy
    errors, middles, spreads = [], [], []
    for share in (0.0, 0.03, 0.1, 0.2, 0.5, 1.0):
        v = discrete + share / size * bump
        upper = sb.certify(problem, v, lower=False).upper
        squared = 2 * (energy.energy(v) - least)
        low, high = (squared + reference.lower**2).sqrt(), (squared + reference.upper**2).sqrt()
        errors.append(float((low + high) / 2 / reference.energy))
        ratios = float(upper / high), float(upper / low)
        middles.append(sum(ratios) / 2)
        spreads.append((ratios[1] - ratios[0]) / 2)
        print(f"{name:12s}  {errors[-1]:10.3f}  {ratios[0]:.3f} to {ratios[1]:.3f}")
    panel.errorbar(errors, middles, spreads, marker="o", capsize=3, label=name)
panel.axhline(1, color="black", linewidth=0.8)
panel.set(xscale="log", xlabel="true error / energy norm of the solution", ylabel="upper bound / true error")
panel.legend(title=f"contrast {CONTRAST:.0f}")
figure.savefig(Path(__file__).with_suffix(".png"))
