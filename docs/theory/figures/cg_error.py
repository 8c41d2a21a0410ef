"""A-norm error of conjugate gradients at every iterate, with lower bounds, upper bounds and the estimate."""

import math
import warnings
from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np
import scipy.sparse

import sciml_bounds as sb

plt.style.use(Path(__file__).with_name("pictures.mplstyle"))
warnings.simplefilter("ignore", sb.ConvergenceWarning)  # every run is stopped on purpose
N = 30
line = scipy.sparse.diags_array([-1.0, 2.0, -1.0], offsets=[-1, 0, 1], shape=(N, N))
A = scipy.sparse.csr_array(
    scipy.sparse.kron(line, scipy.sparse.eye_array(N)) + scipy.sparse.kron(scipy.sparse.eye_array(N), line)
)
lambda_min = 8 * math.sin(math.pi / (2 * (N + 1))) ** 2
b = np.random.default_rng(0).standard_normal(N * N)
x = scipy.sparse.linalg.spsolve(scipy.sparse.csc_array(A), b)
LAST = 90
lower = sb.cg(A, b, rtol=1e-13, maxiter=LAST).error_lower

curves = {
    "Gauss-Radau, 0.99 of the smallest eigenvalue": {"lambda_min_preconditioned": 0.99 * lambda_min},
    "Gauss-Radau, 0.1 of it": {"lambda_min_preconditioned": 0.1 * lambda_min},
    "residual over root of the eigenvalue": {"lambda_min": lambda_min},
    "estimate without an eigenvalue": {},
}
iterates = range(5, LAST - 10, 5)
errors = []
found = {name: [] for name in curves}
for k in iterates:
    for name, options in curves.items():
        solution = sb.cg(A, b, rtol=1e-13, maxiter=k, **options)
        found[name].append(float(solution.error_upper))
    e = x - solution.x.numpy()
    errors.append(math.sqrt(e @ (A @ e)))
print("iterate       error       lower  " + "  ".join(curves))
for i, k in enumerate(iterates):
    print(
        f"{k:7d}  {errors[i]:10.2e}  {float(lower[k]):10.2e}  "
        + "  ".join(f"{found[name][i]:10.2e}" for name in curves)
    )

figure, panel = plt.subplots()
panel.plot(iterates, errors, "k-", label="error")
panel.plot(iterates, [float(lower[k]) for k in iterates], "o", label=f"lower bound after {LAST} iterations")
for name, style in zip(curves, ("-", "-", "--", ":")):
    panel.plot(iterates, found[name], style, label=name)
panel.set(yscale="log", xlabel="iteration", ylabel="A-norm error")
panel.legend(fontsize=7)
figure.savefig(Path(__file__).with_suffix(".png"))
