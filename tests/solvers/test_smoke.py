"""The program, as it is run from a shell: its files, its exit codes, interrupts, and sentences on bad input."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import xarray
from interruptions import interrupting
from refusals import complaint

import sciml_bounds as sb

ROOT = Path(__file__).parents[2]
SECONDS = {"step_seconds", "step_pressure_seconds"}


def command(*arguments: str) -> list[str]:
    return [sys.executable, str(ROOT / "solvers" / "smoke.py"), *arguments]


def environment() -> dict[str, str]:
    """Run the package under test: a script has its own folder on the path, and not the one it is started in."""
    place = str(Path(sb.__file__).parents[1])
    return os.environ | {"PYTHONPATH": os.pathsep.join([place, *os.environ.get("PYTHONPATH", "").split(os.pathsep)])}


@pytest.fixture(scope="module")
def program():
    """Run the program in this process, which saves the start of another for every sentence."""
    import importlib.util

    spec = importlib.util.spec_from_file_location("smoke_program", ROOT / "solvers" / "smoke.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return lambda *arguments: module.run_program(module.app, module.NAME, arguments)


@pytest.mark.slow
def test_simulate_draw_and_animate(program, tmp_path, monkeypatch, capsys):
    arguments = ["--cells", "32", "--steps", "6", "--every", "2", "--scene", "rotating", "--out", "s.h5"]
    done = subprocess.run(
        command(*arguments, "--picture", "s.png", "--verbose", "--json"),
        cwd=tmp_path, capture_output=True, text=True, env=environment(),
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    lines = [line for line in done.stderr.splitlines() if "compiling" not in line]
    assert [line.partition(":")[0] for line in lines] == [f"step {i} of 6" for i in range(1, 7)]
    assert all("iterations" in line and " s, divergence " in line for line in lines)
    printed = json.loads(done.stdout)
    assert (printed["steps"], printed["frames"]) == (6, 4)
    assert printed["divergence"] <= 1e-6
    assert sb.data.read(tmp_path / "s.h5")["density"].shape == (4, 32, 32)
    monkeypatch.chdir(tmp_path)
    assert program(*arguments, "--animation", "s.gif") == 0  # another picture of what is there
    assert capsys.readouterr().err.startswith("smoke: s.h5 exists already")
    assert sorted(os.listdir()) == ["s.gif", "s.h5", "s.png"]


def test_voxels_and_three_dimensions(program, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    solid = np.zeros((8, 8, 8), dtype=bool)
    solid[2:6, 2:6, 4] = True
    np.save("v.npy", solid)
    arguments = ["--dim", "3", "--cells", "8", "--steps", "2", "--method", "cg", "--voxels", "v.npy", "--out", "s.h5"]
    assert program(*arguments) == 0
    assert "0.03125 to 0.03125" in capsys.readouterr().out  # 16 of 512 cells
    assert np.array_equal(sb.data.read("s.h5")["solid"][-1] != 0, solid)


@pytest.mark.parametrize("method", ["multigrid-pcg", "cg", "pyamg"])
def test_a_wall_that_parts_the_fluid_is_no_obstacle_to_the_solver(program, tmp_path, monkeypatch, capsys, method):
    """The lower part floats; its pressure has mean zero, up to single precision of frames."""
    monkeypatch.chdir(tmp_path)
    solid = np.zeros((8, 8), dtype=bool)
    solid[:, 4] = True
    np.save("v.npy", solid)
    arguments = ["--cells", "8", "--steps", "4", "--method", method, "--voxels", "v.npy", "--out", "s.h5"]
    assert program(*arguments) == 0, capsys.readouterr().err
    pressure = sb.data.read("s.h5")["pressure"][-1].values
    assert np.abs(pressure[:, :4]).max() > 0
    assert abs(pressure[:, :4].mean()) < 1e-6 * np.abs(pressure[:, :4]).max()


@pytest.mark.slow
def test_the_network_that_ships_changes_no_flow(program, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    arguments = ["--dim", "3", "--cells", "16", "--steps", "3", "--scene", "sphere", "--tolerance", "1e-9"]
    frames = {}
    for method in ("multigrid-pcg", "dcdm"):
        assert program(*arguments, "--method", method, "--every", "3", "--out", f"{method}.h5") == 0
        frames[method] = sb.data.read(f"{method}.h5")["density"]
    # what 1e-9 of divergence leaves in a velocity is below 1e3 times that, and a density is moved by it in three steps
    assert np.allclose(frames["dcdm"], frames["multigrid-pcg"], rtol=0, atol=1e-5)


def test_the_network_that_ships_is_for_three_dimensions(program, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    assert program("--dim", "2", "--cells", "8", "--steps", "1", "--method", "dcdm", "--out", "s.h5") == 2
    assert capsys.readouterr().err.startswith("smoke: the weights of 'dcdm' are for three dimensions")
    assert os.listdir() == []


INTERRUPTED = ["--cells", "32", "--steps", "40", "--scene", "sphere", "--verbose"]


@pytest.fixture(scope="module")
def whole(program, tmp_path_factory) -> xarray.Dataset:
    """What a command that is not interrupted makes."""
    path = tmp_path_factory.mktemp("whole") / "s.h5"
    assert program(*INTERRUPTED, "--out", str(path)) == 0
    return sb.data.read(path)


@pytest.mark.slow
@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)], ids=["SIGINT", "SIGTERM"])
def test_an_interrupted_command_goes_on_with_the_same_bits(program, tmp_path, monkeypatch, capsys, whole, number, code):
    monkeypatch.chdir(tmp_path)
    code_of_run = interrupting(number, "step 3 of") + (
        f"import runpy; runpy.run_path({str(ROOT / 'solvers' / 'smoke.py')!r}, run_name='__main__')"
    )
    arguments = [sys.executable, "-c", code_of_run, *INTERRUPTED, "--out", "s.h5"]
    done = subprocess.run(arguments, capture_output=True, text=True, env=environment())
    assert done.returncode == code
    assert done.stderr.splitlines()[-1].startswith("smoke: the finished part of s.h5 is in ")
    assert os.listdir() == [".s.h5.parts"]
    capsys.readouterr()
    assert program(*INTERRUPTED, "--out", "s.h5") == 0
    resumed = capsys.readouterr().err
    assert "step 3 of 40" not in resumed
    assert "step 40 of 40" in resumed
    found = sb.data.read("s.h5")
    for name in set(whole.variables) - SECONDS:
        assert np.array_equal(found[name], whole[name]), name
    assert os.listdir() == ["s.h5"]


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (["--scene", "steam"], "scene 'steam' 'plume' 'sphere' 'rotating'"),
        (
            ["--method", "jacobi"],
            "method 'jacobi' 'multigrid-pcg' 'learned-cycle' 'cg' 'pyamg'",
        ),
        (["--advection", "upwind"], "advection 'upwind' 'semi-lagrangian' 'maccormack'"),
        (["--dt", "0"], "dt 0.0 positive number"),
        (["--dt", "-1"], "dt -1.0 positive number"),
        (["--tolerance", "1e-20"], "tolerance 1e-20 1e-12"),
        (["--dim", "4"], "scene 4 dimensions 2 3"),
        (["--cells", "2"], "scene 2 cells axis 4"),
        (["--voxels", "strip.npy"], "voxels shape (8, 4) grid 8 x"),
        (["--voxels", "numbers.npy"], "array voxels dtype float64 bool"),
        (["--dt", "nan"], "dt nan positive number"),
        (["--tolerance", "nan"], "tolerance nan positive number"),
        (["--voxels", "empty.npy"], "body (0.5, 0.5) cell centre"),
        (["--voxels", "full.npy"], "cell solid fluid"),
        (["--voxels", "none.npy"], "array voxels file"),
        (["--picture", "s.jpg"], "extension"),
        (["--animation", "s.mp4"], "s.mp4 extension"),
        (["--out", "s.txt"], "extension"),
        (["--cells", "100000"], "100000 x cells"),
    ],
)
def test_bad_input_is_one_sentence(program, tmp_path, monkeypatch, capsys, arguments, sentence):
    monkeypatch.chdir(tmp_path)
    np.save("strip.npy", np.zeros((8, 4), dtype=bool))
    np.save("numbers.npy", np.zeros((8, 8)))
    np.save("empty.npy", np.zeros((8, 8), dtype=bool))
    np.save("full.npy", np.ones((8, 8), dtype=bool))
    before = sorted(os.listdir())
    assert program("--out", "s.h5", "--cells", "8", "--steps", "2", *arguments) == 2
    complaint(capsys, sentence, "smoke")
    assert sorted(os.listdir()) == before


def test_what_is_not_reached_has_its_own_exit_code(program, tmp_path, monkeypatch, capsys):
    """Round-off of a pressure this large is above the tolerance."""
    monkeypatch.chdir(tmp_path)
    assert program("--out", "s.h5", "--cells", "8", "--steps", "2", "--dt", "1e6", "--tolerance", "1e-12") == 3
    assert "the divergence after the projection is" in capsys.readouterr().err
