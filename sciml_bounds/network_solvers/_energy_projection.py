"""Orthogonal projection in the energy norm onto spans that grow function by function.

Jets are orthonormalised as they come (Gram-Schmidt, twice), so that no Gram matrix is formed, whose condition number is
the square of that of the functions: for ReLU^3 it is beyond double precision soon.

Legend: q points, n functions so far, d axes; a jet is values and gradients together, (q, 1 + d).
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

from sciml_bounds.network_solvers._trial_space import EnergySpace

__all__ = ["Projection"]

#: A function whose part that is new is below this share of it is a combination of the others, to round-off.
DEPENDENT = 1e-10


class Projection:
    """The projection of the solution onto the span of the functions added so far, plus a given one.

    Parameters
    ----------
    space
        The bilinear form and the load.
    start
        The jet of the function that is there already, a lifting or zero.
    capacity
        The largest number of functions.

    Attributes
    ----------
    jet
        That of the projection.
    energy
        J of it.
    count
        Number of functions.
    """

    def __init__(self, space: EnergySpace, start: Tensor, capacity: int) -> None:
        self._space = space
        self._metric, self._load = space.metric.flatten(), torch.zeros_like(start)
        self._load[:, 0] = space.f
        self._basis = torch.empty((capacity, start.numel()), dtype=torch.float64)
        self._triangle = torch.zeros((capacity, capacity), dtype=torch.float64)
        self._parts = torch.zeros(capacity, dtype=torch.float64)
        self.jet = start.clone()
        flat = start.flatten()
        self.energy = float(flat @ (self._metric * flat)) / 2 - float(self._load.flatten() @ flat)
        self.count = 0

    def add(self, jet: Tensor) -> float | None:
        """Add a function: how far the projection moves in the energy norm, None if the function is not new."""
        n, flat = self.count, jet.flatten().clone()
        whole = self._norm(flat)
        column = torch.zeros(n, dtype=torch.float64)
        for _ in range(2):
            shares = self._basis[:n] @ (self._metric * flat)
            flat -= shares @ self._basis[:n]
            column += shares
        left = self._norm(flat)
        if not left > DEPENDENT * whole:
            return None
        flat /= left
        residual = self._load.flatten() - self._metric * self.jet.flatten()
        part = float(residual @ flat)
        self._basis[n], self._parts[n] = flat, part
        self._triangle[:n, n], self._triangle[n, n] = column, left
        self.jet += part * flat.reshape(jet.shape)
        self.energy -= part**2 / 2
        self.count += 1
        return abs(part)

    def coefficients(self) -> Tensor:
        """Return what the functions are multiplied by, (n,)."""
        n = self.count
        parts = self._parts[:n, None]
        found: Tensor = torch.linalg.solve_triangular(self._triangle[:n, :n], parts, upper=True)
        return found[:, 0]

    def _norm(self, flat: Tensor) -> float:
        return math.sqrt(float((self._metric * flat) @ flat))
