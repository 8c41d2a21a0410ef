"""The energy error of bilinear elements falls like h, and so do its guaranteed bounds.

For -Laplace u = 1 the true error is known: its square is int u - 2 int v + |||v|||^2, with int u from a series.
"""

import math

import matplotlib.pyplot as plt

import sciml_bounds as sb


def main() -> tuple[dict[str, float], plt.Figure]:
    series = sum(math.tanh(n * math.pi / 2) / n**5 for n in range(1, 200, 2))
    integral_of_u = (1 - 192 / math.pi**5 * series) / 12
    cells, lower, upper, true = [8, 16, 32, 64, 128], [], [], []
    for n in cells:
        problem = sb.Diffusion(sb.Grid((n, n)), source=1.0)
        certificate = sb.certify(problem, sb.solve(problem, rtol=1e-12))
        lower.append(float(certificate.lower))
        upper.append(float(certificate.upper))
        integral = float(certificate.values.sum()) / n**2
        true.append(math.sqrt(integral_of_u - 2 * integral + float(certificate.energy) ** 2))

    figure, axes = plt.subplots(figsize=(6, 4), layout="constrained")
    axes.fill_between(cells, lower, upper, alpha=0.4, label="guaranteed interval")
    axes.loglog(cells, true, "k.", label="true error")
    axes.loglog(cells, [2 * true[0] * 8 / n for n in cells], "k--", lw=1, label="order 1")
    axes.set(xlabel="cells per axis", ylabel="energy error", xticks=cells, xticklabels=cells)
    axes.minorticks_off()
    axes.legend(frameon=False)
    return {"order of the upper bound": math.log2(upper[-2] / upper[-1]),
            "order of the true error": math.log2(true[-2] / true[-1]),
            "lower / true": lower[-1] / true[-1], "upper / true": upper[-1] / true[-1]}, figure  # fmt: skip


if __name__ == "__main__":
    numbers, figure = main()
    print(*(f"{name}: {value:.5g}" for name, value in numbers.items()), sep="\n")
    figure.savefig("convergence_order.png")
