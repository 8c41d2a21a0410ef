"""A bump of 5 % of the solution is hard to see in the field, but the error indicators point to it.

The largest one is less than the width of the bump, 0.03, away from its centre at (0.7, 0.3).
"""

import matplotlib.pyplot as plt
import torch

import sciml_bounds as sb


def main() -> tuple[dict[str, float], plt.Figure]:
    grid = sb.Grid((64, 64))
    problem = sb.Diffusion(grid, coefficient=lambda x, y: 1 + x + y, source=1.0)
    solution = sb.solve(problem).values
    x, y = torch.meshgrid(grid.nodes(0), grid.nodes(1), indexing="ij")
    bump = 0.05 * solution.max() * torch.exp(-((x - 0.7) ** 2 + (y - 0.3) ** 2) / 0.03**2)
    faulty = problem.impose_boundary(solution + bump)
    indicators = sb.certify(problem, faulty).indicators

    worst = divmod(int(indicators.argmax()), 64)
    place = [float(grid.centers(axis)[cell]) for axis, cell in enumerate(worst)]
    figure, panels = plt.subplots(1, 2, figsize=(8, 3.4), layout="constrained")
    for axes, (title, field) in zip(panels, {"field with a fault": faulty, "error indicators": indicators}.items()):
        figure.colorbar(axes.imshow(field.T, origin="lower", extent=(0, 1, 0, 1)), ax=axes, shrink=0.85)
        axes.set_title(title)
    return {"x of the largest indicator": place[0], "y": place[1]}, figure


if __name__ == "__main__":
    numbers, figure = main()
    print(*(f"{name}: {value:.5g}" for name, value in numbers.items()), sep="\n")
    figure.savefig("find_a_fault.png")
