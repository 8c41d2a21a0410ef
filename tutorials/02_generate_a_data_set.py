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
# # A data set with certified labels
#
# After this notebook you can generate a data set from a recipe, read a guaranteed bound on the error of each label,
# split the work among the jobs of a cluster, and load the file in PyTorch.
#
# A network that is trained on the solutions of a solver also learns the errors of the solver. Here every label (a
# solution that a network is trained on) comes with a guaranteed bound on its own error.

# %%
import os
import tempfile
from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np
import torch

import sciml_bounds as sb

plt.rcParams.update({"figure.dpi": 80, "figure.constrained_layout.use": True, "image.interpolation": "nearest"})
folder = Path(tempfile.mkdtemp())
quick = bool(os.environ.get("SCIML_BOUNDS_QUICK"))  # the tests run this with fewer samples

# %% [markdown]
# ## One call
#
# A *recipe* determines the random inputs, the equation and the fields that are stored. `darcy-rough` draws random media
# with the two conductivities 12 and 2 and solves $-\nabla\cdot(a\nabla u) = 1$ with $u = 0$ on the boundary. The grid
# in the original paper has 512 cells per axis; 64 are enough here.

# %%
samples = 40 if quick else 200
path = folder / "darcy.h5"
sb.make_dataset("darcy-rough", path, samples=samples, seed=0, resolution=64)
data = sb.open_dataset(path)
print(data)

# %% [markdown]
# The file is plain netCDF-4: `xarray.open_dataset` and `h5py` read it without this package. Coefficients have one value
# per cell, and solutions have one value per node. The attributes contain all that is needed to generate the same data
# set again.

# %%
figure, rows = plt.subplots(2, 4, figsize=(11, 5.2))
for column, sample in enumerate(data.sample.values[:4]):
    rows[0, column].imshow(data.coefficient.sel(sample=sample).T, origin="lower", cmap="cividis")
    rows[1, column].imshow(data.solution.sel(sample=sample).T, origin="lower")
    rows[0, column].set_title(f"sample {sample}")
for panel in rows.flat:
    panel.set(xticks=[], yticks=[])

# %% [markdown]
# ## How wrong are the labels?
#
# `label_error` bounds the distance between a stored solution and the exact solution of its equation, relative to the
# exact solution, in the energy norm. The residual of the solver does not show this error: the residual is tiny, and the
# error comes from the grid.

# %%
errors = data.label_error.values
figure, axes = plt.subplots(figsize=(5.6, 3.2))
axes.hist(100 * errors, bins=20, color="tab:orange", alpha=0.7)
axes.set(xlabel="guaranteed bound of the label's error, % of the energy norm", ylabel="samples")
print(f"label errors: at most {100 * errors.min():.1f} % for the best sample, {100 * errors.max():.1f} % for the worst")

# %% [markdown]
# On a finer grid the labels of the same media are more accurate. The low frequencies of a random medium depend on the
# seed and the index of the sample only, so sample 0 is nearly the same medium at every resolution.

# %%
few = 10
bounds = []
for resolution in (32, 64, 128):
    finer = folder / f"darcy-{resolution}.h5"
    sb.make_dataset("darcy-rough", finer, samples=few, seed=0, resolution=resolution)
    bounds.append(sb.open_dataset(finer).label_error.median().item())
    print(f"{resolution:4d} cells per axis: median bound {100 * bounds[-1]:.1f} %")

# %% [markdown]
# ## Reproducible, sample by sample
#
# At a given resolution, a sample depends on the seed and on its index only, not on the number of workers or samples,
# nor on interruptions. The jobs of a cluster can therefore generate parts of a data set (*shards*), and `consolidate`
# joins them. The arrays are the same, bit for bit, as those of a single job. In a shell:
#
# ```sh
# sciml-bounds generate darcy-rough --samples 200 --seed 0 --resolution 64 --out part0.h5 --shard-index 0 --num-shards 2
# sciml-bounds generate darcy-rough --samples 200 --seed 0 --resolution 64 --out part1.h5 --shard-index 1 --num-shards 2
# sciml-bounds consolidate part0.h5 part1.h5 --out darcy.h5
# ```

# %%
again = folder / "again.h5"
sb.make_dataset("darcy-rough", again, samples=few, seed=0, resolution=64)
same = np.array_equal(sb.open_dataset(again).solution.values, data.solution.values[:few])
print("the first samples of a smaller data set are the same, bit for bit:", same)

# %% [markdown]
# ## To PyTorch
#
# Of every ten consecutive samples, eight are for training, one for validation and one for testing. The split depends on
# the index alone, so a larger data set keeps the split of a smaller one. `TorchDataset` reads lazily, works in the
# workers of a data loader, and returns pairs of tensors with a channel axis.

# %%
train, validation, test = (sb.TorchDataset(path, split=name) for name in ("train", "validation", "test"))
print(len(train), len(validation), len(test))
loader = torch.utils.data.DataLoader(train, batch_size=8, shuffle=True)
x, y = next(iter(loader))
print("input", tuple(x.shape), "target", tuple(y.shape))

# %% [markdown]
# ## What to try
#
# - `sb.data.recipe_names()` lists the other recipes. Make twenty samples of `poisson` and compare the label errors.
# - Write a recipe of your own: the how-to page "Add a data set recipe" shows how.
# - [Train an operator](03_train_an_operator.ipynb) on such a file, and certify its predictions.
