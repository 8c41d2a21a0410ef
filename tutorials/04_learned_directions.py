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
# # Learned search directions, and what happens when they are wrong
#
# After this notebook you can train a network that proposes search directions for conjugate gradients, compare it with
# multigrid, and explain why a poor network costs iterations but never accuracy.
#
# The method of conjugate gradients approaches the solution of `A x = b` along search directions that are made from
# residuals. A trained network may find better directions. We train a small one on a CPU in two minutes, compare it with
# conjugate gradients and multigrid, and then damage its weights on purpose. The iteration becomes slow, but the answer
# stays correct, since the length of every step is computed from `A` and not by the network.

# %%
import os
import tempfile
import time
from pathlib import Path

import matplotlib.pyplot as plt
import torch

import sciml_bounds as sb
from sciml_bounds.simulation import Preconditioned, PressureSolver, Smoke, make_scene

plt.rcParams.update({"figure.dpi": 80, "figure.constrained_layout.use": True, "image.interpolation": "nearest"})
folder = Path(tempfile.mkdtemp())
quick = bool(os.environ.get("SCIML_BOUNDS_QUICK"))  # the tests run this with a shorter training
epochs = 2 if quick else 5

# %% [markdown]
# ## A system to solve
#
# Smoke rises in a closed box of 48 x 48 cells, past a rotating body with three arms. Every time step solves a Poisson
# equation for the pressure, with no flow through the walls of the box and the surface of the body. We take the linear
# system of the twentieth step. The pressure is determined up to a constant; we choose the solution with mean zero.

# %%
scene = make_scene("rotating", dim=2, cells=48)
closed = scene.arguments() | {"open_sides": ()}
smoke = Smoke(scene.grid, dt=scene.dt, pressure=PressureSolver("multigrid-pcg"), **closed)
start = smoke.initial()
(_, system), = smoke.pressure_systems(start, [20])  # fmt: skip
A = system.operator
fluid = (A.diagonal() > A.absorption).view(48, 48)  # solid cells have no neighbours
print(f"{fluid.numel()} cells, of which {int(fluid.sum())} are fluid")

# %% [markdown]
# ## Train
#
# The data set `ritz-poisson-2d` contains right-hand sides for the *empty* box: random combinations of eigenvectors of
# the matrix, mostly smooth ones. No solutions are needed. The loss is the norm of the residual after the best step
# along the network's direction, relative to the norm before, so the length and the sign of the direction do not matter.
# The network is that of Kaneda et al. (2022) with half the channels. Its only input is a residual: it does not know
# where the body is.

# %%
path = folder / "residuals.nc"
sb.make_dataset("ritz-poisson-2d", path, samples=1000, seed=0, resolution=48)
train, validation = (sb.TorchDataset(path, split, in_memory=True) for split in ("train", "validation"))
torch.manual_seed(0)
net = sb.LearnedDirections("dcdm", dim=2, channels=8)
began = time.process_time()
result = sb.train(
    net, train, validation, loss="line-search", epochs=epochs, batch_size=10, lr=4e-3, weight_decay=0.0,
    schedule_step="step",
)  # fmt: skip
print(f"{sum(p.numel() for p in net.parameters())} weights, {time.process_time() - began:.0f} seconds of CPU")
for row in result.history:
    print(f"epoch {row['epoch']}: loss {row['loss']:.3f}, on validation data {row['validation']:.3f}")


# %% [markdown]
# ## Compare
#
# We run `cg` with five preconditioners `M`: none, the diagonal (Jacobi), a multigrid V-cycle, the network, and a
# multigrid cycle with 145 trained weights that ships with the package ("learned cycle"). After each iteration we record
# the residual and the A-norm of the error, $\sqrt{e^T A e}$, which conjugate gradients minimise. The last residual is
# recomputed with scipy. Times are CPU seconds.


# %%
def watch(M, system=system):
    """Solve to a relative residual of 1e-6, record the iteration, and compare with multigrid."""
    A, b = system.operator, system.rhs.flatten(1)
    size = float(b.norm())
    exact = PressureSolver("multigrid-pcg")(system, None, 1e-12 * size).x
    iterates = [torch.zeros_like(b)]
    began = time.process_time()
    solution = sb.cg(A, b, M=M, rtol=1e-6, maxiter=3000, callback=lambda x: iterates.append(x.clone()))
    seconds = time.process_time() - began
    errors = [x - exact for x in iterates]
    apart = system.fix_mean(errors[-1].view(system.rhs.shape)).abs().max() / exact.abs().max()
    left = torch.as_tensor(b[0].numpy() - A.to_csr() @ solution.x[0].numpy()).norm()
    return {
        "iterations": int(solution.iterations),
        "dropped": 0 if solution.dropped_directions is None else int(solution.dropped_directions),
        "true": float(left) / size, "apart": float(apart), "seconds": seconds,
        "residuals": solution.residual_norms[:, 0], "energies": [float((e * A.matvec(e)).sum()) ** 0.5 for e in errors],
    }  # fmt: skip


def table(runs):
    print(f"{'':20} iterations  dropped  true residual  differs from multigrid    CPU s")
    for name, run in runs.items():
        print(
            f"{name:20} {run['iterations']:10} {run['dropped']:8} {run['true']:14.1e} {run['apart']:23.1e} "
            f"{run['seconds']:8.2f}"
        )


preconditioners = {
    "conjugate gradients": None,
    "Jacobi": sb.operators.Diagonal(A.diagonal().flatten(1).reciprocal()),
    "multigrid": sb.multigrid.lattice_cycle(A),
    "learned directions": net.as_preconditioner(system),
    "learned cycle": sb.LearnedDirections.load("cycle2d").as_preconditioner(system),
}
runs = {name: watch(M) for name, M in preconditioners.items()}
table(runs)

# %%
figure, panels = plt.subplots(1, 3, figsize=(13, 3.8))
pressure = PressureSolver("multigrid-pcg")(system, None, 1e-10).x.view(48, 48)
image = panels[0].imshow(pressure.where(fluid, torch.nan).T, origin="lower", cmap="RdBu")
panels[0].set(title="the pressure around the body", xticks=[], yticks=[])
figure.colorbar(image, ax=panels[0], shrink=0.8)
for name, run in runs.items():
    panels[1].semilogy(run["residuals"] / run["residuals"][0], label=name)
    panels[2].semilogy([energy / run["energies"][0] for energy in run["energies"]], label=name)
panels[1].set(title="residual, relative", xlabel="iterations", ylim=(1e-7, 30))
panels[2].set(title="A-norm of the error, relative", xlabel="iterations", ylim=(1e-8, 2))
_ = panels[2].legend(frameon=False)

# %% [markdown]
# With the network, conjugate gradients need a fifth of the iterations, although the training data contain no body. But
# each iteration evaluates a network, which on a CPU and at this size costs more time than the saved iterations. And
# multigrid needs far fewer iterations, without any training. The learned cycle is multigrid with trained coarse
# operators and smoothing steps. It is symmetric and positive definite for any weights, and here as good as multigrid.
#
# Whatever the network proposes, the A-norm of the error never increases: each step minimises this norm over the span of
# the network's direction, the residual and the last two search directions.

# %% [markdown]
# ## Damage the network
#
# We try random weights, weights that are all zero or all NaN, and a network whose output has the wrong sign. Directions
# that are zero or not finite are dropped and counted.


# %%
def broken(change):
    other = sb.LearnedDirections(**net.arguments)
    other.load_state_dict(net.state_dict())
    with torch.no_grad():
        change(other)
    return other.eval()


def fill(value):
    return lambda other: [parameter.fill_(value) for parameter in other.parameters()]


def flip(other):
    for parameter in other.network.head.parameters():
        parameter.neg_()


torch.manual_seed(1)
networks = {
    "trained": net,
    "random weights": sb.LearnedDirections(**net.arguments).eval(),
    "zeros": broken(fill(0.0)),
    "NaN": broken(fill(torch.nan)),
    "sign flipped": broken(flip),
}
wrong = {name: watch(other.as_preconditioner(system)) for name, other in networks.items()}
table(wrong)

# %% [markdown]
# Every true residual is below 1e-6, and every answer agrees with that of multigrid. Directions of zeros or NaN are
# dropped in every iteration, so the plain method of conjugate gradients remains. The wrong sign changes nothing. Random
# weights cost the most: their directions are not dropped, and they destroy the orthogonality that makes conjugate
# gradients fast.
#
# ## A geometry that it has never seen
#
# The network was trained for empty boxes, and the learned cycle for boxes with thick bodies. Now the box is a labyrinth
# of plates that are one cell thick, each with an opening at one end.

# %%
plates = torch.zeros(48, 48, dtype=torch.bool)
for number, row in enumerate(range(12, 44, 8)):
    plates[:, row] = True
    plates[slice(8) if number % 2 else slice(-8, None), row] = False
labyrinth = make_scene("plume", dim=2, cells=48, solid=plates.numpy())
winding = Smoke(
    labyrinth.grid, dt=labyrinth.dt, pressure=PressureSolver("multigrid-pcg"),
    **labyrinth.arguments() | {"open_sides": ()},
)  # fmt: skip
(_, strange), = winding.pressure_systems(winding.initial(), [20])  # fmt: skip
outside = {
    "conjugate gradients": watch(None, strange),
    "multigrid": watch(sb.multigrid.lattice_cycle(strange.operator), strange),
    "learned directions": watch(net.as_preconditioner(strange), strange),
    "learned cycle": watch(sb.LearnedDirections.load("cycle2d").as_preconditioner(strange), strange),
}
table(outside)

# %% [markdown]
# The network and the learned cycle both need about four times as many iterations as before. The answers are as accurate
# as before. Only the number of iterations shows that the network does not fit the problem.
#
# ## In a simulation
#
# We simulate three time steps with each of three pressure solvers: multigrid, the trained network, and the network with
# random weights. The table shows the largest difference between their smoke densities and those of multigrid ("smoke
# apart"), and the divergence of the velocity that remains.

# %%
smokes = {}
for name, solver in {
    "multigrid": PressureSolver("multigrid-pcg"),
    "trained": PressureSolver(Preconditioned(net.as_preconditioner, memory=2)),
    "random weights": PressureSolver(Preconditioned(networks["random weights"].as_preconditioner, memory=2)),
}.items():
    simulation = Smoke(scene.grid, dt=scene.dt, pressure=solver, tolerance=1e-8, **closed)
    *_, (state, report) = simulation.run(simulation.initial(), 3)
    smokes[name] = state.density
    apart = float((state.density - smokes["multigrid"]).abs().max())
    print(f"{name:16} {report.iterations:4} iterations, divergence {report.divergence:.0e}, smoke apart {apart:.0e}")

# %% [markdown]
# ## What to try
#
# - Train for ten epochs instead of five. How many iterations are needed then?
# - Use the trained network on 96 x 96 cells. Does it help as much as on the grid that it was trained on?
# - Pass `published=True` to `as_preconditioner`: then the search space contains the network's directions but not the
#   residual, as in the original paper.
