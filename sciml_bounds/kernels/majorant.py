"""The terms of the guaranteed error bound on every cell, in one pass over the grid.

For -div(a grad u) + c u = f, a multilinear field v and a flux y that is linear along its own axis on each cell
(lowest-order Raviart-Thomas), with r = f + div y - c v and its cell mean r':

    flux        || a^-1/2 (a grad v - y) ||^2
    oscillation m || r - r' ||              m = max_i h_i / (pi sqrt(a_i))
    reaction    c^-1 || r' ||^2             (nothing where c = 0: there r' is zero for an equilibrated flux)

Where it is smaller, c^-1 || r - r' ||^2 is put into the third term instead of the second. All integrals are exact (see
`kernels.q1` for the orthogonal modes). The Poincare constant of a box is that of Payne, Weinberger, Arch. Rational
Mech. Anal. 5 (1960) 286-292, which for a box is attained on its longest side.
"""

from __future__ import annotations

import math

import numpy as np
import torch
from numba import prange
from torch import Tensor

from sciml_bounds.kernels._backend import (
    NumbaKernel,
    backend_for,
    launch,
    needs_gradient,
    require_batches,
    tl,
    triton_jit,
)
from sciml_bounds.kernels.q1 import _pad, modes

__all__ = ["majorant_terms", "safe_sqrt"]


def majorant_terms(
    coefficient: tuple[Tensor, ...],
    reaction: Tensor,
    source: Tensor,
    fluid: Tensor,
    values: Tensor,
    flux: tuple[Tensor, ...],
    spacing: tuple[float, ...],
) -> tuple[Tensor, Tensor, Tensor]:
    """Compute the three terms on every cell.

    Parameters
    ----------
    coefficient, reaction, source, fluid
        a along each axis, c, f and the mask of fluid cells, shape (1 or b, n).
    values
        Nodal values, shape (b, n + 1).
    flux
        y along each axis at the face centres, shape (1 or b, n + 1 along its own axis).
    spacing
        h along each axis.

    Returns
    -------
    tuple of Tensor
        Flux term (squared), oscillation term (not squared), reaction term (squared), each (b, n); zero in solids.
    """
    cells = (*coefficient, reaction, source, fluid.to(values.dtype))
    require_batches(len(values), *cells, *flux)
    backend = backend_for(values)
    if backend == "torch" or needs_gradient(*cells, values, *flux):
        return _terms_torch(coefficient, reaction, source, fluid, values, flux, spacing)
    dim = len(spacing)
    nodes = _pad(values, dim)
    a = [_pad(part, dim) for part in coefficient]
    y = [_pad(part, dim) for part in flux]
    a, y = [a[0]] * (3 - dim) + a, [y[0]] * (3 - dim) + y  # axes that are not there are never read
    rest = [_pad(part, dim) for part in cells[dim:]]
    h = np.array((1.0,) * (3 - dim) + spacing)
    out = torch.empty((3, len(nodes), *rest[0].shape[1:]), dtype=values.dtype, device=values.device)
    if backend == "numba":
        scratch = np.empty((math.prod(out.shape[1:4]), 4, 8))
        _terms_numba(out.numel(), dim, *a, *rest, nodes, *y, h, out, scratch)
    else:
        _terms_triton(dim, a, rest, nodes, y, h, out)
    shape = (len(values), *source.shape[1:])
    return out[0].view(shape), out[1].view(shape), out[2].view(shape)


def safe_sqrt(squared: Tensor) -> Tensor:
    """Square root whose derivative at zero is zero instead of infinite; NaN stays NaN."""
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


# --- numba ------------------------------------------------------------------------------------------------------------


@NumbaKernel
def _terms_numba(dim, ax, ay, az, c, f, fluid, v, yx, yy, yz, h, out, scratch):
    B = v.shape[0]
    X, Y, Z = out.shape[2:]
    corners = 1 << dim
    volume = h[0] * h[1] * h[2]
    for row in prange(B * X * Y):
        n = row // (X * Y)
        x = (row // Y) % X
        y = row % Y
        e, a, low, high = scratch[row, 0], scratch[row, 1], scratch[row, 2], scratch[row, 3]
        for z in range(Z):
            if fluid[n if fluid.shape[0] > 1 else 0, x, y, z] == 0.0:
                out[0, n, x, y, z] = 0.0
                out[1, n, x, y, z] = 0.0
                out[2, n, x, y, z] = 0.0
                continue
            for q in range(corners):
                e[q] = v[n, x + (q >> 2), y + ((q >> 1) & 1), z + (q & 1)]
            for k in range(dim):
                bit = 1 << k
                for q in range(corners):
                    if q & bit == 0:
                        below = e[q]
                        above = e[q | bit]
                        e[q] = 0.5 * (below + above)
                        e[q | bit] = above - below
            a[0] = ax[n if ax.shape[0] > 1 else 0, x, y, z]
            a[1] = ay[n if ay.shape[0] > 1 else 0, x, y, z]
            a[2] = az[n if az.shape[0] > 1 else 0, x, y, z]
            k = n if yz.shape[0] > 1 else 0
            low[2] = yz[k, x, y, z]
            high[2] = yz[k, x, y, z + 1]
            if dim > 1:
                k = n if yy.shape[0] > 1 else 0
                low[1] = yy[k, x, y, z]
                high[1] = yy[k, x, y + 1, z]
            if dim > 2:
                k = n if yx.shape[0] > 1 else 0
                low[0] = yx[k, x, y, z]
                high[0] = yx[k, x + 1, y, z]
            divergence = 0.0
            mismatch = 0.0
            constant = 0.0
            for k in range(3 - dim, 3):
                jump = high[k] - low[k]
                divergence += jump / h[k]
                part = jump * jump / 12.0
                for q in range(corners):
                    if (q >> (2 - k)) & 1:
                        gradient = a[k] * e[q] / h[k]
                        size = (q & 1) + ((q >> 1) & 1) + (q >> 2)
                        if size == 1:
                            gradient -= 0.5 * (low[k] + high[k])
                        part += gradient * gradient * (1.0 if size == 1 else (1.0 / 12.0 if size == 2 else 1.0 / 144.0))
                mismatch += part / a[k]
                constant = max(constant, h[k] * h[k] / (math.pi * math.pi * a[k]))
            flux_term = volume * mismatch
            oscillation = 0.0
            reaction_term = 0.0
            kc = c[n if c.shape[0] > 1 else 0, x, y, z]
            if kc > 0.0:
                variance = 0.0
                for q in range(1, corners):
                    size = (q & 1) + ((q >> 1) & 1) + (q >> 2)
                    variance += (
                        e[q] * e[q] * (1.0 / 12.0 if size == 1 else (1.0 / 144.0 if size == 2 else 1.0 / 1728.0))
                    )
                rest = volume * kc * kc * variance
                residual = f[n if f.shape[0] > 1 else 0, x, y, z] + divergence - kc * e[0]
                reaction_term = volume * residual * residual / kc
                oscillation = math.sqrt(constant * rest)
                total = math.sqrt(flux_term) + oscillation
                if total * total > flux_term + rest / kc:
                    oscillation = 0.0
                    reaction_term += rest / kc
            out[0, n, x, y, z] = flux_term
            out[1, n, x, y, z] = oscillation
            out[2, n, x, y, z] = reaction_term


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
    pi_squared = tl.load(h + 3)  # a literal would be cut to single precision
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
    dim: int, a: list[Tensor], rest: list[Tensor], nodes: Tensor, y: list[Tensor], h: np.ndarray, out: Tensor
) -> None:
    fields = [*a, *rest, nodes, *y]
    strides = [field[0].numel() if len(field) > 1 else 0 for field in fields]
    numbers = torch.as_tensor([*h, math.pi**2], dtype=nodes.dtype, device=nodes.device)
    X, Y, Z = out.shape[2:]
    launch(
        _terms_kernel, X * Y * Z, len(nodes), *fields, numbers, out, X, Y, Z, len(nodes), *strides,
        DIM=dim, CORNERS=1 << dim,
    )  # fmt: skip
