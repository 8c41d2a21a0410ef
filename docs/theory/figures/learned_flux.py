"""Bounds that a shipped network predicts without a solve, on media like those it was trained on and on others.

Media take the values 3 and 3 times the contrast (the network was trained with 3 and 12); the true error is
enclosed by certified bounds, as the upper bound of a computed flux on cells of half the size and the lower bound.
"""

from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np
import torch

import sciml_bounds as sb

plt.style.use(Path(__file__).with_name("pictures.mplstyle"))
CELLS, SAMPLES = 64, 6
model = sb.CertifiedMgNO.load("darcy-rough-certified")


def phases(seed):
    """Threshold of a Gaussian field with covariance (-Laplace + 9)^-2 and zero normal derivatives, as in the recipe."""
    from scipy.fft import idctn

    k = np.pi * np.arange(CELLS)
    scale = 1 / (k[:, None] ** 2 + k**2 + 9)
    scale[0, 0] = 0
    return torch.as_tensor(idctn(np.random.default_rng(seed).standard_normal((CELLS, CELLS)) * scale, norm="ortho") > 0)


media = torch.stack([phases(seed) for seed in range(SAMPLES)])
contrasts = (1.0, 2.0, 4.0, 10.0, 30.0, 100.0)
rows = []
print("contrast  learned / computed flux  relative bound, learned  relative bound, computed flux  lower bound")
for contrast in contrasts:
    problem = sb.Diffusion(
        sb.Grid((CELLS, CELLS)), coefficient=torch.where(media, 3.0 * contrast, 3.0).double(), source=1.0
    )
    learned = sb.certify(problem, model, lower=False)
    fine = problem.refine(2)
    flux = sb.certify(fine, sb.solve(fine), lower=False).flux
    computed = sb.certify(problem, learned.values, flux=flux)
    parts = [learned.upper / learned.energy, computed.upper / learned.energy, computed.lower / learned.energy]
    rows.append([float(part.mean()) for part in parts])
    print(
        f"{contrast:8.0f}  {float((learned.upper / computed.upper).mean()):23.3f}  "
        + "  ".join(f"{r:.4f}" for r in rows[-1])
    )

figure, panel = plt.subplots()
learned, computed, lower = zip(*rows)
panel.plot(contrasts, learned, "o-", label="bound of the predicted flux, no solve")
panel.fill_between(contrasts, lower, computed, alpha=0.3, label="the error lies here (computed flux)")
panel.axvline(4, color="black", linestyle=":", label="contrast of the training")
panel.set(
    xscale="log", yscale="log", xlabel="contrast of the medium", ylabel="mean over the samples, relative to the field"
)
panel.legend()
figure.savefig(Path(__file__).with_suffix(".png"))
