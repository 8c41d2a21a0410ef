"""The result of a training."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from torch import nn

from sciml_bounds.plot import new_figure
from sciml_bounds.reports import summary_table

if TYPE_CHECKING:
    from matplotlib.figure import Figure

__all__ = ["TrainingResult"]


@dataclass(frozen=True, repr=False, eq=False)
class TrainingResult:
    """Result of a training: the network, and the record of its training.

    Attributes
    ----------
    model : torch.nn.Module
        The network, in evaluation mode, with the weights of the best epoch.
    history : tuple of mapping
        One row per epoch: "epoch" (from one), "lr", "loss", "validation", "gradient_norm", "seconds".
    best_epoch : int
        Epoch of the weights; zero if no epoch was completed.
    best : float or None
        Metric of this epoch on the validation data; None without such data.
    reason : str
        Why the training ended.
    card : mapping
        Everything that determines the result, as in the checkpoint.
    folder : Path or None
        Folder with the files of the training; None if there are none.
    """

    model: nn.Module
    history: tuple[Mapping[str, Any], ...]
    best_epoch: int
    best: float | None
    reason: str
    card: Mapping[str, Any]
    folder: Path | None = None

    def __repr__(self) -> str:
        select = self.card["settings"]["select"]
        rows = {
            "network": f"{type(self.model).__name__}, {sum(p.numel() for p in self.model.parameters())} parameters",
            "reason": self.reason,
            "epochs": f"{len(self.history)} of {self.card['settings']['epochs']}",
            "best epoch": str(self.best_epoch),
        }
        if self.best is not None:
            rows[f"validation {select}"] = f"{self.best:.4g}"
        if self.history:
            rows["loss"] = f"{self.history[-1]['loss']:.4g} in the last epoch"
        rows["seconds"] = f"{self.seconds:.3g}"
        if self.folder is not None:
            rows["folder"] = str(self.folder)
        return summary_table("TrainingResult", rows)

    @property
    def seconds(self) -> float:
        """Wall-clock time of all epochs."""
        return float(sum(row["seconds"] for row in self.history))

    def plot(self) -> Figure:
        """Plot loss, validation metric and learning rate over the epochs."""
        figure = new_figure(7.0, 4.0)
        axes = figure.subplots()
        epochs = [row["epoch"] for row in self.history]
        settings = self.card["settings"]
        axes.semilogy(epochs, [row["loss"] for row in self.history], label=f"training {settings['loss']}")
        if self.best is not None:
            validation = [row["validation"] for row in self.history]
            axes.semilogy(epochs, validation, label=f"validation {settings['select']}")
            axes.plot([self.best_epoch], [self.best], "o", color="C1", label=f"best: {self.best:.3g}")
        rate = axes.twinx()
        rate.plot(epochs, [row["lr"] for row in self.history], color="0.6", linewidth=0.8, linestyle="--")
        rate.set_ylabel("learning rate (dashed)", color="0.4")
        axes.set(xlabel="epoch", ylabel="mean over the samples")
        axes.grid(alpha=0.3)
        axes.legend()
        return figure
