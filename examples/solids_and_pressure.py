"""Solve for the pressure that turns a uniform stream into an incompressible flow around solid discs.

The sides x0 and x1 are open; afterwards |div u| is below the tolerance in every fluid cell.
"""

import matplotlib.pyplot as plt
import torch

import sciml_bounds as sb


def main() -> tuple[dict[str, float], plt.Figure]:
    grid = sb.Grid((96, 64), lengths=(1.5, 1.0))
    x, y = torch.meshgrid(grid.centers(0), grid.centers(1), indexing="ij")
    discs = [(0.45, 0.3, 0.15), (0.6, 0.75, 0.12), (1.05, 0.5, 0.2)]
    solid = torch.stack([torch.hypot(x - p, y - q) < r for p, q, r in discs]).any(0)
    equations = sb.simulation.PressureEquations(grid, solid, open_sides=["x0", "x1"])
    stream = torch.ones(97, 64, dtype=torch.float64)  # velocities on the faces of cells
    stream[1:-1][solid[1:] | solid[:-1]] = 0.0  # nothing passes through solids
    stream = [stream, torch.zeros(96, 65, dtype=torch.float64)]
    flow = equations.project(stream, sb.simulation.PressureSolver("multigrid-pcg"), tolerance=1e-8)

    u, v = flow.velocity
    speed = torch.hypot((u[1:] + u[:-1]) / 2, (v[:, 1:] + v[:, :-1]) / 2).masked_fill(solid, torch.nan)
    pressure = flow.pressure.masked_fill(solid, torch.nan)
    figure, panels = plt.subplots(1, 2, figsize=(10, 3.2), layout="constrained")
    for axes, (title, field) in zip(panels, {"pressure": pressure, "speed": speed}.items()):
        figure.colorbar(axes.imshow(field.T, origin="lower", extent=(0, 1.5, 0, 1)), ax=axes, shrink=0.85)
        axes.set_title(title)
    rate = u.mean(1)  # flow rate through each column of faces: the same for all
    return {"largest |div u|": flow.divergence, "flow rate": float(rate[0]),
            "spread of the flow rate": float(rate.max() - rate.min())}, figure  # fmt: skip


if __name__ == "__main__":
    numbers, figure = main()
    print(*(f"{name}: {value:.5g}" for name, value in numbers.items()), sep="\n")
    figure.savefig("solids_and_pressure.png")
