"""Fluxes that make the Fenchel gap small: the flux of a linearised problem, improved by Newton's method.

The gap is a convex function of the face fluxes. Let G be its gradient, W the diagonal of its second derivative (lumped
to the faces) and K the second derivative of c h*(s / c) on cells. The Newton step z minimises G . z + z . W z / 2 + K
(div z)^2 / 2 among the steps that preserve div y + f = 0 where c = 0. The multiplier of this constraint solves a
lattice system on the cells, with conductances 1 / W and absorptions 1 / K. Every step yields a flux with a valid bound,
even if the lattice system is solved inexactly.

Notation: n cells; z, G on faces, one field per axis; D(i) second derivative along axis i.
"""

from __future__ import annotations

import torch
from torch import Tensor

from sciml_bounds._linear import LinearSolver
from sciml_bounds._linear_methods import Automatic, Multigrid
from sciml_bounds.bounds._convex_sums import CellFlux, bubbles_of, simpson
from sciml_bounds.bounds._fenchel import Fenchel
from sciml_bounds.bounds._flux import equilibrate, flux_and_pressure
from sciml_bounds.grid import AXES, Dirichlet
from sciml_bounds.operators._lattice_operator import LatticeOperator, LatticeSystem, to_lattice
from sciml_bounds.problems.diffusion import Diffusion
from sciml_bounds.problems.discretization import axis_offsets
from sciml_bounds.problems.energy_density import MIN_RELATIVE_LENGTH
from sciml_bounds.problems.scalar_functions import Power, Regularised
from sciml_bounds.problems.transfers import node_average
from sciml_bounds.stopping import StoppingCriteria

__all__ = ["DualFlux"]

#: Weights of linearised equations are limited to within this factor of their median.
MAX_WEIGHT_RATIO = 1e6

#: Stop after a Newton step that gains less than this fraction of the gap.
MIN_RELATIVE_GAIN = 0.02
#: Maximum number of Newton steps.
MAX_NEWTON_STEPS = 15

#: Amounts, in decreasing order, that are added to the second derivative of profiles with bounded slopes.
ADDED_CURVATURES = (1.0, 0.1, 0.01, 1e-3)

#: Profiles with the conjugates |s|^m / m. For larger m, the optimal flux is distributed more evenly.
EVENING_PROFILES = (Power(8 / 7), Power(32 / 31), Power(128 / 127))

#: Maximum number of halvings of a step or an interval.
MAX_HALVINGS = 20

#: A flux is moved beyond the point at which the gap becomes finite, by this fraction of the remaining distance.
INTERIOR_MARGIN = 0.02

Faces = tuple[Tensor, ...]


class DualFlux:
    """Computes fluxes that make the Fenchel gap of one field small.

    Parameters
    ----------
    fenchel : Fenchel
        Energies and gaps of the problem.
    nodes : Tensor, shape (n + 1)
        Nodal values of the field.
    """

    def __init__(self, fenchel: Fenchel, nodes: Tensor) -> None:
        self.fenchel, self.nodes = fenchel, nodes
        self.problem, self.grid = fenchel.problem, fenchel.grid
        self.frame: Diffusion = self.problem.frame
        self._rule = self.problem.elements_with(simpson())
        self.bubbles = self._bubbles() if fenchel.has_reaction else {}

    def flux(self, faces: Faces) -> CellFlux:
        """Return the flux with the given face values and the bubbles of the field."""
        return CellFlux(self.grid, faces, self.bubbles)

    def gap(self, faces: Faces) -> float:
        """Estimate the gap by Simpson's rule; infinite if the conjugate is infinite anywhere.

        If the conjugate is infinite in a cell, it is infinite at a corner, and the points of Simpson's rule include
        corners.
        """
        return float(self.fenchel.gap_estimate(self.nodes, self.flux(faces), simpson()).sum())

    def compute(self, rtol: float) -> Faces:
        """Return an equilibrated flux that makes the gap small.

        If the slopes g' are bounded, the first flux may exceed them, so that the gap is infinite. Then fluxes for g +
        eps r^2 / 2 with decreasing eps are computed. If the last gap is still infinite, the flux is blended with a flux
        whose largest |y| / a is small, or with zero, which is admissible if every cell has a reaction.
        """
        faces = self.linearised(rtol)
        return self.balanced(self.improved(faces if self._has_finite_gap(faces) else self._reachable_faces(faces)))

    def _reachable_faces(self, faces: Faces) -> Faces:
        self.bubbles = {}  # bubbles may push the flux beyond the bounded slopes
        for firmness in ADDED_CURVATURES:
            firmer = DualFlux(self.fenchel.with_profile(Regularised(self.fenchel.profile, firmness)), self.nodes)
            firmer.bubbles = {}
            faces = self.balanced(firmer.improved(faces))
            if self._has_finite_gap(faces):
                return faces
        inside = faces
        for profile in EVENING_PROFILES:
            even = DualFlux(self.fenchel.with_profile(profile), torch.zeros_like(self.nodes))
            inside = self.balanced(even.improved(inside))
            if self._has_finite_gap(inside):
                break
        else:
            inside = self.balanced(
                tuple(torch.zeros_like(face) for face in faces)
            )  # with a reaction, zero flux is admissible
        return self._blended(faces, inside)

    def _has_finite_gap(self, faces: Faces) -> bool:
        return self.gap(faces) < torch.inf

    def _blended(self, faces: Faces, inside: Faces) -> Faces:
        """Blend a flux with `inside` by bisection until the gap is just finite; return `inside` if it never is."""
        low, high = 0.0, 1.0
        for _ in range(MAX_HALVINGS):
            share = (low + high) / 2
            there = tuple(face + share * (inner - face) for face, inner in zip(faces, inside))
            low, high = (low, share) if self._has_finite_gap(there) else (share, high)
        high += INTERIOR_MARGIN * (1 - high)
        return tuple(face + high * (inner - face) for face, inner in zip(faces, inside))

    # --- linearised ---------------------------------------------------------------------------------------------------

    def _at_centres(self) -> tuple[Tensor, Tensor]:
        """Return values (n) and gradients (n, d) at the cell centres."""
        u, p = self.problem.elements_with(((0.5, 1.0),)).at(self.nodes)
        return u[0], p[0]

    def _linearised_weights(self) -> tuple[Tensor, Tensor, Tensor]:
        """Return coefficient k and reaction m (n) of the equation linearised at the field, and the values (n) there."""
        u, p = self._at_centres()
        r = torch.linalg.vector_norm(p, dim=-1)
        shortest = MIN_RELATIVE_LENGTH * float(r.square().mean().sqrt()) or 1.0
        k = self.fenchel.a * self.fenchel.profile.secant(r.clamp_min(shortest))
        m = self.fenchel.c * self.fenchel.potential.curvature(u)
        return _clamp_weights(k), torch.where(self.fenchel.c > 0, _clamp_weights(m), 0.0), u

    def linearised(self, rtol: float) -> Faces:
        """Return the two-point flux of the problem linearised at the field."""
        k, m, u = self._linearised_weights()
        source = self.problem.source - self.fenchel.c * self.fenchel.potential.slope(u) + m * u
        linear = self.frame.replace(coefficient=k, source=source, reaction=m)
        faces, _ = flux_and_pressure(linear, rtol)
        return self.balanced(tuple(face[0] for face in faces))

    def balanced(self, faces: Faces) -> Faces:
        """Return a flux that is equilibrated in the cells without reaction."""
        return tuple(face[0] for face in equilibrate(self.frame, tuple(face.unsqueeze(0) for face in faces)))

    def _bubbles(self) -> dict[tuple[int, ...], Tensor]:
        """Return bubbles for which s varies in each cell like theta c h'(v), with the theta of the smallest gap.

        For quadratic g and h and a unit variation of v along an axis, the reaction term of the gap is
        (1 - theta)^2 c / 24, and the bubbles add theta^2 c^2 h^2 / (240 a).
        """
        k, m, _ = self._linearised_weights()
        share = 1 / (1 + m * max(self.grid.spacing) ** 2 / (10 * k))
        found = bubbles_of(self.fenchel.potential.slope(self.nodes), self.grid.dim)
        return {bits: share * self.fenchel.c * mode for bits, mode in found.items()}

    # --- descent ------------------------------------------------------------------------------------------------------

    def improved(self, faces: Faces) -> Faces:
        """Take Newton steps while they lower the gap sufficiently."""
        gap = self.gap(faces)
        for _ in range(MAX_NEWTON_STEPS):
            if not gap < torch.inf:
                return faces
            gradient, W, K = self._derivatives(faces)
            step = self._step(gradient, W, K)
            slope = sum(
                float((g * z).sum())
                for g, z in zip(self._without_periodic_copies(gradient), self._without_periodic_copies(step))
            )
            if not slope < 0:
                return faces
            longer, better = self._search(faces, step, gap, slope)
            if longer is None or not gap - better > MIN_RELATIVE_GAIN * max(better, 0.0):
                return faces if longer is None else longer
            faces, gap = longer, better
        return faces

    def _search(self, faces: Faces, step: Faces, gap: float, slope: float) -> tuple[Faces | None, float]:
        """Halve the step until the gap decreases, then try the minimum of the parabola through the known values."""

        def at(length: float) -> tuple[Faces, float]:
            there = tuple(face + length * z for face, z in zip(faces, step))
            return there, self.gap(there)

        length = 1.0
        for _ in range(MAX_HALVINGS):
            there, value = at(length)
            if value < gap:
                second = value - gap - length * slope  # half the second derivative times length^2
                best = min(max(-slope * length**2 / (2 * second), 0.1 * length), 4 * length) if second > 0 else length
                other, lower = at(best)
                return (other, lower) if lower < value else (there, value)
            length /= 2
        return None, gap

    def _derivatives(self, faces: Faces) -> tuple[Faces, Faces, Tensor]:
        """Return G and W on faces, summed over both copies of periodic faces, and K on cells."""
        flux, rule, fenchel = self.flux(faces), self._rule, self.fenchel
        y = flux.at(rule.points)
        t = torch.linalg.vector_norm(y, dim=-1)
        r = fenchel.profile.inverse(t / fenchel.a)
        secant = torch.where(t > 0, r / torch.where(t > 0, t, 1.0), 0.0)
        in_line = 1 / (fenchel.a * fenchel.profile.curvature(r))
        mean_u, rises = self._means()
        pull = -self.grid.cell_volume * mean_u  # derivative of the gap with respect to the mean divergence
        K = torch.zeros_like(fenchel.a)
        if fenchel.has_reaction:
            c = torch.where(fenchel.c > 0, fenchel.c, 1.0)
            u = fenchel.potential.inverse(flux.dual_at(rule.points, self.problem.source) / c)
            pull = pull + torch.tensordot(rule.weights, u, 1)
            K = (1 / (c * fenchel.potential.curvature(u))).mean(0)
            pull = torch.where(fenchel.c > 0, pull, 0.0)
            K = torch.where(fenchel.c > 0, _clamp_weights(K), 0.0)
        else:
            pull = torch.zeros_like(pull)
        gradient, W = [], []
        for axis, h in enumerate(self.grid.spacing):
            place = rule.points[:, axis].view(-1, *(1,) * self.grid.dim)
            slope = secant * y[..., axis] - rises[axis]
            low = torch.tensordot(rule.weights, slope * (1 - place), 1) - pull / h
            high = torch.tensordot(rule.weights, slope * place, 1) + pull / h
            n2 = torch.where(t > 0, (y[..., axis] / torch.where(t > 0, t, 1.0)).square(), 1.0)
            D = _clamp_weights((secant * (1 - n2) + in_line * n2).mean(0)) * self.grid.cell_volume / 2
            gradient.append(self._on_faces(low, high, axis))
            W.append(self._on_faces(D, D, axis))
        return tuple(gradient), tuple(W), K

    def _means(self) -> tuple[Tensor, list[Tensor]]:
        """Return the mean of the field over each cell, and the mean of its slope along each axis."""
        dim = self.grid.dim
        rises = []
        for axis, h in enumerate(self.grid.spacing):
            n = self.grid.shape[axis]
            rise = (self.nodes.narrow(axis, 1, n) - self.nodes.narrow(axis, 0, n)) / h
            rises.append(node_average(rise, tuple(other for other in range(dim) if other != axis)))
        return node_average(self.nodes, tuple(range(dim))), rises

    def _on_faces(self, low: Tensor, high: Tensor, axis: int) -> Tensor:
        """Sum the contributions of the cells on both sides of each face; zero at faces with a prescribed flux."""
        n = self.grid.shape[axis]
        shape = list(low.shape)
        shape[axis] = n + 1
        total = low.new_zeros(shape)
        total.narrow(axis, 0, n).add_(low)
        total.narrow(axis, 1, n).add_(high)
        first, last = total.select(axis, 0), total.select(axis, n)
        if self.frame.periodic[axis]:
            both = first + last
            first.copy_(both)
            last.copy_(both)
        for end, part in enumerate((first, last)):
            if not self.frame.periodic[axis] and not self._is_free(axis, end):
                part.zero_()
        return total

    def _is_free(self, axis: int, end: int) -> bool:
        return isinstance(self.frame.boundary[f"{AXES[axis]}{end}"], Dirichlet)

    def _without_periodic_copies(self, faces: Faces) -> Faces:
        """Drop the second copy of periodic faces."""
        parts = []
        for axis, face in enumerate(faces):
            parts.append(face.narrow(axis, 0, self.grid.shape[axis]) if self.frame.periodic[axis] else face)
        return tuple(parts)

    def _step(self, gradient: Faces, W: Faces, K: Tensor) -> Faces:
        """Solve for the multiplier, and return the Newton step z, one field per axis."""
        areas = [self.grid.face_area(axis) for axis in range(self.grid.dim)]
        free = [torch.where(w > 0, 1 / torch.where(w > 0, w, 1.0), 0.0) for w in W]
        loose = tuple(-g * inverse for g, inverse in zip(gradient, free))
        multiplier = self._multiplier([area**2 * inverse for area, inverse in zip(areas, free)], K, loose)
        steps = []
        for axis, (z, inverse, area) in enumerate(zip(loose, free, areas)):
            n = self.grid.shape[axis]
            push = torch.zeros_like(z)
            push.narrow(axis, 1, n).add_(multiplier)
            push.narrow(axis, 0, n).sub_(multiplier)
            if self.frame.periodic[axis]:
                across = multiplier.select(axis, n - 1) - multiplier.select(axis, 0)
                push.select(axis, 0).copy_(across)
                push.select(axis, n).copy_(across)
            steps.append(z - area * push * inverse)
        return tuple(steps)

    def _multiplier(self, conductances: list[Tensor], K: Tensor, loose: Faces) -> Tensor:
        dim, shape = self.grid.dim, self.grid.shape
        c = torch.where(K > 0, self.grid.cell_volume / torch.where(K > 0, K, 1.0), 0.0)
        outflow, T = K.new_zeros(shape), K.new_zeros((dim, *shape))
        for axis, (conductance, z) in enumerate(zip(conductances, loose)):
            n = shape[axis]
            outflow += self.grid.face_area(axis) * (z.narrow(axis, 1, n) - z.narrow(axis, 0, n))
            T[axis].narrow(axis, 0, n - 1).copy_(conductance.narrow(axis, 1, n - 1))
            if self.frame.periodic[axis]:
                T[axis].select(axis, n - 1).copy_(conductance.select(axis, 0))
            else:
                c.select(axis, 0).add_(conductance.select(axis, 0))
                c.select(axis, n - 1).add_(conductance.select(axis, n))
        padded = (1,) * (3 - dim) + shape
        operator = LatticeOperator(axis_offsets(dim), T.view(dim, 1, *padded), c.view(1, *padded))
        labels = None if bool((c > 0).any()) else torch.zeros_like(operator.absorption, dtype=torch.int64)
        weights = None if labels is None else torch.ones_like(operator.absorption)
        system = LatticeSystem(operator, to_lattice(outflow.unsqueeze(0), dim), labels, weights)
        solver = LinearSolver(system, Automatic(otherwise=Multigrid(cycle="V", sweeps=2)))
        return solver.solve(stop=StoppingCriteria(rtol=1e-8)).x.view(shape)


def _clamp_weights(weights: Tensor) -> Tensor:
    """Limit positive weights to a range around their median."""
    middle = weights[weights.isfinite() & (weights > 0)]
    typical = float(middle.median()) if middle.numel() else 1.0
    return weights.nan_to_num(nan=typical, posinf=typical * MAX_WEIGHT_RATIO).clamp(
        typical / MAX_WEIGHT_RATIO, typical * MAX_WEIGHT_RATIO
    )
