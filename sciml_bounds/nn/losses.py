"""Losses for fields on lattices: functions `loss(prediction, target, inputs)` of fields (b, channel, *space).

All losses are relative errors ||prediction - target|| / ||target||, with the norm over channels and space. Each returns
one value per sample, shape (b,).
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

import torch
from torch import Tensor

from sciml_bounds.errors import InputError

__all__ = ["LOSSES", "Loss", "relative_h1", "relative_h1_spectral", "relative_l2"]

Loss = Callable[[Tensor, Tensor, Tensor | None], Tensor]

#: Default of `truncation`: components of the spectral norm with at least this wavenumber count as zero.
TRUNCATION = 20


def relative_l2(prediction: Tensor, target: Tensor, inputs: Tensor | None = None) -> Tensor:
    """Compute the relative L2 error, with the root mean square over channels and points as norm.

    Examples
    --------
    >>> import torch
    >>> relative_l2(torch.full((1, 1, 4), 3.0), torch.full((1, 1, 4), 2.0))
    tensor([0.5000])
    """
    return _relative(prediction, target, lambda field: field.square().flatten(1).sum(1))


def relative_h1(prediction: Tensor, target: Tensor, inputs: Tensor | None = None, *, periodic: bool = False) -> Tensor:
    """Compute the relative H1 error on the unit cube, exactly for the multilinear interpolants of the fields.

    Parameters
    ----------
    prediction, target : Tensor
        Nodal values (b, channel, *space), including the nodes on the boundary.
    inputs : Tensor or None
        Not used.
    periodic : bool
        Whether fields are periodic. If True, the node after the last is the first, which is stored once.

    Notes
    -----
    ||u||^2 is the integral of u^2 + |grad u|^2. Along an edge of length h, the linear interpolant of the end values a
    and b has the square integral h (m^2 + d^2 / 12), with mean m = (a + b) / 2 and difference d = b - a, and its
    derivative is d / h. Integrals over cells are products of these expressions over the axes.
    """
    return _relative(prediction, target, partial(_h1_square, periodic=periodic))


def relative_h1_spectral(
    prediction: Tensor, target: Tensor, inputs: Tensor | None = None, *, truncation: int = TRUNCATION
) -> Tensor:
    """Compute the relative error in a truncated spectral H1 norm, which published results for Darcy flow use.

    The discrete Fourier coefficients of integer wavenumber k (per box, without 2 pi) are weighted by sqrt(1 + sum
    k_i^2), where components with |k_i| >= `truncation` count as zero. All fields are treated as periodic.
    """
    return _relative(prediction, target, partial(_spectral_square, truncation=truncation))


#: Losses by the names that recipes use.
LOSSES: dict[str, Loss] = {
    "l2": relative_l2,
    "h1": relative_h1,
    "h1-periodic": partial(relative_h1, periodic=True),
    "h1-spectral": relative_h1_spectral,
}


def _relative(prediction: Tensor, target: Tensor, square: Callable[[Tensor], Tensor]) -> Tensor:
    if prediction.shape != target.shape:
        raise InputError(
            f"prediction and target have shapes {tuple(prediction.shape)} and {tuple(target.shape)}; give both the "
            "same shape (a network with a flux head needs the loss 'bound')."
        )
    exact = torch.promote_types(target.dtype, torch.float32)  # half precision loses sums of many squares
    with torch.autocast(target.device.type, enabled=False):
        error = square(prediction.to(exact) - target.to(exact))
        size = square(target.to(exact))
    tiny = torch.finfo(exact).tiny  # avoids NaN for zero targets and for perfect predictions
    return error.clamp_min(tiny).sqrt() / size.clamp_min(tiny).sqrt()


def _h1_square(field: Tensor, *, periodic: bool) -> Tensor:
    if min(field.shape[2:]) < 2:
        raise InputError(
            f"the H1 losses need at least two points along each axis, but the field has {tuple(field.shape[2:])} "
            "points; use the loss 'l2'."
        )
    axes = range(2, field.ndim)
    cells = {axis: field.shape[axis] - (not periodic) for axis in axes}
    square = _integral_of_square(field, [*axes], periodic)
    for axis in axes:
        slope = cells[axis] * _difference(field, axis, periodic)
        others = [other for other in axes if other != axis]
        square = square + _integral_of_square(slope, others, periodic) / cells[axis]
    return square


def _integral_of_square(field: Tensor, axes: list[int], periodic: bool) -> Tensor:
    """Integrate the square of the interpolant that is linear along `axes`; sum over the points of other axes."""
    if not axes:
        return field.square().flatten(1).sum(1)
    axis, *rest = axes
    difference = _difference(field, axis, periodic)
    mean = _first(field, axis, periodic) + difference / 2
    parts = _integral_of_square(mean, rest, periodic) + _integral_of_square(difference, rest, periodic) / 12
    return parts / difference.shape[axis]


def _first(field: Tensor, axis: int, periodic: bool) -> Tensor:
    return field if periodic else field.narrow(axis, 0, field.shape[axis] - 1)


def _difference(field: Tensor, axis: int, periodic: bool) -> Tensor:
    return torch.roll(field, -1, axis) - field if periodic else field.diff(dim=axis)


def _spectral_square(field: Tensor, *, truncation: int) -> Tensor:
    axes = tuple(range(2, field.ndim))
    power = torch.fft.rfftn(field, dim=axes, norm="ortho").abs().square()
    weight = torch.ones((), dtype=field.dtype, device=field.device)
    for axis in axes:
        n = field.shape[axis]
        frequencies = torch.fft.rfftfreq if axis == axes[-1] else torch.fft.fftfreq
        k = (frequencies(n, dtype=field.dtype, device=field.device) * n).round()
        k = torch.where(k.abs() < truncation, k, 0.0)
        weight = weight.unsqueeze(-1) + k.square()
    n = field.shape[-1]
    copies = torch.full((power.shape[-1],), 2.0, dtype=field.dtype, device=field.device)
    copies[0] = 1.0  # rfftn omits the mirrored half of the spectrum, but not its ends
    if n % 2 == 0:
        copies[-1] = 1.0
    total: Tensor = (power * (weight * copies)).flatten(1).sum(1)
    return total
