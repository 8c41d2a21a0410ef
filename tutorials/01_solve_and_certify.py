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
# # Solve, and know how wrong you are
#
# After this notebook you can solve a diffusion problem, bound the true error of its answer or of any other field, and
# find the cells where the error is large.
#
# A solver returns numbers. How far are they from the exact solution of the equation? Usually one compares with a finer
# grid, or does not ask. For the diffusion equation there is another way:
#
# $$-\nabla\cdot(a\,\nabla u) = f$$
#
# With the exact solution $u$ unknown, the distance between $u$ and **any** field $v$ can be enclosed from both sides,
# in the *energy norm* $|||\cdot|||$:
#
# $$\text{lower} \;\le\; |||u - v||| \;\le\; \text{upper}, \qquad |||w|||^2 = \int a\,|\nabla w|^2 .$$
#
# Neither bound contains an unknown constant. The field may come from anywhere: a finite-element solver, a neural
# network, or a guess. A pair of bounds is called a *certificate*. We solve a problem, certify the answer, perturb it on
# purpose, and compare the bounds with the true error.

# %%
import matplotlib.pyplot as plt
import numpy as np
import torch

import sciml_bounds as sb

plt.rcParams.update({"figure.dpi": 80, "figure.constrained_layout.use": True, "image.interpolation": "nearest"})

# %% [markdown]
# ## A problem
#
# The domain is the unit square, with $u = 0$ on its boundary and source $f = 1$. The conductivity $a$ is 12 or 3,
# according to whether a smooth random field is above or below its median. Coefficient and source have one value per
# cell.

# %%
n = 64
rng = np.random.default_rng(4)
waves = np.hypot(*np.meshgrid(np.fft.fftfreq(n, 1 / n), np.fft.rfftfreq(n, 1 / n), indexing="ij"))
pattern = np.fft.irfft2(np.fft.rfft2(rng.standard_normal((n, n))) / (9 + waves**2) ** 1.5, s=(n, n))
a = np.where(pattern > np.median(pattern), 12.0, 3.0)

grid = sb.Grid((n, n))
problem = sb.Diffusion(grid, coefficient=a, source=1.0, boundary=sb.Dirichlet(0.0))
solution = sb.solve(problem)
print(solution)

# %% [markdown]
# A few iterations of conjugate gradients with multigrid reduce the residual of the *discrete* equations by a factor of
# $10^8$. This does not say how close the discrete solution is to the exact one. The certificate does:

# %%
certificate = sb.certify(problem, solution)
print(certificate)

# %% [markdown]
# The error is between seven and twelve per cent of the solution in the energy norm, although the iteration has
# converged: at the boundaries between the two phases the gradient of $u$ varies more sharply than this grid can
# resolve. The error indicators, one per cell, show where. Their squares sum to the square of the upper bound.


# %%
def show(axes, field, title, colours="viridis", **limits):
    image = axes.imshow(np.asarray(field).T, origin="lower", extent=(0, 1, 0, 1), cmap=colours, **limits)
    axes.set(title=title, xlabel="x", ylabel="y")
    axes.figure.colorbar(image, ax=axes, shrink=0.8)


figure, panels = plt.subplots(1, 3, figsize=(12, 3.4))
show(panels[0], a, "conductivity $a$", "cividis")
show(panels[1], solution.values, "solution $v$")
show(panels[2], certificate.indicators, "error indicators", "magma")

# %% [markdown]
# ## Is it true?
#
# A certificate needs no reference solution. To check this one, we compute the error on a grid with four times as many
# cells per axis. `layout="coarse"` interpolates our field to the fine grid. There, `model` is the distance between our
# field and the fine discrete solution, and `mesh` is the error of the fine discrete solution itself. The two errors are
# orthogonal in the energy norm, up to quadrature errors, so the squared error is the sum of their squares.

# %%
fine = problem.refine(4)


def true_error(fields):
    certificate = sb.certify(fine, fields, layout="coarse", lower=False)
    return torch.hypot(certificate.model.upper, certificate.mesh.upper)


error = true_error(solution.values)
print(f"{certificate.lower:.5f}  <=  {error:.5f}  <=  {certificate.upper:.5f}")

# %% [markdown]
# ## Perturb the answer
#
# Now we add a smooth wave to the solution, with amplitudes from a ten-thousandth of the solution's maximum to ten times
# this maximum. All perturbed fields are certified in one call, as a batch. The upper bound is computed from a flux that
# depends on the problem only, not on the field. The certificate keeps this flux; if we pass it on, certifying a field
# needs no further solve.

# %%
x, y = torch.meshgrid(grid.nodes(0), grid.nodes(1), indexing="ij")
wave = torch.sin(3 * torch.pi * x) * torch.sin(2 * torch.pi * y) * solution.values.max()
sizes = torch.logspace(-4, 1, 16, dtype=torch.float64)
spoilt = solution.values + sizes[:, None, None] * wave

sweep = sb.certify(problem, spoilt, flux=certificate.flux)
errors = true_error(spoilt)

# %%
figure, axes = plt.subplots(figsize=(6.4, 4))
axes.fill_between(sizes, sweep.lower, sweep.upper, color="tab:orange", alpha=0.3, label="certified interval")
axes.loglog(sizes, sweep.upper, color="tab:orange", lw=1)
axes.loglog(sizes, sweep.lower, color="tab:orange", lw=1)
axes.loglog(sizes, errors, "k.", label="true error")
axes.axhline(certificate.mesh.upper, ls=":", color="grey", lw=1)
axes.text(15, certificate.mesh.upper * 0.8, "upper bound of the mesh error", color="grey", ha="right", va="top")
axes.set(xlabel="size of the perturbation", ylabel="energy error", title="The bounds follow the error")
axes.legend(frameon=False)
axes.grid(alpha=0.15)

# %% [markdown]
# On the left the perturbation is smaller than the error that the grid causes. On the right the perturbation dominates,
# and both bounds approach the true error. The table shows how tight they are:

# %%
print("   size    true error   lower / true   upper / true")
for size, e, low, high in zip(sizes[::3], errors[::3], sweep.lower[::3], sweep.upper[::3]):
    print(f"{size:8.1e}   {e:10.5f}   {low / e:10.3f}   {high / e:12.3f}")

# %% [markdown]
# A certificate also separates two kinds of error: `mesh` encloses the error of the discrete solution on this grid, and
# `model` encloses the distance between our field and the discrete solution. For a network that was trained on discrete
# solutions, `model` is the error that training can reduce.

# %%
print("mesh ", certificate.mesh)
print("model", sb.certify(problem, spoilt[6], flux=certificate.flux).model, f" at size {sizes[6]:.1e}")

# %% [markdown]
# ## Find a local fault
#
# A bump a few cells wide and one tenth as high as the solution is easily overlooked in a picture of the field. The
# indicators show it.

# %%
bump = 0.1 * solution.values.max() * torch.exp(-((x - 0.7) ** 2 + (y - 0.3) ** 2) / 0.02**2)
faulty = problem.impose_boundary(solution.values + bump)
found = sb.certify(problem, faulty, flux=certificate.flux)

figure, panels = plt.subplots(1, 2, figsize=(8.4, 3.4))
show(panels[0], faulty, "the field with a fault")
show(panels[1], found.indicators, "its error indicators", "magma")
worst = divmod(int(found.indicators.argmax()), n)
print(f"largest indicator at x = {grid.centers(0)[worst[0]]:.3f}, y = {grid.centers(1)[worst[1]]:.3f}")

# %% [markdown]
# ## Bounds of outputs
#
# Often only one output is needed: a mean value, a flux, a permeability. `goal` encloses this output for the *exact*
# solution. The interval is about ten times narrower, relative to the output, than the error of the field, because the
# error of the output is bounded by a product of two small errors. The interval from the faulty field is hardly wider,
# since `goal` corrects for the part of the fault that the residual reveals.

# %%
print("mean of u, from our solution    ", certificate.goal(sb.Mean()))
print("mean of u, from the faulty field", found.goal(sb.Mean()))
print("mean of u, on the finer grid    ", sb.certify(fine, sb.solve(fine)).goal(sb.Mean()))

# %% [markdown]
# ## A gradient with respect to the medium
#
# Let the same medium conduct from left to right: $u = 1$ on one side, $0$ on the other, no flux through the top and the
# bottom. Its effective permeability is $k = |||u|||^2$, so the certificate encloses $k$ directly.

# %%
conductivity = torch.tensor(a, requires_grad=True)
walls = {"y0": sb.Neumann(0.0), "y1": sb.Neumann(0.0)}
channel = sb.Diffusion(grid, conductivity, boundary={"x0": sb.Dirichlet(1.0), "x1": sb.Dirichlet(0.0), **walls})
flow = sb.certify(channel, sb.solve(channel))
print("effective permeability between", flow.goal(sb.EffectivePermeability("x")))
print(f"arithmetic mean of the cells {a.mean():.2f}, harmonic {1 / (1 / a).mean():.2f}")

# %% [markdown]
# Where would a little more conductivity increase $k$ most? `solve` is differentiable: the derivatives with respect to
# all cells cost one more solve with the same matrix. The derivative times $a / k$ is the share of a cell in $k$: if the
# conductivity of the cell grows by one per cent, $k$ grows by its share of one per cent.

# %%
k = flow.energy**2
(derivative,) = torch.autograd.grad(k, conductivity)
shares = derivative * conductivity.detach() / k.detach()
print(f"shares sum to {shares.sum():.6f}")  # k is homogeneous of degree one in a

figure, panels = plt.subplots(1, 2, figsize=(8.4, 3.4))
show(panels[0], a, "conductivity $a$", "cividis")
show(panels[1], shares * n**2, "share of each cell in $k$ (mean 1)", "inferno", vmax=4)

# %% [markdown]
# The shares are large where the flow is narrow: in the necks of the well-conducting phase and at the corners of the
# other one. We check the gradient with a difference quotient in one cell:

# %%
cell = divmod(int(derivative.argmax()), n)
step = 1e-3


def permeability(change):
    changed = conductivity.detach().clone()
    changed[cell] += change
    other = channel.replace(coefficient=changed)
    return sb.certify(other, sb.solve(other, rtol=1e-12), lower=False).energy ** 2


quotient = (permeability(step) - permeability(-step)) / (2 * step)
print(f"automatic {derivative[cell]:.8f}   difference quotient {quotient:.8f}")

# %% [markdown]
# ## What is guaranteed, and what is not
#
# The bounds hold for the equation with the given cellwise data, up to floating-point round-off. The certified function
# is the interpolant of the nodal values that is bilinear on every cell. Errors in the data are not covered: if the true
# medium varies within a cell, no computation with one value per cell can detect that.
#
# ## What to try
#
# - Double `n`. By which factor does the relative bound decrease, and why not by two?
# - Other boundary conditions and reaction terms: `sb.Neumann`, `sb.Robin`, `sb.Periodic`, `reaction=`; solid cells,
#   `solid=`; three dimensions.
# - `sb.solve(problem, error=0.05)` iterates until the *guaranteed* relative error is below five per cent. How many
#   cells per axis does this medium need?
