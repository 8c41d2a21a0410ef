"""The residual vector whose projection is the error of a field (Prager and Synge's hypercircle).

For a field v, an equilibrated flux y, cell means r' of the residual and Robin residuals rho, the vector is (a^-1/2 (y -
a grad v), c^-1/2 r', alpha^-1/2 rho). Its components are orthonormal on every cell, so that norms and inner products
are plain sums. Its norm is the bound of `bounds._majorant` without the oscillation terms. Bounds on linear outputs also
need inner products of two such vectors.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from sciml_bounds.bounds._flux import divergence
from sciml_bounds.grid import Robin, side_axis
from sciml_bounds.kernels.q1 import modes
from sciml_bounds.problems.diffusion import Diffusion

__all__ = ["HypercircleVector", "hypercircle_vector", "rows"]


@dataclass(frozen=True)
class HypercircleVector:
    """Components of the vector, shape (b, ...) each, and the norm of the oscillation functional, shape (b,)."""

    components: tuple[Tensor, ...]
    oscillation: Tensor

    def dot(self, other: HypercircleVector) -> Tensor:
        """Return the inner product with another vector, shape (b,)."""
        return sum((rows(x * y).sum(1) for x, y in zip(self.components, other.components)), torch.zeros(()))

    @property
    def norm(self) -> Tensor:
        """Return the norm, shape (b,)."""
        return self.dot(self).sqrt()


def rows(field: Tensor) -> Tensor:
    """Flatten all axes except the batch axis; a field without other axes gets one."""
    return field.reshape(len(field), -1)


def hypercircle_vector(problem: Diffusion, values: Tensor, flux: tuple[Tensor, ...]) -> HypercircleVector:
    """Return the vector of a node field (b, n + 1) with the prescribed boundary values and an equilibrated flux."""
    dim, spacing = problem.grid.dim, problem.grid.spacing
    fluid, volume = problem.fluid, problem.grid.cell_volume
    parts = modes(values, dim)
    components = []
    constant = torch.zeros_like(fluid, dtype=values.dtype)
    for axis, h in enumerate(spacing):
        a = torch.where(fluid, problem.samples(problem.coefficient[axis]), 1.0)
        n = problem.grid.shape[axis]
        low, high = flux[axis].narrow(1 + axis, 0, n), flux[axis].narrow(1 + axis, 1, n)
        weight = torch.where(fluid, (volume / a).sqrt(), 0.0)
        components.append(weight * (high - low) / math.sqrt(12))
        for bits, mode in parts.items():
            if bits[axis]:
                mean = (low + high) / 2 if sum(bits) == 1 else 0.0
                components.append(weight * (mean - a * mode / h) * 12.0 ** ((1 - sum(bits)) / 2))
        constant = torch.maximum(constant, h**2 / (math.pi**2 * a))
    reaction = problem.samples(problem.reaction)
    reacts = fluid & (reaction > 0)
    safe = torch.where(reacts, reaction, 1.0)
    residual = problem.samples(problem.source) + divergence(flux, spacing) - safe * parts[(0,) * dim]
    components.append(torch.where(reacts, residual * (volume / safe).sqrt(), 0.0))
    variance = sum((m**2 * 12.0 ** -sum(bits) for bits, m in parts.items() if any(bits)), torch.zeros_like(residual))
    oscillation = torch.where(reacts, constant * volume * safe**2 * variance, 0.0).flatten(1).sum(1).sqrt()
    for side, condition in problem.boundary.items():
        if isinstance(condition, Robin):
            components += _robin_components(problem, side, condition, values, flux)
    return HypercircleVector(tuple(components), oscillation)


def _robin_components(
    problem: Diffusion, side: str, condition: Robin, values: Tensor, flux: tuple[Tensor, ...]
) -> list[Tensor]:
    axis, end = side_axis(side)
    space = problem.grid.dim - 1
    alpha, g = (problem.samples(q, space) for q in (condition.alpha, condition.g))
    outward = flux[axis].select(1 + axis, -end) * (1.0 if end else -1.0)
    exchanges = (alpha > 0) & problem.fluid.select(1 + axis, -end)
    safe = torch.where(exchanges, alpha, 1.0)
    components = []
    for bits, mode in modes(values.select(1 + axis, -end), space).items():
        defect = (0.0 if any(bits) else g - outward) - safe * mode
        weight = problem.grid.face_area(axis) * 12.0 ** -sum(bits) / safe
        components.append(torch.where(exchanges, defect * weight.sqrt(), 0.0))
    return components
