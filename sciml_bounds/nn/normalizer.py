"""Normalisation by means and standard deviations of training data, which are saved with the weights of a network."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from sciml_bounds.errors import InputError

__all__ = ["KINDS", "Normalizer"]

#: Statistics per channel; per channel and node (for one lattice only); or no normalisation.
KINDS = ("scalar", "pointwise", "none")

#: Smallest standard deviation used, as a fraction of the largest one of the channel.
MIN_RELATIVE_SCALE = 1e-5
#: Number of samples processed at once, to avoid a copy of the whole data set.
CHUNK_SIZE = 64


class Normalizer(nn.Module):
    """The affine map x -> (x - mean) / scale and its inverse; the identity until it is fitted.

    Parameters
    ----------
    channels : int
        Number of channels of the fields (b, channels, *space).
    size : sequence of int
        Lattice shape. Only the number of axes matters unless `kind` is "pointwise".
    kind : str
        "scalar" (one mean and standard deviation per channel), "pointwise" (per channel and node) or "none".

    Notes
    -----
    Fit the normaliser to training data only. Mean and scale are buffers, and so part of the state of a model.
    """

    mean: Tensor
    scale: Tensor

    def __init__(self, channels: int, size: Sequence[int], kind: str = "scalar") -> None:
        super().__init__()
        self.kind = kind
        shape = (1, channels, *(size if kind == "pointwise" else (1,) * len(size)))
        if kind != "none":
            self.register_buffer("mean", torch.zeros(shape))
            self.register_buffer("scale", torch.ones(shape))

    def fit(self, fields: Tensor) -> None:
        """Set mean and scale from training fields (samples, channels, *space)."""
        if self.kind == "none":
            return
        if len(fields) == 0 or not bool(torch.isfinite(fields).all()):
            if len(fields) == 0:
                raise InputError("a normaliser needs training samples, but there are none; give at least one sample.")
            if not bool(torch.isfinite(fields).all()):
                raise InputError("the training fields contain NaN or infinity; remove these samples before training.")
        if self.kind == "pointwise":
            self._check(fields)
        mean = self._mean(fields)
        deviation = self._mean(fields, mean).sqrt()
        largest = deviation.amax(tuple(range(2, deviation.ndim)), keepdim=True)
        floor = torch.where(largest > 0, MIN_RELATIVE_SCALE * largest, 1.0)
        self.mean.copy_(mean)
        self.scale.copy_(torch.maximum(deviation, floor))

    def _mean(self, fields: Tensor, center: Tensor | None = None) -> Tensor:
        """Return the mean of the fields, or of their squared distances from `center`, in float64."""
        total = torch.zeros((1, *fields.shape[1:]), dtype=torch.float64, device=fields.device)
        for part in fields.split(CHUNK_SIZE):
            exact = part.double()
            total += (exact if center is None else (exact - center).square()).sum(0, keepdim=True)
        mean = total / len(fields)
        return mean if self.kind == "pointwise" else mean.mean(tuple(range(2, mean.ndim)), keepdim=True)

    def encode(self, fields: Tensor) -> Tensor:
        """Return (x - mean) / scale."""
        if self.kind == "none":
            return fields
        self._check(fields)
        return (fields - self.mean) / self.scale

    def decode(self, fields: Tensor) -> Tensor:
        """Return mean + scale x."""
        if self.kind == "none":
            return fields
        self._check(fields)
        return torch.addcmul(self.mean, self.scale, fields.to(self.mean.dtype))

    def _check(self, fields: Tensor) -> None:
        fitted = self.mean.shape[2:]
        if any(n not in (1, m) for n, m in zip(fitted, fields.shape[2:])):
            raise InputError(
                f"the pointwise statistics were fitted on a lattice of {'x'.join(map(str, fitted))}, but the field has "
                f"{'x'.join(map(str, fields.shape[2:]))}; use the fitted lattice, or normalization='scalar'."
            )
