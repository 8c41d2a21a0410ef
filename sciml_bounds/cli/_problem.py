"""Command-line options that describe a problem, and how to build it and read nodal values for it."""

from __future__ import annotations

import math
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated

import typer

from sciml_bounds.errors import InputError

if TYPE_CHECKING:
    import sciml_bounds as sb
    from sciml_bounds.grid import Boundary
    from sciml_bounds.store.reading.readers import Array, FoundArray

__all__ = [
    "BoundaryOption",
    "CoefficientOption",
    "LengthsOption",
    "OptionalCoefficientOption",
    "OriginOption",
    "ProblemOptions",
    "ReactionOption",
    "SampleOption",
    "ShapeOption",
    "SolidOption",
    "SourceOption",
    "build_problem",
    "parse_boundary",
    "parse_numbers",
    "read_sample",
    "read_values",
]

_FIELD = "FILE or NUMBER"
_COEFFICIENT = typer.Option(
    metavar=_FIELD,
    help="a > 0 in each cell: a number, or a.npy, f.npz:name, f.h5:name, f.nc:name, f.mat:name, f.pt:name.",
    show_default=False,
)
CoefficientOption = Annotated[str, _COEFFICIENT]
OptionalCoefficientOption = Annotated[str | None, _COEFFICIENT]
SourceOption = Annotated[str | None, typer.Option(metavar=_FIELD, help="f in each cell. [default: 0]")]
ReactionOption = Annotated[str | None, typer.Option(metavar=_FIELD, help="c >= 0 in each cell. [default: 0]")]
SolidOption = Annotated[str | None, typer.Option(metavar="FILE", help="Boolean mask of solid cells. [default: none]")]
ShapeOption = Annotated[
    str | None,
    typer.Option(
        metavar="N,N",
        help="Number of cells along each axis; needed if all fields are numbers, or for some batches (--sample).",
    ),
]
LengthsOption = Annotated[str | None, typer.Option(metavar="L,L", help="Side lengths of the box. [default: 1 each]")]
OriginOption = Annotated[
    str | None, typer.Option(metavar="X,Y", help="Corner with the smallest coordinates. [default: 0 each]")
]
BoundaryOption = Annotated[
    list[str] | None,
    typer.Option(
        metavar="SIDE=KIND:VALUE",
        help=(
            "Condition on a side x0, x1, y0, y1, z0, z1, or on all sides without one; may be repeated: "
            "x0=dirichlet:1, x1=neumann:0, y0=robin:ALPHA:G, z0=periodic, all=neumann:0. [default: all=dirichlet:0]"
        ),
    ),
]
SampleOption = Annotated[
    int | None, typer.Option(min=0, metavar="I", help="Use sample I of every file with a batch of samples.")
]

#: Allowed numbers of values for each kind of boundary condition, and its syntax.
_KINDS = {
    "dirichlet": ((1,), "dirichlet:VALUE"),
    "neumann": ((1,), "neumann:FLUX"),
    "robin": ((1, 2), "robin:ALPHA:G"),
    "periodic": ((0,), "periodic"),
}
#: Peak memory of a solve, in fields of the size of the problem (measured). A certificate uses half the grid spacing
#: and needs 2^dim times as many. Grids that cannot fit into memory are rejected before any work.
PEAK_FIELDS = 40


@dataclass(frozen=True)
class ProblemOptions:
    """Options that describe a problem, unparsed."""

    coefficient: str
    source: str | None
    reaction: str | None
    solid: str | None
    shape: str | None
    lengths: str | None
    origin: str | None
    boundary: list[str] | None
    sample: int | None


def build_problem(options: ProblemOptions, *, certified: bool, any_axes: bool = False) -> sb.Diffusion:
    """Read the files and build the problem, after checking that the memory suffices to solve (and certify) it.

    An array with three axes may be a batch; unless the caller checks the number of axes (`any_axes`), an option must
    tell.

    Raises
    ------
    InputError
        If an option is invalid or contradicts another one.
    """
    import sciml_bounds as sb
    from sciml_bounds.memory import require_memory
    from sciml_bounds.problems.batch_axes import known_batch
    from sciml_bounds.store.reading.readers import find_field, find_mask

    named = {"coefficient": options.coefficient, "source": options.source, "reaction": options.reaction}
    with ExitStack() as files:
        fields = {name: find_field(text, f"the {name}", files) for name, text in named.items() if text is not None}
        arrays = {name: field for name, field in fields.items() if not isinstance(field, float)}
        if options.solid is not None:
            arrays["solid"] = find_mask(options.solid, "the mask of solid cells", files)
        lengths, origin = (
            parse_numbers(options.lengths, float, "--lengths"),
            parse_numbers(options.origin, float, "--origin"),
        )
        shape = parse_numbers(options.shape, int, "--shape")
        if shape is None:
            shape = _first_shape(options, arrays)
            if not any_axes and lengths is None and origin is None:
                _require_known_axes(options, arrays, shape)
        grid = sb.Grid(shape, lengths, origin)
        taken = {name: read_sample(found, grid.dim, options.sample, name) for name, found in arrays.items()}
    numbers = {name: field for name, field in fields.items() if isinstance(field, float)}
    batch = max((array.size for array in taken.values()), default=1) / math.prod(grid.shape)
    peak_fields = PEAK_FIELDS * (2**grid.dim if certified else 1)
    require_memory(int(8 * peak_fields * max(batch, 1) * math.prod(n + 1 for n in grid.shape)), "this problem")
    with known_batch():  # the options tell the number of axes
        problem = sb.Diffusion(grid, **numbers, **taken, boundary=parse_boundary(options.boundary, grid))
    if options.source is None and not options.boundary:
        raise InputError(
            "the problem has no source and zero boundary values, so its solution is zero; give --source or --boundary."
        )
    return problem


def read_sample(found: FoundArray, dim: int, sample: int | None, name: str) -> Array:
    """Read an array, or one sample of it if it has a batch axis.

    Raises
    ------
    InputError
        If the sample does not exist or cannot be read.
    """
    if sample is None or len(found.shape) <= dim:
        return found.read(None)
    if sample >= found.shape[0]:
        raise InputError(f"--sample {sample} does not exist; the {name} has {found.shape[0]} samples, counted from 0.")
    return found.read(sample)


def read_values(text: str, problem: sb.Diffusion, sample: int | None, what: str, name: str) -> Array:
    """Read nodal values for a problem, or one sample of them; a number means a constant.

    Raises
    ------
    InputError
        If they cannot be read.
    """
    import numpy as np

    from sciml_bounds.store.reading.readers import find_field

    with ExitStack() as files:
        field = find_field(text, what, files)
        if isinstance(field, float):
            return np.full(problem.node_shape, field)
        return read_sample(field, problem.grid.dim, sample, name)


def _first_shape(options: ProblemOptions, arrays: dict[str, FoundArray]) -> tuple[int, ...]:
    """Return the number of cells along each axis, from an array whose batch axes are known."""
    if not arrays:
        raise InputError(
            "all fields are numbers, so the grid is unknown; give the number of cells along each axis: --shape 64,64."
        )
    axes = {name: len(array.shape) for name, array in arrays.items()}
    # other arrays may have batch axes before those of the grid
    name, array = min(arrays.items(), key=lambda item: (item[1].batch_axes is None, axes[item[0]]))
    shape: tuple[int, ...] = array.shape[array.batch_axes or 0 :]
    if options.sample is not None and array.batch_axes is None and axes[name] == max(axes.values()):
        if len(shape) <= 3:  # with four axes the first one must be a batch
            choices = [",".join(map(str, cells)) for cells in (shape, shape[1:]) if cells]
            raise InputError(
                f"with --sample, the first axis of the {name} of shape {shape} may or may not be a batch axis; give "
                f"the number of cells along each axis: --shape {' or --shape '.join(choices)}."
            )
        shape = shape[1:]
    if not 1 <= len(shape) <= 3:
        raise InputError(
            f"the {name} has shape {array.shape}, but a grid has one to three axes; give --shape, or --sample for one "
            "sample of a batch."
        )
    return shape


def _require_known_axes(options: ProblemOptions, arrays: dict[str, FoundArray], shape: tuple[int, ...]) -> None:
    """Raise if a grid with three axes may as well be a batch of grids with two."""
    sides = [text[:1] for text in options.boundary or ()]
    if len(shape) != 3 or "z" in sides or any(array.batch_axes is not None for array in arrays.values()):
        return
    name, array = next((name, array) for name, array in arrays.items() if array.shape[-3:] == shape)
    cells, plane = (",".join(map(str, part)) for part in (shape, shape[1:]))
    if len(array.shape) == 3:
        raise InputError(
            f"the {name} of shape {array.shape} may be one field on {shape[0]} x {shape[1]} x {shape[2]} cells or a "
            f"batch of {shape[0]} fields on {shape[1]} x {shape[2]} cells; give the number of cells along each axis: "
            f"--shape {cells} or --shape {plane}."
        )


def parse_numbers[Number: (int, float)](text: str | None, kind: type[Number], option: str) -> tuple[Number, ...] | None:
    """Return the numbers of an option such as `--lengths 1.5,2`, one per axis; None if it is not given.

    Raises
    ------
    InputError
        If they cannot be parsed.
    """
    if text is None:
        return None
    try:
        return tuple(kind(part) for part in text.split(","))
    except ValueError:
        example = "64,64" if kind is int else "1.5,2"
        raise InputError(f"{option} {text} cannot be parsed; give one number per axis, such as {example}.") from None


def parse_boundary(texts: list[str] | None, grid: sb.Grid) -> Boundary | dict[str, Boundary]:
    """Return the boundary conditions of the options `--boundary`.

    Raises
    ------
    InputError
        If one cannot be parsed, or a side is set twice.
    """
    import sciml_bounds as sb

    if not texts:
        return sb.Dirichlet(0.0)
    given: dict[str, Boundary] = {}
    for text in texts:
        side, equals, condition = text.partition("=")
        if not equals:
            raise InputError(f"--boundary {text} must have the form SIDE=KIND:VALUE, such as x0=dirichlet:1.")
        if side in given:
            raise InputError(f"--boundary sets the condition on {side} twice; keep one of them.")
        given[side] = _condition(text, condition)
    others = given.pop("all", None)
    return given if others is None else dict.fromkeys(grid.sides, others) | given


def _condition(text: str, condition: str) -> Boundary:
    import sciml_bounds as sb
    from sciml_bounds.arrays import require_choice

    kind, *values = condition.split(":")
    require_choice(kind, f"the condition of --boundary {text}", _KINDS)
    try:
        numbers = [float(value) for value in values]
    except ValueError:
        raise InputError(f"--boundary {text}: {':'.join(values)} is not a number.") from None
    counts, form = _KINDS[kind]
    if len(numbers) not in counts:
        raise InputError(f"--boundary {text} has {len(numbers)} numbers; write the condition as {form}.")
    classes: dict[str, Callable[..., Boundary]] = {
        "dirichlet": sb.Dirichlet,
        "neumann": sb.Neumann,
        "robin": sb.Robin,
        "periodic": sb.Periodic,
    }
    return classes[kind](*numbers)
