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
# # Learned directions, and what happens when they are wrong
#
# Conjugate gradients walk to the solution of `A x = b` along directions made of residuals. A network that has seen many
# right-hand sides may know better directions. We train a small one on a CPU in less than a minute, watch it beside
# conjugate gradients and multigrid, and then break it on purpose. It gets slow. The answer stays right, since the
# length of every step is computed from `A` and not by the network.

# %%
import os
import tempfile
import time
from pathlib import Path

import matplotlib.pyplot as plt
import torch

import sciml_bounds as sb
from sciml_bounds.evolution.scenes import make_scene
from sciml_bounds.evolution.smoke import Smoke
from sciml_bounds.multigrid._geometric import lattice_cycle
from sciml_bounds.operators._linear_operator import Diagonal
from sciml_bounds.pressure import Preconditioned, PressureSolver

plt.rcParams.update({"figure.dpi": 80, "figure.constrained_layout.use": True, "image.interpolation": "nearest"})
folder = Path(tempfile.mkdtemp())
quick = bool(os.environ.get("SCIML_BOUNDS_QUICK"))  # the tests run this with a shorter training
epochs = 2 if quick else 5

# %% [markdown]
# ## A system to solve
#
# Smoke rises in a closed box of 48 x 48 cells, past a body with three arms that turns. Every time step needs one
# pressure, from a Poisson equation with walls around the box and around the body. We take the system of the twentieth
# step. Constants are in its null space; its solution has mean zero.

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
# The data set `ritz-poisson-2d` holds right-hand sides for the *empty* box: random mixtures of eigenvectors, more of
# the smooth ones. No solution is needed. The loss is what one step along the network's direction leaves of the
# residual, so that size and sign of its answer do not matter. The network is the published one for deep conjugate
# directions, with half the channels. It sees a residual and nothing else: it does not know that there is a body.

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
# ## Watch
#
# `cg` takes all five: nothing, the diagonal (Jacobi), a multigrid V-cycle, the network, and a multigrid cycle with 145
# weights that was trained on other bodies and ships with the package, each as the preconditioner `M`. After each
# iteration we note the residual and the error in the A-norm, which is what conjugate gradients minimise. The last
# residual is computed anew, by scipy. Seconds are of CPU.


# %%
def watch(M, system=system):
    """Solve to a relative residual of 1e-6, keep what is seen on the way, and hold it against multigrid."""
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
    "Jacobi": Diagonal(A.diagonal().flatten(1).reciprocal()),
    "multigrid": lattice_cycle(A),
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
# The network needs a fraction of the iterations of conjugate gradients, though the body was never in its data. Two
# things put this into proportion. An iteration is dearer, since it evaluates a network; on a CPU and at this size that
# costs more than the iterations it saves. And multigrid, which was not trained at all, needs fewer by far. Weights help
# most where they are few and the structure is known to be right: the learned cycle is multigrid with coarse operators
# and smoothing steps from a training, symmetric and positive definite whatever they are.
#
# The curves of the A-norm never rise, whatever the direction. That is the guarantee: each step minimises this norm over
# a space that holds the network's direction, the residual and the last two directions.

# %% [markdown]
# ## Break it
#
# Weights at random, of zeros and of NaN, and a network whose answers have the wrong sign. Directions that are zero or
# not finite are dropped and counted.


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
# Every true residual is below 1e-6, and every answer agrees with that of multigrid. Zeros and NaN are dropped in every
# iteration, and what remains is conjugate gradients. The flipped sign changes nothing. Random directions cost the most:
# they are not dropped, and disturb the recurrence that makes conjugate gradients fast.
#
# ## Show it what it does not know
#
# All of the network's data were empty boxes, and the bodies of the learned cycle's had some thickness. A labyrinth of
# plates, one cell thick and with a slit each, is unlike either. (An open side is no such thing: where air comes and
# goes, `as_preconditioner` puts an image of the box behind the side, in which the network is at home again.)

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
    "multigrid": watch(lattice_cycle(strange.operator), strange),
    "learned directions": watch(net.as_preconditioner(strange), strange),
    "learned cycle": watch(sb.LearnedDirections.load("cycle2d").as_preconditioner(strange), strange),
}
table(outside)

# %% [markdown]
# Much of the gain is gone, of both. The answers are as right as before, and nothing but the count of iterations tells
# you: look at it.
#
# ## In a simulation
#
# The network that was trained and the one with random weights each solve for the pressure of three time steps. Each
# step recomputes the divergence that is left of the flow. The smoke is where multigrid has it.

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
