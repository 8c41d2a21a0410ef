"""Holds every triton kernel to the plain torch reference; run by test_triton.py.

On a CPU this needs TRITON_INTERPRET=1 before the first import, so it runs in a process of its own.
"""

from __future__ import annotations

import sys

import torch

from sciml_bounds.kernels import coarsen, lattice, transfer, use_backend
from sciml_bounds.kernels.majorant import majorant_terms
from sciml_bounds.kernels.q1 import stiffness

# Shape of the lattice and the axes that are coarsened: one to three dimensions, odd and even, with semicoarsening.
LATTICES = [
    ((1, 1, 9), (False, False, True)),
    ((1, 6, 7), (False, True, True)),
    ((1, 5, 4), (False, False, True)),
    ((5, 6, 7), (True, True, True)),
]
CELLS = [(7,), (5, 4), (3, 4, 5)]


def agree(compute, dtype, what):
    """Compare the two implementations of a list of tensors."""
    results = []
    for backend in ("torch", "triton"):
        with use_backend(backend):
            results.append(compute())
    # sums of at most some hundred products of numbers of order one, in another order
    tolerance = 1e-12 if dtype == torch.float64 else 1e-4
    for k, (one, other) in enumerate(zip(*results, strict=True)):
        torch.testing.assert_close(one, other, rtol=tolerance, atol=tolerance, msg=lambda m, k=k: f"{what}, {k}: {m}")


def check_lattices(dtype, device):
    """The three sweeps, prolongation and restriction; indices wrap, as if all axes were periodic."""
    for shape, axes in LATTICES:
        extent = tuple(n > 1 for n in shape)
        crosses = tuple(tuple(int(i == a) for i in range(3)) for a in range(3) if extent[a])
        for offsets in (crosses, coarsen.half_stencil(extent)):
            for coefficients in (1, 2):
                T = torch.rand(len(offsets), coefficients, *shape, dtype=dtype, device=device)
                c, s = torch.rand(2, coefficients, *shape, dtype=dtype, device=device)
                u, b = torch.randn(2, 2, *shape, dtype=dtype, device=device)
                nan = torch.full_like(u, torch.nan)

                def sweeps(T=T, c=c, s=s, u=u, b=b, nan=nan, offsets=offsets):
                    return [
                        lattice.apply(offsets, T, c, u, nan.clone()),
                        lattice.residual(offsets, T, c, u, b, nan.clone()),
                        lattice.relax(offsets, T, c, s, u, b, 0.7, nan.clone()),
                    ]

                agree(sweeps, dtype, f"sweeps on {shape}")
        coarse = transfer.coarse_shape(shape, axes)
        for coefficients in (1, 2):
            weights = torch.rand(len(transfer.pairs(axes)), coefficients, *coarse, dtype=dtype, device=device)
            e = torch.randn(2, *coarse, dtype=dtype, device=device)
            r = torch.randn(2, *shape, dtype=dtype, device=device)

            def transfers(axes=axes, weights=weights, e=e, r=r):
                return [
                    transfer.prolong_add(axes, weights, e, r.clone()),
                    transfer.restrict(axes, weights, r, torch.full_like(e, torch.nan)),
                ]

            agree(transfers, dtype, f"transfers on {shape}")


def check_cells(dtype, device):
    """Stiffness and majorant, with and without a batch of data, reaction and solids in some cells."""
    for shape in CELLS:
        for data, fields in ((1, 1), (1, 2), (2, 2)):
            dim, spacing = len(shape), (0.3, 0.2, 0.5)[: len(shape)]
            a = tuple(0.1 + torch.rand(data, *shape, dtype=dtype, device=device) for _ in shape)
            reacts = torch.rand(data, *shape, device=device) > 0.4
            c = torch.rand(data, *shape, dtype=dtype, device=device) * reacts
            f = torch.randn(1, *shape, dtype=dtype, device=device)
            fluid = torch.rand(1, *shape, device=device) > 0.2
            v = torch.randn(fields, *(n + 1 for n in shape), dtype=dtype, device=device)
            y = tuple(
                torch.randn(data, *(n + (i == j) for j, n in enumerate(shape)), dtype=dtype, device=device)
                for i in range(dim)
            )

            def cells(a=a, c=c, f=f, fluid=fluid, v=v, y=y, spacing=spacing):
                return [stiffness(a, c, v, spacing), *majorant_terms(a, c, f, fluid, v, y, spacing)]

            agree(cells, dtype, f"cells {shape}")


def main(device="cpu"):
    torch.manual_seed(0)
    for dtype in (torch.float64, torch.float32):
        check_lattices(dtype, device)
        check_cells(dtype, device)


if __name__ == "__main__":
    main(*sys.argv[1:])
    print("every kernel agrees")
