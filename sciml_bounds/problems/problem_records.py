"""Records of diffusion problems in JSON types, by which a data set states the problem of its samples."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from typing import Any

from torch import Tensor

from sciml_bounds.errors import InputError
from sciml_bounds.grid import Boundary, Dirichlet, Grid, Neumann, Periodic, Robin
from sciml_bounds.problems.batch_axes import known_batch
from sciml_bounds.problems.diffusion import Diffusion

__all__ = ["CELL_FIELDS", "problem_from_record", "problem_record"]

#: Fields of a problem with one value per cell, which arrays of the same names can replace.
CELL_FIELDS = ("coefficient", "source", "reaction", "solid")

_EQUATION = "-div(a grad u) + c u = f"
_KINDS: dict[str, type[Boundary]] = {"dirichlet": Dirichlet, "neumann": Neumann, "robin": Robin, "periodic": Periodic}
_DATA = {Dirichlet: ("value",), Neumann: ("flux",), Robin: ("alpha", "g"), Periodic: ()}


def problem_record(problem: Diffusion, given: Collection[str] = ()) -> dict[str, Any]:
    """Return all constant data of a problem in JSON types.

    Parameters
    ----------
    problem : Diffusion
        A single problem, without batch axes.
    given : collection of str
        Names of the cell fields that the data set stores for each sample.

    Returns
    -------
    dict
        Box, boundary conditions and constant fields. The entry `varies` names the data that vary in space and are not
        `given`; `problem_from_record` cannot restore them.

    Raises
    ------
    InputError
        If the problem has batch axes.
    """
    if problem.batch_shape:
        raise InputError(
            f"the problem has the batch shape {tuple(problem.batch_shape)}; give a problem without batch axes, and the "
            "fields that differ between samples as arrays."
        )
    numbers = {name: _cell_number(problem, name) for name in CELL_FIELDS[:3] if name not in given}
    boundary = {side: _condition_record(condition) for side, condition in problem.boundary.items()}
    varies = [name for name, number in numbers.items() if number is None]
    varies += ["boundary"] if None in boundary.values() else []
    varies += ["solid"] if problem.solid is not None and "solid" not in given else []
    return {
        "equation": _EQUATION,
        "lengths": list(problem.grid.lengths),
        "origin": list(problem.grid.origin),
        "boundary": boundary,
        **numbers,
        "varies": varies,
    }


def problem_from_record(record: Mapping[str, Any], shape: Sequence[int], fields: Mapping[str, Tensor]) -> Diffusion:
    """Return the diffusion problem that a record describes.

    Parameters
    ----------
    record : mapping
        Result of `problem_record`.
    shape : sequence of int
        Number of cells along each axis.
    fields : mapping
        The fields named in `given`, shape (batch..., cells).

    Raises
    ------
    InputError
        If the record is incomplete, or a field is missing that it does not contain.
    """
    numbers = {name: record[name] for name in CELL_FIELDS[:3] if record.get(name) is not None} | dict(fields)
    missing = [name for name in record.get("varies", ()) if name not in numbers]
    missing += [name for name in CELL_FIELDS[:3] if name not in numbers and name not in missing]
    if missing:
        raise InputError(
            f"the data set does not record the {' and the '.join(missing)} of its problem as a number or as an input; "
            "state the problem: problem=sb.Diffusion(...)."
        )
    coefficient = numbers.pop("coefficient")
    try:
        boundary = {side: _KINDS[kind](*values) for side, (kind, *values) in record["boundary"].items()}
        grid = Grid(shape, record["lengths"], record["origin"])
    except (KeyError, TypeError, ValueError) as error:
        raise InputError(f"the record of the problem is damaged ({error}); create the data set again.") from None
    if isinstance(coefficient, list):
        coefficient = tuple(coefficient)
    with known_batch():
        return Diffusion(grid, coefficient, boundary=boundary, **_with_mask(numbers))


def _with_mask(fields: dict[str, Any]) -> dict[str, Any]:
    return fields | {"solid": fields["solid"] > 0.5} if "solid" in fields else fields


def _cell_number(problem: Diffusion, name: str) -> float | list[float] | None:
    """Return a cell field as a number (for a diagonal coefficient, one per axis), or None if it varies in space."""
    if name != "coefficient":
        return _number(getattr(problem, name))
    if problem.has_scalar_coefficient:
        return _number(problem.coefficient[0])
    parts = [_number(part) for part in problem.coefficient]
    return None if None in parts else [part for part in parts if part is not None]


def _condition_record(condition: Boundary) -> list[Any] | None:
    kind = next(name for name, known in _KINDS.items() if isinstance(condition, known))
    values = [_number(getattr(condition, name)) for name in _DATA[type(condition)]]
    return None if None in values else [kind, *values]


def _number(field: Tensor) -> float | None:
    low, high = field.detach().aminmax()
    return float(low) if bool(low == high) else None
