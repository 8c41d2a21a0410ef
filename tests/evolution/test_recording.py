"""Recordings: contents of the file, bitwise resuming, and invalid input."""

from __future__ import annotations

import json
import os

import numpy as np
import pytest
import xarray
from refusals import refused

import sciml_bounds as sb
from sciml_bounds.errors import ConvergenceError, InputError
from sciml_bounds.evolution.recording import record
from sciml_bounds.evolution.scenes import make_scene
from sciml_bounds.evolution.smoke import Smoke
from sciml_bounds.evolution.smoke_state import StepReport
from sciml_bounds.pressure import PressureSolver

SECONDS = {"step_seconds", "step_pressure_seconds"}


def simulation(name: str = "sphere", dim: int = 2, cells: int = 12, **solver) -> Smoke:
    scene = make_scene(name, dim, cells)
    return Smoke(scene.grid, dt=scene.dt, pressure=PressureSolver("cg", **solver), **scene.arguments())


def stop_after(count: int):
    """Return a `stop` that ends the run after a number of steps."""
    asked = []

    def stop() -> bool:
        asked.append(1)
        return len(asked) >= count

    return stop


@pytest.fixture(scope="module")
def whole(tmp_path_factory) -> xarray.Dataset:
    """An uninterrupted simulation of 10 steps."""
    path = tmp_path_factory.mktemp("whole") / "smoke.h5"
    assert record(simulation(), path, steps=10, every=4, parameters={"scene": "sphere"})
    assert os.listdir(path.parent) == ["smoke.h5"]
    return sb.data.read(path)


def test_the_file_is_labelled_and_complete(whole):
    smoke = simulation()
    assert whole["density"].dims == ("time", "x", "y")
    assert whole["velocity_y"].dims == ("time", "x", "y_face")
    assert np.allclose(whole["time"], np.array([0, 4, 8, 10]) * smoke.dt)
    assert np.array_equal(whole["x"], smoke.grid.centers(0))
    assert np.array_equal(whole["step"], np.arange(1, 11))
    asked = json.loads(whole.attrs["asked"])
    assert (asked["scene"], asked["steps"], asked["every"]) == ("sphere", 10, 4)
    assert float(whole["step_divergence"].max()) <= 1e-6
    assert bool((whole["step_seconds"] >= whole["step_pressure_seconds"]).all())


def test_frames_are_the_states_of_the_simulation(whole):
    smoke = simulation()
    state = smoke.initial()
    for index, step in enumerate((0, 4, 8, 10)):
        while state.step < step:
            state, report = smoke.step(state)
        assert np.array_equal(whole["density"][index], state.density.numpy().astype(np.float32))
        assert np.array_equal(whole["velocity_x"][index], state.velocity[0].numpy().astype(np.float32))
        assert np.array_equal(whole["solid"][index] != 0, state.solid.numpy())
        if step:
            assert float(whole["step_energy"][step - 1]) == report.energy
            assert int(whole["step_iterations"][step - 1]) == report.iterations


@pytest.mark.parametrize("counts", [[1], [4], [3, 4]], ids=str)
def test_an_interrupted_simulation_goes_on_with_the_same_bits(tmp_path, whole, counts):
    path = tmp_path / "smoke.h5"
    for count in counts:
        assert not record(simulation(), path, steps=10, every=4, parameters={"scene": "sphere"}, stop=stop_after(count))
        assert not path.exists()
    steps = []
    call = {"steps": 10, "every": 4, "parameters": {"scene": "sphere"}}
    assert record(simulation(), path, **call, on_step=lambda report: steps.append(report.step))
    assert steps == list(range(sum(counts) + 1, 11))
    found = sb.data.read(path)
    assert set(found.variables) == set(whole.variables)
    for name in set(whole.variables) - SECONDS:
        assert np.array_equal(found[name], whole[name]), name
    assert os.listdir(tmp_path) == ["smoke.h5"]


def test_a_frame_that_a_signal_broke_is_made_again(tmp_path, whole):
    path, call = tmp_path / "smoke.h5", {"steps": 10, "every": 4, "parameters": {"scene": "sphere"}}
    record(simulation(), path, **call, stop=stop_after(4))
    (tmp_path / ".smoke.h5.parts" / f"{4:09d}.npz").unlink()
    assert record(simulation(), path, **call)
    assert np.array_equal(sb.data.read(path)["density"], whole["density"])


def test_an_exception_anywhere_loses_no_step(tmp_path, whole):
    path, call = tmp_path / "smoke.h5", {"steps": 10, "every": 4, "parameters": {"scene": "sphere"}}

    def leave(report: StepReport) -> None:
        if report.step == 7:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        record(simulation(), path, **call, on_step=leave)
    steps = []
    assert record(simulation(), path, **call, on_step=lambda report: steps.append(report.step))
    assert steps == [8, 9, 10]
    for name in ("density", "velocity_y", "step_energy", "step_iterations"):
        assert np.array_equal(sb.data.read(path)[name], whole[name]), name


def test_three_dimensions(tmp_path):
    path = tmp_path / "smoke.nc"
    assert record(simulation("rotating", 3, 8), path, steps=2, every=1, parameters={})
    with xarray.open_dataset(path, engine="h5netcdf") as found:  # without this package
        assert found["density"].dims == ("time", "x", "y", "z")
        assert found["velocity_z"].sizes == {"time": 3, "x": 8, "y": 8, "z_face": 9}


def test_what_is_there_already_is_not_made_again(tmp_path):
    path = tmp_path / "smoke.h5"
    call = {"steps": 2, "every": 1, "parameters": {"a": 1}}
    record(simulation(), path, **call)
    before = path.read_bytes()
    assert record(simulation(), path, **call, on_step=pytest.fail)
    assert path.read_bytes() == before
    refused("steps", lambda: record(simulation(), path, steps=3, every=1, parameters={"a": 1}))
    path.write_bytes(b"something of the user's")
    with pytest.raises(InputError):
        record(simulation(), path, **call)
    assert path.read_bytes() == b"something of the user's"


def test_the_finished_part_of_something_else_is_not_touched(tmp_path):
    path = tmp_path / "smoke.h5"
    record(simulation(), path, steps=5, parameters={"a": 1, "b": 2}, stop=stop_after(2))
    refused("part simulation", lambda: record(simulation(), path, steps=5, parameters={"a": 2, "b": 2}))
    assert record(simulation(), path, steps=5, parameters={"a": 1, "b": 2})


def test_a_failed_solve_keeps_the_state_before_it(tmp_path):
    path = tmp_path / "smoke.h5"
    smoke = simulation()

    def spoil(report: StepReport) -> None:
        if report.step == 3:
            smoke.pressure.maxiter = 1

    with pytest.raises(ConvergenceError, match=r"divergence.*projection"):
        record(smoke, path, steps=5, parameters={}, on_step=spoil)
    steps = []
    assert record(simulation(), path, steps=5, parameters={}, on_step=lambda report: steps.append(report.step))
    assert steps == [4, 5]


def test_a_failure_at_the_start_leaves_nothing(tmp_path):
    with pytest.raises(ConvergenceError, match=r"divergence.*projection"):
        record(simulation(maxiter=1), tmp_path / "smoke.h5", steps=5, parameters={})
    assert not os.listdir(tmp_path)


def test_a_damaged_state_is_one_sentence(tmp_path):
    path = tmp_path / "smoke.h5"
    record(simulation(), path, steps=5, parameters={}, stop=stop_after(2))
    state = tmp_path / ".smoke.h5.parts" / "state.npz"
    state.write_bytes(state.read_bytes()[:1000])
    refused("stored", lambda: record(simulation(), path, steps=5, parameters={}))


@pytest.mark.parametrize(
    ("name", "numbers", "sentence"),
    [
        ("smoke.txt", {}, "extension h5 hdf5"),
        ("none/smoke.h5", {}, "folder"),
        ("smoke.h5", {"steps": 0}, "steps 0 positive integer"),
        ("smoke.h5", {"every": 0}, "every 0 positive integer"),
        ("smoke.h5", {"parameters": None}, "parameters None values JSON"),
        ("smoke.h5", {"parameters": {"a": {1}}}, "parameters {'a': {1}} JSON"),
        ("smoke.h5", {"on_step": 3}, "on_step 3 function None"),
        ("smoke.h5", {"stop": True}, "stop True function None"),
    ],
)
def test_a_recording_that_cannot_be_is_refused(tmp_path, name, numbers, sentence):
    refused(sentence, lambda: record(simulation(), tmp_path / name, **{"steps": 2, "parameters": {}} | numbers))
    assert not os.listdir(tmp_path)


def test_what_is_no_simulation_is_refused(tmp_path):
    refused("str simulation Smoke", record, "smoke", tmp_path / "smoke.h5", steps=2, parameters={})
    assert not os.listdir(tmp_path)
