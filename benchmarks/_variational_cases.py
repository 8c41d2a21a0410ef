"""Variational problems on the unit cube whose solutions are known, written once for torch and for UFL."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from types import ModuleType
from typing import Any

import torch
from torch import Tensor

import sciml_bounds as sb

#: Extra conductivity of the nonlinear problem where it is flat: Lambda / lambda is 1 + EXTRA.
EXTRA = 3.0


@dataclass(frozen=True)
class Case:
    """-div A(grad u) + r(u) = f on the unit cube.

    Attributes
    ----------
    exact
        The solution, of d coordinates and the module whose cos and sin are to be used.
    weight
        k of A(p) = k(|p|^2) p, of |p|^2 and the module whose sqrt is to be used.
    reaction
        r, of u.
    density
        The same for this package.
    dirichlet
        Whether u is zero on all sides, instead of its normal derivatives.
    """

    name: str
    dim: int
    exact: Callable[[Sequence[Any], ModuleType], Any]
    weight: Callable[[Any, ModuleType], Any]
    reaction: Callable[[Any], Any]
    density: Any
    dirichlet: bool

    @property
    def boundary(self) -> Any:
        """The condition on all sides."""
        return sb.Dirichlet(0.0) if self.dirichlet else sb.Neumann(0.0)

    def u(self, x: Tensor) -> Tensor:
        """Evaluate the solution at points (..., d)."""
        return self.exact(x.unbind(-1), torch)

    def gradient(self, x: Tensor) -> Tensor:
        """Evaluate its gradient at points (..., d), shape (..., d)."""
        return torch.func.grad(lambda y: self.u(y).sum())(x)

    def source(self, x: Tensor) -> Tensor:
        """Evaluate f at points (..., d)."""

        def flux(y: Tensor) -> Tensor:
            p = torch.func.grad(self.u)(y)
            return self.weight(p.square().sum(), torch) * p

        flat = x.reshape(-1, self.dim)
        divergence = torch.func.vmap(lambda y: torch.func.jacrev(flux)(y).trace(), chunk_size=4096)(flat)
        return (self.reaction(self.u(flat)) - divergence).reshape(x.shape[:-1])

    def on_grid(self, cells: int) -> sb.variational.VariationalProblem:
        """Pose it on a grid, with means of f over cells, by two Gauss points an axis."""
        grid = sb.Grid((cells,) * self.dim)
        offset = torch.tensor([-1.0, 1.0], dtype=torch.float64) / (2 * math.sqrt(3))
        axis = ((torch.arange(cells).double() + 0.5).unsqueeze(1) + offset) / cells
        points = torch.stack(torch.meshgrid(*[axis.flatten()] * self.dim, indexing="ij"), -1)
        f = self.source(points)
        for k in range(self.dim):
            f = f.unflatten(k, (cells, 2)).mean(k + 1)
        return sb.variational.VariationalProblem(grid, self.density, f, boundary=self.boundary)

    def on_box(self) -> sb.variational.VariationalProblem:
        """Pose it without cells."""
        return sb.variational.VariationalProblem(
            sb.barron.Box([1.0] * self.dim), self.density, self.source, boundary=self.boundary
        )


def linear(dim: int) -> Case:
    """-Lap u + u = f with u = prod(1 + cos(pi x_i) / 4), which is large on few waves only."""

    def exact(x: Sequence[Any], module: ModuleType) -> Any:
        product = 1 + module.cos(math.pi * x[0]) / 4
        for coordinate in x[1:]:
            product = product * (1 + module.cos(math.pi * coordinate) / 4)
        return product

    return Case(
        f"-Lap u + u, d = {dim}", dim, exact, lambda square, module: 1.0 + 0 * square, lambda u: u,
        sb.variational.QuadraticEnergy(reaction=1.0), dirichlet=False,
    )  # fmt: skip


def shear_thinning(dim: int) -> Case:
    """-div((1 + 3 / sqrt(1 + |grad u|^2)) grad u) + u^3 = f with u a product of sines."""

    def exact(x: Sequence[Any], module: ModuleType) -> Any:
        product = module.sin(math.pi * x[0])
        for coordinate in x[1:]:
            product = product * module.sin(math.pi * coordinate)
        return product

    return Case(
        f"shear thinning, d = {dim}", dim, exact, lambda square, module: 1 + EXTRA / module.sqrt(1 + square),
        lambda u: u**3, sb.variational.ShearThinning(EXTRA, reaction=1.0, power=4.0), dirichlet=True,
    )  # fmt: skip
