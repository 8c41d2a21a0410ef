"""A fin: prescribed temperature at the left, exchange with the air (Robin) at the right, periodic in y.

For a = 1 and a du/dn + alpha u = 0 at the end, the exact solution is linear, u = 1 - x alpha / (1 + alpha).
"""

import matplotlib.pyplot as plt

import sciml_bounds as sb


def main() -> tuple[dict[str, float], plt.Figure]:
    grid = sb.Grid((32, 32))
    figure, axes = plt.subplots(figsize=(6, 4), layout="constrained")
    errors, fluxes = [], []
    for alpha in (0.1, 1.0, 10.0):
        sides = {"x0": sb.Dirichlet(1.0), "x1": sb.Robin(alpha), "y0": sb.Periodic(), "y1": sb.Periodic()}
        problem = sb.Diffusion(grid, boundary=sides)
        solution = sb.solve(problem, certify=True)
        exact = 1 - grid.nodes(0) * alpha / (1 + alpha)
        errors.append(float((solution.values - exact[:, None]).abs().max()))
        fluxes.append(solution.certificate.goal(sb.BoundaryFlux("x0")))
        axes.plot(grid.nodes(0), solution.values[:, 0], label=f"alpha = {alpha:g}")
    axes.set(xlabel="x", ylabel="temperature")
    axes.legend(frameon=False)
    low, high = fluxes[-1]
    return {
        "largest nodal error": max(errors),
        "heat flux for alpha = 10, lower": float(low),
        "upper": float(high),
    }, figure


if __name__ == "__main__":
    numbers, figure = main()
    print(*(f"{name}: {value:.5g}" for name, value in numbers.items()), sep="\n")
    figure.savefig("boundary_conditions.png")
