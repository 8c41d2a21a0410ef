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
# # Optimisation constrained by a differential equation
#
# After this notebook you can find the source that brings the solution of an equation close to a target, estimate a
# coefficient from noisy observations, and choose how accurately to solve the linear systems inside Newton's method.

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
# ## Control
#
# We choose the heat source z of a plate. Its temperature u satisfies -Δu = z, with u = 0 on the boundary. Which source
# brings u closest to a target? Heating has a cost, so we minimise 1/2 ‖u - target‖² + weight/2 ‖z‖². The unknowns are u
# and z, and the equation is the constraint. We begin with the problem from Hong et al. (2023), which has 9 + 9
# unknowns:

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
# The next target is 1 in a square and 0 outside. A temperature is continuous, so no source can produce this target. We
# compare three weights.


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
# The smaller the weight, the closer the temperature comes to the jump, and the larger the source becomes.
#
# The source can be computed from the temperature, z = -Δu, so the objective is a function of the temperature alone.
# Newton's method solves systems with its Hessian by conjugate gradients; the preconditioner applies two multigrid
# cycles per step (Pearson and Wathen, 2012). The total number of these inner steps hardly depends on the mesh, and
# little on the weight:

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
# The optimality conditions can be checked independently. Let l be the solution of the adjoint equation -Δl = target -
# u, with l = 0 on the boundary. A unit of heat, added at a point, decreases the first term of the objective by l at
# this point. At the optimum the gain equals the cost, weight · z, so weight · z = l. We solve the adjoint equation by a
# factorisation and compare:

# %%
weight = 1e-4
control = controls[weight]
state, source = control.split(optimal[weight].x)
missed = control.stiffness.mass * (control.target - state)
adjoint = torch.from_numpy(scipy.sparse.linalg.spsolve(control.stiffness.to_csr().tocsc(), missed.numpy()))
balance = float((weight * source - adjoint).abs().max() / adjoint.abs().max())
print(f"weight z and l differ by {balance:.1e}, relative")

# %% [markdown]
# ## A nonlinear equation, and what inexact solves save
#
# Let the plate lose heat faster where it is hot: -Δu + 10 u³ = z. Then Newton's method takes several iterations. In the
# first ones accurate solves are wasted, because the linearisation itself is inaccurate. The run "adaptive" therefore
# solves the first system to a relative residual of 0.1, and tightens this tolerance as the nonlinear residual
# decreases; "exact" solves every system to 1e-9. The two runs "MINRES" do the same with both temperature and source as
# unknowns of `sb.minimize`, whose KKT systems are solved by MINRES.

# %%
cubic = sb.control.DistributedControl(problem, inside, weight=1e-4, nonlinearity=lambda u: 10 * u**3)
accuracy = {}
for name, options in {
    "adaptive": {},
    "exact": {"forcing": 1e-9},
    "MINRES, exact": {"inner": sb.optimize.Minres(cubic.preconditioner, rtol=1e-9)},
    "MINRES, adaptive": {"inner": sb.optimize.Minres(cubic.preconditioner)},
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
panels[1].set(title="residual (in the norm of the method)", xlabel="inner steps spent")
_ = panels[1].legend(frameon=False)

# %% [markdown]
# All runs end at the same optimum. The adaptive runs need half of the inner steps or fewer. MINRES needs more steps
# than conjugate gradients, for two reasons: on KKT systems only every second MINRES step makes progress, and
# `sb.minimize` stops by the Euclidean norm of the residual, which is not a function-space norm and becomes stricter on
# finer meshes.
#
# ## Estimating a coefficient
#
# The same methods estimate a coefficient. Rain seeps through the ground to drains at the left and right sides, where
# the water pressure is 0 and 1. The pressure is observed at one node in five, with noise of one per cent of its
# standard deviation. Where is the ground more permeable?

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
# The disc is found. Its edge is blurred by the smoothing term, and its inside is uneven because of the noise.
#
# ## What to try
#
# - Observe every node, or one node in twenty, by changing 0.2.
# - Change `smoothing` by a factor of 100 in either direction.
# - Use a smooth target that is zero on the boundary. How does the weight change the result then?
