"""Recordings of smoke simulations in files, resumable after an interruption.

A recording contains frames and the log of all steps. While a simulation runs, its frames and its last state are in a
folder `.NAME.parts` next to the target file. At the end the frames are joined to one file, and the folder is removed.
On the same machine, a resumed simulation is identical bit for bit to an uninterrupted one, except for the timings.
"""

from __future__ import annotations

import json
import logging
import shutil
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import fields
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from sciml_bounds import __version__
from sciml_bounds.arrays import require_callback, require_count, require_instance
from sciml_bounds.errors import InputError
from sciml_bounds.evolution.smoke import Smoke
from sciml_bounds.evolution.smoke_state import SmokeState, StepReport
from sciml_bounds.grid import AXES, Grid
from sciml_bounds.store.datasets.movies import MovieHeader, MovieVariable, writing_movie
from sciml_bounds.store.reading.contents import Array
from sciml_bounds.store.reading.readers import open_file
from sciml_bounds.store.safety.writer import SUFFIXES, check_target, replacing

__all__ = ["record"]

_log = logging.getLogger(__name__)

#: Files in the folder besides the frames: the request, the last state, and the lock of the running process.
_REQUEST, _STATE, _LOCK = "request.json", "state.npz", "lock"

#: Minimum number of seconds between two stored states. States are stored with a frame and at the end of a run.
STORE_INTERVAL = 30.0

#: Logged quantities of a step: dtype, meaning and units, by name.
_LOGGED = {
    "iterations": ("int32", "iterations of the linear solver", "1"),
    "pressure_seconds": ("float64", "wall-clock time of the linear solver and its set-up", "s"),
    "seconds": ("float64", "wall-clock time of the step", "s"),
    "divergence": ("float64", "largest |div u| dt after the projection, recomputed", "1"),
    "imbalance": ("float64", "largest part of |div u| dt that no pressure removes", "1"),
    "courant": ("float64", "cells that the fastest flow crosses in the step", "1"),
    "smoke": ("float64", "integral of the density of smoke", "1"),
    "solid_volume": ("float64", "volume of the solid cells", "1"),
    "energy": ("float64", "kinetic energy", "1"),
}


def record(
    smoke: Smoke,
    path: Path | str,
    *,
    steps: int,
    every: int = 10,
    parameters: Mapping[str, Any],
    on_step: Callable[[StepReport], None] | None = None,
    stop: Callable[[], bool] | None = None,
) -> bool:
    """Simulate smoke from rest and write a file, or resume an interrupted call with the same arguments.

    Parameters
    ----------
    smoke : Smoke
        The simulation.
    path : path
        File to write, ending in .nc, .h5 or .hdf5: netCDF-4 with the axes `time` (frames), x, y, z and the log of all
        steps.
    steps : int
        Number of steps.
    every : int
        Number of steps between frames. The initial and the final state are also stored as frames.
    parameters : mapping of str to JSON values
        Parameters that determine the simulation. They are stored in the file and compared when a run is resumed.
    on_step : callable, optional
        Called with the `StepReport` after each step.
    stop : callable, optional
        Called after each step; if it returns True, the state is stored and the function returns.

    Returns
    -------
    bool
        Whether the file is complete; False if `stop` ended the simulation.

    Raises
    ------
    InputError
        If an argument is invalid, the file cannot be written, or the existing file or stored state belongs to another
        simulation.
    ConvergenceError
        If the pressure solver fails; the state before the failed step is stored.
    """
    require_instance(smoke, "the simulation", Smoke, "an sb.simulation.Smoke")
    require_count(steps, "steps", 1)
    require_count(every, "every", 1)
    require_callback(on_step, "on_step")
    require_callback(stop, "stop")
    target = check_target(path, SUFFIXES)
    try:
        wanted = json.loads(json.dumps({**parameters, "steps": steps, "every": every, "version": __version__}))
    except (TypeError, ValueError):
        raise InputError(
            f"parameters is {parameters!r}; give a dict of names and values that JSON can store."
        ) from None
    if target.exists():
        _require_same(target, wanted)
        _log.info("%s exists already and is the requested recording.", path)
        return True
    with _folder_of_parts(target, wanted) as folder:
        run = _RecordedSimulation(smoke, folder, steps, every)
        if not run.simulate(on_step, stop):
            _report_or_remove(folder, target)
            return False
        _join(run, target, wanted)
    shutil.rmtree(folder)
    return True


# --- running ----------------------------------------------------------------------------------------------------------


class _RecordedSimulation:
    """A simulation whose frames and last state are stored in a folder."""

    def __init__(self, smoke: Smoke, folder: Path, steps: int, every: int) -> None:
        self.smoke, self.folder, self.steps, self.every = smoke, folder, steps, every
        self.reports: list[StepReport] = []
        self._stored = time.monotonic()

    @property
    def frames(self) -> list[int]:
        """Indices of the steps after which a frame is stored."""
        return sorted({*range(0, self.steps + 1, self.every), self.steps})

    def frame(self, step: int) -> Path:
        """Return the file of a frame."""
        return self.folder / f"{step:09d}.npz"

    def simulate(self, on_step: Callable[[StepReport], None] | None, stop: Callable[[], bool] | None) -> bool:
        """Simulate from the stored state, if any, and return whether the end was reached before `stop`."""
        state, frames = self._stored_state() or self.smoke.initial(), set(self.frames)
        if state.step in frames:  # an interrupt may have prevented that its frame was written
            self._store_frame(state)
        try:
            while state.step < self.steps:
                advanced, report = self.smoke.step(state)
                self.reports.append(report)  # first, so that an interrupt here leaves one report too many, not too few
                state = advanced
                if state.step in frames:
                    self._store_frame(state)
                if on_step is not None:
                    on_step(report)
                if stop is not None and stop() and state.step < self.steps:
                    return False
        finally:
            self._store_state(state)
        return True

    def _store_frame(self, state: SmokeState) -> None:
        _save(self.frame(state.step), _frame_arrays(state))
        if time.monotonic() - self._stored > STORE_INTERVAL:
            self._store_state(state)

    def _store_state(self, state: SmokeState) -> None:
        """Replace the stored state, from which a resumed run continues and writes later frames again."""
        reports = self.reports[: state.step]
        log = {f"log_{entry.name}": _column(reports, entry.name) for entry in fields(StepReport)}
        _save(self.folder / _STATE, _state_arrays(state) | log | {"number": np.array([state.step])})
        self._stored = time.monotonic()

    def _stored_state(self) -> SmokeState | None:
        if not (self.folder / _STATE).exists():
            return None
        with ExitStack() as files:
            contents = open_file(self.folder / _STATE, "the stored state", files)
            stored = {name: contents.read(name) for name in contents.arrays}
        columns = [stored[f"log_{entry.name}"].tolist() for entry in fields(StepReport)]
        self.reports = [StepReport(*row) for row in zip(*columns)]
        device, dim = self.smoke.device, self.smoke.grid.dim
        tensors = {name: torch.tensor(stored[name], device=device) for name in _state_names(dim)}
        velocity = tuple(tensors.pop(f"velocity_{axis}") for axis in AXES[:dim])
        return SmokeState(int(stored["number"][0]), velocity, **(tensors | {"solid": tensors["solid"] != 0}))


def _save(path: Path, arrays: Mapping[str, Array]) -> None:
    with replacing(path) as part, part.open("wb") as stream:
        np.savez(stream, allow_pickle=False, **arrays)


def _state_names(dim: int) -> list[str]:
    return ["density", "temperature", "pressure", "solid", *(f"velocity_{axis}" for axis in AXES[:dim])]


def _state_arrays(state: SmokeState) -> dict[str, Array]:
    tensors: dict[str, Tensor] = {name: getattr(state, name) for name in ("density", "temperature", "pressure")}
    tensors |= {f"velocity_{axis}": part for axis, part in zip(AXES, state.velocity)}
    return {name: part.cpu().numpy() for name, part in tensors.items()} | {"solid": _bytes(state.solid)}


def _frame_arrays(state: SmokeState) -> dict[str, Array]:
    """Return the arrays of a frame, in single precision."""
    arrays = {name: values.astype(np.float32) for name, values in _state_arrays(state).items()}
    return arrays | {"solid": _bytes(state.solid)}


def _bytes(mask: Tensor) -> Array:
    return mask.to(torch.int8).cpu().numpy()


def _dims(name: str, grid: Grid) -> tuple[str, ...]:
    """Return the names of the axes of a variable; a velocity component has faces along its own axis."""
    own = name.removeprefix("velocity_")
    return tuple(f"{axis}_face" if axis == own else axis for axis in AXES[: grid.dim])


def _column(reports: Sequence[StepReport], name: str) -> Array:
    return np.array(
        [getattr(report, name) for report in reports],
        dtype="int64" if name == "step" else _LOGGED.get(name, ("float64",))[0],
    )


# --- the folder -------------------------------------------------------------------------------------------------------


@contextmanager
def _folder_of_parts(target: Path, wanted: Mapping[str, Any]) -> Iterator[Path]:
    """Yield the folder for the parts of a running simulation, locked for this process."""
    import filelock

    folder = target.with_name(f".{target.name}.parts")
    lock = filelock.FileLock(folder / _LOCK, timeout=0)
    try:
        folder.mkdir(exist_ok=True)
        acquired = lock.acquire()
    except filelock.Timeout:
        raise InputError(f"another process is simulating {target}; wait until it has finished.") from None
    except OSError as error:
        raise InputError(
            f"the folder {folder} cannot be created ({error.strerror}); choose another folder for the output."
        ) from None
    with acquired:
        _claim(folder, target, wanted)
        try:
            yield folder
        except BaseException:
            _report_or_remove(folder, target)
            raise


def _claim(folder: Path, target: Path, wanted: Mapping[str, Any]) -> None:
    """Write the request to a new folder, or raise if the folder contains another request."""
    file = folder / _REQUEST
    if not (folder / _STATE).exists():
        with replacing(file) as part:
            part.write_text(json.dumps(wanted))
        return
    try:
        differences = _differences(json.loads(file.read_text()), wanted)
    except (OSError, ValueError, AttributeError):
        differences = [_REQUEST]
    if differences:
        raise InputError(
            f"{folder} contains a part of another simulation for {target.name} (with other {', '.join(differences)}); "
            "delete this folder, or choose another name for the output."
        )


def _report_or_remove(folder: Path, target: Path) -> None:
    """Log how to resume from a folder with a stored state; remove a folder without a stored state."""
    if (folder / _STATE).exists():
        _log.info("the finished part of %s is in %s; run the same command again to resume.", target.name, folder)
    else:
        shutil.rmtree(folder, ignore_errors=True)


def _differences(there: Mapping[str, Any], wanted: Mapping[str, Any]) -> list[str]:
    return [name for name in sorted({*there, *wanted}) if there.get(name) != wanted.get(name)]


def _require_same(target: Path, wanted: Mapping[str, Any]) -> None:
    """Raise an `InputError` unless an existing file is the requested recording."""
    with ExitStack() as files:
        contents = open_file(target, "the output", files)
        try:
            differences = _differences(json.loads(str(contents.attributes["asked"])), wanted)
        except (KeyError, ValueError, AttributeError):
            differences = ["everything"]
    if differences:
        raise InputError(
            f"{target} exists already with other contents (other {', '.join(differences)}); remove the file, or choose "
            "another name for the output."
        )


# --- joining ----------------------------------------------------------------------------------------------------------


def _join(run: _RecordedSimulation, target: Path, wanted: Mapping[str, Any]) -> None:
    """Join the frames to one file."""
    header = _header(run, wanted)
    frames = [name for name, variable in header.variables.items() if variable.dims[0] == "time"]
    with writing_movie(target, header) as movie:
        for name in _LOGGED:
            movie.write(f"step_{name}", slice(None), _column(run.reports, name))
        for index, step in enumerate(run.frames):
            with ExitStack() as files:
                contents = open_file(run.frame(step), "the stored frame", files)
                for name in frames:
                    movie.write(name, index, contents.read(name))


def _header(run: _RecordedSimulation, wanted: Mapping[str, Any]) -> MovieHeader:
    grid = run.smoke.grid
    coordinates: dict[str, Array] = {"time": np.array(run.frames) * run.smoke.dt}
    coordinates["step"] = np.arange(1, run.steps + 1, dtype=np.int64)
    for a, axis in enumerate(AXES[: grid.dim]):
        coordinates[axis], coordinates[f"{axis}_face"] = grid.centers(a).numpy(), grid.nodes(a).numpy()
    words = {"density": "density of smoke", "temperature": "temperature above the surroundings",
             "pressure": "pressure times dt over the density of air", "solid": "1 in solid cells"}  # fmt: skip
    words |= {f"velocity_{axis}": f"velocity along {axis}, at faces" for axis in AXES[: grid.dim]}
    variables = {
        name: MovieVariable(("time", *_dims(name, grid)), "int8" if name == "solid" else "float32", long_name)
        for name, long_name in words.items()
    }
    variables |= {f"step_{name}": MovieVariable(("step",), *description) for name, description in _LOGGED.items()}
    lengths = {name: len(positions) for name, positions in coordinates.items()}
    return MovieHeader("Smoke on a staggered grid", lengths, coordinates, variables, wanted)
