"""`sciml-bounds import`: make a data set of a file that others published."""

from __future__ import annotations

from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

from sciml_bounds.cli import _output as output
from sciml_bounds.cli._exchange import shown_samples

__all__ = ["Kind", "import_"]

#: How the files of others lie, in words.
LAYOUTS = {"same": "inputs and targets at the same points", "time": "frames in time, of which each is to give the next"}


class Kind(StrEnum):
    """Whose file it is."""

    PDEBENCH = "pdebench"
    FNO = "fno"
    NEURALOPERATOR = "neuraloperator"


def import_(
    source: Annotated[Path, typer.Argument(metavar="FILE", help="A .hdf5, .h5, .mat or .pt file.")],
    out: Annotated[Path, typer.Option(metavar="FILE.nc", help="The data set, netCDF-4 (HDF5).")],
    kind: Annotated[
        Kind | None, typer.Option(help="Whose file it is. [default: by the arrays in it]", show_default=False)
    ] = None,
    as_json: output.JsonOption = False,
) -> None:
    """Make a data set of a file of PDEBench, the FNO authors or neuraloperator.

    Example: sciml-bounds import darcy_train_16.pt --out darcy.nc
    """
    import sciml_bounds
    from sciml_bounds.store.datasets.dataset_source import open_source
    from sciml_bounds.store.formats.foreign import import_dataset

    with shown_samples() as callback:
        import_dataset(source, out, kind=None if kind is None else str(kind), callback=callback)
    header = open_source(out).header
    record = {
        "command": "import",
        "version": sciml_bounds.__version__,
        "file": str(source),
        "kind": header.parameters["kind"],
        "title": header.title,
        "samples": header.samples,
        "inputs": list(header.inputs),
        "targets": list(header.targets),
        "layout": header.layout,
        "shapes": {name: list(header.shape(name)) for name in header.variables},
        "out": str(out),
    }
    if as_json:
        output.print_json(record)
        return
    rows = {name: str(record[name]) for name in ("file", "title", "samples", "layout", "out")}
    rows["layout"] = LAYOUTS.get(header.layout, header.layout)
    shapes = {name: f"{', '.join(header.variables[name].dims)}: {header.shape(name)}" for name in header.variables}
    output.print_table("Imported", rows | shapes)
