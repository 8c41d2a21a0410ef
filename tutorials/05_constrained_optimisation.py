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
# judge what sketched inner solves cost. `sb.minimize` finds x with f(x) as small as possible and c(x) = 0. Every
# iteration solves one linear system, the KKT system. How accurately must it be solved?

# %%
import matplotlib.pyplot as plt
import torch

import sciml_bounds as sb

plt.rcParams.update({"figure.dpi": 60, "figure.constrained_layout.use": True, "image.interpolation": "nearest"})

# %% [markdown]
# ## Two unknowns
#
# Problem 7 of Hock and Schittkowski: minimise log(1 + x²) - y subject to (1 + x²)² + y² = 4. The functions are written
# in torch, so that derivatives are automatic. A callback collects the iterates.


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
# Both methods measure progress by the same merit function, the exact augmented Lagrangian: the objective plus
# multipliers times the constraint, plus penalties on the constraint *and* on the gradient of the Lagrangian. It decides
# whether a full Newton step is accepted or shortened. "sketched" is the method of Hong, Na, Mahoney and Kolar (ICML
# 2023) with its published constants.

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
# ## How accurately?
#
# The published method can solve its systems by random sketches: each step projects on one row (Kaczmarz) or on a random
# combination of rows (Gaussian). It requests the accuracy that its convergence proof needs, which is high. The plots
# show the requested accuracy, and the number of sketch steps that it costs, for a system of three equations.

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
# Three equations take tens of thousands of steps: in effect the systems are solved exactly. The number of steps grows
# with the square of the condition number, for a differential equation with the fourth power of the number of grid
# points along an axis. The solve of the third system ends at the limit of 100,000 steps. The published experiment has a
# grid of 3 x 3 points; the next notebook shows what to do on finer ones.
#
# ## When it cannot work
#
# If the constraints contradict each other, the result says so; it is not an exception.

# %%
import warnings

with warnings.catch_warnings():
    warnings.simplefilter("ignore", sb.ConvergenceWarning)
    hopeless = sb.minimize(objective, x0, constraints=lambda x: x @ x + 1)
print(hopeless.success, "-", hopeless.reason)

# %% [markdown]
# ## What to try
#
# - Start from another `x0`, for example (-1, 5): which minimum is found?
# - Give the constraint twice. The Jacobian then has dependent rows; does the iteration still converge?
# - Replace `torch.log` by `numpy.log` in the objective and pass `jac=`: the functions may be numpy functions too.
