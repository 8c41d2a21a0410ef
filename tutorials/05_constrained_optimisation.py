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
# # Constrained optimisation, from two unknowns to a partial differential equation
#
# `sb.minimize` finds x with f(x) least and c(x) = 0. Every iteration solves one linear system, the KKT system, and the
# question that runs through this notebook is how accurately. We look at a published answer on a problem with two
# unknowns, where pictures can be drawn, and end with the control of a nonlinear equation on a grid, where solving less
# accurately halves the work.

# %%
import os
import time

import matplotlib.pyplot as plt
import scipy.sparse.linalg
import torch

import sciml_bounds as sb

plt.rcParams.update({"figure.dpi": 60, "figure.constrained_layout.use": True, "image.interpolation": "nearest"})
quick = bool(os.environ.get("SCIML_BOUNDS_QUICK"))  # the tests run this on coarser grids
cells = 24 if quick else 64

# %% [markdown]
# ## Two unknowns
#
# Problem 7 of Hock and Schittkowski: the least value of log(1 + x²) - y where (1 + x²)² + y² = 4. The functions are
# written in torch, and all derivatives come from torch. A callback collects the iterates.


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
# Both methods walk on the same landscape, the exact augmented Lagrangian: the objective plus multipliers times the
# constraint, plus penalties on the constraint *and* on the gradient of the Lagrangian. It knows when a full Newton step
# is good and when it has to be cut. "sketched" is the published method with its constants.

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
panels[1].set(title="what is left of the KKT conditions", xlabel="iteration")
_ = panels[1].legend(frameon=False)

# %% [markdown]
# ## How accurately?
#
# The published method may solve its systems by random sketches: each step projects on one row (Kaczmarz), or on a
# random combination of rows (Gaussian). It asks for just the accuracy at which its proof holds, and that is a lot.
# Here is what it asks for, and how many sketch steps that costs, on a system of three equations.

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
# Tens of thousands of steps for three equations: in effect the systems are solved exactly. The number of steps grows
# with the square of the condition number, and so, for a differential equation, with the fourth power of the number of
# grid points along an axis. The third system is left unsolved at the cap of 100,000 steps. Published is a grid with
# 3 x 3 points. For finer ones the system must be solved in another way, and with another idea of accuracy.
#
# ## The control of an equation
#
# A plate is heated by a source z that we choose, and its temperature u obeys -Δu = z, with u = 0 on its sides. Which
# source brings u closest to a target? If the source is dear, we minimise 1/2 ‖u - target‖² + weight/2 ‖z‖². The
# unknowns are u and z, and the equation is the constraint. First the published instance, with its 9 + 9 unknowns:

# %%
wave = 0.1 / 15**0.5 * (torch.arange(5, dtype=torch.float64) - 2)
published = sb.control.DistributedControl(
    sb.Diffusion(sb.Grid((4, 4), lengths=(2.0, 2.0), origin=(-1.0, -1.0))),
    torch.sin(4 + wave)[:, None] + torch.cos(3 + wave),
    weight=0.1,
)
smallest = published.minimize()
print(f"objective {smallest.fun / 0.5**2:.8f}")  # the published sums of squares are not weighted by h^2

# %% [markdown]
# Now a target with jumps, which no temperature can reach, at three prices.


# %%
def inside(x, y):
    return ((x - 0.5).abs().maximum((y - 0.5).abs()) <= 0.25).double()


problem = sb.Diffusion(sb.Grid((cells, cells)))
controls = {weight: sb.control.DistributedControl(problem, inside, weight=weight) for weight in (1e-2, 1e-4, 1e-6)}
optimal = {weight: control.minimize() for weight, control in controls.items()}
figure, panels = plt.subplots(2, 3, figsize=(10.5, 6.2))
for column, (weight, control) in enumerate(controls.items()):
    state, source = control.fields(optimal[weight].x)
    image = panels[0, column].imshow(state.T, origin="lower", vmin=-0.2, vmax=1.2)
    panels[0, column].set(title=f"u, weight {weight:g}", xticks=[], yticks=[])
    size = float(source.abs().max())
    other = panels[1, column].imshow(source.T, origin="lower", cmap="RdBu_r", vmin=-size, vmax=size)
    panels[1, column].set(title="z", xticks=[], yticks=[])
    figure.colorbar(other, ax=panels[1, column], shrink=0.8)
_ = figure.colorbar(image, ax=panels[0], shrink=0.8)

# %% [markdown]
# The cheaper the source, the closer the temperature comes to the jump, and the wilder is the source.
#
# The equation says which source makes a temperature, so that the objective is a function of the temperature alone. Its
# Hessian is inverted iteratively, and each step applies two multigrid cycles. How many steps? That is the point of the
# construction (by Pearson and Wathen): mesh and weight hardly matter.

# %%
steps = {}
meshes = (cells // 2, cells, 2 * cells)
for n in meshes:
    for weight in controls:
        control = sb.control.DistributedControl(sb.Diffusion(sb.Grid((n, n))), inside, weight=weight)
        r = control.minimize()
        steps[n, weight] = sum(step.inner_steps for step in r.history)
print("cells   " + "".join(f"weight {weight:<9g}" for weight in controls))
for n in meshes:
    print(f"{n:5}   " + "".join(f"{steps[n, weight]:<16}" for weight in controls))

# %% [markdown]
# The multipliers mean something: they are the adjoint state, and l tells by how much the objective falls if a unit of
# heat is added somewhere. At the optimum a little more heat costs as much as it helps: weight times z = l. So weight
# times z must solve the adjoint equation -Δl = target - u, which a factorisation tells:

# %%
weight = 1e-4
control = controls[weight]
state, source = control.split(optimal[weight].x)
missed = control.stiffness.mass * (control.target - state)
adjoint = torch.from_numpy(scipy.sparse.linalg.spsolve(control.stiffness.to_csr().tocsc(), missed.numpy()))
balance = float((weight * source - adjoint).abs().max() / adjoint.abs().max())
print(f"weight z and l differ by {balance:.1e}, relative")

# %% [markdown]
# ## A nonlinear equation, and what inexactness saves
#
# Let the plate lose heat faster when it is hot: -Δu + 10 u³ = z. Now Newton's method takes several iterations, and the
# first of them need no accurate solves, since they lead to a point that is wrong anyway. The rule: solve to one part in
# ten at first, and then as much more accurately as the residual has fallen. Beside it, solves that are as good as
# exact, and the published idea: state and source as unknowns of `sb.minimize`, whose KKT systems MINRES solves.

# %%
cubic = sb.control.DistributedControl(problem, inside, weight=1e-4, nonlinearity=lambda u: 10 * u**3)
accuracy = {}
for name, options in {
    "as worth": {},
    "exact": {"forcing": 1e-9},
    "MINRES, exact": {"inner": sb.optimize.Minres(cubic.preconditioner, rtol=1e-9)},
    "MINRES, as worth": {"inner": sb.optimize.Minres(cubic.preconditioner)},
}.items():
    began = time.process_time()
    r = accuracy[name] = cubic.minimize(**options)
    count = sum(step.inner_steps for step in r.history)
    print(
        f"{name:17} {r.nit} Newton steps, {count:4} inner steps, {time.process_time() - began:5.2f} s, f = {r.fun:.10f}"
    )

# %%
figure, panels = plt.subplots(1, 2, figsize=(11, 3.6))
for name, r in accuracy.items():
    panels[0].semilogy([step.inner_residual for step in r.history], "o-", markersize=4, label=name)
    spent = torch.tensor([step.inner_steps for step in r.history]).cumsum(0)
    panels[1].semilogy(spent, [step.kkt_residual for step in r.history], "o-", markersize=4, label=name)
panels[0].set(title="accuracy of each solve", xlabel="Newton step")
panels[1].set(title="residual, each in its own norm", xlabel="inner steps spent")
_ = panels[1].legend(frameon=False)

# %% [markdown]
# All end at the same optimum. Solving only as accurately as a step is worth takes less than half of the steps. MINRES
# needs more, since it gains in every second step only, and since `sb.minimize` measures residuals in the Euclidean
# norm, which tells little of functions and asks for more on finer meshes.
#
# ## Turn it around: which plate is it?
#
# The same machinery finds a coefficient. Rain seeps through the ground to drains on the left and on the right; the
# pressure of the water is observed at one point in five, with errors of one per cent. Where does the ground let it pass
# more easily?

# %%
flow = {"x0": sb.Dirichlet(0.0), "x1": sb.Dirichlet(1.0), "y0": sb.Neumann(0.0), "y1": sb.Neumann(0.0)}
guess = sb.Diffusion(sb.Grid((cells, cells)), coefficient=1.0, source=10.0, boundary=flow)
truth = guess.replace(coefficient=lambda x, y: torch.exp((torch.hypot(x - 0.6, y - 0.5) < 0.25).double()))
pressure = sb.solve(truth).values
random = torch.Generator().manual_seed(0)
noise = 0.01 * float(pressure.std())
observations = pressure + noise * torch.randn(pressure.shape, generator=random, dtype=torch.float64)
observed = torch.rand(pressure.shape, generator=random) < 0.2

estimation = sb.control.CoefficientEstimation(
    guess, observations, observed=observed, smoothing=noise**2 * guess.grid.cell_volume
)  # fmt: skip
found = estimation.minimize()
_, coefficient = estimation.fields(found.x)
print(f"{found.nit} iterations; {found.reason}")

# %%
figure, panels = plt.subplots(1, 3, figsize=(11, 3.4))
for axes, (title, field) in zip(
    panels,
    {
        "the truth": truth.coefficient[0],
        "observed pressures": torch.where(observed, observations, torch.nan),
        "the estimate": coefficient,
    }.items(),
):
    image = axes.imshow(field.T, origin="lower")
    axes.set(title=title, xticks=[], yticks=[])
    figure.colorbar(image, ax=axes, shrink=0.8)

# %% [markdown]
# The disc is found, with a washed-out edge and an uneven inside: that is what smoothing and noise leave.
#
# ## When it cannot work
#
# Constraints that contradict each other are no error, but an answer, with a reason.

# %%
import warnings

with warnings.catch_warnings():
    warnings.simplefilter("ignore", sb.ConvergenceWarning)
    hopeless = sb.minimize(objective, x0, constraints=lambda x: x @ x + 1)
print(hopeless.success, "-", hopeless.reason)
