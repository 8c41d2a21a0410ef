# ---
# jupyter:
#   jupytext:
#     text_representation:
#       extension: .py
#       format_name: percent
#   kernelspec:
#     display_name: Python 3
#     language: python
#     name: python3
# ---

# %% [markdown]
# # Train an operator, and certify its predictions
#
# After this notebook you can train a neural operator, bound the true error of each of its predictions, and use a
# prediction as the initial guess of a solver.
#
# A neural operator maps the coefficient of an equation to a prediction of the solution in milliseconds, without any
# guarantee. We train a small MgNO, a network of convolutions arranged like the cycles of multigrid, on a CPU in a few
# minutes. Then we bound the true error of each prediction. The bounds assume nothing about the network, so they hold
# for its worst predictions too.

# %%
import os
import tempfile
from pathlib import Path

import matplotlib.pyplot as plt
import torch

import sciml_bounds as sb

plt.rcParams.update({"figure.dpi": 80, "figure.constrained_layout.use": True, "image.interpolation": "nearest"})
folder = Path(tempfile.mkdtemp())
quick = bool(os.environ.get("SCIML_BOUNDS_QUICK"))  # the tests run this with fewer samples
samples, epochs = (60, 2) if quick else (500, 20)

# %% [markdown]
# ## Data and training
#
# The media have two materials and 32 cells per axis. Of every ten samples, eight train the network, one selects the
# best epoch, and one is kept for the test. The loss is the relative error in the H1 norm, which includes the gradient,
# because the certificate bounds the error of the gradient too.

# %%
path = folder / "darcy.nc"
sb.make_dataset("darcy-rough", path, samples=samples, seed=1, resolution=32)
train, validation, test = (sb.TorchDataset(path, split, in_memory=True) for split in ("train", "validation", "test"))

torch.manual_seed(0)
model = sb.MgNO(channels=16, levels=4)
result = sb.train(model, train, validation, loss="h1", epochs=epochs, batch_size=8, lr=2e-3)
print(result)
print(sb.training.evaluate(model, test))

# %%
figure, axes = plt.subplots(figsize=(5.6, 3.2))
for column, label in (("loss", "training loss (H1)"), ("validation", "validation error (L2)")):
    axes.semilogy([row["epoch"] for row in result.history], [row[column] for row in result.history], label=label)
axes.set(xlabel="epoch")
_ = axes.legend(frameon=False)

# %% [markdown]
# ## Every prediction gets its bounds
#
# `predict` takes a problem and returns nodal values that satisfy the boundary conditions, as `certify` requires. The
# whole test set is one batch.

# %%
coefficients = torch.stack([x[0] for x, _ in (test[i] for i in range(len(test)))]).double()
problem = sb.Diffusion(sb.Grid((32, 32)), coefficient=coefficients, source=1.0)
predictions = model.predict(problem)
certificate = sb.certify(problem, predictions)
print(certificate)

# %% [markdown]
# To check the bounds, we compute the true errors on a grid with four times as many cells per axis. In the table, `mesh`
# bounds the error of the discrete solution, and `model` bounds the distance between the prediction and the discrete
# solution. Training can reduce only the latter.

# %%
fine = sb.certify(problem.refine(4), predictions, layout="coarse", lower=False)
true = torch.hypot(fine.model.upper, fine.mesh.upper)
violations = (certificate.lower > true * (1 + 1e-3)) | (true > certificate.upper)
print("violations:", int(violations.sum()))
print("   true error      lower      upper   upper / true       mesh      model")
for i in range(min(6, len(true))):
    row = (true[i], certificate.lower[i], certificate.upper[i], certificate.upper[i] / true[i])
    print("".join(f"{value:13.4f}" for value in (*row, certificate.mesh.upper[i], certificate.model.upper[i])))

# %%
sample = int(certificate.upper.argmax())
figure, panels = plt.subplots(1, 3, figsize=(12, 3.4))
for panel, field, title, colours in (
    (panels[0], coefficients[sample], "coefficient", "cividis"),
    (panels[1], predictions[sample], "prediction", "viridis"),
    (panels[2], certificate.indicators[sample], "where its error may be", "magma"),
):
    image = panel.imshow(field.T, origin="lower", extent=(0, 1, 0, 1), cmap=colours)
    panel.set(title=title, xticks=[], yticks=[])
    figure.colorbar(image, ax=panel, shrink=0.8)

# %% [markdown]
# ## A prediction as initial guess
#
# If a bound is too large for your purpose, start the solver from the prediction. A poor network costs iterations, never
# accuracy. Here the gain is small: less than one V-cycle out of six.

# %%
alone = sb.solve(problem, method=sb.Multigrid(cycle="V"))
started = sb.solve(problem, x0=model, method=sb.Multigrid(cycle="V"))
print("V-cycles from zero     ", alone.iterations.double().mean().item())
print("V-cycles from the model", started.iterations.double().mean().item())
distance = float((alone.values - started.values).abs().max() / alone.values.abs().max())
print("distance of the answers", distance)

# %% [markdown]
# ## The network that ships, and how it fails
#
# An MgNO that was trained longer, on 64 cells per axis, ships with the package. Its training data have the
# conductivities 12 and 2 only. For a medium with other conductivities its prediction is wrong, and the certificate
# shows this.

# %%
shipped = sb.MgNO.load("darcy-rough")
torch.manual_seed(3)
known = torch.where(torch.rand(4, 4) < 0.5, 12.0, 2.0).double().repeat_interleave(16, 0).repeat_interleave(16, 1)
relative = []
for low in (2.0, 0.5):
    strange = sb.Diffusion(sb.Grid((64, 64)), coefficient=torch.where(known > 2, 12.0, low), source=1.0)
    relative.append(sb.certify(strange, shipped.predict(strange)).relative_upper.item())
    print(f"conductivities 12 and {low}: relative error at most {100 * relative[-1]:.1f} %")

# %% [markdown]
# ## What to try
#
# - Train with `loss="l2"` instead of `"h1"`. The L2 error decreases. Do the bounds decrease too?
# - Train `sb.CertifiedMgNO` with `loss="bound"`. It also predicts a flux, so its certificates need no solve.
# - Generate the test set with the recipe `darcy-smooth`. Which part of the error grows, `mesh` or `model`?
