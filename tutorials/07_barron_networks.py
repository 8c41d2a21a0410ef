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
# # Two-layer networks: width, equations, certificates
#
# After this notebook you can bound the Barron norm of a function, choose the width of a network from this norm, solve
# equations with two-layer networks, and certify the networks between the nodes of a grid.
#
# A two-layer network is a sum of $k$ neurons, $\sum_i c_i\,\sigma(w_i\cdot x + b_i)$, with one hidden layer of *width*
# $k$. How wide must it be to approximate a given function? Which equations can it solve, and with which error? For such
# networks these questions have quantitative answers.

# %%
import math
import os
import time

import matplotlib.pyplot as plt
import torch

import sciml_bounds as sb

plt.rcParams.update({"figure.dpi": 80, "figure.constrained_layout.use": True, "image.interpolation": "nearest"})
quick = bool(os.environ.get("SCIML_BOUNDS_QUICK"))  # the tests run this with fewer neurons

# %% [markdown]
# ## A function and its norm
#
# Take a sum of forty waves (cosines $\cos(w\cdot x)$) in six dimensions, with random directions. Its Barron norm is at
# most the sum of the absolute amplitudes, each multiplied by one plus its frequency $|w|$. The formula does not contain
# the dimension.

# %%
generator = torch.Generator().manual_seed(0)
modes = torch.randint(-2, 3, (40, 6), generator=generator)
amplitudes = torch.randn(40, generator=generator, dtype=torch.float64) / 40
f = sb.barron.BarronFunction.fourier(modes, amplitudes)
print(f)

# %% [markdown]
# Sums and products of such functions are functions with known norms. The norm of a product is at most the product of
# the norms. If all waves of the product are known, `tightened` computes a smaller bound from them:

# %%
square = f.waves() * f.waves()
print(f"||f||^2 = {f.norm**2:.2f}, ||f f|| <= {square.norm:.2f}, counted {square.tightened().norm:.2f}")

# %% [markdown]
# ## Its network
#
# A network of k cosines can be drawn at random: each neuron is one of the waves, with a probability proportional to its
# contribution to the norm. The expected squared error is below a bound that decreases like 1/k; the mean of twenty
# draws may exceed this bound slightly. For comparison: in six dimensions a grid with ten points per axis has a million
# points.

# %%
widths = [16, 64, 256, 1024]
x = torch.rand((2000, 6), generator=generator, dtype=torch.float64)
errors, bounds = [], []
for width in widths:
    draws = [sb.barron.sample_network(f, width, seed=seed) for seed in range(20)]
    squares = [float((draw.network(x) - f(x)).detach().square().mean()) for draw in draws]
    errors.append(math.sqrt(sum(squares) / len(squares)))
    bounds.append(draws[0].error_bound)
    print(f"width {width:5}: error {errors[-1]:.4f}, bound {bounds[-1]:.4f}")
print(f"an error of 0.01 is certain to be possible with a width of {sb.barron.width_for(f, 0.01)}")

# %%
figure, axes = plt.subplots(figsize=(5, 3.4))
axes.loglog(widths, bounds, "k--", label="proven")
axes.loglog(widths, errors, "o-", label="root mean square of the draws")
axes.set(xlabel="width", ylabel="error in L2")
_ = axes.legend(frameon=False)

# %% [markdown]
# Conversely, it can be shown before training that some networks cannot represent a function. Neurons tanh(w x + b) with
# bounded weights and biases are nearly linearly dependent: a thousand of them with |w| and |b| at most 1 span,
# numerically, a space of only 18 dimensions. The table shows this dimension for three bounds on w and b, and a lower
# bound on the error with which cos(30 x) is approximated by any outer weights of norm at most 100.

# %%
line = torch.linspace(-1, 1, 500, dtype=torch.float64)[:, None]
spans = {}
for bound in (1.0, 5.0, 20.0):
    w, b = bound * (2 * torch.rand((2, 1000), generator=generator, dtype=torch.float64) - 1)
    features = sb.BarronNetwork.of(w[:, None], b, torch.ones(1000), activation="tanh").features(line)
    spans[bound] = sb.barron.capacity(features)
    left = float(spans[bound].error_bound(torch.cos(30 * line[:, 0]), outer_norm=100.0))
    print(
        f"|w|, |b| <= {bound:4g}: {spans[bound].dimension:3} of 1000 count; cos(30 x) is missed by at least {left:.2f}"
    )

# %% [markdown]
# ## Its equation
#
# If the coefficient and the source of an equation have small Barron norms, does the solution have a small norm too? For
# -div(a grad u) = f it does if a does not vary too much. The bound is computed before the equation is solved:

# %%
a = sb.barron.BarronFunction.cosine([[0, 0], [1, 1], [2, 0]], [1.0, 0.2, 0.15])
source = sb.barron.BarronFunction.sine([[1, 1], [3, 2]], [20.0, 30.0])
norms = sb.barron.solution_norms(a, source)
print(norms)

# %% [markdown]
# So a network of moderate width can approximate the solution. The orthogonal greedy algorithm finds one: it searches
# for the neuron that reduces the residual most, adds it to the network, and recomputes all outer weights, so that the
# energy error is smallest. Its theorem guarantees that the error decreases like n^(-1.25) for n neurons with the
# activation ReLU². The network is multiplied by x (1 - x) y (1 - y), so it is exactly zero on the boundary.

# %%
cells = 64 if quick else 128
grid = sb.Grid((cells, cells))
problem = sb.variational.VariationalProblem(grid, sb.variational.QuadraticEnergy(a), source)
equation = problem.as_diffusion()
solved = {}
for width in (8, 16, 32) if quick else (8, 16, 32, 64):
    began = time.perf_counter()
    solution = sb.network_solvers.greedy_network(problem, width)
    certificate = sb.certify(equation, solution.network)
    solved[width] = certificate
    print(
        f"width {width:3}: error between {float(certificate.lower):.3f} and {float(certificate.upper):.3f}, at most "
        f"{float(certificate.relative_upper):.1%} of the solution ({time.perf_counter() - began:.1f} s)"
    )
print(solution)

# %% [markdown]
# These bounds hold for the network as a function, between the nodes of the grid too: its derivatives are enclosed on
# every cell. No exact solution was used. The indicators show where the remaining error is.

# %%
nodes = torch.stack(torch.meshgrid(grid.nodes(0), grid.nodes(1), indexing="ij"), -1)
with torch.no_grad():
    values = solution.network(nodes)
figure, panels = plt.subplots(1, 3, figsize=(12, 3.4))
for panel, (title, field, colours) in zip(
    panels,
    (
        ("coefficient", equation.coefficient[0], "cividis"),
        ("network", values, "viridis"),
        ("error indicators", certificate.indicators, "magma"),
    ),
):
    image = panel.imshow(field.T, origin="lower", extent=(0, 1, 0, 1), cmap=colours)
    panel.set(title=title, xlabel="x", ylabel="y")
    figure.colorbar(image, ax=panel, shrink=0.85)

# %%
figure, axes = plt.subplots(figsize=(5, 3.4))
reached = list(solved)
uppers = [float(c.upper) for c in solved.values()]
lowers = [max(float(c.lower), uppers[-1] / 4) for c in solved.values()]  # zero has no place on this axis
axes.fill_between(reached, lowers, uppers, alpha=0.3, label="between the bounds")
first = float(solved[8].upper)
axes.loglog(reached, [first * (n / 8) ** -solution.proven_order for n in reached], "k--", label="proven order")
axes.set(xlabel="neurons", ylabel="energy error", title="the true error lies in the band", ylim=(uppers[-1] / 4, None))
axes.set_xticks(reached, [str(n) for n in reached])
axes.xaxis.minorticks_off()
_ = axes.legend(frameon=False)

# %% [markdown]
# ## A nonlinear equation
#
# The solution of some nonlinear equations minimises a convex energy J, and these have certificates too. Here the
# conductivity decreases from 4 to 1 as |grad u| grows (a shear-thinning fluid). Newton's method solves the problem on
# the grid. The certificate bounds how far the energy of the answer v is above the minimum over all functions, J(v) -
# J(u), and the distance between the gradients of v and u.

# %%
steep = sb.variational.VariationalProblem(grid, sb.variational.ShearThinning(3.0), source)
newton = sb.variational.minimize_energy(steep)
certificate_of_energy = sb.variational.certify_energy(steep, newton)
print(newton)
print(certificate_of_energy)

# %% [markdown]
# Next we solve the same problem with a network whose neurons are random and whose outer weights minimise the energy.
# Its certificate holds between the nodes too:

# %%
drawn = sb.network_solvers.random_feature_network(steep, 100 if quick else 300)
of_network = sb.variational.certify_energy(steep, drawn.network)
print(f"network: gradient off by at most {float(of_network.relative_gradient_upper):.1%}")
print(f"grid:    gradient off by at most {float(certificate_of_energy.relative_gradient_upper):.1%}")

# %% [markdown]
# ## In ten dimensions
#
# A mesh in ten dimensions with ten cells per axis has ten billion cells. The exact solution below is a product of ten
# factors. The solver does not know this: its only input is the right-hand side as a function of points. The greedy
# algorithm with cosines as neurons needs 300 of them.

# %%
dim = 6 if quick else 10


def product(x):
    return (1 + torch.cos(math.pi * x) / 4).prod(-1)


def right_hand_side(x):
    factors = 1 + torch.cos(math.pi * x) / 4
    bends = math.pi**2 * (torch.cos(math.pi * x) / 4) / factors  # -u'' / u in each direction
    return factors.prod(-1) * (1 + bends.sum(-1))


high = sb.variational.VariationalProblem(
    sb.barron.Box([1.0] * dim), sb.variational.QuadraticEnergy(reaction=1.0), right_hand_side, boundary=sb.Neumann(0.0)
)
began = time.perf_counter()
waves = sb.network_solvers.greedy_network(high, 100 if quick else 300, activation="cosine")
points = torch.rand((4000, dim), generator=generator, dtype=torch.float64)
u, p = product(points), torch.func.grad(lambda y: product(y).sum())(points)
with torch.no_grad():
    error = (waves.network(points) - u).square() + (waves.network.gradient(points) - p).square().sum(-1)
relative = math.sqrt(float(error.mean() / (u.square() + p.square().sum(-1)).mean()))
print(
    f"{waves.width} cosines, {time.perf_counter() - began:.0f} s: error in H1 {relative:.1%}, measured at random points"
)

# %% [markdown]
# This last number is measured, not certified: certificates use a grid, which exists in at most three dimensions.
#
# ## What to try
#
# - Replace the forty waves by waves of higher frequency. How does the width that guarantees an error of 0.1 change?
# - Train all weights with `sb.network_solvers.ritz_network` and compare its certificate with that of the greedy
#   network.
# - Certify with a finer grid: how much of the bound is due to the grid?
