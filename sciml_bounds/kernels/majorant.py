"""Cell terms of the guaranteed error bound, computed in one pass over the grid.

For -div(a grad u) + c u = f, a multilinear field v and a lowest-order Raviart-Thomas flux y (each component linear
along its own axis on a cell), with r = f + div y - c v and its cell mean r', the terms of a cell are

    flux        || a^-1/2 (a grad v - y) ||^2
    oscillation m || r - r' ||              m = max_i h_i / (pi sqrt(a_i))
    reaction    c^-1 || r' ||^2             (zero where c = 0: there r' = 0 for an equilibrated flux)

If this gives a smaller bound, c^-1 || r - r' ||^2 is added to the third term and the second term is left out. All
integrals are exact (see `kernels.q1` for the orthogonal modes). The Poincare constant of a box is that of Payne,
Weinberger, Arch. Rational Mech. Anal. 5 (1960) 286-292; it is attained along the longest side.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import torch
from torch import Tensor

from sciml_bounds.kernels._backend import (
    backend_for,
    launch,
    needs_gradient,
    require_batches,
    run_compiled,
    tl,
    triton_jit,
)
from sciml_bounds.kernels.field_memory import new_field
from sciml_bounds.kernels.q1 import STRIP, _pad, cell_rows, modes, padded_spacing

__all__ = ["BALANCE_ROUND_OFFS", "Terms", "majorant_terms", "safe_sqrt"]

#: Largest imbalance of a cell that counts as zero, in multiples of the round-off of its largest flux.
BALANCE_ROUND_OFFS = 16


class Terms(NamedTuple):
    """Cell terms of the error bound.

    Attributes
    ----------
    flux : Tensor (b, n)
        Square of the flux term; zero in solids.
    oscillation : Tensor (b, n)
        Oscillation term, not squared. Without reaction, this term and the reaction term are zero (expanded tensors).
    reaction : Tensor (b, n)
        Square of the reaction term.
    excess : Tensor (b,)
        Largest imbalance beyond round-off of a cell without reaction: | integral of f + div y | minus
        `BALANCE_ROUND_OFFS` times the round-off of the largest flux or source of the cell.
    """

    flux: Tensor
    oscillation: Tensor
    reaction: Tensor
    excess: Tensor


def majorant_terms(
    coefficient: tuple[Tensor, ...],
    reaction: Tensor,
    source: Tensor,
    fluid: Tensor,
    values: Tensor,
    flux: tuple[Tensor, ...],
    spacing: tuple[float, ...],
) -> Terms:
    """Compute the terms of every cell.

    Parameters
    ----------
    coefficient : tuple of Tensor (1 or b, n)
        a along each axis.
    reaction, source, fluid : Tensor (1 or b, n)
        c, f and the mask of fluid cells.
    values : Tensor (b, n + 1)
        Nodal values of v.
    flux : tuple of Tensor (1 or b, n + 1 along its own axis)
        y along each axis at the face centres.
    spacing : tuple of float
        Cell size h along each axis.
    """
    data = (*coefficient, reaction, source)
    require_batches(len(values), *data, fluid, *flux)
    backend = backend_for(values)
    if backend == "torch" or needs_gradient(*data, values, *flux):
        terms = _terms_torch(coefficient, reaction, source, fluid, values, flux, spacing)
        return Terms(*terms, _excess(reaction, source, fluid, values, flux, spacing))
    dim = len(spacing)
    nodes, y = _pad(values, dim), [_pad(part, dim) for part in flux]
    y = [y[0]] * (3 - dim) + y  # entries of missing axes are not read
    reacts = any(reaction.stride()[1:]) or bool(reaction[(slice(None), *(slice(1),) * dim)].any())
    cells = (1,) * (3 - dim) + tuple(source.shape[1:])
    out = new_field(values, (3 if reacts or backend == "triton" else 1, len(values), *cells))
    if backend == "triton":
        a = [_in_space(part, dim) for part in coefficient]
        rest = [_in_space(part, dim) for part in (reaction, source, fluid)]
        fields = [part.to(values.dtype).contiguous() for part in [a[0]] * (3 - dim) + a + rest]
        _terms_triton(dim, fields[:3], fields[3:], nodes, y, spacing, out)
        excess = _excess(reaction, source, fluid, values, flux, spacing)
    else:
        found = values.new_empty((len(values), cells[0] * -(-cells[1] // STRIP)))
        run_compiled(
            "majorant_terms", out[0].numel(), dim, *cell_rows(coefficient, reaction, source, fluid), nodes, *y,
            padded_spacing(spacing), BALANCE_ROUND_OFFS * torch.finfo(values.dtype).eps, out, found,
        )  # fmt: skip
        excess = found.amax(1)
    parts = [part.view(len(values), *source.shape[1:]) for part in out]
    if len(parts) == 1:
        parts += [values.new_zeros(1).expand_as(parts[0])] * 2
    return Terms(parts[0], parts[1], parts[2], excess)


def _in_space(field: Tensor, dim: int) -> Tensor:
    """View a cell field (b, n) as a cell field in three dimensions."""
    return field.reshape(len(field), *(1,) * (3 - dim), *field.shape[1:])


def safe_sqrt(squared: Tensor) -> Tensor:
    """Return the square root, with derivative zero instead of infinity at zero; NaN stays NaN."""
    zero = squared <= 0
    return torch.where(zero, 0.0, torch.where(zero, 1.0, squared).sqrt())


# --- reference --------------------------------------------------------------------------------------------------------


def _terms_torch(
    coefficient: tuple[Tensor, ...],
    reaction: Tensor,
    source: Tensor,
    fluid: Tensor,
    values: Tensor,
    flux: tuple[Tensor, ...],
    spacing: tuple[float, ...],
) -> tuple[Tensor, Tensor, Tensor]:
    dim = len(spacing)
    volume = math.prod(spacing)
    m = modes(values, dim)
    divergence = mismatch = constant = torch.zeros_like(source)
    for axis, h in enumerate(spacing):
        a = torch.where(fluid, coefficient[axis], 1.0)
        position = 1 + axis
        n = flux[axis].shape[position] - 1
        low, high = flux[axis].narrow(position, 0, n), flux[axis].narrow(position, 1, n)
        divergence = divergence + (high - low) / h
        mismatch = mismatch + (high - low) ** 2 / (12 * a)
        for bits, mode in m.items():
            if not bits[axis]:
                continue
            gradient = a * mode / h
            if sum(bits) == 1:
                gradient = gradient - (low + high) / 2
            mismatch = mismatch + gradient**2 / a * 12.0 ** (1 - sum(bits))
        constant = torch.maximum(constant, h**2 / (math.pi**2 * a))
    mean = (0,) * dim
    variance = sum(
        (mode**2 * 12.0 ** -sum(bits) for bits, mode in m.items() if bits != mean), torch.zeros_like(m[mean])
    )
    reacts = fluid & (reaction > 0)
    safe = torch.where(reacts, reaction, 1.0)
    flux_term = torch.where(fluid, volume * mismatch, 0.0)
    rest = torch.where(reacts, volume * safe**2 * variance, 0.0)  # || r - r' ||^2
    residual = source + divergence - safe * m[mean]
    reaction_term = torch.where(reacts, volume * residual**2 / safe, 0.0)
    oscillation = safe_sqrt(constant * rest)
    better = (safe_sqrt(flux_term) + oscillation) ** 2 > flux_term + rest / safe
    return (
        flux_term,
        torch.where(better, 0.0, oscillation),
        torch.where(better, reaction_term + rest / safe, reaction_term),
    )


def _excess(
    reaction: Tensor,
    source: Tensor,
    fluid: Tensor,
    values: Tensor,
    flux: tuple[Tensor, ...],
    spacing: tuple[float, ...],
) -> Tensor:
    volume = math.prod(spacing)
    divergence, size = source.detach(), source.detach().abs() * volume
    for axis, (face, h) in enumerate(zip(flux, spacing)):
        n = face.shape[1 + axis] - 1
        low, high = face.detach().narrow(1 + axis, 0, n), face.detach().narrow(1 + axis, 1, n)
        divergence = divergence + (high - low) / h
        size = torch.maximum(size, torch.maximum(low.abs(), high.abs()) * (volume / h))
    excess = divergence.abs() * volume - BALANCE_ROUND_OFFS * torch.finfo(values.dtype).eps * size
    worst: Tensor = torch.where(fluid & (reaction <= 0), excess, 0.0).flatten(1).amax(1)
    return worst.expand(len(values))


# --- triton -----------------------------------------------------------------------------------------------------------


@triton_jit
def _terms_kernel(
    ax, ay, az, c, f, fluid, v, yx, yy, yz, h, out, X, Y, Z, B,
    sax, say, saz, sc, sf, sfluid, sv, syx, syy, syz,
    DIM: tl.constexpr, CORNERS: tl.constexpr, BLOCK: tl.constexpr,
):  # fmt: skip
    N = X * Y * Z
    EY: tl.constexpr = 1 if DIM > 1 else 0
    n = tl.program_id(1).to(tl.int64)
    i = tl.program_id(0) * BLOCK + tl.arange(0, BLOCK)
    inside = i < N
    x = i // (Y * Z)
    y = (i // Z) % Y
    z = i % Z
    open_cell = inside & (tl.load(fluid + n * sfluid + i, mask=inside, other=0.0) > 0.0)
    kc = tl.load(c + n * sc + i, mask=open_cell, other=0.0)
    source = tl.load(f + n * sf + i, mask=open_cell, other=0.0)
    zero = kc * 0.0
    divergence = zero
    mismatch = zero
    constant = zero
    variance = zero
    mean = zero
    volume = tl.load(h) * tl.load(h + 1) * tl.load(h + 2)
    pi_squared = tl.load(h + 3)  # triton would cut a literal to single precision
    for k in tl.static_range(3 - DIM, 3):
        if k == 0:
            a = tl.load(ax + n * sax + i, mask=open_cell, other=1.0)
            low = tl.load(yx + n * syx + i, mask=open_cell, other=0.0)
            high = tl.load(yx + n * syx + i + Y * Z, mask=open_cell, other=0.0)
        elif k == 1:
            a = tl.load(ay + n * say + i, mask=open_cell, other=1.0)
            low = tl.load(yy + n * syy + (x * (Y + 1) + y) * Z + z, mask=open_cell, other=0.0)
            high = tl.load(yy + n * syy + (x * (Y + 1) + y + 1) * Z + z, mask=open_cell, other=0.0)
        else:
            a = tl.load(az + n * saz + i, mask=open_cell, other=1.0)
            low = tl.load(yz + n * syz + (x * Y + y) * (Z + 1) + z, mask=open_cell, other=0.0)
            high = tl.load(yz + n * syz + (x * Y + y) * (Z + 1) + z + 1, mask=open_cell, other=0.0)
        length = tl.load(h + k)
        jump = high - low
        divergence += jump / length
        part = jump * jump / 12.0
        for s in tl.static_range(CORNERS):
            if (s >> (2 - k)) & 1:
                mode = zero
                for q in tl.static_range(CORNERS):
                    factor = 1.0
                    for bit in tl.static_range(DIM):
                        if (s >> bit) & 1:
                            factor = factor * (1.0 if (q >> bit) & 1 else -1.0)
                        else:
                            factor = factor * 0.5
                    node = ((x + (q >> 2)) * (Y + EY) + y + ((q >> 1) & 1)) * (Z + 1) + z + (q & 1)
                    mode += factor * tl.load(v + n * sv + node, mask=open_cell, other=0.0)
                gradient = a * mode / length
                if ((s & 1) + ((s >> 1) & 1) + (s >> 2)) == 1:
                    gradient -= 0.5 * (low + high)
                    part += gradient * gradient
                elif ((s & 1) + ((s >> 1) & 1) + (s >> 2)) == 2:
                    part += gradient * gradient / 12.0
                else:
                    part += gradient * gradient / 144.0
        mismatch += part / a
        constant = tl.maximum(constant, length * length / (pi_squared * a))
    for s in tl.static_range(CORNERS):
        mode = zero
        for q in tl.static_range(CORNERS):
            factor = 1.0
            for bit in tl.static_range(DIM):
                if (s >> bit) & 1:
                    factor = factor * (1.0 if (q >> bit) & 1 else -1.0)
                else:
                    factor = factor * 0.5
            node = ((x + (q >> 2)) * (Y + EY) + y + ((q >> 1) & 1)) * (Z + 1) + z + (q & 1)
            mode += factor * tl.load(v + n * sv + node, mask=open_cell, other=0.0)
        if s == 0:
            mean = mode
        elif ((s & 1) + ((s >> 1) & 1) + (s >> 2)) == 1:
            variance += mode * mode / 12.0
        elif ((s & 1) + ((s >> 1) & 1) + (s >> 2)) == 2:
            variance += mode * mode / 144.0
        else:
            variance += mode * mode / 1728.0
    flux_term = tl.where(open_cell, volume * mismatch, 0.0)
    reacts = open_cell & (kc > 0.0)
    safe = tl.where(reacts, kc, 1.0)
    rest = tl.where(reacts, volume * safe * safe * variance, 0.0)
    residual = source + divergence - safe * mean
    reaction_term = tl.where(reacts, volume * residual * residual / safe, 0.0)
    oscillation = tl.sqrt(constant * rest)
    total = tl.sqrt(flux_term) + oscillation
    better = total * total > flux_term + rest / safe
    target = out + n * N + i
    tl.store(target, flux_term, mask=inside)
    tl.store(target + B * N, tl.where(better, 0.0, oscillation), mask=inside)
    tl.store(target + 2 * B * N, tl.where(better, reaction_term + rest / safe, reaction_term), mask=inside)


def _terms_triton(
    dim: int,
    a: list[Tensor],
    rest: list[Tensor],
    nodes: Tensor,
    y: list[Tensor],
    spacing: tuple[float, ...],
    out: Tensor,
) -> None:
    fields = [*a, *rest, nodes, *y]
    strides = [field[0].numel() if len(field) > 1 else 0 for field in fields]
    numbers = torch.as_tensor([*(1.0,) * (3 - dim), *spacing, math.pi**2], dtype=nodes.dtype, device=nodes.device)
    X, Y, Z = out.shape[2:]
    launch(
        _terms_kernel, X * Y * Z, len(nodes), *fields, numbers, out, X, Y, Z, len(nodes), *strides,
        DIM=dim, CORNERS=1 << dim,
    )  # fmt: skip
