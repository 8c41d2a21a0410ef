"""Least squares with 20,000 rows: a sketch makes a preconditioner, and the iterations do not depend on the condition.

The normal equations lose all digits of x from a condition number of 1e8 on.
"""

import matplotlib.pyplot as plt
import numpy as np

import sciml_bounds as sb


def main() -> tuple[dict[str, float], plt.Figure]:
    rng = np.random.default_rng(0)
    U = np.linalg.qr(rng.standard_normal((20_000, 30)))[0]
    V = np.linalg.qr(rng.standard_normal((30, 30)))[0]
    x, conditions = np.ones(30), 10.0 ** np.arange(0, 11, 2)
    noise = rng.standard_normal(20_000)
    noise -= U @ (U.T @ noise)  # orthogonal to the columns: x stays the exact minimiser
    noise /= np.linalg.norm(noise)
    errors, iterations = {"sketched": [], "normal equations": []}, []
    for condition in conditions:
        A = U * np.geomspace(1.0, 1 / condition, 30) @ V.T
        b = A @ x + 1e-6 * noise
        solution = sb.sketching.sketched_least_squares(A, b)
        iterations.append(int(solution.iterations))
        errors["sketched"].append(np.linalg.norm(solution.x.numpy() - x) / np.linalg.norm(x))
        normal = np.linalg.lstsq(A.T @ A, A.T @ b, rcond=0.0)[0]
        errors["normal equations"].append(np.linalg.norm(normal - x) / np.linalg.norm(x))

    figure, axes = plt.subplots(figsize=(6, 4), layout="constrained")
    for name, found in errors.items():
        axes.loglog(conditions, found, "o-", label=name)
    axes.set(xlabel="condition number", ylabel="relative error of x")
    axes.legend(frameon=False)
    return {"iterations, most": max(iterations), "error / (condition eps), most": float(
        max(e / (c * np.finfo(float).eps) for e, c in zip(errors["sketched"], conditions))),
        "normal equations at condition 1e10": float(errors["normal equations"][-1])}, figure  # fmt: skip


if __name__ == "__main__":
    numbers, figure = main()
    print(*(f"{name}: {value:.5g}" for name, value in numbers.items()), sep="\n")
    figure.savefig("sketched_least_squares.png")
