"""Half the width of the interval of the mean of u, for the discrete solution and for a field that is 20 % wrong."""

import math
from pathlib import Path

import matplotlib.pyplot as plt
import torch

import sciml_bounds as sb

plt.style.use(Path(__file__).with_name("pictures.mplstyle"))
ODD = torch.arange(1, 4001, 2, dtype=torch.float64)
EXACT = 1 / 12 - 16 / math.pi**5 * float((torch.tanh(ODD * math.pi / 2) / ODD**5).sum())  # int u
sizes = (8, 16, 32, 64, 128)

figure, panel = plt.subplots()
print("field                cells  interval of the mean        half width / mean  energy bound")
for name, factor in {"discrete solution": 1.0, "field 20 % too large": 1.2}.items():
    widths, bounds = [], []
    for n in sizes:
        problem = sb.Diffusion(sb.Grid((n, n)), source=1.0)
        certificate = sb.certify(problem, factor * sb.solve(problem).values)
        low, high = (float(end) for end in certificate.goal(sb.Mean()))
        assert low <= EXACT <= high
        widths.append((high - low) / 2 / EXACT)
        bounds.append(float(certificate.relative_upper))
        print(f"{name:20s}  {n:4d}  [{low:.7f}, {high:.7f}]  {widths[-1]:17.2e}  {bounds[-1]:12.2e}")
    (line,) = panel.plot(sizes, widths, "o-", label=f"mean, {name}")
    panel.plot(sizes, bounds, "s--", color=line.get_color(), label=f"energy error, {name}")
panel.set(xscale="log", yscale="log", xlabel="cells per axis", ylabel="relative half width, relative bound")
panel.legend()
figure.savefig(Path(__file__).with_suffix(".png"))
