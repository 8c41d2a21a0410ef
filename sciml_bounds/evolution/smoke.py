"""Smoke in air: inviscid incompressible flow on a staggered grid, driven by buoyancy.

    u_t + u . grad u = -grad p + (buoyancy T - weight s) e,  div u = 0,  s_t + u . grad s = 0,  T_t + u . grad T = 0

with the density of smoke s, the temperature T above the temperature of the surrounding air, and the upward unit vector
e along the last axis. A step advects velocity, smoke and heat (`advection`), adds forces, and projects the velocity
(`pressure_projection`), as in Stam, "Stable fluids" (SIGGRAPH 1999), and Fedkiw, Stam, Jensen, "Visual simulation of
smoke" (SIGGRAPH 2001). Bodies are fixed or have a prescribed motion; at their surface, the normal velocity of the fluid
is the normal velocity of the body.

The linear solver for the pressure is an argument. All solvers meet the same tolerance, so they differ in cost only.
"""

from __future__ import annotations

import logging
import math
import time
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from sciml_bounds.arrays import (
    Field,
    check_device,
    convert,
    require_choice,
    require_count,
    require_finite,
    require_instance,
    require_number,
)
from sciml_bounds.errors import InputError
from sciml_bounds.evolution.advection import SCHEMES, Scheme, advect_cells, advect_velocity, trace
from sciml_bounds.evolution.bodies import Body, Shape, Solids, require_shape, require_vector
from sciml_bounds.evolution.pressure_projection import (
    PressureEquations,
    Projection,
    SolvePressure,
    require_sides,
    require_solver,
)
from sciml_bounds.evolution.smoke_state import SmokeState, StepReport, check_state, components
from sciml_bounds.evolution.staggered import (
    Velocity,
    at_centers,
    at_faces,
    cell_points,
    face_points,
    face_shape,
    kinetic_energy,
)
from sciml_bounds.grid import Grid
from sciml_bounds.memory import require_memory
from sciml_bounds.operators._lattice_operator import LatticeSystem

__all__ = ["Smoke", "Source"]

_log = logging.getLogger(__name__)

#: Smallest number of cells along an axis.
MIN_CELLS = 4

#: Memory of a step in fields of the whole grid, including the multigrid hierarchy and temporary fields.
FIELDS_AT_WORK = 60

#: Smallest tolerance that round-off permits; the divergence is a difference of speeds over a spacing.
MIN_TOLERANCE = 1e-12


@dataclass(frozen=True)
class Source:
    """A source of smoke and heat: in cells whose centres lie in a shape, density and temperature are prescribed.

    Parameters
    ----------
    shape : callable
        The shape, as for a `Body`: a function that is negative inside.
    center : sequence of float
        Coordinates of the centre.
    density, temperature : float
        Prescribed density of smoke, and prescribed temperature.
    velocity : sequence of float, optional
        Prescribed velocity of the air in the source, one number per axis. By default the velocity is not prescribed.

    Raises
    ------
    InputError
        If the shape is not a function, or density or temperature are not finite numbers.
    """

    shape: Shape
    center: Sequence[float]
    density: float = 1.0
    temperature: float = 1.0
    velocity: Sequence[float] | None = None

    def __post_init__(self) -> None:
        require_shape(self.shape, "a source")
        require_number(self.density, "the density of a source")
        require_number(self.temperature, "the temperature of a source")


class Smoke:
    """A simulation of smoke in a box, which can be advanced from any state.

    Parameters
    ----------
    grid : Grid
        Grid in two or three dimensions, with at least four cells along each axis. Up is along the last axis.
    dt : float
        Time step. Steps of any length are stable; for accuracy the flow should cross only a few cells per step.
    pressure : callable
        Solver of the pressure equation, for example `sb.simulation.PressureSolver("multigrid-pcg")`.
    sources : sequence of Source
        Sources of smoke and heat.
    bodies : sequence of Body
        Solid obstacles; where they overlap, the last one in the list counts. A moving body may leave the box and
        return.
    open_sides : sequence of str
        Sides ("x0", "x1", ...) that are open to the air outside, which has no smoke and the temperature of the
        surroundings. All other sides are closed.
    buoyancy, weight : float
        Upward acceleration of air at temperature 1, and downward acceleration by smoke of density 1.
    advection : {"maccormack", "semi-lagrangian"}
        Advection scheme: "maccormack" is of second order, "semi-lagrangian" of first order with smoother results.
    tolerance : float
        Largest |div u| dt in a cell after a projection.
    device : torch.device or str
        Device of the simulation.

    Raises
    ------
    InputError
        If a number is out of range, the device is not available, the grid does not fit into memory, sources or bodies
        do not fit the grid, or a fixed body covers no cell.

    Examples
    --------
    A warm disc in a box with an open top:

    >>> import sciml_bounds as sb
    >>> from sciml_bounds.evolution.bodies import Ball
    >>> from sciml_bounds.evolution.smoke import Smoke, Source
    >>> from sciml_bounds.pressure import PressureSolver
    >>> source = Source(Ball(0.15), center=(0.5, 0.2))
    >>> smoke = Smoke(
    ...     sb.Grid((16, 16)), dt=0.05, pressure=PressureSolver("multigrid-pcg"), sources=[source], open_sides=["y1"]
    ... )
    >>> state = smoke.initial()
    >>> for _ in range(4):
    ...     state, report = smoke.step(state)
    >>> bool(state.velocity[1][8, 8] > 0), report.divergence < 1e-6
    (True, True)
    """

    def __init__(
        self,
        grid: Grid,
        *,
        dt: float,
        pressure: SolvePressure,
        sources: Sequence[Source] = (),
        bodies: Sequence[Body] = (),
        open_sides: Sequence[str] = (),
        buoyancy: float = 1.0,
        weight: float = 0.0,
        advection: Scheme = "maccormack",
        tolerance: float = 1e-6,
        device: torch.device | str = "cpu",
    ) -> None:
        _check_grid(grid)
        require_choice(advection, "advection", SCHEMES)
        require_solver(pressure)
        self.dt = require_number(dt, "dt", positive=True)
        self.buoyancy, self.weight = require_number(buoyancy, "buoyancy"), require_number(weight, "weight")
        self.tolerance = require_number(tolerance, "tolerance", positive=True)
        if self.tolerance < MIN_TOLERANCE:
            raise InputError(f"tolerance is {tolerance}, which is below round-off; use at least {MIN_TOLERANCE:g}.")
        self.grid, self.pressure, self.advection = grid, pressure, advection
        self.open_sides = _listed("open_sides", open_sides, str, "names of sides, such as ['y1']")
        require_sides(grid, self.open_sides)
        self.bodies = _listed("bodies", bodies, Body, "Body(...)")
        self.device = check_device(device)
        listed = _listed("sources", sources, Source, "Source(...)")
        self._sources = [(source, self._source_masks(source)) for source in listed]
        for body in self.bodies:
            self._check_body(body)
        self._moves = any(body.moves for body in self.bodies)
        self._geometry: tuple[Solids, PressureEquations] | None = None

    # --- states -------------------------------------------------------------------------------------------------------

    def initial(
        self,
        velocity: Sequence[Field] | None = None,
        density: Field | None = None,
        temperature: Field | None = None,
    ) -> SmokeState:
        """Return the state at time zero. By default the air is at rest, without smoke, and cold, except in sources.

        Parameters
        ----------
        velocity : sequence of float or array, optional
            One field per axis, with n + 1 entries along this axis. The velocity is projected to zero divergence.
        density, temperature : float or array (x, y[, z]), optional
            Fields at cell centres.

        Raises
        ------
        InputError
            If a field has a wrong shape or is not finite, or every cell is solid.
        """
        solids, equations = self._geometry_at(0.0, (0.0, self.dt))
        shapes = [face_shape(self.grid, axis) for axis in range(self.grid.dim)]
        given = components([0.0] * self.grid.dim if velocity is None else velocity, "the velocity", self.grid.dim)
        fields = tuple(self._field(part, "the velocity", shape) for part, shape in zip(given, shapes))
        fields = solids.impose(equations.close(self._with_source_velocity(fields)))
        projected = self._project(equations, fields, None)
        scalars = [
            self._field(0.0 if part is None else part, name, self.grid.shape)
            for part, name in ((density, "the density"), (temperature, "the temperature"))
        ]
        smoke, heat = self._filled(torch.stack(scalars), solids.mask)
        return SmokeState(0, projected.velocity, smoke, heat, torch.zeros_like(projected.pressure), solids.mask)

    def step(self, state: SmokeState) -> tuple[SmokeState, StepReport]:
        """Advance a state by one time step dt.

        Raises
        ------
        ConvergenceError
            If the linear solver does not reduce the divergence below the tolerance.
        InputError
            If the state does not fit this simulation or is not finite, bodies have moved such that they cover every
            cell, or the position of a body is NaN.
        """
        start = time.perf_counter()
        equations, velocity, scalars, solids = self._before_projection(state)
        projected = self._project(equations, velocity, state.pressure)
        smoke, heat = scalars
        new = SmokeState(state.step + 1, projected.velocity, smoke, heat, projected.pressure, solids.mask)
        report = self._report(new, projected, time.perf_counter() - start)
        _log.debug(
            "step %d: %d iterations, %.3g s, divergence %.2g", new.step, report.iterations, report.seconds,
            report.divergence,
        )  # fmt: skip
        return new, report

    def run(self, state: SmokeState, steps: int) -> Iterator[tuple[SmokeState, StepReport]]:
        """Advance by `steps` steps, and yield the state and the report after each step."""
        require_count(steps, "steps", 0)
        for _ in range(steps):
            state, report = self.step(state)
            yield state, report

    def pressure_systems(self, state: SmokeState, steps: Sequence[int]) -> Iterator[tuple[int, LatticeSystem]]:
        """Simulate from a state, and yield the pressure systems of chosen steps.

        Parameters
        ----------
        state : SmokeState
            State from which the simulation starts.
        steps : sequence of int
            Increasing step indices, counted from the initial state (step 0).

        Yields
        ------
        (int, LatticeSystem)
            Index of the step, and the pressure system of its projection, not yet solved.

        Raises
        ------
        InputError
            As for `step`; also if `steps` is not a list or does not increase.
        """
        check_state(state, self.grid, self.device)
        for number in _numbers(steps):
            require_count(number, "the number of a step", 0)
            if number <= state.step:
                raise InputError(f"step {number} does not come after step {state.step}; give increasing step indices.")
            while state.step < number - 1:
                state, _ = self.step(state)
            equations, velocity, *_ = self._before_projection(state)
            yield number, equations.system(velocity)

    # --- parts of a step ----------------------------------------------------------------------------------------------

    def _before_projection(self, state: SmokeState) -> tuple[PressureEquations, Velocity, Tensor, Solids]:
        """Advect all fields, add sources and forces, and move the bodies."""
        check_state(state, self.grid, self.device)
        paths = trace(state.velocity, self.grid, self.dt)
        scalars = torch.stack([state.density, state.temperature])
        scalars = advect_cells(scalars, paths, ~state.solid, self.open_sides, self.advection)
        velocity = advect_velocity(state.velocity, paths, self.advection)
        start, end = state.step * self.dt, (state.step + 1) * self.dt
        solids, equations = self._geometry_at(end, (start, end))
        scalars = self._filled(scalars, solids.mask)
        velocity = self._with_source_velocity(self._with_buoyancy(velocity, scalars))
        return equations, solids.impose(equations.close(velocity)), scalars, solids

    def _geometry_at(self, time: float, step: tuple[float, float]) -> tuple[Solids, PressureEquations]:
        """Return the solids at a time and the pressure equations around them; cached if no body moves."""
        if self._geometry is None or self._moves:
            solids = Solids.at(self.bodies, self.grid, time, step, self.device)
            self._geometry = solids, PressureEquations(self.grid, solids.mask, self.open_sides)
        return self._geometry

    def _filled(self, scalars: Tensor, solid: Tensor) -> Tensor:
        """Return density and temperature (2, x, y[, z]) with the prescribed values in sources, and zero in solids."""
        for source, (cells, _) in self._sources:
            content = scalars.new_tensor([source.density, source.temperature]).view(2, *(1,) * self.grid.dim)
            scalars = torch.where(cells, content, scalars)
        return torch.where(solid, 0.0, scalars)

    def _with_buoyancy(self, velocity: Velocity, scalars: Tensor) -> Velocity:
        """Return the velocity after acceleration by buoyancy and weight."""
        up = self.grid.dim - 1
        force = self.buoyancy * scalars[1] - self.weight * scalars[0]
        return *velocity[:up], velocity[up] + self.dt * at_faces(force, up)

    def _with_source_velocity(self, velocity: Velocity) -> Velocity:
        """Return the velocity with the prescribed values in sources."""
        for source, (_, faces) in self._sources:
            if source.velocity is not None:
                velocity = tuple(torch.where(f, float(v), u) for f, v, u in zip(faces, source.velocity, velocity))
        return velocity

    def _project(self, equations: PressureEquations, velocity: Velocity, guess: Tensor | None) -> Projection:
        return equations.project(velocity, self.pressure, tolerance=self.tolerance / self.dt, guess=guess)

    def _report(self, state: SmokeState, projected: Projection, seconds: float) -> StepReport:
        solution = projected.solution
        speed = at_centers(state.velocity).abs().flatten(1).amax(1) * self.dt
        volume = self.grid.cell_volume
        return StepReport(
            step=state.step,
            time=state.step * self.dt,
            iterations=int(solution.iterations.max()),
            pressure_seconds=solution.seconds,
            seconds=seconds,
            divergence=projected.divergence * self.dt,
            imbalance=projected.imbalance * self.dt,
            courant=max(float(s) / h for s, h in zip(speed, self.grid.spacing)),
            smoke=float(state.density.sum()) * volume,
            solid_volume=int(state.solid.sum()) * volume,
            energy=kinetic_energy(state.velocity, self.grid),
        )

    # --- input --------------------------------------------------------------------------------------------------------

    def _source_masks(self, source: Source) -> tuple[Tensor, list[Tensor]]:
        """Return the masks of the cells and of the faces (one mask per axis) in a source."""
        center = require_vector(source.center, "the centre of a source", self.grid.dim)
        if source.velocity is not None:
            require_vector(source.velocity, "the velocity of a source", self.grid.dim)
        here = Body(source.shape, center)
        cells = here.covers(cell_points(self.grid, self.device), 0.0)
        if not bool(cells.any()):
            raise InputError(
                f"the source at {tuple(source.center)} contains no cell centre; enlarge it, or refine the grid."
            )
        faces = [here.covers(face_points(self.grid, axis, self.device), 0.0) for axis in range(self.grid.dim)]
        return cells, faces

    def _check_body(self, body: Body) -> None:
        """Raise if a body that does not move covers no cell. A moving body may enter the box later."""
        center = body.center_at(0.0, self.grid.dim)
        if not body.moves and not bool(body.covers(cell_points(self.grid, self.device), 0.0).any()):
            raise InputError(
                f"the body at {center} does not move and covers no cell centre; move it into the grid, make it larger, "
                "or remove it."
            )

    def _field(self, value: Field, name: str, shape: tuple[int, ...]) -> Tensor:
        field = convert(value, name, torch.float64, self.device).detach()
        require_finite(field, name)
        if field.ndim and tuple(field.shape) != shape:
            raise InputError(f"{name} has shape {tuple(field.shape)}; give shape {shape}, the shape on this grid.")
        return field.expand(shape).clone()


def _check_grid(grid: Grid) -> None:
    require_instance(grid, "the grid", Grid, "an sb.Grid")
    if grid.dim == 1 or min(grid.shape) < MIN_CELLS:
        raise InputError(
            f"the grid has {' x '.join(map(str, grid.shape))} cells; give a grid with two or three axes and at least "
            f"{MIN_CELLS} cells along each axis."
        )
    cells = math.prod(grid.shape)
    require_memory(8 * FIELDS_AT_WORK * cells, f"smoke on {' x '.join(map(str, grid.shape))} cells")


def _numbers(steps: Iterable[int]) -> list[int]:
    try:
        return list(steps)
    except TypeError:
        raise InputError(f"steps is {steps!r}; give a list of integers, such as [3, 7].") from None


def _listed[T](name: str, values: Sequence[T], kind: type[T], what: str) -> tuple[T, ...]:
    """Return a sequence of instances of a class as a tuple."""
    listed = tuple(values) if isinstance(values, Iterable) and not isinstance(values, str) else None
    if listed is None or not all(isinstance(value, kind) for value in listed):
        raise InputError(f"{name} is {values!r}; give a list of {what}.")
    return listed
