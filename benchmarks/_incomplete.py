"""Incomplete Cholesky factors without fill, for the lattices of pressure systems: each cell coupled along the axes.

References: Meijerink, van der Vorst, Math. Comp. 31 (1977) 148-162; with dropped entries taken off the diagonal:
Gustafsson, BIT 18 (1978) 142-156, and as fluid solvers use it, weakened: Bridson, "Fluid Simulation for Computer
Graphics" (2008), section 4.3. The graph of the matrix has no triangles, so that the factors M = (E + L) E^-1 (E + L^T)
have the strictly lower part L of A itself; only the diagonal E is computed, cell after cell.

Legend: k axes, n cells; T[k, i] couples cell i and cell i + steps[k], and is zero where that cell does not exist.
"""

from __future__ import annotations

import sys

import numpy as np
import torch
from torch import Tensor

from sciml_bounds.operators._lattice_operator import LatticeSystem
from sciml_bounds.operators._linear_operator import CallableOperator

try:
    import numba
except ImportError:
    print("incomplete Cholesky factors need numba, of the extra dev: pip install 'sciml-bounds[dev]'", file=sys.stderr)
    sys.exit(2)

#: A pivot below this share of its diagonal entry is replaced by the entry (Bridson): in a part of the fluid that floats
#: the last one may come out as zero.
SMALLEST_PIVOT = 0.25


@numba.njit(error_model="numpy")
def factor(T: np.ndarray, diagonal: np.ndarray, steps: np.ndarray, relaxation: float) -> np.ndarray:
    """Return 1 / E; of what is dropped, the share `relaxation` is taken off the diagonal."""
    inverse = np.empty_like(diagonal)
    for i in range(len(diagonal)):
        pivot = diagonal[i]
        for k in range(len(steps)):
            j = i - steps[k]
            if j >= 0 and T[k, j] != 0.0:
                others = 0.0
                for m in range(len(steps)):
                    if m != k:
                        others += T[m, j]
                pivot -= T[k, j] * (T[k, j] + relaxation * others) * inverse[j]
        inverse[i] = 1.0 / (pivot if pivot > SMALLEST_PIVOT * diagonal[i] else diagonal[i])
    return inverse


@numba.njit(error_model="numpy")
def substitute(T: np.ndarray, inverse: np.ndarray, steps: np.ndarray, r: np.ndarray, z: np.ndarray) -> None:
    """Write M^-1 r into z: forwards, then backwards."""
    n = len(r)
    for i in range(n):
        total = r[i]
        for k in range(len(steps)):
            j = i - steps[k]
            if j >= 0:
                total += T[k, j] * z[j]
        z[i] = total * inverse[i]
    for i in range(n - 1, -1, -1):
        total = 0.0
        for k in range(len(steps)):
            j = i + steps[k]
            if j < n:
                total += T[k, i] * z[j]
        z[i] += total * inverse[i]


def incomplete_cholesky(system: LatticeSystem, relaxation: float = 0.0) -> CallableOperator:
    """Factorise the operator of a system on one sample."""
    A = system.operator
    _, _, y, z = A.absorption.shape
    steps = np.array([offset[0] * y * z + offset[1] * z + offset[2] for offset in A.offsets])
    T = np.ascontiguousarray(A.conductance[:, 0].flatten(1).numpy())
    inverse = factor(T, A.diagonal().view(-1).numpy(), steps, relaxation)

    def apply(r: Tensor) -> Tensor:
        z = torch.empty_like(r)
        substitute(T, inverse, steps, r.view(-1).numpy(), z.view(-1).numpy())
        return z

    return CallableOperator(apply, len(inverse), symmetric=True, linear=True)
