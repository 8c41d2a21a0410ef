"""The error of a field, the error of the grid and the distance of the field to the discrete solution."""

from pathlib import Path

import matplotlib.pyplot as plt
import torch

import sciml_bounds as sb

plt.style.use(Path(__file__).with_name("pictures.mplstyle"))
CELLS = 32
problem = sb.Diffusion(sb.Grid((CELLS, CELLS)), coefficient=lambda x, y: 1.0 + 9.0 * (x > 0.5), source=1.0)
fine = problem.refine(4)
fine_flux = sb.certify(fine, sb.solve(fine), lower=False).flux
discrete = sb.solve(problem).values
x = torch.linspace(0, 1, CELLS + 1, dtype=torch.float64)
bump = torch.sin(2 * torch.pi * x)[:, None] * torch.sin(torch.pi * x)
size = sb.certify(problem, bump, lower=False).energy / sb.certify(problem, discrete, lower=False).energy

shares = (0.003, 0.01, 0.03, 0.1, 0.3)
rows = []
print("perturbation  error             mesh              model             error, flux of a finer grid")
for share in shares:
    v = discrete + share / size * bump
    certificate = sb.certify(problem, v)
    tighter = sb.certify(problem, v, flux=fine_flux)
    intervals = [(certificate.lower, certificate.upper), certificate.mesh, certificate.model]
    intervals.append((tighter.lower, tighter.upper))
    rows.append([tuple(float(end / certificate.energy) for end in interval) for interval in intervals])
    print(f"{share:12.3f}  " + "  ".join(f"{low:.5f}, {high:.5f}" for low, high in rows[-1]))

figure, panel = plt.subplots()
names = ("error of the field", "mesh", "model", "error, flux of a finer grid")
for k, (name, marker) in enumerate(zip(names, ("o", "s", "^", "v"))):
    low, high = zip(*(row[k] for row in rows))
    place = [share * 1.06 ** (k - 1.5) for share in shares]
    middle = [(a + b) / 2 for a, b in zip(low, high)]
    panel.errorbar(place, middle, [(b - a) / 2 for a, b in zip(low, high)], fmt=marker, capsize=3, label=name)
panel.set(xscale="log", yscale="log", xlabel="size of the perturbation", ylabel="guaranteed interval, relative")
panel.legend()
figure.savefig(Path(__file__).with_suffix(".png"))
