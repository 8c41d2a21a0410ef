"""`sciml-bounds import`: convert a published file to a data set."""

from __future__ import annotations

from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

from sciml_bounds.cli import _output as output
from sciml_bounds.cli._exchange import sample_progress

__all__ = ["Kind", "import_"]

#: Descriptions of the layouts of imported files.
LAYOUTS = {"same": "inputs and targets at the same points", "time": "frames in time, each predicts the next"}


class Kind(StrEnum):
    """Origins of files that can be imported."""

    PDEBENCH = "pdebench"
    FNO = "fno"
    NEURALOPERATOR = "neuraloperator"


def import_(
    source: Annotated[Path, typer.Argument(metavar="FILE", help="A .hdf5, .h5, .mat or .pt file.")],
    out: Annotated[Path, typer.Option(metavar="FILE.nc", help="The data set, netCDF-4 (HDF5).")],
    kind: Annotated[
        Kind | None, typer.Option(help="Origin of the file. [default: detected from its arrays]", show_default=False)
    ] = None,
    as_json: output.JsonOption = False,
) -> None:
    """Convert a file of PDEBench, the FNO authors or neuraloperator to a data set.

    Example: sciml-bounds import darcy_train_16.pt --out darcy.nc
    """
    import sciml_bounds
    from sciml_bounds.store.datasets.dataset_source import open_source
    from sciml_bounds.store.formats.foreign import import_dataset

    with sample_progress() as callback:
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
