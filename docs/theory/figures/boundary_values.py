"""What wrong boundary values cost: the energy norm of the lifting on finer grids, and the bound over the true error.

-Laplace u = 1 on the unit square with u = 0 on its sides; the fields are discrete solutions with other values there.
The true error is the distance to the solution on cells of a quarter of the size.
"""

import math
from pathlib import Path

import matplotlib.pyplot as plt
import torch

import sciml_bounds as sb

plt.style.use(Path(__file__).with_name("pictures.mplstyle"))
SIZE = 0.01  # largest wrong value; u is at most 0.074
SIZES = (8, 16, 32, 64)


def wrong_values(kind, n):
    """One value per node; those inside are not used."""
    x = torch.linspace(0, 1, n + 1, dtype=torch.float64)
    if kind == "constant":
        return torch.full((n + 1, n + 1), SIZE, dtype=torch.float64)
    if kind == "smooth":
        return SIZE * torch.cos(math.pi * x)[:, None] * torch.cos(math.pi * x)
    return SIZE * (2 * torch.rand(n + 1, n + 1, generator=torch.Generator().manual_seed(0)).double() - 1)


FACTOR = 4


def true_error(problem, field):
    """Distance of a field to the solution on cells that are smaller by a factor, in the energy norm."""
    fine = problem.refine(FACTOR)
    on_fine = sb.certify(fine, field, layout="coarse", lower=False).values
    return sb.certify(fine, sb.solve(fine).values - on_fine, lower=False).energy


figure, (left, right) = plt.subplots(1, 2)
print("values     cells  boundary part / energy norm  upper / true error")
for kind in ("constant", "smooth", "random"):
    parts, ratios = [], []
    for n in SIZES:
        problem = sb.Diffusion(sb.Grid((n, n)), source=1.0)
        field = wrong_values(kind, n)
        other = {side: sb.Dirichlet(field.select(k // 2, -(k % 2))) for k, side in enumerate(("x0", "x1", "y0", "y1"))}
        field = sb.solve(problem.replace(boundary=other)).values
        certificate, true = sb.certify(problem, field), true_error(problem, field)
        parts.append(float(certificate.boundary_part / certificate.energy))
        ratios.append(float(certificate.upper / true))
        print(f"{kind:9s}  {n:5d}  {parts[-1]:26.4f}  {ratios[-1]:18.3f}")
    left.plot(SIZES, parts, "o-", label=kind)
    right.plot(SIZES, ratios, "o-", label=kind)
for panel in (left, right):
    panel.set(xscale="log")
    panel.set_xticks(SIZES, labels=SIZES)
    panel.minorticks_off()
left.set(xlabel="cells per axis", ylabel="boundary part / energy norm of the field")
right.set(xlabel="cells per axis", ylabel="upper bound / true error")
left.legend(title="wrong values up to 0.01")
figure.savefig(Path(__file__).with_suffix(".png"))
