"""Bounds of the error of a two-layer network itself, certified on finer and finer grids.

The network is a constant times x (1 - x) y (1 - y); the problem is -Laplace u = 1 on the unit square, u = 0 on its
sides. All integrals of the true error |||u - v|||^2 = int u - 2 int v + |||v|||^2 are known.
"""

import math
from pathlib import Path

import matplotlib.pyplot as plt
import torch

import sciml_bounds as sb

plt.style.use(Path(__file__).with_name("pictures.mplstyle"))
ODD = torch.arange(1, 4001, 2, dtype=torch.float64)
EXACT = 1 / 12 - 16 / math.pi**5 * float((torch.tanh(ODD * math.pi / 2) / ODD**5).sum())  # int u
network = sb.BarronNetwork.of([[0.0, 0.0]], [0.0], [0.073], dirichlet_sides="all")
scale = 16 * float(network([[0.5, 0.5]]).detach()[0])  # v = scale x (1 - x) y (1 - y)
true = math.sqrt(EXACT - 2 * scale / 36 + scale**2 / 45)

sizes = (8, 16, 32, 64, 128)
rows = []
print(f"true error {true:.6f}")
print("cells  upper / true  lower / true  upper of the nodal field / true  between nodes / true")
for n in sizes:
    problem = sb.Diffusion(sb.Grid((n, n)), source=1.0)
    certificate = sb.certify(problem, network)
    nodal = sb.certify(problem, certificate.values)
    between = certificate.terms["interpolation"].sqrt()
    rows.append([float(part) / true for part in (certificate.upper, certificate.lower, nodal.upper, between)])
    print(f"{n:5d}  {rows[-1][0]:12.4f}  {rows[-1][1]:12.4f}  {rows[-1][2]:32.4f}  {rows[-1][3]:21.5f}")

figure, (left, right) = plt.subplots(1, 2)
upper, lower, nodal, between = zip(*rows)
left.plot(sizes, upper, "o-", label="upper bound, network")
left.plot(sizes, lower, "o-", label="lower bound, network")
left.plot(sizes, nodal, "s--", label="upper bound, its interpolant")
left.axhline(1, color="black", linewidth=0.8)
left.set(xscale="log", xlabel="cells per axis", ylabel="bound / true error of the network")
left.legend()
right.plot(sizes, between, "o-", label="part for what lies between nodes")
right.plot(sizes, [between[0] * (sizes[0] / n) ** 2 for n in sizes], "k:", label="slope 2")
right.set(xscale="log", yscale="log", xlabel="cells per axis", ylabel="part / true error")
right.legend()
figure.savefig(Path(__file__).with_suffix(".png"))
