"""`sciml-bounds consolidate`: join the shards of a data set."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Annotated

import typer

from sciml_bounds.cli import _output as output
from sciml_bounds.cli.generate import show_dataset

__all__ = ["consolidate"]


def consolidate(
    shards: Annotated[list[Path], typer.Argument(metavar="SHARD.nc...", help="All shards, in any order.")],
    out: Annotated[Path, typer.Option(metavar="FILE.nc", help="Write the whole data set; the shards are kept.")],
    as_json: output.JsonOption = False,
) -> None:
    """Join the shards written by `generate --shard-index`, after checking that all belong together and are intact.

    Example: sciml-bounds consolidate shard-*.nc --out darcy.nc
    """
    from sciml_bounds.recipes.generation import consolidate as join

    start = time.perf_counter()
    join(shards, out, progress=True)
    show_dataset("consolidate", out, time.perf_counter() - start, as_json=as_json)
