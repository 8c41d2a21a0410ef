"""Bounds of J(v) - J(u) for three densities, as fields come closer to the discrete minimiser.

J(u) is enclosed by a certificate on cells of a quarter of the size, and its middle is taken for J(u).
"""

from pathlib import Path

import matplotlib.pyplot as plt
import torch

import sciml_bounds as sb
from sciml_bounds import variational

plt.style.use(Path(__file__).with_name("pictures.mplstyle"))
CELLS, FACTOR = 16, 4
densities = {
    "quadratic": variational.QuadraticEnergy(),
    "shear thinning": variational.ShearThinning(3.0),
    "p-Laplace, p = 4": variational.PLaplacian(4.0),
}
x = torch.linspace(0, 1, CELLS + 1, dtype=torch.float64)
bump = torch.sin(torch.pi * x)[:, None] * torch.sin(3 * torch.pi * x)

figure, panels = plt.subplots(1, 3, sharey=True)
print("density            share  upper / excess  with halvings=1  lower / excess  (each nearly)")
for panel, (name, density) in zip(panels, densities.items()):
    problem = variational.VariationalProblem(sb.Grid((CELLS, CELLS)), density, source=5.0)
    fine = problem.refine(FACTOR)
    least = variational.certify_energy(fine, variational.minimize_energy(fine)).minimum
    best = variational.minimize_energy(problem).values
    shares = (0.0, 0.03, 0.1, 0.3)
    rows = []
    for share in shares:
        v = best + share * float(best.max()) * bump
        certificate = variational.certify_energy(problem, v)
        improved = variational.certify_energy(problem, v, halvings=1, lower=False)
        excess = float(problem.energy(v)) - float(least.lower + least.upper) / 2
        rows.append([float(part) / excess for part in (certificate.upper, improved.upper, certificate.lower)])
        print(f"{name:17s}  {share:5.2f}  " + "  ".join(f"{number:14.3f}" for number in rows[-1]))
    for numbers, label in zip(zip(*rows), ("upper", "upper, halvings=1", "lower")):
        panel.plot(range(len(shares)), numbers, "o-", label=label)
    panel.axhline(1, color="black", linewidth=0.8)
    panel.set(title=name, xlabel="perturbation", xticks=range(len(shares)), xticklabels=shares, ylim=(0, 3))
panels[0].set_ylabel("bound / (J(v) - J(u))")
panels[0].legend()
figure.savefig(Path(__file__).with_suffix(".png"))
