"""Several processes that train one network: each takes a share of every batch, and gradients are added up.

Under `torchrun --nproc_per_node=2` the result equals that of one process with the same batches to round-off, since each
sample has the same weight wherever it is computed. Layers that couple the samples of a batch (batch normalisation) see
their own share only.
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
    """The processes of a training; one of them, unless torchrun started more."""

    device: torch.device
    rank: int = 0
    size: int = 1

    @property
    def is_first(self) -> bool:
        """Whether this process writes files."""
        return self.rank == 0

    def share(self, indices: Sequence[int]) -> list[int]:
        """Take what this process computes of a batch."""
        return list(indices[self.rank :: self.size])

    def sum_gradients(self, parameters: Iterable[nn.Parameter], extras: Tensor) -> Tensor:
        """Add up gradients and further numbers over all processes, in one message; returns the numbers."""
        if self.size == 1:
            return extras
        gradients = [p.grad for p in parameters if p.grad is not None]
        # Complex gradients are pairs of real ones; the numbers beside them are few and small.
        flat = [torch.view_as_real(g) if g.is_complex() else g for g in gradients]
        bucket = torch.cat([*(g.reshape(-1) for g in flat), extras.to(flat[0].dtype)])
        dist.all_reduce(bucket)
        for g, summed in zip(flat, bucket.split([g.numel() for g in flat] + [extras.numel()])):
            g.copy_(summed.view_as(g))
        return bucket[-extras.numel() :].to(extras.dtype)

    def sum(self, numbers: Tensor) -> Tensor:
        """Add up numbers over all processes."""
        if self.size > 1:
            dist.all_reduce(numbers)
        return numbers

    def any(self, flag: bool) -> bool:
        """Tell all processes whether one of them says so."""
        return bool(self.sum(torch.tensor(float(flag), device=self.device)) > 0)

    def spread(self, model: nn.Module) -> None:
        """Give every process the weights of the first."""
        if self.size > 1:
            for tensor in model.state_dict().values():
                dist.broadcast(tensor, 0)


@contextmanager
def joined(device: str) -> Iterator[Group]:
    """Join the other processes that torchrun started, if there are any, for a `with` block.

    They stay joined until the process ends: the addresses by which they found each other are still known then, so that
    joining once more would wait for the old ones for ever.
    """
    if int(os.environ.get("WORLD_SIZE", "1")) == 1 and not dist.is_initialized():
        yield Group(torch.device(device))
        return
    chosen = torch.device(device)
    if chosen.type == "cuda":
        chosen = torch.device("cuda", int(os.environ.get("LOCAL_RANK", "0")))
        torch.cuda.set_device(chosen)
    if not dist.is_initialized():
        # Its functions keep, as defaults, the group that there is when they are defined. Defined later (an optimiser
        # does so), they would keep ours alive, and with it threads that end a process badly when it ends before them.
        importlib.import_module("torch.distributed.nn.functional")
        dist.init_process_group("cpu:gloo,cuda:nccl" if chosen.type == "cuda" else "gloo")
        atexit.register(_leave)
    yield Group(chosen, dist.get_rank(), dist.get_world_size())


def _leave() -> None:
    if dist.is_initialized():
        dist.destroy_process_group()
