"""Simulate smoke in a box in two or three dimensions, record it and draw it.

    python solvers/smoke.py --dim 2 --cells 128 --steps 200 --scene plume --out smoke.h5 --picture smoke.png
    python solvers/smoke.py --dim 3 --cells 64 --steps 100 --scene rotating --out smoke3d.h5 --animation smoke3d.gif

Exit codes: 0 done, 2 bad input or a file that cannot be read or written, 3 the pressure solver did not converge, 130
and 143 interrupted. After an interruption the same command resumes.
"""

from __future__ import annotations

import hashlib
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated, Any

import typer

from sciml_bounds.cli import _output as output
from sciml_bounds.cli._program import run_program
from sciml_bounds.errors import ConvergenceError

NAME = "smoke"
#: Number of progress lines if stderr is not a terminal.
PROGRESS_LINES = 10

app = typer.Typer(add_completion=False, pretty_exceptions_enable=False)


@app.command()
def smoke(
    out: Annotated[Path, typer.Option(metavar="FILE.h5", help="Write the frames as netCDF-4 (HDF5).")],
    dim: Annotated[int, typer.Option(help="Number of dimensions: 2 or 3.")] = 2,
    cells: Annotated[int, typer.Option(help="Number of cells along each axis.")] = 128,
    steps: Annotated[int, typer.Option(min=1, help="Number of time steps.")] = 200,
    scene: Annotated[
        str, typer.Option(help="plume, sphere (a swinging sphere) or rotating (a rotating body with arms).")
    ] = "plume",
    method: Annotated[
        str,
        typer.Option(help="Pressure solver: multigrid-pcg, learned-cycle, cg, pyamg or, in three dimensions, dcdm."),
    ] = "multigrid-pcg",
    advection: Annotated[str, typer.Option(help="maccormack or semi-lagrangian.")] = "maccormack",
    dt: Annotated[float | None, typer.Option(help="Time step; by default chosen from the cell size.")] = None,
    tolerance: Annotated[float, typer.Option(help="Largest |div u| dt in any cell after projection.")] = 1e-6,
    voxels: Annotated[
        str | None,
        typer.Option(metavar="FILE.npy", help="Additional solid cells: a boolean array with one value per cell."),
    ] = None,
    every: Annotated[int, typer.Option(min=1, help="Number of steps between frames.")] = 5,
    picture: Annotated[
        Path | None, typer.Option(metavar="FILE.png", help="Draw the frames as .png, .pdf or .svg.")
    ] = None,
    animation: Annotated[
        Path | None, typer.Option(metavar="FILE.gif", help="Write an animation of all frames.")
    ] = None,
    device: Annotated[str, typer.Option(help="Device of the simulation: cpu or cuda.")] = "cpu",
    verbose: Annotated[bool, typer.Option("--verbose", help="Print one line per step.")] = False,
    as_json: output.JsonOption = False,
) -> None:
    """Simulate smoke that rises in a box and write its frames; after an interruption the same command resumes.

    Example: python solvers/smoke.py --cells 64 --scene sphere --out smoke.h5 --picture smoke.png
    """
    from sciml_bounds.evolution import smoke_pictures as pictures
    from sciml_bounds.evolution.recording import record
    from sciml_bounds.evolution.scenes import make_scene
    from sciml_bounds.evolution.smoke import Smoke
    from sciml_bounds.pressure import PressureSolver
    from sciml_bounds.store.reading.readers import read_mask
    from sciml_bounds.store.safety.writer import check_target
    from sciml_bounds.training._signals import listening

    for target, endings in ((picture, pictures.PICTURES), (animation, pictures.ANIMATIONS)):
        if target is not None:
            check_target(target, endings)
    solid = None if voxels is None else read_mask(voxels, "the array of voxels")
    setting = make_scene(scene, dim, cells, solid)
    simulation = Smoke(
        setting.grid, dt=setting.dt if dt is None else dt, pressure=PressureSolver(method), advection=advection,
        tolerance=tolerance, device=device, **setting.arguments(),
    )  # fmt: skip
    asked = {"scene": scene, "dim": dim, "cells": cells, "method": method, "advection": advection}
    asked |= {"dt": simulation.dt, "tolerance": tolerance, "device": device}
    asked["voxels"] = None if solid is None else hashlib.sha256(solid.tobytes()).hexdigest()
    start = time.perf_counter()
    try:
        with listening() as request, step_progress(steps, verbose) as on_step:
            whole = record(
                simulation,
                out,
                steps=steps,
                every=every,
                parameters=asked,
                on_step=on_step,
                stop=lambda: request.number > 0,
            )
    except ConvergenceError as error:
        output.error_console().print(f"{NAME}: {error}", markup=False)
        raise typer.Exit(output.NOT_REACHED) from None
    if not whole:
        raise typer.Exit(128 + request.number)
    request.raise_again()  # the interruption came after the last step
    if picture is not None:
        pictures.draw(out, picture)
    if animation is not None:
        pictures.animate(out, animation)
    files = {name: str(path) for name, path in (("out", out), ("picture", picture), ("animation", animation)) if path}
    show(out, files, time.perf_counter() - start, as_json)


@contextmanager
def step_progress(steps: int, verbose: bool) -> Iterator[Callable[[Any], None]]:
    """Show the steps on stderr: in place on a terminal, otherwise in ten lines, or one line per step if verbose."""
    console = output.error_console()

    def line(report: Any) -> str:
        return (
            f"step {report.step} of {steps}: {report.iterations} iterations, {report.pressure_seconds:.3g} of "
            f"{report.seconds:.3g} s, divergence {report.divergence:.2g}"
        )

    if console.is_terminal and not verbose:
        with console.status("setting up") as status:
            yield lambda report: status.update(line(report))
        return

    def tell(report: Any) -> None:
        if verbose or report.step * PROGRESS_LINES // steps > (report.step - 1) * PROGRESS_LINES // steps:
            console.print(line(report), markup=False)

    yield tell


def show(path: Path, files: dict[str, str], seconds: float, as_json: bool) -> None:
    """Print a summary of the step log."""
    from contextlib import ExitStack

    from sciml_bounds.store.reading.readers import open_file

    with ExitStack() as stack:
        contents = open_file(path, "the output", stack)
        log = {
            name: contents.read(f"step_{name}") for name in ("iterations", "seconds", "pressure_seconds", "divergence")
        }
        frames, bodies = len(contents.read("time")), contents.read("step_solid_volume")
    record = {
        "steps": len(log["seconds"]), "frames": frames, "iterations": float(log["iterations"].mean()),
        "most_iterations": int(log["iterations"].max()), "seconds_a_step": float(log["seconds"].mean()),
        "pressure_seconds_a_step": float(log["pressure_seconds"].mean()), "divergence": float(log["divergence"].max()),
        "solid_volume": [float(bodies.min()), float(bodies.max())], "seconds": seconds,
    }  # fmt: skip
    if as_json:
        output.print_json(record | files)
        return
    rows = {
        "steps": f"{record['steps']}, {frames} frames",
        "iterations per step": f"{record['iterations']:.3g} on average, {record['most_iterations']} at most",
        "seconds per step": (
            f"{record['seconds_a_step']:.3g}, including {record['pressure_seconds_a_step']:.3g} for the pressure"
        ),
        "largest |div u| dt": f"{record['divergence']:.3g}",
        "volume of solids": "{:.4g} to {:.4g}".format(*record["solid_volume"]),
        "seconds": f"{seconds:.3g}",
    }
    output.print_table("smoke", rows | files)


if __name__ == "__main__":
    sys.exit(run_program(app, NAME))
