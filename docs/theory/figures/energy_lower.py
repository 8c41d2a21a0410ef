"""Lower bound over true error of discrete solutions: on finer and finer grids, and for larger and larger contrasts.

On the left -Laplace u = 1 on the unit square, where |||u - v|||^2 = int u - 2 int v + |||v|||^2 and int u is a series.
On the right the true error is enclosed by a certified solution w on cells of an eighth of the size.
"""

import math
from pathlib import Path

import matplotlib.pyplot as plt
import torch

import sciml_bounds as sb

plt.style.use(Path(__file__).with_name("pictures.mplstyle"))
ODD = torch.arange(1, 4001, 2, dtype=torch.float64)
EXACT = 1 / 12 - 16 / math.pi**5 * float((torch.tanh(ODD * math.pi / 2) / ODD**5).sum())  # int u


def true_error(certificate, cells):
    """Error of a field that vanishes on the sides."""
    mean = float(certificate.values.sum()) / cells**2
    return math.sqrt(EXACT - 2 * mean + float(certificate.energy) ** 2)


figure, (left, right) = plt.subplots(1, 2, sharey=True)
sizes = (4, 8, 16, 32, 64, 128)
print("discrete solution: cells, lower / true, upper / true")
ratios = []
for n in sizes:
    problem = sb.Diffusion(sb.Grid((n, n)), source=1.0)
    certificate = sb.certify(problem, sb.solve(problem))
    true = true_error(certificate, n)
    ratios.append((float(certificate.lower) / true, float(certificate.upper) / true))
    print(f"{n:4d}  {ratios[-1][0]:.3f}  {ratios[-1][1]:.3f}")
left.plot(sizes, ratios, "o-", label=("lower / true", "upper / true"))
left.set(xscale="log", xlabel="cells per axis", title="discrete solution")
left.legend()

n, factor = 32, 8
squares = torch.arange(n) // 8
inside = (torch.arange(n) % 16 // 4 + 1) // 2 == 1  # two inclusions of eight cells along each axis
media = {
    "inclusions": inside[:, None] & inside,
    "checkerboard": (squares[:, None] + squares) % 2 == 0,
}
contrasts = (1.0, 10.0, 100.0, 1000.0)
print(f"discrete solution on {n} x {n} cells: medium, contrast, lower / true")
for name, high in media.items():
    middles, spreads = [], []
    for contrast in contrasts:
        a = torch.where(high, contrast, 1.0).double()
        energy = sb.variational.VariationalProblem(sb.Grid((n, n)), sb.variational.QuadraticEnergy(a), source=1.0)
        fine = energy.refine(factor)
        reference = sb.certify(fine.as_diffusion(), sb.solve(fine.as_diffusion()))
        certificate = sb.certify(energy.as_diffusion(), sb.solve(energy.as_diffusion()))
        squared = 2 * (energy.energy(certificate.values) - fine.energy(reference.values))  # plus |||u - w|||^2
        enclosed = (squared + reference.lower**2).sqrt(), (squared + reference.upper**2).sqrt()
        high_ratio, low_ratio = (float(certificate.lower / true) for true in enclosed)
        middles.append((low_ratio + high_ratio) / 2)
        spreads.append((high_ratio - low_ratio) / 2)
        print(f"{name:12s}  {contrast:6.0f}  {low_ratio:.3f} to {high_ratio:.3f}")
    right.errorbar(contrasts, middles, spreads, marker="s", capsize=3, label=f"lower / true, {name}")
right.set(xscale="log", xlabel="contrast of the coefficient", title=f"discrete solution, {n} x {n} cells")
right.legend()
for panel in (left, right):
    panel.axhline(1, color="black", linewidth=0.8)
figure.savefig(Path(__file__).with_suffix(".png"))
