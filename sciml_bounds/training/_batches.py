"""Batches of samples in an order that depends on seed and epoch alone, and checks of what comes in them."""

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

#: What a data set of ours knows about itself and a card should keep.
_KNOWN = ("recipe", "parameters", "seed", "resolution", "inputs", "targets", "layout", "split", "subsample")
#: Samples that are stacked at a time where all are needed.
_BLOCK = 64


def size_of(samples: Samples) -> int:
    """Count the samples."""
    return len(cast("Sequence[Any]", samples))


def require_samples(samples: object, what: str, split: str) -> None:
    """Refuse the path of a data set in place of its samples.

    Raises
    ------
    InputError
        If a path was given.
    """
    if isinstance(samples, str | Path):
        raise InputError(
            f"the {what} are given as the path {samples}; give sb.TorchDataset({str(samples)!r}, {split!r})."
        )


def check_samples(samples: Samples, what: str, split: str) -> None:
    """Look at the first sample, before any work.

    Raises
    ------
    InputError
        If a path was given, there is none, it is not a pair of tensors, or the data say that they are of another split.
    """
    require_samples(samples, what, split)
    own = getattr(samples, "split", split)
    inner = samples
    while hasattr(inner, "dataset"):  # of a torch Subset: any part will do, but of the test split
        inner = inner.dataset
    own = "test" if getattr(inner, "split", split) == "test" else own
    if own != split:
        raise InputError(
            f"the {what} are of the split {own!r}; take split={split!r}, so that nothing is trained or chosen on "
            "samples that are to judge it."
        )
    if size_of(samples) == 0:
        raise InputError(f"the {what} hold no samples; give at least one.")
    first = samples[0]
    pair = isinstance(first, tuple | list) and len(first) == 2 and all(isinstance(part, Tensor) for part in first)
    if not pair or not all(part.dim() >= 1 and part.is_floating_point() for part in first):
        raise InputError(f"a sample of the {what} is not a pair (x, y) of floating-point tensors (channel, *space).")


def describe_samples(samples: Samples) -> dict[str, Any]:
    """Say what is known about a data set, in JSON's words."""
    known = {name: _plain(getattr(samples, name)) for name in _KNOWN if hasattr(samples, name)}
    return known | {"samples": size_of(samples)}


def _plain(value: Any) -> Any:
    """Turn tuples and numbers of numpy into what JSON has."""
    if isinstance(value, tuple):
        return [_plain(part) for part in value]
    return value.item() if isinstance(value, np.generic) else value


def shuffled(count: int, seed: int, epoch: int) -> list[int]:
    """Order the samples of an epoch."""
    order: list[int] = np.random.default_rng([seed, epoch]).permutation(count).tolist()
    return order


def batches(order: Sequence[int], size: int) -> list[list[int]]:
    """Cut an order into batches; the last may be smaller."""
    return [list(part) for part in itertools.batched(order, size)]


def load(
    samples: Samples, parts: Sequence[list[int]], what: str, *, workers: int, pinned: bool
) -> Iterator[tuple[Tensor, Tensor]]:
    """Load batches of samples, and hold every number against NaN.

    Raises
    ------
    InputError
        If a sample has NaN or infinity in it, or another shape than its neighbours.
    """
    # A generator of its own: the loader would draw from the one of the training.
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
        except InputError as error:  # from a process that loads, it comes within a traceback
            raise InputError(str(error).rpartition("InputError: ")[2].strip()) from None
        except RuntimeError as error:
            if "stack expects each tensor to be equal size" not in str(error):
                raise
            raise InputError(f"the {what} have samples of different shapes; resample them to one grid.") from None
        _check_finite(part, (x, y), what)
        yield x, y


def _check_finite(part: Sequence[int], pair: tuple[Tensor, Tensor], what: str) -> None:
    for name, values in zip(("input", "target"), pair):
        # One number says whether any is NaN or infinite, without a second array; an overflow is looked at again.
        if not bool(torch.isfinite(values.sum())) and not bool(torch.isfinite(values).all()):
            bad = ~torch.isfinite(values).reshape(len(part), -1).all(1)
            raise InputError(
                f"the {name} of sample {part[int(bad.nonzero()[0])]} of the {what} holds NaN or infinity; "
                "leave the sample out or make it again."
            )


def stack_all(samples: Samples, what: str) -> tuple[Tensor, Tensor]:
    """Load all samples at once, in their order."""
    count, first = size_of(samples), samples[0]
    require_memory(2 * count * sum(part.numel() * part.element_size() for part in first), f"all {what}")
    blocks = list(load(samples, batches(range(count), _BLOCK), what, workers=0, pinned=False))
    return torch.cat([x for x, _ in blocks]), torch.cat([y for _, y in blocks])
