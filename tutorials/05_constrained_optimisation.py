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
# # Constrained optimisation
#
# After this notebook you can minimise a function under equality constraints, read the history of the iteration, and
# judge the cost of solving its linear systems by random sketching.
#
# `sb.minimize` finds an x that minimises f(x) subject to c(x) = 0. Each iteration linearises the optimality conditions
# (the KKT conditions: c(x) = 0, and the gradient of the Lagrangian f + λ c is zero) and solves one linear system, the
# KKT system. How accurately must this system be solved?

# %%
import matplotlib.pyplot as plt
import torch

import sciml_bounds as sb

plt.rcParams.update({"figure.dpi": 60, "figure.constrained_layout.use": True, "image.interpolation": "nearest"})

# %% [markdown]
# ## Two unknowns
#
# Problem 7 of Hock and Schittkowski: minimise log(1 + x²) - y subject to (1 + x²)² + y² = 4. The functions are written
# in torch, so their derivatives are computed automatically. A callback collects the iterates.


# %%
def objective(x):
    return torch.log(1 + x[0] ** 2) - x[1]


def constraint(x):
    return (1 + x[0] ** 2) ** 2 + x[1] ** 2 - 4


x0 = torch.tensor([2.0, 2.0], dtype=torch.float64)
paths, results = {}, {}
for name, options in {"auto": {}, "sketched": {"method": "sketched", "inner": "direct"}}.items():
    path = [x0]
    results[name] = sb.minimize(objective, x0, constraints=constraint, callback=path.append, **options)
    paths[name] = torch.stack(path)
print(results["auto"])

# %% [markdown]
# Both methods use the same merit function, the exact augmented Lagrangian: the Lagrangian plus penalties on the squared
# constraint *and* on the squared gradient of the Lagrangian. A step that does not decrease the merit function enough is
# shortened. The method "sketched" is that of Hong, Na, Mahoney and Kolar (ICML 2023) with its published constants.

# %%
figure, panels = plt.subplots(1, 2, figsize=(10.5, 4.0))
grid = torch.meshgrid(torch.linspace(-1.6, 2.2, 200), torch.linspace(-0.5, 6.5, 200), indexing="ij")
panels[0].contour(*grid, objective(grid), levels=20, cmap="Greys")
panels[0].contour(*grid, constraint(grid), levels=[0.0], colors="C3")
for name, path in paths.items():
    panels[0].plot(*path.T, "o-", markersize=4, label=name)
    residuals = [step.kkt_residual for step in results[name].history]
    panels[1].semilogy(range(1, len(residuals) + 1), residuals, "o-", markersize=4, label=name)
panels[0].set(title="iterates, and the constraint (red)", xlabel="x", ylabel="y", xlim=(-1.6, 2.2), ylim=(-0.5, 6.5))
panels[1].set(title="residual of the KKT conditions", xlabel="iteration")
_ = panels[1].legend(frameon=False)

# %% [markdown]
# ## How accurately must the systems be solved?
#
# The method "sketched" can solve its systems iteratively: each step projects the iterate onto the solutions of one
# equation (Kaczmarz), or of a random combination of all equations (Gaussian). Its convergence proof requires solves
# that are nearly exact. The KKT system of this problem has three equations (two unknowns and one multiplier). The plots
# show the relative residual of each system and the number of sketch steps.

# %%
sketched = {
    inner: sb.minimize(objective, x0, constraints=constraint, method="sketched", inner=inner)
    for inner in ("kaczmarz", "gaussian")
}
figure, panels = plt.subplots(1, 2, figsize=(11, 3.6))
for inner, r in sketched.items():
    panels[0].semilogy([step.inner_residual for step in r.history], "o-", markersize=4, label=inner)
    panels[1].semilogy([step.inner_steps for step in r.history], "o-", markersize=4, label=inner)
    print(
        f"{inner:9} {r.nit:3} iterations, {sum(step.inner_steps for step in r.history):7} sketch steps, f = {r.fun:.6f}"
    )
panels[0].set(title="relative residual of each system", xlabel="iteration")
panels[1].set(title="sketch steps for each system", xlabel="iteration")
_ = panels[1].legend(frameon=False)

# %% [markdown]
# Some of these systems of three equations take tens of thousands of steps, and one Kaczmarz solve ends at the limit of
# 100,000 steps. The number of steps grows with the square of the condition number. For a discretised second-order
# differential equation, it grows with the fourth power of the number of grid points per axis. The experiment in the
# paper has a grid of 3 x 3 points; the next notebook shows a method for finer grids.
#
# ## Constraints that cannot be met
#
# No real x satisfies x·x + 1 = 0. `minimize` raises no exception then; the result gives the reason.

# %%
import warnings

with warnings.catch_warnings():
    warnings.simplefilter("ignore", sb.ConvergenceWarning)
    hopeless = sb.minimize(objective, x0, constraints=lambda x: x @ x + 1)
print(hopeless.success, "-", hopeless.reason)

# %% [markdown]
# ## What to try
#
# - Start from another `x0`, for example (-1, 5). Which minimum is found?
# - Impose the constraint twice. Then the Jacobian of the constraints has linearly dependent rows. Does the iteration
#   still converge?
# - Write the objective with `numpy.log` and pass its gradient as `jac=`. Functions of numpy arrays are accepted too.
