"""From options to a problem, and to an answer that is held against it: what the commands share."""

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
SolidOption = Annotated[
    str | None, typer.Option(metavar="FILE", help="Boolean, True in the cells that are walls. [default: none]")
]
ShapeOption = Annotated[
    str | None,
    typer.Option(
        metavar="N,N",
        help="Cells along each axis; needed if all fields are numbers, or if a file holds a batch (--sample).",
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
            "Condition on a side x0, x1, y0, y1, z0, z1, or on all that are not named; may be repeated: "
            "x0=dirichlet:1, x1=neumann:0, y0=robin:ALPHA:G, z0=periodic, all=neumann:0. [default: all=dirichlet:0]"
        ),
    ),
]
SampleOption = Annotated[
    int | None, typer.Option(min=0, metavar="I", help="Take sample I of every file that holds a batch.")
]

#: How many numbers each kind of condition takes, and how it is written.
_KINDS = {
    "dirichlet": ((1,), "dirichlet:VALUE"),
    "neumann": ((1,), "neumann:FLUX"),
    "robin": ((1, 2), "robin:ALPHA:G"),
    "periodic": ((0,), "periodic"),
}
#: Fields of the size of the problem that a solve holds at its peak, measured; a certificate with its grid of half the
#: spacing holds 2^dim times as many. A grid that cannot fit is refused before anything is made.
FIELDS_AT_WORK = 40


@dataclass(frozen=True)
class ProblemOptions:
    """The options that describe a problem, as they were given."""

    coefficient: str
    source: str | None
    reaction: str | None
    solid: str | None
    shape: str | None
    lengths: str | None
    origin: str | None
    boundary: list[str] | None
    sample: int | None


def build_problem(options: ProblemOptions, *, certified: bool) -> sb.Diffusion:
    """Read the files and make the problem, if there is memory to solve it, and to certify the answer.

    Raises
    ------
    InputError
        If an option cannot be understood or does not fit the others.
    """
    import sciml_bounds as sb
    from sciml_bounds.memory import require_memory
    from sciml_bounds.store.reading.readers import find_field, find_mask

    named = {"coefficient": options.coefficient, "source": options.source, "reaction": options.reaction}
    with ExitStack() as files:
        fields = {name: find_field(text, f"the {name}", files) for name, text in named.items() if text is not None}
        arrays = {name: field for name, field in fields.items() if not isinstance(field, float)}
        if options.solid is not None:
            arrays["solid"] = find_mask(options.solid, "the mask of solid cells", files)
        lengths, origin = _numbers(options.lengths, float, "--lengths"), _numbers(options.origin, float, "--origin")
        grid = sb.Grid(_numbers(options.shape, int, "--shape") or _first_shape(options, arrays), lengths, origin)
        taken = {name: read_sample(found, grid.dim, options.sample, name) for name, found in arrays.items()}
    numbers = {name: field for name, field in fields.items() if isinstance(field, float)}
    batch = max((array.size for array in taken.values()), default=1) / math.prod(grid.shape)
    fields_at_work = FIELDS_AT_WORK * (2**grid.dim if certified else 1)
    require_memory(int(8 * fields_at_work * max(batch, 1) * math.prod(n + 1 for n in grid.shape)), "this problem")
    problem = sb.Diffusion(grid, **numbers, **taken, boundary=_boundary(options.boundary, grid))
    if options.source is None and not options.boundary:
        raise InputError("nothing drives this problem and its solution is zero; give --source or --boundary.")
    return problem


def read_sample(found: FoundArray, dim: int, sample: int | None, name: str) -> Array:
    """Read an array, or one sample of it if it has a batch axis.

    Raises
    ------
    InputError
        If there are not so many samples, or they cannot be read.
    """
    if sample is None or len(found.shape) <= dim:
        return found.read(None)
    if sample >= found.shape[0]:
        raise InputError(
            f"--sample {sample} does not exist; there are {found.shape[0]} samples of the {name}, counted from 0."
        )
    return found.read(sample)


def read_values(text: str, problem: sb.Diffusion, sample: int | None, what: str, name: str) -> Array:
    """Read an answer to a problem, or one sample of it; a number stands for a constant at the nodes.

    Raises
    ------
    InputError
        If it cannot be read.
    """
    import numpy as np

    from sciml_bounds.store.reading.readers import find_field

    with ExitStack() as files:
        field = find_field(text, what, files)
        if isinstance(field, float):
            return np.full(problem.node_shape, field)
        return read_sample(field, problem.grid.dim, sample, name)


def _first_shape(options: ProblemOptions, arrays: dict[str, FoundArray]) -> tuple[int, ...]:
    """Take the number of cells from the array without batch, or without its batch axis, where that is certain."""
    if not arrays:
        raise InputError(
            "all fields are numbers, so the grid is unknown; give the cells along each axis: --shape 64,64."
        )
    axes = {name: len(array.shape) for name, array in arrays.items()}
    # of the others it may be unknown whether they have batch axes before those of the grid
    name, array = min(arrays.items(), key=lambda item: (item[1].batch_axes is None, axes[item[0]]))
    shape: tuple[int, ...] = array.shape[array.batch_axes or 0 :]
    if options.sample is not None and array.batch_axes is None and axes[name] == max(axes.values()):
        if len(shape) <= 3:  # with four axes the first one must be a batch
            choices = [",".join(map(str, cells)) for cells in (shape, shape[1:]) if cells]
            raise InputError(
                f"--sample leaves open whether the first axis of the {name}, of shape {shape}, is a batch; give the "
                f"cells along each axis: --shape {' or --shape '.join(choices)}."
            )
        shape = shape[1:]
    if not 1 <= len(shape) <= 3:
        raise InputError(
            f"the {name} has shape {array.shape}, which is no grid of one to three axes; give --shape, or --sample for "
            "one sample of a batch."
        )
    return shape


def _numbers[Number: (int, float)](text: str | None, kind: type[Number], option: str) -> tuple[Number, ...] | None:
    if text is None:
        return None
    try:
        return tuple(kind(part) for part in text.split(","))
    except ValueError:
        example = "64,64" if kind is int else "1.5,2"
        raise InputError(f"{option} {text} cannot be read; give one number an axis, such as {example}.") from None


def _boundary(texts: list[str] | None, grid: sb.Grid) -> Boundary | dict[str, Boundary]:
    import sciml_bounds as sb

    if not texts:
        return sb.Dirichlet(0.0)
    given: dict[str, Boundary] = {}
    for text in texts:
        side, equals, condition = text.partition("=")
        if not equals:
            raise InputError(f"--boundary {text} is not SIDE=KIND:VALUE, such as x0=dirichlet:1.")
        if side in given:
            raise InputError(f"--boundary names {side} twice; keep one of them.")
        given[side] = _condition(text, condition)
    others = given.pop("all", None)
    return given if others is None else dict.fromkeys(grid.sides, others) | given


def _condition(text: str, condition: str) -> Boundary:
    import sciml_bounds as sb

    kind, *values = condition.split(":")
    if kind not in _KINDS:
        raise InputError(f"--boundary {text}: unknown kind {kind!r}; the choices are {', '.join(_KINDS)}.")
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
