"""Distributed controls for tests: of the Poisson equation on a square, and one with all kinds of data."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

import sciml_bounds as sb


def square_control(
    n: int, weight: float, nonlinearity: Callable[[Tensor], Tensor] | None = None
) -> sb.control.DistributedControl:
    """Control of -Lap u = z on (-1, 1)^2 with n x n free nodes, and a target that is not zero on the sides."""
    problem = sb.Diffusion(sb.Grid((n + 1, n + 1), lengths=(2.0, 2.0), origin=(-1.0, -1.0)))
    return sb.control.DistributedControl(
        problem, lambda x, y: torch.sin(2 + x) + torch.cos(y), weight=weight, nonlinearity=nonlinearity
    )


def general_control(nonlinearity: Callable[[Tensor], Tensor] | None = torch.sin) -> sb.control.DistributedControl:
    """Sides of all kinds, a coefficient and a nonlinearity."""
    generator = torch.Generator().manual_seed(0)
    sides = {"x0": sb.Dirichlet(1.0), "x1": sb.Neumann(0.3), "y0": sb.Robin(2.0, 1.0), "y1": sb.Neumann(0.0)}
    a = torch.rand(6, 5, generator=generator, dtype=torch.float64) + 0.5
    problem = sb.Diffusion(sb.Grid((6, 5)), coefficient=a, source=1.0, boundary=sides)
    return sb.control.DistributedControl(problem, lambda x, y: x * y, weight=1e-2, nonlinearity=nonlinearity)
