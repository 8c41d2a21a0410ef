"""Orthogonal projection in the energy norm onto a span to which functions are added one by one.

Jets are orthonormalised when they are added (Gram-Schmidt, twice). A Gram matrix would square the condition number of
the functions, which for ReLU^3 soon exceeds double precision.

Legend: q points, n functions, d axes; a jet is values and gradients together, shape (q, 1 + d).
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

from sciml_bounds.network_solvers._trial_space import EnergySpace

__all__ = ["Projection"]

#: A function is linearly dependent up to round-off if its orthogonal part is below this fraction of its norm.
DEPENDENCE_TOL = 1e-10


class Projection:
    """Projection of the solution onto a given function plus the span of the added functions.

    Parameters
    ----------
    space : EnergySpace
        The bilinear form and the load.
    start : Tensor, shape (q, 1 + d)
        Jet of the given function, a lifting or zero.
    capacity : int
        Maximum number of added functions.

    Attributes
    ----------
    jet : Tensor, shape (q, 1 + d)
        Jet of the projection.
    energy : float
        Energy J of the projection.
    count : int
        Number of added functions.
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
        """Add a function; return the change of the projection in the energy norm, or None if it is dependent."""
        n, flat = self.count, jet.flatten().clone()
        whole = self._norm(flat)
        column = torch.zeros(n, dtype=torch.float64)
        for _ in range(2):
            shares = self._basis[:n] @ (self._metric * flat)
            flat -= shares @ self._basis[:n]
            column += shares
        left = self._norm(flat)
        if not left > DEPENDENCE_TOL * whole:
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
        """Return the coefficients of the functions, shape (n,)."""
        n = self.count
        parts = self._parts[:n, None]
        found: Tensor = torch.linalg.solve_triangular(self._triangle[:n, :n], parts, upper=True)
        return found[:, 0]

    def _norm(self, flat: Tensor) -> float:
        return math.sqrt(float((self._metric * flat) @ flat))
