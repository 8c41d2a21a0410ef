"""Optimal control of an elliptic equation: find the source whose solution is closest to a target, and draw it.

    python solvers/optimal_control.py --cells 128 --target step --weight 1e-4 --out step.h5 --picture step.png
    python solvers/optimal_control.py --dim 3 --cells 32 --cubic 10 --out bump.h5

It minimises 1/2 ||u - target||^2 + weight/2 ||z||^2 over z, where -Lap u + cubic u^3 = z in the unit box and u = 0 on
the boundary. Exit codes: 0 done, 2 bad input or a file that cannot be read or written, 3 not converged, 130 and 143
interrupted.
"""

from __future__ import annotations

import math
import sys
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from sciml_bounds.arrays import require_number
from sciml_bounds.cli import _output as output
from sciml_bounds.cli._program import run_program
from sciml_bounds.errors import ConvergenceError, InputError

if TYPE_CHECKING:
    import sciml_bounds as sb

NAME = "optimal_control"

app = typer.Typer(add_completion=False, pretty_exceptions_enable=False)


@app.command()
def optimal_control(
    out: Annotated[Path, typer.Option(metavar="FILE.h5", help="Write target, state and control as netCDF-4 (HDF5).")],
    dim: Annotated[int, typer.Option(help="Number of dimensions: 1, 2 or 3.")] = 2,
    cells: Annotated[int, typer.Option(help="Number of cells along each axis.")] = 64,
    target: Annotated[
        str, typer.Option(metavar="NAME", help="bump, step, waves, or a file with one number per node.")
    ] = "step",
    weight: Annotated[float, typer.Option(help="Regularisation weight of the control.")] = 1e-4,
    cubic: Annotated[float, typer.Option(help="Factor of u^3 in the equation, nonnegative.")] = 0.0,
    method: Annotated[
        str,
        typer.Option(
            metavar="NAME", help="Linear solver: multigrid-preconditioned conjugate gradients, or direct (sparse LU)."
        ),
    ] = "multigrid",
    rtol: Annotated[float, typer.Option(help="Relative tolerance of the optimality conditions.")] = 1e-8,
    maxiter: Annotated[int, typer.Option(help="Maximum number of Newton steps.")] = 100,
    picture: Annotated[
        Path | None, typer.Option(metavar="FILE.png", help="Draw the result as .png, .pdf or .svg.")
    ] = None,
    as_json: output.JsonOption = False,
) -> None:
    """Find the source whose solution is closest to a target, and write target, state and control.

    Example: python solvers/optimal_control.py --target waves --weight 1e-5 --out waves.h5 --picture waves.png
    """
    output.check_targets(out, picture, "Dataset")
    if method not in ("multigrid", "direct"):
        raise InputError(f"unknown method {method!r}; the choices are 'multigrid' and 'direct'.")
    require_number(rtol, "rtol", positive=True)
    control = make_control(dim, cells, target, weight, cubic)
    try:
        result = control.minimize(
            inner="auto" if method == "multigrid" else method, rtol=rtol, maxiter=maxiter, throw=True
        )
    except ConvergenceError as error:
        output.error_console().print(f"{NAME}: {error}", markup=False)
        raise typer.Exit(output.NOT_REACHED) from None
    asked = {"dim": dim, "cells": cells, "target": target, "weight": weight, "cubic": cubic, "rtol": rtol}
    write(control, result, out, picture, asked)
    files = {name: str(path) for name, path in (("out", out), ("picture", picture)) if path}
    show(control, result, files, as_json)


def make_control(dim: int, cells: int, target: str, weight: float, cubic: float) -> sb.control.DistributedControl:
    """Return the control problem.

    Raises
    ------
    InputError
        If an argument is out of range, or the target cannot be read.
    """
    import sciml_bounds as sb
    from sciml_bounds.store.reading.readers import read_field

    if dim not in (1, 2, 3):
        raise InputError(f"dim is {dim}; it must be 1, 2 or 3.")
    if cubic < 0:
        raise InputError(
            f"cubic is {cubic}; it must be nonnegative, otherwise the equation can have several solutions."
        )
    problem = sb.Diffusion(sb.Grid((cells,) * dim))
    field = named_targets().get(target) or read_field(target, "the target")
    nonlinearity = (lambda u: cubic * u**3) if cubic else None
    return sb.control.DistributedControl(problem, field, weight=weight, nonlinearity=nonlinearity)


def named_targets() -> dict[str, Callable[..., Any]]:
    """Return the targets by name, as functions of the coordinates: smooth, with jumps, and with changes of sign."""
    import torch

    def bump(*place: Any) -> Any:
        return torch.stack([torch.sin(torch.pi * x) ** 2 for x in place]).prod(0)

    def step(*place: Any) -> Any:
        return (torch.stack([(x - 0.5).abs() for x in place]).amax(0) <= 0.25).double()

    def waves(*place: Any) -> Any:
        return torch.stack([torch.sin((2 + axis) * torch.pi * x) for axis, x in enumerate(place)]).prod(0)

    return {"bump": bump, "step": step, "waves": waves}


def write(
    control: sb.control.DistributedControl,
    result: sb.optimize.OptimizeResult,
    out: Path,
    picture: Path | None,
    asked: dict[str, Any],
) -> None:
    """Write the fields and the residuals of the Newton steps, and draw the picture."""
    import sciml_bounds as sb
    from sciml_bounds.store.safety.writer import replacing

    steps = {name: [getattr(step, name) for step in result.history] for name in ("kkt_residual", "inner_steps")}
    dataset = control.to_xarray(result.x).assign({f"step_{name}": ("step", value) for name, value in steps.items()})
    sb.data.write(dataset, out, parameters=asked)
    if picture is not None:
        with replacing(picture) as part:
            control.plot(result.x).savefig(part, format=picture.suffix[1:].lower())


def show(
    control: sb.control.DistributedControl, result: sb.optimize.OptimizeResult, files: dict[str, str], as_json: bool
) -> None:
    """Print the result."""
    mass = control.stiffness.mass
    state, source = control.split(result.x)
    inner_steps, alone = sum(step.inner_steps for step in result.history), forward_seconds(control, result)
    record: dict[str, Any] = {
        "objective": result.fun, "distance": float(mass @ (state - control.target) ** 2) ** 0.5,
        "control_norm": float(mass @ source**2) ** 0.5, "kkt_residual": result.kkt_residual,
        "tolerance": result.tolerance, "steps": result.nit,
        "inner_steps": inner_steps, "inner_factor": inner_factor(result), "seconds": result.seconds,
        "forward_solves": result.seconds / alone,
    }  # fmt: skip
    if as_json:
        output.print_json(record | files)
        return
    rows = {
        "objective": f"{record['objective']:.8g}",
        "||u - target||": f"{record['distance']:.4g}",
        "||z||": f"{record['control_norm']:.4g}",
        "KKT residual": f"{record['kkt_residual']:.3g} (tolerance: {record['tolerance']:.3g})",
        "Newton steps": f"{record['steps']}, with {inner_steps} inner iterations",
        "seconds": f"{record['seconds']:.3g}, as many as {record['forward_solves']:.1f} solves of the linear equation",
    }
    if inner_steps:
        rows["Newton steps"] += f", which reduce the residual by {record['inner_factor']:.2f} each"
    output.print_table("optimal control", rows | files)


def inner_factor(result: sb.optimize.OptimizeResult) -> float | None:
    """Return the mean reduction factor of the residual per inner iteration; None for direct solvers."""
    steps = sum(step.inner_steps for step in result.history)
    return math.prod(step.inner_residual for step in result.history) ** (1 / steps) if steps else None


def forward_seconds(control: sb.control.DistributedControl, result: sb.optimize.OptimizeResult) -> float:
    """Return the time of one solve of the linear equation, with source 1 and the accuracy of the control."""
    import sciml_bounds as sb

    problem = control.grid_stiffness.problem.replace(source=1.0)
    rtol = max(1e-12, result.tolerance / max(1e-300, float(control.stiffness.mass @ control.target**2) ** 0.5))
    return sb.solve(problem, method="multigrid", rtol=min(rtol, 0.1)).seconds


if __name__ == "__main__":
    sys.exit(run_program(app, NAME))
