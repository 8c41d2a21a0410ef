"""`sciml-bounds export`: write a data set in the file format of another project."""

from __future__ import annotations

from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

from sciml_bounds.cli import _output as output
from sciml_bounds.cli._exchange import sample_progress

__all__ = ["Format", "export"]


class Format(StrEnum):
    """Formats to which a data set can be exported."""

    THE_WELL = "the-well"
    PDEBENCH = "pdebench"


def export(
    data: Annotated[Path, typer.Argument(metavar="DATA.nc", help="A data set written by generate or import.")],
    format: Annotated[Format, typer.Option("--format", help="File format to write.")],
    out: Annotated[
        Path, typer.Option(metavar="PATH", help="A new folder for the-well, a file ending in .hdf5 for pdebench.")
    ],
    as_json: output.JsonOption = False,
) -> None:
    """Write a data set in the layout of The Well or PDEBench.

    Example: sciml-bounds export darcy.nc --format the-well --out darcy
    """
    import sciml_bounds
    from sciml_bounds.store.formats.pdebench import export_pdebench
    from sciml_bounds.store.formats.the_well import export_the_well

    write = export_the_well if format is Format.THE_WELL else export_pdebench
    with sample_progress() as callback:
        written = write(data, out, callback=callback)
    files = [written] if written.is_file() else sorted(path for path in written.rglob("*") if path.is_file())
    record = {"command": "export", "version": sciml_bounds.__version__, "data": str(data), "format": str(format)}
    if as_json:
        output.print_json(record | {"out": str(out), "files": [str(path) for path in files]})
    else:
        sizes = {str(path): f"{path.stat().st_size:,} bytes" for path in files}
        output.print_table(f"Exported to {format}", {"data": str(data), **sizes})
