"""A data set of one's own equation: -u'' + u^3 = f on (0, 1) with u = 0 at both ends."""

import numpy as np
from scipy.linalg import solve_banded

import sciml_bounds as sb


@sb.data.register_recipe
class CubicReaction(sb.data.Recipe):
    """Finite differences on equal intervals, and Newton's method."""

    name, title, reference = "cubic-reaction", "-u'' + u^3 = f on an interval", "this page"
    description = "f is a random series of eight sines. The resolution is the number of intervals."
    resolution, samples, smallest = 128, 1000, 4
    inputs, targets, layout = ("source",), ("solution",), "nodes->nodes"

    def chunk(self, resolution):
        """Return the number of samples per chunk."""
        return 32

    def parameters(self, resolution):
        """Return everything that determines the numbers."""
        return {"equation": "-u'' + u^3 = f, u(0) = u(1) = 0", "waves": 8, "largest residual": 1e-8}

    def coordinates(self, resolution):
        """Return positions and units of the axis."""
        return {"x_node": (np.linspace(0, 1, resolution + 1), "1")}

    def variables(self, resolution):
        """Return what is stored."""
        return {name: sb.data.Variable(("x_node",), f"{name} at the nodes") for name in ("source", "solution")}

    def generate(self, seed, first, count, resolution, device):
        """Generate the samples first, ..., first + count - 1."""
        self.check(resolution)
        pairs = [self.solve(sb.data.sample_rng(seed, i), resolution) for i in range(first, first + count)]
        return {name: np.stack(arrays) for name, arrays in zip(("source", "solution"), zip(*pairs))}

    def solve(self, rng, n):
        """Draw f and solve for u on n intervals."""
        x = np.linspace(0, 1, n + 1)
        f = 1000 * sum(rng.standard_normal() / k * np.sin(np.pi * k * x) for k in range(1, 9))
        u = np.zeros(n + 1)
        for _ in range(50):
            residual = f[1:-1] + np.diff(u, 2) * n**2 - u[1:-1] ** 3
            if abs(residual).max() <= 1e-8 * abs(f).max():
                return f, u
            bands = np.full((3, n - 1), -float(n**2))
            bands[1] = 2 * n**2 + 3 * u[1:-1] ** 2
            u[1:-1] += solve_banded((1, 1), bands, residual)
        raise sb.ConvergenceError("Newton's method did not converge in 50 steps.")
