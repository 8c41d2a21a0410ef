"""Batches of samples, in an order determined by seed and epoch, with checks of the samples."""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, cast

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from sciml_bounds.errors import InputError
from sciml_bounds.memory import require_memory

__all__ = [
    "Samples",
    "batches",
    "check_samples",
    "describe_samples",
    "load",
    "require_samples",
    "shuffled",
    "size_of",
    "stack_all",
]

type Samples = Dataset[tuple[Tensor, Tensor]]

#: Attributes of a data set of this package that a model card records.
_DATA_ATTRIBUTES = ("recipe", "parameters", "seed", "resolution", "inputs", "targets", "layout", "split", "subsample")
#: Number of samples per batch when all samples are loaded.
_LOAD_BATCH_SIZE = 64


def size_of(samples: Samples) -> int:
    """Return the number of samples."""
    return len(cast("Sequence[Any]", samples))


def require_samples(samples: object, what: str, split: str) -> None:
    """Check that `samples` is not the path of a data set.

    Raises
    ------
    InputError
        If it is a path.
    """
    if isinstance(samples, str | Path):
        raise InputError(
            f"the {what} must be samples, not the path {samples}; give sb.TorchDataset({str(samples)!r}, {split!r})."
        )


def check_samples(samples: Samples, what: str, split: str) -> None:
    """Check the split, the number of samples and the first sample of a data set.

    Raises
    ------
    InputError
        If `samples` is a path, is empty, is of another split, or if its first sample is not a pair of tensors.
    """
    require_samples(samples, what, split)
    own = getattr(samples, "split", split)
    inner = samples
    while hasattr(inner, "dataset"):  # a torch Subset may be of any split except the test split
        inner = inner.dataset
    own = "test" if getattr(inner, "split", split) == "test" else own
    if own != split:
        raise InputError(
            f"the {what} are of the split {own!r}; use split={split!r}, since test and validation samples must not be "
            "used for training."
        )
    if size_of(samples) == 0:
        raise InputError(f"the {what} have no samples; give at least one.")
    first = samples[0]
    pair = isinstance(first, tuple | list) and len(first) == 2 and all(isinstance(part, Tensor) for part in first)
    if not pair or not all(part.dim() >= 1 and part.is_floating_point() for part in first):
        raise InputError(f"a sample of the {what} is not a pair (x, y) of floating-point tensors (channel, *space).")


def describe_samples(samples: Samples) -> dict[str, Any]:
    """Return the description of a data set for a model card, in JSON types."""
    description = {name: _plain(getattr(samples, name)) for name in _DATA_ATTRIBUTES if hasattr(samples, name)}
    return description | {"samples": size_of(samples)}


def _plain(value: Any) -> Any:
    """Convert tuples and numpy numbers to JSON types."""
    if isinstance(value, tuple):
        return [_plain(part) for part in value]
    return value.item() if isinstance(value, np.generic) else value


def shuffled(count: int, seed: int, epoch: int) -> list[int]:
    """Return the random order of the samples in an epoch."""
    order: list[int] = np.random.default_rng([seed, epoch]).permutation(count).tolist()
    return order


def batches(order: Sequence[int], size: int) -> list[list[int]]:
    """Split an order into batches; the last one may be smaller."""
    return [list(part) for part in itertools.batched(order, size)]


def load(
    samples: Samples, parts: Sequence[list[int]], what: str, *, workers: int, pinned: bool
) -> Iterator[tuple[Tensor, Tensor]]:
    """Load batches of samples, and check that all values are finite.

    Raises
    ------
    InputError
        If a sample has NaN or infinity, or samples of a batch have different shapes.
    """
    # with its own generator, so that the loader does not advance the one of the training
    loader: DataLoader[tuple[Tensor, Tensor]] = DataLoader(
        samples,
        batch_sampler=parts,
        num_workers=workers,
        pin_memory=pinned,
        generator=torch.Generator(),
    )
    stream = iter(loader)
    for part in parts:
        try:
            x, y = next(stream)
        except InputError as error:  # from a worker process, the message is part of a traceback
            raise InputError(str(error).rpartition("InputError: ")[2].strip()) from None
        except RuntimeError as error:
            if "stack expects each tensor to be equal size" not in str(error):
                raise
            raise InputError(f"the {what} have samples of different shapes; resample them to one grid.") from None
        _check_finite(part, (x, y), what)
        yield x, y


def _check_finite(part: Sequence[int], pair: tuple[Tensor, Tensor], what: str) -> None:
    for name, values in zip(("input", "target"), pair):
        # the sum is finite unless an entry is not, or it overflows; this needs no second array
        if not bool(torch.isfinite(values.sum())) and not bool(torch.isfinite(values).all()):
            bad = ~torch.isfinite(values).reshape(len(part), -1).all(1)
            raise InputError(
                f"the {name} of sample {part[int(bad.nonzero()[0])]} of the {what} has NaN or infinity; leave the "
                "sample out, or generate it again."
            )


def stack_all(samples: Samples, what: str) -> tuple[Tensor, Tensor]:
    """Load all samples into two tensors, in their order."""
    count, first = size_of(samples), samples[0]
    require_memory(2 * count * sum(part.numel() * part.element_size() for part in first), f"all {what}")
    blocks = list(load(samples, batches(range(count), _LOAD_BATCH_SIZE), what, workers=0, pinned=False))
    return torch.cat([x for x, _ in blocks]), torch.cat([y for _, y in blocks])
