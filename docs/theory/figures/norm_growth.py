"""Barron norms of solutions and of iterates, computed from their waves, beside the bounds.

-(a u')' = f on the circle of length one, a = 1 + q c(x) with the magnitudes of c adding up to one. On the circle
a u' = C - F with F' = f, so that u' is known at points, and its waves follow by the fast Fourier transform.
"""

import math
from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np

import sciml_bounds as sb

plt.style.use(Path(__file__).with_name("pictures.mplstyle"))
POINTS = 4096
x = np.arange(POINTS) / POINTS
K = 2 * math.pi * np.fft.fftfreq(POINTS, 1 / POINTS)
f = sb.barron.BarronFunction.fourier([[1]], [1.0])  # cos(2 pi x)


def coefficients(q):
    """One wave, and eight waves with random phases."""
    phases = np.random.default_rng(0).uniform(0, 2 * math.pi, 8)
    waves = [[k] for k in range(9)]
    one = sb.barron.BarronFunction.fourier([[0], [1]], [1.0, q])
    eight = sb.barron.BarronFunction.fourier(waves, [1.0, *(q / 8 * np.exp(1j * phases))])
    return {"one wave": one, "eight waves": eight}


def values(function):
    """Values at the points."""
    return function(x[:, None]).numpy()


figure, (left, right) = plt.subplots(1, 2)
shares = (0.1, 0.3, 0.5, 0.7, 0.8, 0.9, 0.95)
print("coefficient  q     bound of sum |w| |U|  sum |w| |U|")
found = {}
for q in shares:
    for name, a in coefficients(q).items():
        load, inverse = np.sin(2 * math.pi * x) / (2 * math.pi), 1 / values(a)
        slope = inverse * ((load * inverse).mean() / inverse.mean() - load)
        actual = float(np.abs(np.fft.fft(slope)).sum() / POINTS)
        bound = sb.barron.solution_norms(a, f).gradient
        found.setdefault(name, []).append((bound, actual))
        print(f"{name:11s}  {q:.2f}  {bound:20.4f}  {actual:11.4f}")
for name, rows in found.items():
    bounds, actuals = zip(*rows)
    (line,) = left.plot(shares, actuals, "o", label=f"{name}, computed")
    left.plot(shares, bounds, "-", color=line.get_color(), label=f"{name}, bound")
left.set(yscale="log", xlabel="variation q of the coefficient", ylabel="sum of |w| |U|")
left.legend()

q, iterations = 0.5, 20
a = coefficients(q)["eight waves"]
iteration = sb.barron.standard_iteration(1 - q, 1 + q, poincare=1 / (2 * math.pi))
growth = sb.barron.linear_growth(a, f, iteration.step)[0]
u = np.zeros(POINTS, dtype=complex)  # waves
sums, proven = [], []
for t in range(iterations + 1):
    sums.append(float(np.abs(u).sum()))
    proven.append(growth.after(t))
    residual = 1j * K * np.fft.fft(values(a) * np.fft.ifft(1j * K * u)) + np.fft.fft(values(f)) / POINTS
    u = u + iteration.step * residual / (1 + K**2)
limit = sb.barron.solution_norms(a, f).value
print(f"iterates: sum |U| after {iterations} iterations {sums[-1]:.4f}, growth {proven[-1]:.1e}, solution {limit:.4f}")
right.plot(sums[1:], "o", label="iterates, computed")
right.plot(proven[1:], "-", label="bound of linear_growth")
right.axhline(limit, color="black", linestyle="--", label="bound of solution_norms")
right.set(yscale="log", xlabel="iteration", ylabel="sum of |U|", ylim=(1e-2, 1e6))
right.legend()
figure.savefig(Path(__file__).with_suffix(".png"))
