"""Data-parallel training: each process computes a share of every batch, and gradients are summed.

Under `torchrun --nproc_per_node=2` the result equals that of one process with the same batches up to round-off, since
all samples have the same weight. Layers that couple the samples of a batch (batch normalisation) see the share of their
process only.
"""

from __future__ import annotations

import atexit
import importlib
import os
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

import torch
import torch.distributed as dist
from torch import Tensor, nn

__all__ = ["Group", "joined"]


@dataclass(frozen=True)
class Group:
    """The processes of a training; a single one unless started by torchrun."""

    device: torch.device
    rank: int = 0
    size: int = 1

    @property
    def is_first(self) -> bool:
        """Whether this process writes files."""
        return self.rank == 0

    def share(self, indices: Sequence[int]) -> list[int]:
        """Return the samples of a batch that this process computes."""
        return list(indices[self.rank :: self.size])

    def sum_gradients(self, parameters: Iterable[nn.Parameter], extras: Tensor) -> Tensor:
        """Sum gradients and further numbers over all processes in one message; return the numbers."""
        if self.size == 1:
            return extras
        gradients = [p.grad for p in parameters if p.grad is not None]
        # complex gradients are sent as pairs of real numbers
        flat = [torch.view_as_real(g) if g.is_complex() else g for g in gradients]
        bucket = torch.cat([*(g.reshape(-1) for g in flat), extras.to(flat[0].dtype)])
        dist.all_reduce(bucket)
        for g, summed in zip(flat, bucket.split([g.numel() for g in flat] + [extras.numel()])):
            g.copy_(summed.view_as(g))
        return bucket[-extras.numel() :].to(extras.dtype)

    def sum(self, numbers: Tensor) -> Tensor:
        """Sum numbers over all processes."""
        if self.size > 1:
            dist.all_reduce(numbers)
        return numbers

    def any(self, flag: bool) -> bool:
        """Return whether the flag is set in any process."""
        return bool(self.sum(torch.tensor(float(flag), device=self.device)) > 0)

    def spread(self, model: nn.Module) -> None:
        """Copy the weights of the first process to all others."""
        if self.size > 1:
            for tensor in model.state_dict().values():
                dist.broadcast(tensor, 0)


@contextmanager
def joined(device: str) -> Iterator[Group]:
    """Context manager: join the process group of torchrun, if there is one.

    The group is kept until the process ends: the store with the addresses is not cleared, so that joining a second time
    would wait for the old group forever.
    """
    if int(os.environ.get("WORLD_SIZE", "1")) == 1 and not dist.is_initialized():
        yield Group(torch.device(device))
        return
    chosen = torch.device(device)
    if chosen.type == "cuda":
        chosen = torch.device("cuda", int(os.environ.get("LOCAL_RANK", "0")))
        torch.cuda.set_device(chosen)
    if not dist.is_initialized():
        # This module stores the current group as default of its functions. If it were imported later (an optimiser does
        # so), it would keep our group alive, with threads that crash the process at its end.
        importlib.import_module("torch.distributed.nn.functional")
        dist.init_process_group("cpu:gloo,cuda:nccl" if chosen.type == "cuda" else "gloo")
        atexit.register(_leave)
    yield Group(chosen, dist.get_rank(), dist.get_world_size())


def _leave() -> None:
    if dist.is_initialized():
        dist.destroy_process_group()
