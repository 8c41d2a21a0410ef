"""Advection of fields by a velocity: the semi-Lagrangian scheme and its MacCormack correction.

The semi-Lagrangian scheme follows the path that ends at each point back to its start, and interpolates the field
multilinearly there (Stam, "Stable fluids", SIGGRAPH 1999). It is of first order, unconditionally stable, and creates no
new extrema. The MacCormack scheme advects the result back; half of the difference to the original field estimates the
error and is subtracted (Selle, Fedkiw, Kim, Liu, Rossignac, "An unconditionally stable MacCormack method", J. Sci.
Comput. 35, 2008). It is of second order. The correction is omitted where the result would be larger or smaller than all
interpolated values.

Paths are traced from cell centres by the midpoint rule, and averaged for faces; both are of second order. Paths are
displacements in units of cells, shape (dim, x, y[, z]). Fields have shape (channels, x, y[, z]).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor
from torch.nn.functional import grid_sample, max_pool2d, max_pool3d, pad

from sciml_bounds.evolution.staggered import Velocity, at_centers, at_faces
from sciml_bounds.grid import Grid, side_axis

__all__ = ["SCHEMES", "Paths", "Scheme", "advect_cells", "advect_velocity", "trace"]

Scheme = Literal["semi-lagrangian", "maccormack"]
SCHEMES = ("semi-lagrangian", "maccormack")

#: If the interpolation weights of fluid cells sum to more than this, all interpolated cells are fluid, up to round-off.
_MIN_FULL_WEIGHT = 1.0 - 1e-9


@dataclass(frozen=True)
class Paths:
    """Displacements of the flow during a step, in units of cells.

    Attributes
    ----------
    forward, backward : Tensor (dim, x, y[, z])
        Displacements along the paths that start at each point, and along the paths that end at each point.
    """

    forward: Tensor
    backward: Tensor

    def at_faces(self, axis: int) -> Paths:
        """Return the paths at the faces normal to an axis, averaged from the cell centres."""
        forward, backward = (at_faces(path, 1 + axis) for path in (self.forward, self.backward))
        return Paths(forward, backward)


def trace(velocity: Velocity, grid: Grid, dt: float) -> Paths:
    """Trace the paths of a velocity over a time dt, forward and backward, by the midpoint rule."""
    centers = at_centers(velocity)
    spacing = centers.new_tensor(grid.spacing).view(-1, *(1,) * grid.dim)
    speed = centers * (dt / spacing)
    index = _index(speed)
    return Paths(_sample(speed, index + speed / 2), _sample(speed, index - speed / 2))


def advect_cells(fields: Tensor, paths: Paths, fluid: Tensor, open_sides: tuple[str, ...], scheme: Scheme) -> Tensor:
    """Advect cell fields. Solid cells are excluded from the interpolation, and fields are zero beyond open sides.

    Parameters
    ----------
    fields : Tensor (channels, x, y[, z])
        The fields, zero in solids.
    paths : Paths
        Paths through the cell centres.
    fluid : Tensor of bool (x, y[, z])
        Mask of the fluid cells.
    open_sides : tuple of str
        Names of the open sides.
    scheme : {"semi-lagrangian", "maccormack"}
        Advection scheme.

    Returns
    -------
    Tensor (channels, x, y[, z])
        The fields after the step.
    """
    mask = fluid.to(fields.dtype)[None]
    known = _padded(mask, open_sides, 1.0)  # values outside of open sides are known to be zero ...
    inside = _padded(mask, open_sides, 0.0)  # ... but do not allow an error estimate
    index = _index(paths.backward) + 1  # on the padded grid

    def advected(values: Tensor, path: Tensor) -> tuple[Tensor, Tensor]:
        stacked = torch.cat([_padded(values * mask, open_sides, 0.0), known, inside])
        *found, weight, trusted = _sample(stacked, index + path)
        some = weight > 0
        values = torch.where(some, torch.stack(found) / torch.where(some, weight, 1.0), 0.0)
        return values, (trusted > _MIN_FULL_WEIGHT) & _within(index + path, [(0.5, n + 0.5) for n in fluid.shape])

    moved, trusted = advected(fields, -paths.backward)
    if scheme == "semi-lagrangian":
        return moved
    back, trusted_back = advected(moved, paths.forward)
    corrected = moved + (fields - back) / 2
    sound = _within_bounds(corrected, _padded(fields, open_sides, 0.0), index - paths.backward)
    return torch.where(sound & trusted & trusted_back, corrected, moved)


def advect_velocity(velocity: Velocity, paths: Paths, scheme: Scheme) -> Velocity:
    """Advect each component of a velocity, which beyond the sides has the values on the sides."""
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
    """Return the mask of the positions (dim, points) inside the box; the error cannot be estimated outside."""
    inside = [(low <= along) & (along <= high) for along, (low, high) in zip(place, box)]
    return torch.stack(inside).all(0)


def _index(path: Tensor) -> Tensor:
    """Return the indices of all points of the lattice of a path, shape (dim, x, y[, z])."""
    lines = [torch.arange(n, dtype=path.dtype, device=path.device) for n in path.shape[1:]]
    return torch.stack(torch.meshgrid(*lines, indexing="ij"))


def _sample(fields: Tensor, place: Tensor, mode: str = "bilinear") -> Tensor:
    """Interpolate fields (channels, space) at positions (dim, points) in index units, clamped to the lattice."""
    last = place.new_tensor([n - 1 for n in fields.shape[1:]]).view(-1, *(1,) * (place.ndim - 1))
    normalized = (place * (2 / last) - 1).flip(0).movedim(0, -1)  # torch names the last axis first
    return grid_sample(fields[None], normalized[None], mode=mode, padding_mode="border", align_corners=True)[0]


def _within_bounds(values: Tensor, fields: Tensor, place: Tensor) -> Tensor:
    """Return the mask of the values between the extremes of the fields at the 2^d points around the path starts."""
    pool = max_pool2d if fields.ndim == 3 else max_pool3d
    extremes = pool(torch.cat([fields, -fields])[None], 2, 1)[0]  # over the 2^d points around each corner
    last = place.new_tensor([n - 1 for n in fields.shape[1:]]).view(-1, *(1,) * (place.ndim - 1))
    around = torch.minimum(place.clamp_min(0), last) - 0.5
    high, low = _sample(extremes, around, "nearest").chunk(2)
    return (-low <= values) & (values <= high)


def _padded(fields: Tensor, open_sides: tuple[str, ...], outside: float) -> Tensor:
    """Add a layer of cells around the grid: copies at closed sides, the constant `outside` at open sides."""
    padded = pad(fields[None], (1, 1) * (fields.ndim - 1), mode="replicate")[0]
    for side in open_sides:
        axis, end = side_axis(side)
        padded.select(1 + axis, -end).fill_(outside)
    return padded
