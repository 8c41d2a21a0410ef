"""Transport of fields by a velocity: semi-Lagrangian, and MacCormack's correction of it.

A value is taken from where the flow comes from (Stam, "Stable fluids", SIGGRAPH 1999), by multilinear interpolation:
unconditionally stable, within the bounds of the field, of first order. Carried back, the result shows half of its own
error, which is subtracted (Selle, Fedkiw, Kim, Liu, Rossignac, "An unconditionally stable MacCormack method", J. Sci.
Comput. 35, 2008): of second order. Where that leaves the range of the values that were interpolated, it is not done.

Paths are traced from cell centres by the midpoint rule, and averaged for faces: this is exact to second order too. They
are displacements in cells, shape (dim, x, y[, z]). Fields are (channels, x, y[, z]).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor
from torch.nn.functional import grid_sample, max_pool2d, max_pool3d, pad

from sciml_bounds.errors import InputError
from sciml_bounds.evolution.staggered import Velocity, at_centers, at_faces
from sciml_bounds.grid import Grid, side_axis

__all__ = ["Paths", "Scheme", "advect_cells", "advect_velocity", "require_scheme", "trace"]

Scheme = Literal["semi-lagrangian", "maccormack"]
_SCHEMES = ("semi-lagrangian", "maccormack")

#: Interpolation weights of the fluid that sum to one up to round-off.
_WHOLE = 1.0 - 1e-9


def require_scheme(scheme: str) -> None:
    """Refuse an unknown scheme; raises InputError."""
    if scheme not in _SCHEMES:
        raise InputError(f"unknown advection {scheme!r}; the choices are {' and '.join(map(repr, _SCHEMES))}.")


@dataclass(frozen=True)
class Paths:
    """How far the flow goes from each cell centre during a step, and how far it came, in cells."""

    forward: Tensor
    backward: Tensor

    def at_faces(self, axis: int) -> Paths:
        """Average to the faces across an axis."""
        forward, backward = (at_faces(path, 1 + axis) for path in (self.forward, self.backward))
        return Paths(forward, backward)


def trace(velocity: Velocity, grid: Grid, dt: float) -> Paths:
    """Follow the flow of a velocity for a time dt, forward and backward, by the midpoint rule."""
    centers = at_centers(velocity)
    spacing = centers.new_tensor(grid.spacing).view(-1, *(1,) * grid.dim)
    speed = centers * (dt / spacing)
    index = _index(speed)
    return Paths(_sample(speed, index + speed / 2), _sample(speed, index - speed / 2))


def advect_cells(fields: Tensor, paths: Paths, fluid: Tensor, open_sides: tuple[str, ...], scheme: Scheme) -> Tensor:
    """Carry cell fields along; nothing is taken from solids, and zero from outside an open side.

    Parameters
    ----------
    fields
        Shape (channels, x, y[, z]), zero in solids.
    paths
        From the cell centres.
    fluid
        Which cells are fluid, shape (x, y[, z]).
    open_sides
        Names of the sides that the flow crosses.
    scheme
        "semi-lagrangian" or "maccormack".
    """
    mask = fluid.to(fields.dtype)[None]
    known = _padded(mask, open_sides, 1.0)  # there is air outside
    inside = _padded(mask, open_sides, 0.0)  # but nothing to judge an error by
    index = _index(paths.backward) + 1  # on the padded grid

    def carried(values: Tensor, path: Tensor) -> tuple[Tensor, Tensor]:
        stacked = torch.cat([_padded(values * mask, open_sides, 0.0), known, inside])
        *found, weight, trusted = _sample(stacked, index + path)
        some = weight > 0
        values = torch.where(some, torch.stack(found) / torch.where(some, weight, 1.0), 0.0)
        return values, (trusted > _WHOLE) & _within(index + path, [(0.5, n + 0.5) for n in fluid.shape])

    moved, trusted = carried(fields, -paths.backward)
    if scheme == "semi-lagrangian":
        return moved
    back, trusted_back = carried(moved, paths.forward)
    corrected = moved + (fields - back) / 2
    sound = _within_bounds(corrected, _padded(fields, open_sides, 0.0), index - paths.backward)
    return torch.where(sound & trusted & trusted_back, corrected, moved)


def advect_velocity(velocity: Velocity, paths: Paths, scheme: Scheme) -> Velocity:
    """Carry each component of a velocity along; beyond the sides it is what it is there."""
    return tuple(
        _advect_faces(component, axis, paths.at_faces(axis), scheme) for axis, component in enumerate(velocity)
    )


def _advect_faces(component: Tensor, axis: int, paths: Paths, scheme: Scheme) -> Tensor:
    field, index = component[None], _index(paths.backward)
    before, after = index - paths.backward, index + paths.forward
    moved = _sample(field, before)
    if scheme == "semi-lagrangian":
        return moved[0]
    corrected = moved + (field - _sample(moved, after)) / 2
    box = [(0.0, n - 1.0) if a == axis else (-0.5, n - 0.5) for a, n in enumerate(component.shape)]
    sound = _within_bounds(corrected, field, before) & _within(before, box) & _within(after, box)
    return torch.where(sound, corrected, moved)[0]


def _within(place: Tensor, box: list[tuple[float, float]]) -> Tensor:
    """Tell which places (dim, points) lie between the sides of the box: outside, no path shows any error."""
    inside = [(low <= along) & (along <= high) for along, (low, high) in zip(place, box)]
    return torch.stack(inside).all(0)


def _index(path: Tensor) -> Tensor:
    """Give the indices of all points, shape (dim, x, y[, z])."""
    lines = [torch.arange(n, dtype=path.dtype, device=path.device) for n in path.shape[1:]]
    return torch.stack(torch.meshgrid(*lines, indexing="ij"))


def _sample(fields: Tensor, place: Tensor, mode: str = "bilinear") -> Tensor:
    """Interpolate (channels, space) at places (dim, points) in units of the index; outside, at the nearest point."""
    last = place.new_tensor([n - 1 for n in fields.shape[1:]]).view(-1, *(1,) * (place.ndim - 1))
    normalized = (place * (2 / last) - 1).flip(0).movedim(0, -1)  # torch names the last axis first
    return grid_sample(fields[None], normalized[None], mode=mode, padding_mode="border", align_corners=True)[0]


def _within_bounds(values: Tensor, fields: Tensor, place: Tensor) -> Tensor:
    """Tell which values are in the range of the 2^d points around the places where they come from."""
    pool = max_pool2d if fields.ndim == 3 else max_pool3d
    extremes = pool(torch.cat([fields, -fields])[None], 2, 1)[0]  # of the points around each middle
    last = place.new_tensor([n - 1 for n in fields.shape[1:]]).view(-1, *(1,) * (place.ndim - 1))
    around = torch.minimum(place.clamp_min(0), last) - 0.5
    high, low = _sample(extremes, around, "nearest").chunk(2)
    return (-low <= values) & (values <= high)


def _padded(fields: Tensor, open_sides: tuple[str, ...], outside: float) -> Tensor:
    """Add a layer of cells around: copies of those behind a closed side, a number outside an open one."""
    padded = pad(fields[None], (1, 1) * (fields.ndim - 1), mode="replicate")[0]
    for side in open_sides:
        axis, end = side_axis(side)
        padded.select(1 + axis, -end).fill_(outside)
    return padded
