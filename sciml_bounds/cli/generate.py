"""`sciml-bounds generate`: generate a data set from a recipe."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Annotated, Any

import typer

from sciml_bounds.cli import _output as output
from sciml_bounds.errors import ConvergenceError, InputError

__all__ = ["generate"]

#: Help text with the names of the recipes, written out because importing the recipes is slow.
RECIPES = (
    "darcy-smooth, darcy-rough, darcy-multiscale, poisson, ritz-poisson-2d, ritz-poisson-3d, pressure-2d, pressure-3d, "
    "helmholtz, helmholtz-converged, navier-stokes-1e-3, navier-stokes-1e-4, navier-stokes-1e-5 or pipe (extra fem)."
)


def generate(
    recipe: Annotated[str, typer.Argument(metavar="RECIPE", help=f"{RECIPES} Your own: package.module:NAME.")],
    out: Annotated[Path, typer.Option(metavar="FILE.nc", help="Write the data set as netCDF-4 (HDF5).")],
    samples: Annotated[int | None, typer.Option(min=1, help="Number of samples. [default: as published]")] = None,
    seed: Annotated[int, typer.Option(min=0, help="Seed of the random numbers.")] = 0,
    resolution: Annotated[
        int | None, typer.Option(min=1, help="Cells or points per axis. [default: as published]")
    ] = None,
    workers: Annotated[int, typer.Option(min=0, help="Number of worker processes; 0 runs in this process.")] = 0,
    device: Annotated[str, typer.Option(help="Device of the solvers: cpu or cuda.")] = "cpu",
    shard_index: Annotated[int | None, typer.Option(min=0, help="Generate this shard of the data set only.")] = None,
    num_shards: Annotated[int | None, typer.Option(min=1, help="Number of shards of the data set.")] = None,
    as_json: output.JsonOption = False,
) -> None:
    """Generate a data set from a recipe; after an interruption the same command resumes.

    Sample i depends only on the recipe, the resolution, the seed and i, not on the number of samples, workers or
    shards. Shards are for cluster jobs; `sciml-bounds consolidate` joins them.

    Example: sciml-bounds generate darcy-rough --samples 100 --resolution 64 --out darcy.nc
    """
    if (shard_index is None) != (num_shards is None):
        raise InputError("--shard-index and --num-shards must be given together; give both or neither.")

    from sciml_bounds.recipes.generation import make_dataset, make_shard

    asked: dict[str, Any] = {"samples": samples, "seed": seed, "resolution": resolution}
    asked |= {"workers": workers, "device": device, "progress": True}
    start = time.perf_counter()
    try:
        if shard_index is None or num_shards is None:
            make_dataset(recipe, out, **asked)
        else:
            make_shard(recipe, out, shard_index=shard_index, num_shards=num_shards, **asked)
    except ConvergenceError as error:
        output.error_console().print(f"sciml-bounds: {error}", markup=False)
        raise typer.Exit(output.NOT_REACHED) from None
    show_dataset("generate", out, time.perf_counter() - start, as_json=as_json)


def show_dataset(command: str, path: Path, seconds: float, *, as_json: bool) -> None:
    """Print a summary of a data set file."""
    import torch

    import sciml_bounds
    from sciml_bounds.reports import describe_upper
    from sciml_bounds.store.datasets.dataset_files import open_dataset

    with open_dataset(path) as data:
        sizes = {str(dim): size for dim, size in data.sizes.items()}
        names = ("recipe", "seed", "resolution", "inputs", "targets")
        about = {name: data.attrs[name] for name in names}
        about |= {name: int(about[name]) for name in ("seed", "resolution")}
        first, last = int(data["sample"][0]), int(data["sample"][-1])
        errors = torch.from_numpy(data["label_error"].values) if "label_error" in data else None
    record = {"command": command, "version": sciml_bounds.__version__, **about, "samples": sizes["sample"]}
    record |= {"first": first, "last": last, "label_error": None if errors is None else float(errors.max())}
    record |= {"bytes": path.stat().st_size, "seconds": seconds, "out": str(path)}
    if as_json:
        output.print_json(record)
        return
    rows = {name: str(about[name]) for name in ("recipe", "seed", "resolution")}
    rows["samples"] = f"{sizes['sample']} ({first} to {last})"
    rows |= {name: ", ".join(about[name]) for name in ("inputs", "targets")}
    if errors is not None:
        rows["label error"] = f"<= {describe_upper(errors)} of the energy norm (guaranteed)"
    rows |= {"size": f"{path.stat().st_size:,} bytes", "seconds": f"{seconds:.3g}", "out": str(path)}
    output.print_table("Data set", rows)
