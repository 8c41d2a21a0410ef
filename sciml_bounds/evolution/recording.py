"""Simulations of smoke in files: frames and the log of all steps, and where an interrupted one stands.

While a simulation runs, its frames and its last state lie in a folder `.NAME.parts` beside the target. At the end they
become one file, and the folder is removed. What goes on from a stored state has the same arrays to the last bit as what
was never interrupted, on the same machine; only seconds differ.
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
from sciml_bounds.arrays import require_callback, require_count
from sciml_bounds.errors import InputError
from sciml_bounds.evolution.smoke import Smoke, SmokeState, StepReport
from sciml_bounds.grid import AXES, Grid
from sciml_bounds.store.datasets.movies import MovieHeader, MovieVariable, writing_movie
from sciml_bounds.store.reading.contents import Array
from sciml_bounds.store.reading.readers import open_file
from sciml_bounds.store.safety.writer import SUFFIXES, check_target, replacing

__all__ = ["record"]

_log = logging.getLogger(__name__)

#: What is in the folder beside frames: what is simulated, where it stands, and what tells that a process works there.
_REQUEST, _STATE, _LOCK = "request.json", "state.npz", "lock"

#: The state is stored after so many seconds, when a frame is, and whenever a simulation ends.
STORE_AFTER = 30.0

#: What is logged of each step: its name, dtype, meaning and units.
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
    asked: Mapping[str, Any],
    on_step: Callable[[StepReport], None] | None = None,
    stop: Callable[[], bool] | None = None,
) -> bool:
    """Simulate from rest and write a file, or go on where an interrupted call with the same arguments ended.

    Parameters
    ----------
    smoke
        The simulation.
    path
        Where, ending in .nc, .h5 or .hdf5: netCDF-4 with the axes `time` (frames), x, y, z and the log of all steps.
    steps
        How many.
    every
        A frame is kept at the start, after every so many steps, and at the end.
    asked
        What determines the numbers, in JSON's words: kept in the file, and compared before a simulation goes on.
    on_step
        Called after each step.
    stop
        Asked after each step: True stores the state and returns.

    Returns
    -------
    bool
        Whether the file is whole; False if `stop` ended the simulation.

    Raises
    ------
    InputError
        If an argument is of the wrong kind, the file cannot be written, or is there and holds something else, or what
        is stored belongs to another simulation.
    ConvergenceError
        If the pressure cannot be solved for; the state before that step is stored.
    """
    if not isinstance(smoke, Smoke):
        raise InputError(f"a {type(smoke).__name__} is no simulation; give a Smoke.")
    require_count(steps, "steps", 1)
    require_count(every, "every", 1)
    require_callback(on_step, "on_step")
    require_callback(stop, "stop")
    target = check_target(path, SUFFIXES)
    try:
        wanted = json.loads(json.dumps({**asked, "steps": steps, "every": every, "version": __version__}))
    except (TypeError, ValueError):
        raise InputError(f"asked is {asked!r}; give names and values that JSON has words for.") from None
    if target.exists():
        _require_same(target, wanted)
        _log.info("%s is there already, and is what is asked for.", path)
        return True
    with _folder_of_parts(target, wanted) as folder:
        run = _Run(smoke, folder, steps, every)
        if not run.go_on(on_step, stop):
            _leave(folder, target)
            return False
        _join(run, target, wanted)
    shutil.rmtree(folder)
    return True


# --- running ----------------------------------------------------------------------------------------------------------


class _Run:
    """A simulation whose frames and last state are in a folder."""

    def __init__(self, smoke: Smoke, folder: Path, steps: int, every: int) -> None:
        self.smoke, self.folder, self.steps, self.every = smoke, folder, steps, every
        self.reports: list[StepReport] = []
        self._stored = time.monotonic()

    @property
    def frames(self) -> list[int]:
        """Steps after which a frame is kept."""
        return sorted({*range(0, self.steps + 1, self.every), self.steps})

    def frame(self, step: int) -> Path:
        """Give the file of a frame."""
        return self.folder / f"{step:09d}.npz"

    def go_on(self, on_step: Callable[[StepReport], None] | None, stop: Callable[[], bool] | None) -> bool:
        """Simulate to the end, or until it is stopped; tells which."""
        state, frames = self._restored() or self.smoke.initial(), set(self.frames)
        if state.step in frames:  # a signal may have come before its frame was whole
            self._keep(state)
        try:
            while state.step < self.steps:
                moved, report = self.smoke.step(state)
                self.reports.append(report)  # before the state, so that a signal in between leaves one too many
                state = moved
                if state.step in frames:
                    self._keep(state)
                if on_step is not None:
                    on_step(report)
                if stop is not None and stop() and state.step < self.steps:
                    return False
        finally:
            self._keep_state(state)
        return True

    def _keep(self, state: SmokeState) -> None:
        _save(self.frame(state.step), _frame_arrays(state))
        if time.monotonic() - self._stored > STORE_AFTER:
            self._keep_state(state)

    def _keep_state(self, state: SmokeState) -> None:
        """Replace the stored state; frames that come after it are made anew."""
        reports = self.reports[: state.step]
        log = {f"log_{entry.name}": _column(reports, entry.name) for entry in fields(StepReport)}
        _save(self.folder / _STATE, _state_arrays(state) | log | {"number": np.array([state.step])})
        self._stored = time.monotonic()

    def _restored(self) -> SmokeState | None:
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
    """Take what is kept of a frame: single precision is enough to look at."""
    arrays = {name: values.astype(np.float32) for name, values in _state_arrays(state).items()}
    return arrays | {"solid": _bytes(state.solid)}


def _bytes(mask: Tensor) -> Array:
    return mask.to(torch.int8).cpu().numpy()


def _dims(name: str, grid: Grid) -> tuple[str, ...]:
    """Name the axes of a variable; its own axis of a velocity goes over faces."""
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
    """Give the folder of a simulation that is under way, to this process alone."""
    import filelock

    folder = target.with_name(f".{target.name}.parts")
    lock = filelock.FileLock(folder / _LOCK, timeout=0)
    try:
        folder.mkdir(exist_ok=True)
        held = lock.acquire()
    except filelock.Timeout:
        raise InputError(f"another process is simulating {target}; wait until it has finished.") from None
    except OSError as error:
        raise InputError(f"{folder} cannot be made: {error.strerror}; choose another folder for the output.") from None
    with held:
        _claim(folder, target, wanted)
        try:
            yield folder
        except BaseException:
            _leave(folder, target)
            raise


def _claim(folder: Path, target: Path, wanted: Mapping[str, Any]) -> None:
    """Write down what is simulated in a folder, or compare it with what is written there."""
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
            f"{folder} holds the finished part of another simulation for {target.name} (it differs in "
            f"{', '.join(differences)}); delete that folder, or choose another name for the output."
        )


def _leave(folder: Path, target: Path) -> None:
    """Say what a folder with a stored state is for, and remove one without."""
    if (folder / _STATE).exists():
        _log.info("what is finished of %s is kept in %s; the same command goes on there.", target.name, folder)
    else:
        shutil.rmtree(folder, ignore_errors=True)


def _differences(there: Mapping[str, Any], wanted: Mapping[str, Any]) -> list[str]:
    return [name for name in sorted({*there, *wanted}) if there.get(name) != wanted.get(name)]


def _require_same(target: Path, wanted: Mapping[str, Any]) -> None:
    """Refuse a file that is there and is not what is asked for; raises InputError."""
    with ExitStack() as files:
        contents = open_file(target, "the output", files)
        try:
            differences = _differences(json.loads(str(contents.attributes["asked"])), wanted)
        except (KeyError, ValueError, AttributeError):
            differences = ["everything"]
    if differences:
        raise InputError(
            f"{target} is there already and holds something else (it differs in {', '.join(differences)}); remove it, "
            "or choose another name for the output."
        )


# --- joining ----------------------------------------------------------------------------------------------------------


def _join(run: _Run, target: Path, wanted: Mapping[str, Any]) -> None:
    """Make one file of the frames."""
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


def _header(run: _Run, wanted: Mapping[str, Any]) -> MovieHeader:
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
