"""A network of 60 neurons is certified itself, between the nodes of the grid too, and beats the grid's own solution.

Its upper bound lies below the lower bound of the finite-element solution on the same 32 x 32 cells.
"""

import matplotlib.pyplot as plt
import torch

import sciml_bounds as sb


def main() -> tuple[dict[str, float], plt.Figure]:
    grid = sb.Grid((32, 32))
    problem = sb.variational.VariationalProblem(grid, sb.variational.QuadraticEnergy(), source=1.0)
    equation = problem.as_diffusion()
    network = sb.network_solvers.random_feature_network(problem, 60).network
    of_network = sb.certify(equation, network)
    of_grid = sb.certify(equation, sb.solve(equation))

    line = torch.linspace(0, 1, 1000, dtype=torch.float64)
    with torch.no_grad():
        slope = network.gradient(torch.stack([line, torch.full_like(line, 0.5)], -1))[:, 0]
    elements = of_grid.values[:, 16].diff() * 32
    figure, axes = plt.subplots(figsize=(6, 4), layout="constrained")
    axes.stairs(elements, torch.linspace(0, 1, 33), baseline=None, label="finite elements")
    axes.plot(line, slope, label="network")
    axes.set(xlabel="x", ylabel="du/dx at y = 1/2", xlim=(0, 0.25), ylim=(0.1, 0.36))
    axes.legend(frameon=False)
    return {"network, upper bound": float(of_network.upper), "finite elements, lower bound": float(of_grid.lower),
            "network, lower bound": float(of_network.lower)}, figure  # fmt: skip


if __name__ == "__main__":
    numbers, figure = main()
    print(*(f"{name}: {value:.5g}" for name, value in numbers.items()), sep="\n")
    figure.savefig("network_between_nodes.png")
