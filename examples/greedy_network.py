"""The orthogonal greedy algorithm adds one ReLU^3 neuron at a time; each network is certified, without a reference.

The theorem promises that the energy error falls like n^(-7/4) in two dimensions; each
doubling of the width is provably better, since the intervals do not overlap.
"""

import matplotlib.pyplot as plt

import sciml_bounds as sb


def main() -> tuple[dict[str, float], plt.Figure]:
    source = sb.barron.BarronFunction.sine([[1, 1], [3, 2]], [20.0, 30.0])
    problem = sb.variational.VariationalProblem(sb.Grid((64, 64)), sb.variational.QuadraticEnergy(reaction=1.0), source)
    widths, lower, upper = [4, 8, 16, 32], [], []
    for width in widths:
        solution = sb.network_solvers.greedy_network(problem, width, power=3)
        certificate = sb.certify(problem.as_diffusion(), solution)
        lower.append(float(certificate.lower))
        upper.append(float(certificate.upper))

    figure, axes = plt.subplots(figsize=(6, 4), layout="constrained")
    axes.fill_between(widths, lower, upper, alpha=0.4, label="guaranteed interval")
    proven = [upper[0] * (n / 4) ** -solution.proven_order for n in widths]
    axes.loglog(widths, proven, "k--", lw=1, label="proven order")
    axes.set(xlabel="neurons", ylabel="energy error", xticks=widths, xticklabels=widths)
    axes.minorticks_off()
    axes.legend(frameon=False)
    gain = min(before / after for before, after in zip(lower, upper[1:]))
    return {"upper bound, 32 neurons": upper[-1], "relative": float(certificate.relative_upper),
            "smallest lower bound / upper bound of twice the width": gain}, figure  # fmt: skip


if __name__ == "__main__":
    numbers, figure = main()
    print(*(f"{name}: {value:.5g}" for name, value in numbers.items()), sep="\n")
    figure.savefig("greedy_network.png")
