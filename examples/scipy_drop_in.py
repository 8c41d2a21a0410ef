"""Take conjugate gradients from `sciml_bounds.scipy_api` in place of scipy's, with a PyAMG preconditioner.

The arguments are scipy's, and so are the iterates up to round-off.
"""

import matplotlib.pyplot as plt
import numpy as np
import pyamg
import scipy.sparse.linalg

import sciml_bounds as sb


def main() -> tuple[dict[str, float], plt.Figure]:
    A = pyamg.gallery.poisson((100, 100), format="csr")
    b = np.random.default_rng(0).standard_normal(A.shape[0])
    M = pyamg.ruge_stuben_solver(A).aspreconditioner()
    iterates = {"scipy": [], "sciml_bounds": []}
    for name, cg in {"scipy": scipy.sparse.linalg.cg, "sciml_bounds": sb.scipy_api.cg}.items():
        _, info = cg(A, b, rtol=1e-8, M=M, callback=lambda x, name=name: iterates[name].append(x.copy()))
        assert info == 0

    figure, axes = plt.subplots(figsize=(6, 4), layout="constrained")
    for name, style in {"scipy": "o-", "sciml_bounds": "x--"}.items():
        norms = [np.linalg.norm(b - A @ x) / np.linalg.norm(b) for x in iterates[name]]
        axes.semilogy(range(1, len(norms) + 1), norms, style, label=name)
    axes.set(xlabel="iteration", ylabel="relative residual")
    axes.legend(frameon=False)
    pairs = zip(iterates["scipy"], iterates["sciml_bounds"])
    return {"iterations, scipy": len(iterates["scipy"]), "iterations, here": len(iterates["sciml_bounds"]),
            "largest relative difference": float(max(np.linalg.norm(x - y) / np.linalg.norm(x) for x, y in pairs)),
            "relative residual": float(norms[-1])}, figure  # fmt: skip


if __name__ == "__main__":
    numbers, figure = main()
    print(*(f"{name}: {value:.5g}" for name, value in numbers.items()), sep="\n")
    figure.savefig("scipy_drop_in.png")
