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
    VTK = "vtk"


def _write(data: Path, format: Format, out: Path) -> list[Path]:
    """Write the data in a format, and return the files and folders written."""
    from sciml_bounds.data import export_pdebench, export_the_well, export_vtk, read, write

    if format is Format.VTK and out.suffix:
        write(read(data), out)
        return [out, out.with_suffix("")] if out.suffix == ".pvd" else [out]
    exporters = {Format.THE_WELL: export_the_well, Format.PDEBENCH: export_pdebench, Format.VTK: export_vtk}
    with sample_progress() as callback:
        return [exporters[format](data, out, callback=callback)]


def export(
    data: Annotated[
        Path,
        typer.Argument(metavar="DATA.nc", help="A data set of generate or import; for vtk also a result of solve."),
    ],
    format: Annotated[Format, typer.Option("--format", help="File format to write.")],
    out: Annotated[
        Path,
        typer.Option(
            metavar="PATH",
            help="A new folder for the-well and vtk, a file ending in .hdf5 for pdebench; for vtk and a result of "
            "solve a file ending in .vti or .pvd.",
        ),
    ],
    as_json: output.JsonOption = False,
) -> None:
    """Write a data set in the layout of The Well or PDEBench, or as VTK images for ParaView.

    Example: sciml-bounds export darcy.nc --format the-well --out darcy
    """
    import sciml_bounds

    written = _write(data, format, out)
    paths = [path for root in written for path in (root, *root.rglob("*"))]
    files = sorted(path for path in paths if path.is_file())
    record = {"command": "export", "version": sciml_bounds.__version__, "data": str(data), "format": str(format)}
    if as_json:
        output.print_json(record | {"out": str(out), "files": [str(path) for path in files]})
    else:
        sizes = {str(path): f"{path.stat().st_size:,} bytes" for path in files}
        output.print_table(f"Exported to {format}", {"data": str(data), **sizes})
