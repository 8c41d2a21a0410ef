"""`sciml-bounds inspect`: show the contents of a file."""

from __future__ import annotations

import json
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from sciml_bounds.cli import _output as output

if TYPE_CHECKING:
    from rich.table import Table

    from sciml_bounds.store.reading.contents import Contents

__all__ = ["inspect"]

#: Attributes of data sets that are shown.
_DATASET_ATTRIBUTES = ("title", "recipe", "seed", "resolution", "samples", "device", "layout", "inputs", "targets")

#: Short entries of the cards of weights, which are shown in the table; --json shows the whole card.
_WEIGHTS_ATTRIBUTES = (
    "content",
    "format_version",
    "class",
    "arguments",
    "parameters",
    "recipe",
    "seed",
    "metrics",
    "note",
)

#: Names of arrays up to this length are not wrapped.
MAX_NAME_WIDTH = 44


def inspect(
    file: Annotated[
        Path,
        typer.Argument(
            metavar="FILE", help="A .npy, .npz, .h5, .nc, .mat, .pt, .mtx or .safetensors file, or shipped weights."
        ),
    ],
    as_json: output.JsonOption = False,
) -> None:
    """List the arrays in a file without loading them; files of this package are also checked in full.

    Example: sciml-bounds inspect u.nc
    """
    import sciml_bounds
    from sciml_bounds.store.datasets.saved_results import check_content, is_ours
    from sciml_bounds.store.datasets.weights import SUFFIX, describe_weights, find_weights, shipped_weights
    from sciml_bounds.store.reading.matrices import describe_matrix
    from sciml_bounds.store.reading.readers import one_sentence, open_file

    if str(file) in shipped_weights() and not file.exists():
        file = find_weights(str(file))
    with ExitStack() as files:
        describe = {".mtx": describe_matrix, SUFFIX: describe_weights}.get(file.suffix.lower())
        contents = open_file(file, "the file", files) if describe is None else describe(file)
        ours = is_ours(contents)
        if ours:
            with one_sentence(f"the file {file}"):
                check_content(contents)
    record: dict[str, Any] = {"command": "inspect", "version": sciml_bounds.__version__, "file": str(file)}
    record |= {"format": contents.format, "bytes": file.stat().st_size, "arrays": _arrays(contents)}
    if describe is describe_weights:
        record["sciml_bounds"] = {**contents.attributes, "checksum": "verified"}
    else:
        record["sciml_bounds"] = _about(contents) if ours else None
    if as_json:
        output.print_json(record)
    else:
        _print(record)


def _arrays(contents: Contents) -> list[dict[str, Any]]:
    return [
        {
            "name": name,
            "shape": list(info.shape),
            "dtype": info.dtype,
            "role": info.role,
            "dims": None if info.dims is None else list(info.dims),
            "units": str(info.attributes["units"]) if "units" in info.attributes else None,
        }
        for name, info in contents.arrays.items()
    ]


def _about(contents: Contents) -> dict[str, Any]:
    """Return the metadata of a file of this package whose checksum has been verified."""
    names = ("content", "format_version", "sciml_bounds_version", "created")
    about = {name: contents.attributes.get(name) for name in names}
    about |= {name: contents.attributes[name] for name in _DATASET_ATTRIBUTES if name in contents.attributes}
    asked, parameters = (contents.attributes.get(name) for name in ("asked", "parameters"))
    if parameters is not None:
        about["parameters"] = json.loads(parameters)
    return about | {"asked": None if asked is None else json.loads(asked), "checksum": "verified"}


def _print(record: dict[str, Any]) -> None:
    from rich.console import Console

    from sciml_bounds.store.reading.contents import printable

    rows = {"file": record["file"], "format": record["format"], "size": f"{record['bytes']:,} bytes"}
    about = record["sciml_bounds"] or {}
    shown = (*_WEIGHTS_ATTRIBUTES, "checksum") if about.get("content") == "Weights" else tuple(about)
    for name in shown:
        value = about.get(name)
        if value is not None:
            rows[name.replace("_", " ")] = value if isinstance(value, str) else json.dumps(value)
    sizes = {dim: size for array in record["arrays"] for dim, size in zip(array["dims"] or (), array["shape"])}
    if sizes:
        rows["dimensions"] = ", ".join(f"{dim} {size}" for dim, size in sizes.items())
    output.print_table("Contents", {name: printable(row) for name, row in rows.items()})
    Console(highlight=False).print(_table(record["arrays"]))


def _table(arrays: list[dict[str, Any]]) -> Table:
    from rich.table import Table
    from rich.text import Text

    from sciml_bounds.store.reading.contents import printable

    rows = {
        "name": [array["name"] or "(without name)" for array in arrays],
        "shape": [str(tuple(array["shape"])) for array in arrays],
        "dtype": [array["dtype"] for array in arrays],
        "dimensions": [_axes(array) for array in arrays],
        "units": ["" if array["units"] in (None, "1") else array["units"] for array in arrays],
    }
    columns = {heading: [printable(cell) for cell in cells] for heading, cells in rows.items() if any(cells)}
    table = Table()
    for heading, cells in columns.items():
        whole = heading == "name" and max(map(len, cells)) <= MAX_NAME_WIDTH  # so that they can be copied
        table.add_column(heading, overflow="fold", no_wrap=whole)
    for row in zip(*columns.values()):
        table.add_row(*(Text(cell, overflow="fold") for cell in row))
    return table


def _axes(array: dict[str, Any]) -> str:
    """Return the names of the axes of an array, or "(coordinate)"."""
    return "(coordinate)" if array["role"] == "coordinate" else ", ".join(array["dims"] or ())
