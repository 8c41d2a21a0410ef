"""Fluxes for the Fenchel gap: of a linearised problem first, then lowered by Newton's method in the flux itself.

The gap as a function F of the face fluxes is convex. With its gradient G, and the diagonal W of its second derivative
(lumped to the faces) plus that of c h*(s / c), K on cells, the step z minimises G . z + z . W z / 2 + K (div z)^2 / 2
among the z that leave div y + f = 0 where c = 0. Its multiplier solves the equations of a lattice of cells, with
conductances 1 / W and absorptions 1 / K; every z leaves a flux that gives a valid bound, however well it is found.

Legend: n cells; z, G on faces, one field an axis; D(i) second derivative along axis i.
"""

from __future__ import annotations

import torch
from torch import Tensor

from sciml_bounds._linear import Automatic, LinearSolver, Multigrid, Stop
from sciml_bounds.bounds._convex_sums import CellFlux, bubbles_of, simpson
from sciml_bounds.bounds._fenchel import Fenchel
from sciml_bounds.bounds._flux import equilibrate, flux_and_pressure
from sciml_bounds.grid import AXES, Dirichlet
from sciml_bounds.operators._lattice_operator import LatticeOperator, LatticeSystem, to_lattice
from sciml_bounds.problems.diffusion import Diffusion
from sciml_bounds.problems.discretization import axis_offsets
from sciml_bounds.problems.energy_density import SHORTEST
from sciml_bounds.problems.scalar_functions import Firmer, Power
from sciml_bounds.problems.transfers import node_average

__all__ = ["DualFlux"]

#: Weights of linearised equations are kept within this factor of their median.
RANGE = 1e6

#: Steps end where one gains less than this part of the gap; and after so many.
ENOUGH, STEPS = 0.02, 15

#: How much is added to the second derivative of profiles with bounded slopes, one after the other.
FIRM = (1.0, 0.1, 0.01, 1e-3)

#: Profiles whose conjugates |s|^m / m make fluxes the more even the larger m is: large values cost most.
EVEN = (Power(8 / 7), Power(32 / 31), Power(128 / 127))

#: A step is shortened at most so often.
HALVINGS = 20

#: A flux is drawn in this part of the way further than it must, so that steps have room.
ROOM = 0.02

Faces = tuple[Tensor, ...]


class DualFlux:
    """Fluxes for one field (n + 1 nodes along every axis).

    Parameters
    ----------
    fenchel
        The problem.
    nodes
        The field.
    """

    def __init__(self, fenchel: Fenchel, nodes: Tensor) -> None:
        self.fenchel, self.nodes = fenchel, nodes
        self.problem, self.grid = fenchel.problem, fenchel.grid
        self.frame: Diffusion = self.problem.frame
        self._rule = self.problem.elements_with(simpson())
        self.bubbles = self._bubbles() if fenchel.has_reaction else {}

    def flux(self, faces: Faces) -> CellFlux:
        """Put a flux together."""
        return CellFlux(self.grid, faces, self.bubbles)

    def gap(self, faces: Faces) -> float:
        """Integrate the gap, nearly; infinite where the flux is out of reach anywhere, as it is at corners then."""
        return float(self.fenchel.gap_nearly(self.nodes, self.flux(faces), simpson()).sum())

    def found(self, rtol: float) -> Faces:
        """Compute a flux that is in equilibrium and makes the gap small.

        Where slopes g' are bounded, a first flux may be out of their reach, and the gap infinite: then g + eps r^2 / 2
        with smaller and smaller eps lead it inside. If that ends a little outside, it is drawn towards a flux of which
        the largest |y| / a is small, or towards none at all, which will do where every cell has a reaction.
        """
        faces = self.linearised(rtol)
        return self.balanced(self.lowered(faces if self._reaches(faces) else self._led_inside(faces)))

    def _led_inside(self, faces: Faces) -> Faces:
        self.bubbles = {}  # what they add to the flux may be too much
        for firmness in FIRM:
            firmer = DualFlux(self.fenchel.with_profile(Firmer(self.fenchel.profile, firmness)), self.nodes)
            firmer.bubbles = {}
            faces = self.balanced(firmer.lowered(faces))
            if self._reaches(faces):
                return faces
        inside = faces
        for profile in EVEN:
            even = DualFlux(self.fenchel.with_profile(profile), torch.zeros_like(self.nodes))
            inside = self.balanced(even.lowered(inside))
            if self._reaches(inside):
                break
        else:
            inside = self.balanced(tuple(torch.zeros_like(face) for face in faces))  # a reaction carries every load
        return self._drawn_in(faces, inside)

    def _reaches(self, faces: Faces) -> bool:
        return self.gap(faces) < torch.inf

    def _drawn_in(self, faces: Faces, inside: Faces) -> Faces:
        """Go towards a flux until the gap is finite, by bisection; all the way where it is infinite even there."""
        low, high = 0.0, 1.0
        for _ in range(HALVINGS):
            share = (low + high) / 2
            there = tuple(face + share * (inner - face) for face, inner in zip(faces, inside))
            low, high = (low, share) if self._reaches(there) else (share, high)
        high += ROOM * (1 - high)
        return tuple(face + high * (inner - face) for face, inner in zip(faces, inside))

    # --- linearised ---------------------------------------------------------------------------------------------------

    def _centred(self) -> tuple[Tensor, Tensor]:
        """Values (n) and gradients (n, d) at the centres of cells; gradients are not zero everywhere."""
        u, p = self.problem.elements_with(((0.5, 1.0),)).at(self.nodes)
        return u[0], p[0]

    def _frozen(self) -> tuple[Tensor, Tensor, Tensor]:
        """Weights k, m > 0 (n) and the values (n) of the equation that is linearised at the field."""
        u, p = self._centred()
        r = torch.linalg.vector_norm(p, dim=-1)
        shortest = SHORTEST * float(r.square().mean().sqrt()) or 1.0
        k = self.fenchel.a * self.fenchel.profile.secant(r.clamp_min(shortest))
        m = self.fenchel.c * self.fenchel.potential.curvature(u)
        return _limited(k), torch.where(self.fenchel.c > 0, _limited(m), 0.0), u

    def linearised(self, rtol: float) -> Faces:
        """Compute the two-point flux of the problem linearised at the field."""
        k, m, u = self._frozen()
        source = self.problem.source - self.fenchel.c * self.fenchel.potential.slope(u) + m * u
        linear = self.frame.replace(coefficient=k, source=source, reaction=m)
        faces, _ = flux_and_pressure(linear, rtol)
        return self.balanced(tuple(face[0] for face in faces))

    def balanced(self, faces: Faces) -> Faces:
        """Bring a flux into equilibrium where there is no reaction."""
        return tuple(face[0] for face in equilibrate(self.frame, tuple(face.unsqueeze(0) for face in faces)))

    def _bubbles(self) -> dict[tuple[int, ...], Tensor]:
        """Let s vary in each cell as c h'(v) does, as far as what that adds to the flux costs less.

        Of theta times it, (1 - theta)^2 c / 24 is left and theta^2 c^2 h^2 / (240 a) added, for every squared unit that
        v varies along an axis and quadratic g and h.
        """
        k, m, _ = self._frozen()
        share = 1 / (1 + m * max(self.grid.spacing) ** 2 / (10 * k))
        found = bubbles_of(self.fenchel.potential.slope(self.nodes), self.grid.dim)
        return {bits: share * self.fenchel.c * mode for bits, mode in found.items()}

    # --- descent ------------------------------------------------------------------------------------------------------

    def lowered(self, faces: Faces) -> Faces:
        """Take steps as long as they gain something."""
        gap = self.gap(faces)
        for _ in range(STEPS):
            if not gap < torch.inf:
                return faces
            gradient, W, K = self._derivatives(faces)
            step = self._step(gradient, W, K)
            slope = sum(float((g * z).sum()) for g, z in zip(self._once(gradient), self._once(step)))
            if not slope < 0:
                return faces
            longer, better = self._search(faces, step, gap, slope)
            if longer is None or not gap - better > ENOUGH * max(better, 0.0):
                return faces if longer is None else longer
            faces, gap = longer, better
        return faces

    def _search(self, faces: Faces, step: Faces, gap: float, slope: float) -> tuple[Faces | None, float]:
        """Try the whole step, the length where the parabola through what is known is least, and shorter ones."""

        def at(length: float) -> tuple[Faces, float]:
            there = tuple(face + length * z for face, z in zip(faces, step))
            return there, self.gap(there)

        length = 1.0
        for _ in range(HALVINGS):
            there, value = at(length)
            if value < gap:
                bend = value - gap - length * slope
                best = min(max(-slope * length**2 / (2 * bend), 0.1 * length), 4 * length) if bend > 0 else length
                other, lower = at(best)
                return (other, lower) if lower < value else (there, value)
            length /= 2
        return None, gap

    def _derivatives(self, faces: Faces) -> tuple[Faces, Faces, Tensor]:
        """Return G and W on faces (those that are the same place count once) and K on cells."""
        flux, rule, fenchel = self.flux(faces), self._rule, self.fenchel
        y = flux.at(rule.points)
        t = torch.linalg.vector_norm(y, dim=-1)
        r = fenchel.profile.inverse(t / fenchel.a)
        secant = torch.where(t > 0, r / torch.where(t > 0, t, 1.0), 0.0)
        in_line = 1 / (fenchel.a * fenchel.profile.curvature(r))
        mean_u, rises = self._means()
        pull = -self.grid.cell_volume * mean_u  # derivative of the gap by the mean divergence
        K = torch.zeros_like(fenchel.a)
        if fenchel.has_reaction:
            c = torch.where(fenchel.c > 0, fenchel.c, 1.0)
            u = fenchel.potential.inverse(flux.dual_at(rule.points, self.problem.source) / c)
            pull = pull + torch.tensordot(rule.weights, u, 1)
            K = (1 / (c * fenchel.potential.curvature(u))).mean(0)
            pull = torch.where(fenchel.c > 0, pull, 0.0)
            K = torch.where(fenchel.c > 0, _limited(K), 0.0)
        else:
            pull = torch.zeros_like(pull)
        gradient, W = [], []
        for axis, h in enumerate(self.grid.spacing):
            place = rule.points[:, axis].view(-1, *(1,) * self.grid.dim)
            slope = secant * y[..., axis] - rises[axis]
            low = torch.tensordot(rule.weights, slope * (1 - place), 1) - pull / h
            high = torch.tensordot(rule.weights, slope * place, 1) + pull / h
            n2 = torch.where(t > 0, (y[..., axis] / torch.where(t > 0, t, 1.0)).square(), 1.0)
            D = _limited((secant * (1 - n2) + in_line * n2).mean(0)) * self.grid.cell_volume / 2
            gradient.append(self._on_faces(low, high, axis))
            W.append(self._on_faces(D, D, axis))
        return tuple(gradient), tuple(W), K

    def _means(self) -> tuple[Tensor, list[Tensor]]:
        """Mean of the field over each cell, and of its slope along each axis."""
        dim = self.grid.dim
        rises = []
        for axis, h in enumerate(self.grid.spacing):
            n = self.grid.shape[axis]
            rise = (self.nodes.narrow(axis, 1, n) - self.nodes.narrow(axis, 0, n)) / h
            rises.append(node_average(rise, tuple(other for other in range(dim) if other != axis)))
        return node_average(self.nodes, tuple(range(dim))), rises

    def _on_faces(self, low: Tensor, high: Tensor, axis: int) -> Tensor:
        """Add up what faces get from the cells on both sides; zero where the flux is prescribed."""
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

    def _once(self, faces: Faces) -> Faces:
        """Leave out the second copy of faces that are the same place."""
        parts = []
        for axis, face in enumerate(faces):
            parts.append(face.narrow(axis, 0, self.grid.shape[axis]) if self.frame.periodic[axis] else face)
        return tuple(parts)

    def _step(self, gradient: Faces, W: Faces, K: Tensor) -> Faces:
        """Solve for the multiplier, and return z."""
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
        solution = LinearSolver(system, Automatic(otherwise=Multigrid(cycle="V", sweeps=2))).solve(stop=Stop(rtol=1e-8))
        return solution.x.view(shape)


def _limited(weights: Tensor) -> Tensor:
    """Keep positive weights within a range about their median."""
    middle = weights[weights.isfinite() & (weights > 0)]
    typical = float(middle.median()) if middle.numel() else 1.0
    return weights.nan_to_num(nan=typical, posinf=typical * RANGE).clamp(typical / RANGE, typical * RANGE)
