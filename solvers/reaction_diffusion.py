"""Solve a steady nonlinear reaction-diffusion equation by every method of the package, and compare error bounds.

    python solvers/reaction_diffusion.py --cells 64 --out fields.h5 --picture fields.png
    python solvers/reaction_diffusion.py --extra 0 --power 4 --reaction 5 --methods newton --methods features --out u.h5

The equation is -div((1 + extra / sqrt(1 + |grad u|^2)) grad u) + reaction |u|^(power - 2) u = f in the unit box, u = 0
on the boundary, where f consists of a source and a sink. Methods on the grid: newton, kacanov, gradient and gns.
Networks, with certificates that hold between the nodes too: features, ritz and unfolded. Exit codes: 0 done, 2 bad
input or a file that cannot be read or written, 3 not converged, 130 and 143 interrupted.
"""

from __future__ import annotations

import math
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from sciml_bounds.arrays import require_count, require_number
from sciml_bounds.cli import _output as output
from sciml_bounds.cli._program import run_program
from sciml_bounds.errors import InputError
from sciml_bounds.network_solvers import NetworkSolution, random_feature_network, ritz_network, unfolded_network
from sciml_bounds.variational import ShearThinning, VariationalProblem, minimize_energy

if TYPE_CHECKING:
    from matplotlib.figure import Figure
    from torch import Tensor

    from sciml_bounds.bounds._energy_certificate import EnergyCertificate

NAME = "reaction_diffusion"
ON_GRID = ("newton", "kacanov", "gradient", "gns")
NETWORKS = ("features", "ritz", "unfolded")

app = typer.Typer(add_completion=False, pretty_exceptions_enable=False)


@dataclass(frozen=True)
class Answer:
    """Result of one method: nodal values, iterations or neurons (`effort`), convergence, seconds and certificate."""

    values: Tensor
    effort: str
    converged: bool
    seconds: float
    certificate: EnergyCertificate


@app.command()
def reaction_diffusion(
    out: Annotated[Path, typer.Option(metavar="FILE.h5", help="Write the solutions as netCDF-4 (HDF5).")],
    methods: Annotated[
        list[str] | None,
        typer.Option("--methods", metavar="NAME", help="Method to run; may be repeated. [default: all]"),
    ] = None,
    dim: Annotated[int, typer.Option(help="Number of dimensions: 1, 2 or 3.")] = 2,
    cells: Annotated[int, typer.Option(help="Number of cells along each axis.")] = 64,
    extra: Annotated[float, typer.Option(help="Additional conductivity at zero gradient, nonnegative.")] = 3.0,
    reaction: Annotated[float, typer.Option(help="Factor of the reaction term, nonnegative.")] = 5.0,
    power: Annotated[
        float, typer.Option(help="Exponent of the reaction, above 1: 2 is a linear reaction, 4 a cubic one.")
    ] = 2.0,
    strength: Annotated[float, typer.Option(help="Strength of the source and the sink.")] = 100.0,
    width: Annotated[int, typer.Option(help="Number of neurons of each network.")] = 100,
    rtol: Annotated[float, typer.Option(help="Relative residual tolerance on the grid.")] = 1e-8,
    picture: Annotated[
        Path | None, typer.Option(metavar="FILE.png", help="Draw the result as .png, .pdf or .svg.")
    ] = None,
    as_json: output.JsonOption = False,
) -> None:
    """Solve one equation by every method, certify each solution, and write and draw the fields.

    Example: python solvers/reaction_diffusion.py --methods newton --methods ritz --out u.h5 --picture u.png
    """
    output.check_targets(out, picture, "Dataset")
    names = list(dict.fromkeys(methods or (*ON_GRID, *NETWORKS)))
    unknown = [name for name in names if name not in ON_GRID + NETWORKS]
    if unknown:
        raise InputError(f"unknown method {unknown[0]!r}; the choices are {', '.join(ON_GRID + NETWORKS)}.")
    if require_number(rtol, "rtol", positive=True) < 1e-14:
        raise InputError(f"rtol is {rtol:g}, which is below round-off; give at least 1e-14.")
    require_count(width, "width", 1)
    problem = make_problem(dim, cells, extra, reaction, power, strength)
    answers, left_out = {}, {}
    for name in names:
        try:
            answers[name] = solve(problem, name, width, rtol)
        except InputError as error:  # the method does not apply to this energy
            left_out[name] = str(error)
    if not answers:
        raise InputError(f"no method applies: {'; '.join(left_out.values())}")
    files = {name: str(path) for name, path in (("out", out), ("picture", picture)) if path}
    asked = {
        "dim": dim, "cells": cells, "extra": extra, "reaction": reaction, "power": power, "strength": strength,
        "width": width, "rtol": rtol,
    }  # fmt: skip
    write(problem, answers, out, picture, asked)
    show(answers, left_out, files, as_json)
    if not all(answer.converged for answer in answers.values()):
        raise typer.Exit(output.NOT_REACHED)


def make_problem(
    dim: int, cells: int, extra: float, reaction: float, power: float, strength: float
) -> VariationalProblem:
    """Return the variational problem.

    Raises
    ------
    InputError
        If an argument is out of range.
    """
    import torch

    import sciml_bounds as sb

    if dim not in (1, 2, 3):
        raise InputError(f"dim is {dim}; it must be 1, 2 or 3.")
    for name, value in (("extra", extra), ("reaction", reaction)):
        if require_number(value, name) < 0:
            raise InputError(f"{name} is {value}; it must be nonnegative.")

    def source(*place: Tensor) -> Tensor:
        squares = [sum((x - centre) ** 2 for x in place) for centre in (0.3, 0.7)]
        return strength * (torch.exp(-50 * squares[0]) - torch.exp(-50 * squares[1]))

    density = ShearThinning(extra, reaction=reaction, power=power)
    return VariationalProblem(sb.Grid((cells,) * dim), density, source)


def solve(problem: VariationalProblem, name: str, width: int, rtol: float) -> Answer:
    """Solve by one method, and certify its solution."""
    import sciml_bounds as sb

    begin = time.perf_counter()
    if name in ON_GRID:
        solution = minimize_energy(problem, method=name, rtol=rtol)  # type: ignore[arg-type]  # the name was checked
        seconds = time.perf_counter() - begin
        certificate = sb.variational.certify_energy(problem, solution)
        return Answer(solution.values, f"{solution.iterations} iterations", solution.converged, seconds, certificate)
    fits: dict[str, Callable[..., NetworkSolution]] = {
        "features": random_feature_network, "ritz": ritz_network, "unfolded": unfolded_network,
    }  # fmt: skip
    fitted = fits[name](problem, width)
    seconds = time.perf_counter() - begin
    certificate = sb.variational.certify_energy(problem, fitted.network)
    return Answer(certificate.values, f"{fitted.width} neurons", fitted.converged, seconds, certificate)


def numbers(answer: Answer) -> dict[str, float]:
    """Return the error bounds of an answer and its time."""
    certificate = answer.certificate
    return {
        "excess_lower": float(certificate.lower), "excess_upper": float(certificate.upper),
        "relative_gradient_upper": float(certificate.relative_gradient_upper), "seconds": answer.seconds,
    }  # fmt: skip


def write(
    problem: VariationalProblem,
    answers: dict[str, Answer],
    out: Path,
    picture: Path | None,
    asked: dict[str, Any],
) -> None:
    """Write the fields of all methods, and the picture."""
    import xarray

    import sciml_bounds as sb
    from sciml_bounds.grid import AXES
    from sciml_bounds.store.safety.writer import replacing

    grid = problem.grid
    assert grid is not None
    axes = list(AXES[: grid.dim])
    places = {name: (name, grid.nodes(axis).numpy(), {"units": "1"}) for axis, name in enumerate(axes)}
    variables: dict[str, Any] = {
        f"u_{name}": (axes, answer.values.numpy(), {"units": "1", **numbers(answer)})
        for name, answer in answers.items()
    }
    sb.data.write(xarray.Dataset(variables, places), out, parameters=asked)
    if picture is not None:
        with replacing(picture) as part:
            draw(problem, answers).savefig(part, format=picture.suffix[1:].lower())


def best_of(answers: dict[str, Answer]) -> str:
    """Return the method with the smallest bound, the first one if several are within 0.1 %."""
    uppers = {name: float(answer.certificate.upper) for name, answer in answers.items()}
    return next(name for name in uppers if not uppers[name] > 1.001 * min(uppers.values()))


def draw(problem: VariationalProblem, answers: dict[str, Answer]) -> Figure:
    """Draw the source, the best solution, its error indicators, and the bounds of all methods."""
    from matplotlib.colors import Normalize

    from sciml_bounds.plot import draw_field, indicator_colours, new_figure

    def around_zero(field: Tensor) -> Normalize:
        largest = float(field.abs().max()) or 1.0
        return Normalize(-largest, largest)

    grid = problem.grid
    assert grid is not None
    source = problem.frame.source.reshape(grid.shape)
    best = best_of(answers)
    certificate = answers[best].certificate
    figure = new_figure(16.0, 3.6)
    panels = figure.subplots(1, 4)
    fields = (
        ("source", source, "RdBu_r", False, around_zero(source)),
        (f"u, by {best}", answers[best].values, "RdBu_r", True, around_zero(answers[best].values)),
        (
            f"error indicators, {best}",
            certificate.indicators,
            "magma",
            False,
            indicator_colours(certificate.indicators),
        ),
    )
    for axes, (title, field, colours, nodal, norm) in zip(panels, fields):
        image = draw_field(axes, grid, field, title, colours, nodal=nodal, norm=norm)
        if image is not None:
            figure.colorbar(image, ax=axes, shrink=0.85)
    uppers = [float(answer.certificate.upper) for answer in answers.values()]
    lowers = [float(answer.certificate.lower) for answer in answers.values()]
    panels[3].barh(list(answers), uppers, color="0.8", label="at most")
    panels[3].barh(list(answers), lowers, color="0.4", label="at least")
    panels[3].set(title="energy above the minimum")
    panels[3].ticklabel_format(axis="x", style="scientific", scilimits=(-2, 2))
    panels[3].invert_yaxis()
    panels[3].legend(frameon=False, loc="upper center", bbox_to_anchor=(0.5, -0.16), ncols=2)
    return figure


def gradient_error(certificate: EnergyCertificate) -> str:
    """Return the relative bound of the gradient error as text."""
    relative = float(certificate.relative_gradient_upper)
    return f"<= {relative:.1%}" if math.isfinite(relative) else "not bounded"


def show(answers: dict[str, Answer], left_out: dict[str, str], files: dict[str, str], as_json: bool) -> None:
    """Print the results and error bounds of all methods."""
    from sciml_bounds.reports import describe_upper

    records: dict[str, Any] = {
        name: {"effort": answer.effort, "converged": answer.converged, **numbers(answer)}
        for name, answer in answers.items()
    }
    if as_json:
        output.print_json({"methods": records, "left_out": left_out} | files)
        return
    rows = {
        name: f"{answer.effort:>13} {answer.seconds:6.2f} s  J(v) - J(u) <= {describe_upper(answer.certificate.upper)},"
        f" gradient {gradient_error(answer.certificate)}"
        for name, answer in answers.items()
    }
    output.print_table("reaction and diffusion", rows | left_out | files)


if __name__ == "__main__":
    sys.exit(run_program(app, NAME))
