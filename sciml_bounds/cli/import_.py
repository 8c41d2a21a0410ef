"""`sciml-bounds import`: convert a published file, or arrays of one's own, to a data set."""

from __future__ import annotations

from collections.abc import Callable
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from sciml_bounds.cli import _output as output
from sciml_bounds.cli import _problem as problem_options
from sciml_bounds.cli._exchange import sample_progress
from sciml_bounds.errors import InputError

if TYPE_CHECKING:
    import sciml_bounds as sb
    from sciml_bounds.store.datasets.dataset_files import DatasetHeader

__all__ = ["Kind", "import_"]

#: Descriptions of the layouts of imported files.
LAYOUTS = {"same": "inputs and targets at the same points", "time": "frames in time, each predicts the next"}
#: Options that only make sense with --arrays.
_ARRAY_OPTIONS = ("shape", "lengths", "origin", "coefficient", "source", "reaction", "boundary", "inputs", "targets")


class Kind(StrEnum):
    """Origins of files that can be imported."""

    PDEBENCH = "pdebench"
    FNO = "fno"
    NEURALOPERATOR = "neuraloperator"


def import_(
    context: typer.Context,
    files: Annotated[
        list[str], typer.Argument(metavar="FILE", help="A .hdf5, .h5, .mat or .pt file; with --arrays NAME=FILE ...")
    ],
    out: Annotated[Path, typer.Option(metavar="FILE.nc", help="The data set, netCDF-4 (HDF5).")],
    kind: Annotated[
        Kind | None, typer.Option(help="Origin of the file. [default: detected from its arrays]", show_default=False)
    ] = None,
    arrays: Annotated[
        bool,
        typer.Option(
            "--arrays",
            help="Import arrays of your own, (samples, *space), one NAME=FILE each: coefficient=a.npy "
            "solution=d.h5:group/u; .npy, .npz, .h5, .nc, .mat and .pt.",
        ),
    ] = False,
    shape: problem_options.ShapeOption = None,
    lengths: problem_options.LengthsOption = None,
    origin: problem_options.OriginOption = None,
    coefficient: Annotated[float | None, typer.Option(help="Coefficient of all samples. [default: 1]")] = None,
    source: Annotated[float | None, typer.Option(help="Source of all samples. [default: 0]")] = None,
    reaction: Annotated[float | None, typer.Option(help="Reaction of all samples. [default: 0]")] = None,
    boundary: problem_options.BoundaryOption = None,
    inputs: Annotated[str | None, typer.Option(metavar="NAME,NAME", help="Inputs. [default: the others]")] = None,
    targets: Annotated[str | None, typer.Option(metavar="NAME", help="Targets. [default: solution]")] = None,
    certify: Annotated[bool, typer.Option("--certify", help="Bound the error of every label.")] = False,
    as_json: output.JsonOption = False,
) -> None:
    """Convert a file of PDEBench, the FNO authors or neuraloperator, or your own arrays, to a data set.

    Whether an array has one value per cell or per node follows from its shape, and is printed. With --arrays, --source,
    --boundary and so on describe the problem -div(a grad u) + c u = f of all samples, which --certify needs.

    Example: sciml-bounds import --arrays coefficient=a.npy solution=u.npy --source 1 --certify --out data.nc
    """
    from sciml_bounds.store.datasets.dataset_source import open_source

    with sample_progress() as callback:
        if arrays:
            if kind is not None:
                raise InputError("--kind is for files of known origin; leave it out with --arrays.")
            _import_arrays(context.params, callback)
        else:
            _import_file(context.params, callback)
    _report(files, open_source(out).header, out, as_json=as_json)


def _import_file(asked: dict[str, Any], callback: Callable[[int, int], None] | None) -> None:
    """Import a file of known origin."""
    from sciml_bounds.store.formats.foreign import import_dataset

    surplus = [name for name in _ARRAY_OPTIONS if asked[name] not in (None, (), [])]
    surplus += ["certify"] if asked["certify"] else []
    if surplus or len(asked["files"]) > 1 or ("=" in asked["files"][0] and not Path(asked["files"][0]).exists()):
        what = f"--{surplus[0]} is" if surplus else "several files and NAME=FILE are"
        raise InputError(f"{what} for arrays of your own; add --arrays.")
    kind = asked["kind"]
    import_dataset(asked["files"][0], asked["out"], kind=None if kind is None else str(kind), callback=callback)


def _import_arrays(asked: dict[str, Any], callback: Callable[[int, int], None] | None) -> None:
    """Import arrays that are named by the user."""
    import sciml_bounds as sb

    arrays = _named(asked["files"])
    grid = _grid(asked, arrays)
    names = {name: None if asked[name] is None else asked[name].split(",") for name in ("inputs", "targets")}
    options: dict[str, Any] = {"grid": grid, "problem": _problem(asked, grid), "certify": asked["certify"], **names}
    sb.data.from_arrays(arrays, asked["out"], callback=callback, **options)


def _named(files: list[str]) -> dict[str, str]:
    named: dict[str, str] = {}
    for text in files:
        name, equals, file = text.partition("=")
        if not equals or not file or name in named:
            raise InputError(f"--arrays {text} must have the form NAME=FILE, with each name once: solution=u.npy.")
        named[name] = file
    return named


def _grid(asked: dict[str, Any], arrays: dict[str, str]) -> sb.Grid:
    import sciml_bounds as sb
    from sciml_bounds.recipes._array_datasets import find_grid

    cells = problem_options.parse_numbers(asked["shape"], int, "--shape")
    lengths, origin = (problem_options.parse_numbers(asked[n], float, f"--{n}") for n in ("lengths", "origin"))
    return find_grid(arrays, lengths, origin) if cells is None else sb.Grid(cells, lengths, origin)


def _problem(asked: dict[str, Any], grid: sb.Grid) -> sb.Diffusion | None:
    """Return the problem of all samples, or None if no option describes it."""
    import sciml_bounds as sb

    numbers = {n: asked[n] for n in ("coefficient", "source", "reaction") if asked[n] is not None}
    if not numbers and not asked["boundary"] and not asked["certify"]:
        return None
    return sb.Diffusion(grid, **numbers, boundary=problem_options.parse_boundary(asked["boundary"], grid))


def _report(files: list[str], header: DatasetHeader, out: Path, *, as_json: bool) -> None:
    import sciml_bounds
    from sciml_bounds.reports import describe_upper

    record = {
        "command": "import",
        "version": sciml_bounds.__version__,
        "file": " ".join(files),
        "kind": header.parameters["kind"],
        "title": header.title,
        "samples": header.samples,
        "inputs": list(header.inputs),
        "targets": list(header.targets),
        "layout": header.layout,
        "shapes": {name: list(header.shape(name)) for name in header.variables if header.shape(name)},
        "label_error": None,
        "out": str(out),
    }
    rows = {name: str(record[name]) for name in ("file", "title", "samples", "layout", "out")}
    rows["layout"] = LAYOUTS.get(header.layout, header.layout)
    rows |= {name: f"{', '.join(header.variables[name].dims)}: {header.shape(name)}" for name in record["shapes"]}
    if "label_error" in header.variables:
        errors = _label_errors(out)
        record["label_error"] = float(errors.max())
        rows["label error"] = f"<= {describe_upper(errors)} of the energy norm (guaranteed)"
    output.print_json(record) if as_json else output.print_table("Imported", rows)


def _label_errors(out: Path) -> Any:
    import torch

    from sciml_bounds.store.datasets.dataset_files import open_dataset

    with open_dataset(out) as data:
        return torch.from_numpy(data["label_error"].values)
