"""Losses for fields on lattices: functions `loss(prediction, target, inputs)` of fields (b, channel, *space).

All are relative errors ||prediction - target|| / ||target||, with the norm over channels and space: one value per
sample, shape (b,).
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

import torch
from torch import Tensor

from sciml_bounds.errors import InputError

__all__ = ["LOSSES", "Loss", "relative_h1", "relative_h1_spectral", "relative_l2"]

Loss = Callable[[Tensor, Tensor, Tensor | None], Tensor]

#: Wavenumbers from this one on count as zero in the published spectral norm.
TRUNCATION = 20


def relative_l2(prediction: Tensor, target: Tensor, inputs: Tensor | None = None) -> Tensor:
    """Compute the relative error in the root mean square over points.

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
        Whether fields are periodic; then the first node also follows the last, and is not repeated.

    Notes
    -----
    ||u||^2 is the integral of u^2 + |grad u|^2. Along an edge of length h from a to b, the square of the linear
    interpolant integrates to h (m^2 + d^2 / 12), with mean m = (a + b) / 2 and difference d = b - a, and its derivative
    is d / h; products of that over the axes give the integrals over cells.
    """
    return _relative(prediction, target, partial(_h1_square, periodic=periodic))


def relative_h1_spectral(
    prediction: Tensor, target: Tensor, inputs: Tensor | None = None, *, truncation: int = TRUNCATION
) -> Tensor:
    """Compute the relative error in the truncated spectral H1 norm of the published figures for Darcy flow.

    The discrete Fourier coefficients of integer wavenumber k (per box, without 2 pi) are weighted by
    sqrt(1 + sum k_i^2), where components with |k_i| >= `truncation` count as zero. All fields are treated as periodic.
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
            f"prediction and target have shapes {tuple(prediction.shape)} and {tuple(target.shape)}; they must agree "
            "(for a network with a flux head, use the loss 'bound')."
        )
    exact = torch.promote_types(target.dtype, torch.float32)  # half precision loses sums of many squares
    with torch.autocast(target.device.type, enabled=False):
        error = square(prediction.to(exact) - target.to(exact))
        size = square(target.to(exact))
    tiny = torch.finfo(exact).tiny  # avoids NaN for zero targets and for perfect predictions
    return error.clamp_min(tiny).sqrt() / size.clamp_min(tiny).sqrt()


def _h1_square(field: Tensor, *, periodic: bool) -> Tensor:
    if min(field.shape[2:]) < 2:
        raise InputError(f"H1 needs at least two points along each axis, not {tuple(field.shape[2:])}.")
    axes = range(2, field.ndim)
    cells = {axis: field.shape[axis] - (not periodic) for axis in axes}
    square = _integral_of_square(field, [*axes], periodic)
    for axis in axes:
        slope = cells[axis] * _difference(field, axis, periodic)
        others = [other for other in axes if other != axis]
        square = square + _integral_of_square(slope, others, periodic) / cells[axis]
    return square


def _integral_of_square(field: Tensor, axes: list[int], periodic: bool) -> Tensor:
    """Integrate the square of the interpolant that is linear along `axes`, and sum over the other axes."""
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
