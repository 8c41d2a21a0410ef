"""Smoke in air: an incompressible flow without viscosity on a staggered grid, driven by what is hot or heavy.

    u_t + u . grad u = -grad p + (buoyancy T - weight s) e,  div u = 0,  s_t + u . grad s = 0,  T_t + u . grad T = 0

with the density of smoke s, the temperature T above that of the surrounding air, and e pointing up: along the last
axis. A step carries velocity, smoke and heat along (`advection`), adds forces, and projects (`projection`), as in Stam,
"Stable fluids" (SIGGRAPH 1999), and Fedkiw, Stam, Jensen, "Visual simulation of smoke" (SIGGRAPH 2001). Bodies stand
still or move as they are told; fluid at their surface takes part in their motion.

The linear solver of the pressure is an argument, and changes nothing but the time that a step takes.
"""

from __future__ import annotations

import logging
import math
import time
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from sciml_bounds.arrays import Field, check_device, convert, require_count, require_finite, require_number
from sciml_bounds.errors import InputError
from sciml_bounds.evolution.advection import Scheme, advect_cells, advect_velocity, require_scheme, trace
from sciml_bounds.evolution.bodies import Body, Shape, Solids, require_shape, require_vector
from sciml_bounds.evolution.pressure_projection import (
    PressureEquations,
    Projection,
    SolvePressure,
    require_sides,
    require_solver,
)
from sciml_bounds.evolution.staggered import (
    Velocity,
    at_centers,
    at_faces,
    cell_points,
    face_points,
    face_shape,
    kinetic_energy,
)
from sciml_bounds.grid import AXES, Grid
from sciml_bounds.memory import require_memory
from sciml_bounds.operators._lattice_operator import LatticeSystem

__all__ = ["Smoke", "SmokeState", "Source", "StepReport"]

_log = logging.getLogger(__name__)

#: Fewest cells along an axis.
FEWEST_CELLS = 4

#: Fields of the whole grid that are there during a step, multigrid hierarchy and temporaries included.
FIELDS_AT_WORK = 60

#: The divergence is a difference of speeds over a spacing, whose round-off leaves no more than this.
SMALLEST_TOLERANCE = 1e-12


@dataclass(frozen=True)
class Source:
    """Where smoke and heat come from: the cells whose centres lie in a shape are kept filled.

    Parameters
    ----------
    shape
        As of a `Body`: negative inside.
    center
        Where its centre is.
    density, temperature
        What it is filled with.
    velocity
        How fast the air in it is blown, one number an axis; None to leave it alone.

    Raises
    ------
    InputError
        If the shape is no function, or density or temperature no finite number.
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


@dataclass(frozen=True)
class SmokeState:
    """Where a simulation stands.

    Attributes
    ----------
    step
        Number of steps that are done.
    velocity
        One component an axis, with n + 1 faces along its own axis.
    density, temperature
        Of smoke and of the air above its surroundings, at cell centres.
    pressure
        p dt, divided by the density of air, at cell centres: the guess of the next step.
    solid
        Which cells are solid.
    """

    step: int
    velocity: Velocity
    density: Tensor
    temperature: Tensor
    pressure: Tensor
    solid: Tensor


@dataclass(frozen=True)
class StepReport:
    """What one step took, and what it left.

    Attributes
    ----------
    step, time
        Number of the step, from 1, and the time at its end.
    iterations
        Of the linear solver.
    pressure_seconds, seconds
        Wall-clock time of the linear solver with its set-up, and of the whole step.
    divergence
        The largest |div u| dt in a fluid cell, recomputed from the velocity: the part of its volume that a cell gains
        or loses in a step.
    imbalance
        The part of |div u| dt that no pressure can remove, since bodies squeeze fluid that cannot get away.
    courant
        How many cells the flow crosses in a step, at its fastest.
    smoke
        Integral of the density.
    solid_volume
        Volume of the solid cells.
    energy
        Kinetic energy.
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


class Smoke:
    """A simulation of smoke, ready to be stepped from any state.

    Parameters
    ----------
    grid
        In two or three dimensions, with at least four cells along each axis. Up is along the last axis.
    dt
        Time of a step. No step is too long to be stable; accuracy wants flows to cross a few cells in one.
    pressure
        Solves the system of the pressure; `sciml_bounds.pressure.PressureSolver` makes one from a method's name.
    sources
        Where smoke and heat come from.
    bodies
        Solid obstacles; where they overlap, the later one decides. One that moves may leave the box and come back.
    open_sides
        Sides ("x0", "x1", ...) through which air comes and goes; all others are closed. Air from outside is clear and
        of the temperature of the surroundings.
    buoyancy, weight
        Upward acceleration by temperature 1, and downward by smoke of density 1.
    advection
        "maccormack" (second order) or "semi-lagrangian" (first order, smoother).
    tolerance
        The largest |div u| dt that a projection may leave in any cell.
    device
        Where the simulation runs.

    Raises
    ------
    InputError
        If a number is out of range, the device is not there, the grid does not fit into memory, sources or bodies do
        not fit to the grid, or a body that never moves covers no cell.

    Examples
    --------
    A warm disc in a box, of which the top is open:

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
        require_scheme(advection)
        require_solver(pressure)
        self.dt = require_number(dt, "dt", positive=True)
        self.buoyancy, self.weight = require_number(buoyancy, "buoyancy"), require_number(weight, "weight")
        self.tolerance = require_number(tolerance, "tolerance", positive=True)
        if self.tolerance < SMALLEST_TOLERANCE:
            raise InputError(f"tolerance is {tolerance}, below round-off; ask for at least {SMALLEST_TOLERANCE:g}.")
        self.grid, self.pressure, self.advection = grid, pressure, advection
        self.open_sides = _listed("open_sides", open_sides, str, "names of sides, such as ['y1']")
        require_sides(grid, self.open_sides)
        self.bodies = _listed("bodies", bodies, Body, "Body(...)")
        self.device = check_device(device)
        listed = _listed("sources", sources, Source, "Source(...)")
        self._sources = [(source, self._inside(source)) for source in listed]
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
        """Make the state at time zero: at rest, clear and cold but for the sources, unless something else is given.

        Parameters
        ----------
        velocity
            One field an axis, with n + 1 entries along its own axis; it is projected.
        density, temperature
            Fields (x, y[, z]) at cell centres.

        Raises
        ------
        InputError
            If a field has another shape or is not finite, or if every cell is solid.
        """
        solids, equations = self._around(0.0, (0.0, self.dt))
        shapes = [face_shape(self.grid, axis) for axis in range(self.grid.dim)]
        given = self._components([0.0] * self.grid.dim if velocity is None else velocity, "the velocity")
        moved = tuple(self._field(part, "the velocity", shape) for part, shape in zip(given, shapes))
        moved = solids.impose(equations.close(self._blown(moved)))
        projected = self._project(equations, moved, None)
        scalars = [
            self._field(0.0 if part is None else part, name, self.grid.shape)
            for part, name in ((density, "the density"), (temperature, "the temperature"))
        ]
        smoke, heat = self._filled(torch.stack(scalars), solids.mask)
        return SmokeState(0, projected.velocity, smoke, heat, torch.zeros_like(projected.pressure), solids.mask)

    def step(self, state: SmokeState) -> tuple[SmokeState, StepReport]:
        """Go one step of time dt further.

        Raises
        ------
        ConvergenceError
            If the linear solver does not bring the divergence below the tolerance.
        InputError
            If the state is not one of this simulation, or not finite, or bodies have come to cover every cell or to be
            nowhere (NaN).
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
        """Go so many steps, and give the state after each."""
        require_count(steps, "steps", 0)
        for _ in range(steps):
            state, report = self.step(state)
            yield state, report

    def pressure_systems(self, state: SmokeState, steps: Sequence[int]) -> Iterator[tuple[int, LatticeSystem]]:
        """Give the systems of the pressure at chosen steps, as they come up when the simulation goes on from a state.

        Parameters
        ----------
        state
            Where to begin.
        steps
            Numbers of steps, counted from that of the initial state, in increasing order.

        Yields
        ------
        tuple
            The number of the step, and the system whose solution its projection needs: operator, right-hand side, and
            what floats. Nothing of the simulation's own solution is in it.

        Raises
        ------
        InputError
            As `step`, or if the numbers are no list or do not increase.
        """
        self._check_state(state)
        for number in _numbers(steps):
            require_count(number, "the number of a step", 0)
            if number <= state.step:
                raise InputError(f"step {number} does not come after step {state.step}; give increasing numbers.")
            while state.step < number - 1:
                state, _ = self.step(state)
            equations, velocity, *_ = self._before_projection(state)
            yield number, equations.system(velocity)

    # --- parts of a step ----------------------------------------------------------------------------------------------

    def _before_projection(self, state: SmokeState) -> tuple[PressureEquations, Velocity, Tensor, Solids]:
        """Carry everything along, add sources and forces, and move the bodies."""
        self._check_state(state)
        paths = trace(state.velocity, self.grid, self.dt)
        scalars = torch.stack([state.density, state.temperature])
        scalars = advect_cells(scalars, paths, ~state.solid, self.open_sides, self.advection)
        velocity = advect_velocity(state.velocity, paths, self.advection)
        start, end = state.step * self.dt, (state.step + 1) * self.dt
        solids, equations = self._around(end, (start, end))
        scalars = self._filled(scalars, solids.mask)
        velocity = self._blown(self._pushed(velocity, scalars))
        return equations, solids.impose(equations.close(velocity)), scalars, solids

    def _around(self, time: float, step: tuple[float, float]) -> tuple[Solids, PressureEquations]:
        """Find what bodies cover at a time, and the equations of the pressure there; kept while nothing moves."""
        if self._geometry is None or self._moves:
            solids = Solids.at(self.bodies, self.grid, time, step, self.device)
            self._geometry = solids, PressureEquations(self.grid, solids.mask, self.open_sides)
        return self._geometry

    def _filled(self, scalars: Tensor, solid: Tensor) -> Tensor:
        """Fill the sources, and keep solids clear; scalars are (2, x, y[, z])."""
        for source, (cells, _) in self._sources:
            content = scalars.new_tensor([source.density, source.temperature]).view(2, *(1,) * self.grid.dim)
            scalars = torch.where(cells, content, scalars)
        return torch.where(solid, 0.0, scalars)

    def _pushed(self, velocity: Velocity, scalars: Tensor) -> Velocity:
        """Let what is hot rise and what is heavy sink."""
        up = self.grid.dim - 1
        force = self.buoyancy * scalars[1] - self.weight * scalars[0]
        return *velocity[:up], velocity[up] + self.dt * at_faces(force, up)

    def _blown(self, velocity: Velocity) -> Velocity:
        """Give the air in sources the speed that it is blown with."""
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

    def _inside(self, source: Source) -> tuple[Tensor, list[Tensor]]:
        """Tell which cells a source fills, and in which faces it blows."""
        center = require_vector(source.center, "the centre of a source", self.grid.dim)
        if source.velocity is not None:
            require_vector(source.velocity, "the velocity of a source", self.grid.dim)
        here = Body(source.shape, center)
        cells = here.covers(cell_points(self.grid, self.device), 0.0)
        if not bool(cells.any()):
            raise InputError(f"the source at {tuple(source.center)} holds no cell centre; make it or the grid larger.")
        faces = [here.covers(face_points(self.grid, axis, self.device), 0.0) for axis in range(self.grid.dim)]
        return cells, faces

    def _check_body(self, body: Body) -> None:
        """Refuse bodies that are nowhere: those that move may come in later."""
        center = body.center_at(0.0, self.grid.dim)
        if not body.moves and not bool(body.covers(cell_points(self.grid, self.device), 0.0).any()):
            raise InputError(
                f"the body at {center} covers no cell centre and never moves; move it into the grid, make it larger, "
                "or leave it out."
            )

    def _check_state(self, state: SmokeState) -> None:
        """Refuse what is no state of this simulation."""
        if not isinstance(state, SmokeState):
            raise InputError(f"the state is a {type(state).__name__}; give a SmokeState, as initial() makes it.")
        require_count(state.step, "the step of the state", 0)
        scalars = [(getattr(state, name), name, self.grid.shape) for name in ("density", "temperature", "pressure")]
        velocity = [
            (part, f"velocity along {AXES[axis]}", face_shape(self.grid, axis))
            for axis, part in enumerate(self._components(state.velocity, "the velocity of the state"))
        ]
        for part, name, shape in [*scalars, *velocity]:
            self._check_part(part, name, shape, torch.float64)
            require_finite(part, f"the {name} of the state")
        self._check_part(state.solid, "solid", self.grid.shape, torch.bool)

    def _check_part(self, part: Tensor, name: str, shape: tuple[int, ...], dtype: torch.dtype) -> None:
        wanted = _described(dtype, shape, self.device)
        tensor = isinstance(part, Tensor)
        found = _described(part.dtype, tuple(part.shape), part.device) if tensor else f"a {type(part).__name__}"
        if found != wanted:
            raise InputError(
                f"the {name} of the state is {found}, and this simulation has {wanted}; begin with a state of its own."
            )

    def _components[T](self, velocity: Iterable[T], name: str) -> list[T]:
        """List the components of a velocity, one an axis."""
        try:
            listed = list(velocity)
        except TypeError:
            raise InputError(f"{name} is {velocity!r}; give one field an axis.") from None
        if len(listed) != self.grid.dim:
            raise InputError(f"{name} has {len(listed)} components, but the grid has {self.grid.dim} axes.")
        return listed

    def _field(self, value: Field, name: str, shape: tuple[int, ...]) -> Tensor:
        field = convert(value, name, torch.float64, self.device).detach()
        require_finite(field, name)
        if field.ndim and tuple(field.shape) != shape:
            raise InputError(f"{name} has shape {tuple(field.shape)}; the grid needs {shape} there.")
        return field.expand(shape).clone()


def _check_grid(grid: Grid) -> None:
    if not isinstance(grid, Grid):
        raise InputError(f"the grid is {grid!r}; give a Grid.")
    if grid.dim == 1 or min(grid.shape) < FEWEST_CELLS:
        raise InputError(
            f"the grid has {' x '.join(map(str, grid.shape))} cells; smoke needs two or three axes with at least "
            f"{FEWEST_CELLS} cells each."
        )
    cells = math.prod(grid.shape)
    require_memory(8 * FIELDS_AT_WORK * cells, f"smoke on {' x '.join(map(str, grid.shape))} cells")


def _described(dtype: torch.dtype, shape: tuple[int, ...], device: torch.device) -> str:
    return f"{str(dtype).removeprefix('torch.')} of shape {shape} on {device.type}"


def _numbers(steps: Iterable[int]) -> list[int]:
    try:
        return list(steps)
    except TypeError:
        raise InputError(f"the numbers of steps are {steps!r}; give a list of them, such as [3, 7].") from None


def _listed[T](name: str, values: Sequence[T], kind: type[T], what: str) -> tuple[T, ...]:
    """Read a list of things of one kind."""
    listed = tuple(values) if isinstance(values, Iterable) and not isinstance(values, str) else None
    if listed is None or not all(isinstance(value, kind) for value in listed):
        raise InputError(f"{name} is {values!r}; give a list of {what}.")
    return listed
