"""Logs of a training: tables (CSV and JSON lines), and curves for TensorBoard."""

from __future__ import annotations

import csv
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from sciml_bounds.errors import MissingExtraError
from sciml_bounds.store.safety.writer import replacing

__all__ = ["COLUMNS", "TensorBoard", "write_log"]

#: Columns of the log, with one row per epoch. `loss` is the mean over the training samples during the epoch.
COLUMNS = ("epoch", "lr", "loss", "validation", "gradient_norm", "seconds")


def write_log(folder: Path, history: Sequence[Mapping[str, Any]]) -> None:
    """Write the rows of all epochs to log.csv and log.jsonl, replacing both, so that a resumed training has one log."""
    with replacing(folder / "log.csv") as part, part.open("w", newline="") as file:
        rows = csv.DictWriter(file, COLUMNS, lineterminator="\n")
        rows.writeheader()
        rows.writerows(history)
    with replacing(folder / "log.jsonl") as part:
        part.write_text("".join(json.dumps(dict(row)) + "\n" for row in history))


class TensorBoard:
    """Curves of the log, in a folder that TensorBoard shows.

    Raises
    ------
    MissingExtraError
        If TensorBoard is not installed.
    """

    def __init__(self, folder: Path) -> None:
        try:
            from torch.utils.tensorboard import SummaryWriter
        except ImportError:
            raise MissingExtraError(
                "tensorboard=True needs TensorBoard: pip install 'sciml-bounds[tensorboard]'; without it, log.csv has "
                "the numbers."
            ) from None
        self._writer = SummaryWriter(str(folder))

    def add(self, row: Mapping[str, Any]) -> None:
        """Add the numbers of an epoch."""
        for name in COLUMNS[1:]:
            if row[name] is not None:
                self._writer.add_scalar(name, row[name], row["epoch"])
        self._writer.flush()

    def close(self) -> None:
        """Write pending data and close the files."""
        self._writer.close()
