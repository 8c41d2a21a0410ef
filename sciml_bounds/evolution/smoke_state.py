"""State of a smoke simulation, the report of a step, and the check that a state fits a simulation."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import torch
from torch import Tensor

from sciml_bounds.arrays import require_count, require_finite, require_instance
from sciml_bounds.errors import InputError
from sciml_bounds.evolution.staggered import Velocity, face_shape
from sciml_bounds.grid import AXES, Grid

__all__ = ["SmokeState", "StepReport", "check_state", "components"]


@dataclass(frozen=True)
class SmokeState:
    """The state of a smoke simulation at one time.

    Attributes
    ----------
    step : int
        Number of steps done.
    velocity : tuple of Tensor
        Velocity: one component per axis, with n + 1 faces along this axis.
    density, temperature : Tensor (x, y[, z])
        Density of smoke, and temperature above the surroundings, at cell centres.
    pressure : Tensor (x, y[, z])
        p dt divided by the density of air, at cell centres; used as the initial guess of the next step.
    solid : Tensor of bool (x, y[, z])
        Mask of the solid cells.
    """

    step: int
    velocity: Velocity
    density: Tensor
    temperature: Tensor
    pressure: Tensor
    solid: Tensor


@dataclass(frozen=True)
class StepReport:
    """Cost and diagnostics of a step.

    Attributes
    ----------
    step : int
        Index of the step, starting at 1.
    time : float
        Simulated time at the end of the step.
    iterations : int
        Number of iterations of the linear solver.
    pressure_seconds, seconds : float
        Wall-clock time of the linear solver with its set-up, and of the whole step.
    divergence : float
        Largest |div u| dt in a fluid cell, recomputed from the velocity: the fraction of the cell volume that flows in
        or out during the step.
    imbalance : float
        Largest |div u| dt that no pressure can remove, in fluid that is enclosed and compressed by moving bodies.
    courant : float
        Largest number of cells that the flow crosses in the step.
    smoke : float
        Integral of the density of smoke.
    solid_volume : float
        Volume of the solid cells.
    energy : float
        Kinetic energy of the fluid.
    """

    step: int
    time: float
    iterations: int
    pressure_seconds: float
    seconds: float
    divergence: float
    imbalance: float
    courant: float
    smoke: float
    solid_volume: float
    energy: float


def check_state(state: SmokeState, grid: Grid, device: torch.device) -> None:
    """Check that a state fits a simulation.

    Raises
    ------
    InputError
        If the argument is not a state, or a field has another shape, dtype or device, or is not finite.
    """
    require_instance(state, "the state", SmokeState, "a SmokeState, such as that of initial()")
    require_count(state.step, "the step of the state", 0)
    scalars = [(getattr(state, name), name, grid.shape) for name in ("density", "temperature", "pressure")]
    velocity = [
        (part, f"velocity along {AXES[axis]}", face_shape(grid, axis))
        for axis, part in enumerate(components(state.velocity, "the velocity of the state", grid.dim))
    ]
    for part, name, shape in [*scalars, *velocity]:
        _check_part(part, name, _described(torch.float64, shape, device))
        require_finite(part, f"the {name} of the state")
    _check_part(state.solid, "solid", _described(torch.bool, grid.shape, device))


def components[T](velocity: Iterable[T], name: str, dim: int) -> list[T]:
    """Return the components of a velocity, one per axis, as a list.

    Raises
    ------
    InputError
        If the velocity is not a sequence of one field per axis.
    """
    try:
        listed = list(velocity)
    except TypeError:
        raise InputError(f"{name} is {velocity!r}; give a list of fields, one per axis.") from None
    if len(listed) != dim:
        raise InputError(f"{name} has {len(listed)} components, but the grid has {dim} axes; pass one field per axis.")
    return listed


def _check_part(part: Tensor, name: str, needed: str) -> None:
    tensor = isinstance(part, Tensor)
    found = _described(part.dtype, tuple(part.shape), part.device) if tensor else f"a {type(part).__name__}"
    if found != needed:
        raise InputError(
            f"the {name} of the state is {found}, but this simulation needs {needed}; give a state of this simulation, "
            "such as the result of initial()."
        )


def _described(dtype: torch.dtype, shape: tuple[int, ...], device: torch.device) -> str:
    return f"{str(dtype).removeprefix('torch.')} of shape {shape} on {device.type}"
