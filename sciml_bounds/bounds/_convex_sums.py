"""Quadrature rules that bound integrals of convex functions on each cell, and the fluxes to which they apply.

A multilinear function on a cell is a weighted mean of its corner values. The weights are non-negative and have equal
integrals, so by Jensen's inequality the mean of a convex function over the corners is at least its mean over the cell.
On sub-cells this is the trapezoidal rule. For polynomials of degree two along an axis, the Bernstein coefficients
replace the corner values (Farouki, Comput. Aided Geom. Design 29 (2012) 379-419, section 2). The value at the midpoint
is at most the mean. The quadratic part of a strongly convex function is integrated exactly, and the inequality is
applied to the remainder only.

Notation: q points of a cell, n cells, d axes; N sub-cells along each axis.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import product

import torch
from torch import Tensor

from sciml_bounds.grid import Grid
from sciml_bounds.kernels.q1 import modes
from sciml_bounds.problems.elements import GAUSS, Rule

__all__ = ["CellFlux", "bubbles_of", "gauss", "midpoints", "simpson", "trapezoid"]


def trapezoid(count: int) -> Rule:
    """Return the trapezoidal rule on N sub-intervals: an upper bound for convex functions of linear functions."""
    return tuple((k / count, (1 if 0 < k < count else 0.5) / count) for k in range(count + 1))


def midpoints(count: int) -> Rule:
    """Return the midpoint rule on N sub-intervals: a lower bound for convex functions of linear functions."""
    return tuple(((k + 0.5) / count, 1 / count) for k in range(count))


def gauss(count: int) -> Rule:
    """Return the rule of two Gauss points in each of N sub-intervals: accurate, but not a bound."""
    return tuple(((k + t) / count, w / count) for k in range(count) for t, w in GAUSS)


def simpson() -> Rule:
    """Return Simpson's rule: not a bound, but as accurate as two Gauss points. Its points include both ends."""
    return ((0.0, 1 / 6), (0.5, 2 / 3), (1.0, 1 / 6))


def bernstein(count: int) -> Rule:
    """Return the rule for Bernstein coefficients of degree two on N sub-intervals, at ends and midpoints."""
    ends = [(k / count, (2 if 0 < k < count else 1) / (3 * count)) for k in range(count + 1)]
    middles = [((k + 0.5) / count, 1 / (3 * count)) for k in range(count)]
    return (*ends, *middles)


@dataclass(frozen=True)
class CellFlux:
    """A flux y = y0 + b on cells, and its divergence.

    Each component of y0 is given by the face fluxes and is linear along its own axis. The normal components of b vanish
    on the faces of each cell, and the divergence of b is the multilinear function of zero mean with the modes q_S:

        b_i = sum over sets S of axes with i in S of q_S / |S| h_i (xi_i^2 - 1/4) / 2 prod over S - i of xi.

    Attributes
    ----------
    grid : Grid
        The grid.
    faces : tuple of Tensor
        One face field per axis, shape (n), with n + 1 along its own axis.
    bubbles : dict of Tensor, shape (n)
        Modes q_S, with the set S of axes encoded as bits; empty for b = 0.
    """

    grid: Grid
    faces: tuple[Tensor, ...]
    bubbles: dict[tuple[int, ...], Tensor]

    @property
    def means(self) -> tuple[Tensor, ...]:
        """Cell means of y0, shape (n) per axis; the integral of b . grad v cancels, see `bounds._fenchel`."""
        return tuple((low + high) / 2 for low, high in self.ends())

    @property
    def divergence(self) -> Tensor:
        """Divergence of y0, shape (n)."""
        return sum((high - low) / h for (low, high), h in zip(self.ends(), self.grid.spacing))  # type: ignore[return-value]

    def ends(self) -> list[tuple[Tensor, Tensor]]:
        """Return the fluxes through the lower and the upper face of each cell, for every axis, shape (n) each."""
        ends = []
        for axis, face in enumerate(self.faces):
            n = face.shape[axis] - 1
            ends.append((face.narrow(axis, 0, n), face.narrow(axis, 1, n)))
        return ends

    def rule(self, count: int) -> Rule:
        """Return the rule that bounds integrals of convex functions of the values of `at` from above."""
        return bernstein(count) if self.bubbles else trapezoid(count)

    def at(self, points: Tensor, count: int = 0) -> Tensor:
        """Return y at points of the unit cell (q, d), shape (q, n, d).

        If `count` is not zero, the points must be those of `rule(count)`, and Bernstein coefficients are returned.
        """
        dim = self.grid.dim
        shape = (-1, *(1,) * dim)
        columns = []
        for axis, (low, high) in enumerate(self.ends()):
            t = points[:, axis].reshape(shape)
            column = low * (1 - t) + high * t
            curvature = self._curvature(axis, points)
            if curvature is not None:
                profile = (t * (t - 1)) / 2
                if count:  # at a midpoint, coefficient and value differ by the second derivative over 8 N^2
                    middle = ((t * count - (t * count).round()).abs() > 0.25).to(t.dtype)
                    profile = profile - middle / (8 * count**2)
                column = column + self.grid.spacing[axis] * profile * curvature
            columns.append(column)
        return torch.stack(columns, -1)

    def _curvature(self, axis: int, points: Tensor) -> Tensor | None:
        """Second derivative of b along its axis, divided by h_i, shape (q, n)."""
        total = None
        for bits, mode in self.bubbles.items():
            if not bits[axis]:
                continue
            factor = points.new_ones(len(points))
            for other, bit in enumerate(bits):
                if bit and other != axis:
                    factor = factor * (points[:, other] - 0.5)
            part = factor.reshape(-1, *(1,) * self.grid.dim) * (mode / sum(bits))
            total = part if total is None else total + part
        return total

    def dual_at(self, points: Tensor, source: Tensor) -> Tensor:
        """Return the multilinear function s = div y + f at points (q, d), shape (q, n)."""
        shape = (len(points), *self.grid.shape)
        total = (self.divergence + source).expand(shape)
        for bits, mode in self.bubbles.items():
            factor = points.new_ones(len(points))
            for axis, bit in enumerate(bits):
                factor = factor * (points[:, axis] - 0.5) if bit else factor
            total = total + factor.reshape(-1, *(1,) * self.grid.dim) * mode
        return total

    def spread(self, axis: int) -> Tensor:
        """Bound |y_axis - its mean over the faces| in each cell, shape (n)."""
        low, high = self.ends()[axis]
        total = (high - low).abs() / 2
        for bits, mode in self.bubbles.items():
            if bits[axis]:  # |xi^2 - 1/4| <= 1/4 along the axis, |xi| <= 1/2 along the others
                total = total + self.grid.spacing[axis] * mode.abs() / (8 * sum(bits) * 2 ** (sum(bits) - 1))
        return total


def bubbles_of(nodal: Tensor, dim: int) -> dict[tuple[int, ...], Tensor]:
    """Return the modes of a nodal field (n + 1) minus its cell means, in the format of `bubbles` of a `CellFlux`."""
    found = modes(nodal, dim)
    return {bits: found[bits] for bits in product((0, 1), repeat=dim) if any(bits)}
