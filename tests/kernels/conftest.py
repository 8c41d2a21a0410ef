"""Random lattice operators, and dense matrices assembled point by point: the oracle of the kernels."""

from __future__ import annotations

import itertools
from types import SimpleNamespace

import numpy as np
import pytest
import torch

from sciml_bounds.kernels import transfer, use_backend

#: Shapes with every parity of every axis, one to three dimensions, down to two points; True marks a periodic axis.
LATTICES = [
    ((1, 1, 8), (False, False, False)),
    ((1, 1, 9), (False, False, True)),
    ((1, 7, 6), (False, False, False)),
    ((1, 8, 5), (False, True, True)),
    ((3, 2, 4), (True, True, False)),
    ((5, 6, 7), (False, True, False)),
    ((4, 5, 9), (True, True, True)),
]


def cross(shape):
    """One offset an axis that has an extent: the fine lattices."""
    return tuple(tuple(int(i == a) for i in range(3)) for a in range(3) if shape[a] > 1)


def box(shape):
    """Half of the 3^d - 1 neighbours: the coarse lattices."""
    offsets = itertools.product(*[(-1, 0, 1) if n > 1 else (0,) for n in shape])
    return tuple(o for o in offsets if o > (0, 0, 0))


def random_operator(shape, offsets, periodic, batch=2, dtype=torch.float64, seed=0):
    """Conductances (k, b, x, y, z), zero where they would cross an end that is not periodic, and absorption."""
    generator = torch.Generator().manual_seed(seed)
    T = 0.1 + torch.rand((len(offsets), batch, *shape), generator=generator, dtype=torch.float64)
    for k, offset in enumerate(offsets):
        for axis, step in enumerate(offset):
            if step and not periodic[axis]:
                T[k].select(1 + axis, -1 if step > 0 else 0).zero_()
    c = 0.1 * torch.rand((batch, *shape), generator=generator, dtype=torch.float64)
    return T.to(dtype), c.to(dtype)


def neighbours(point, offset, shape):
    """Flat indices of the points before and behind, modulo the lattice."""
    forward = tuple((p + o) % n for p, o, n in zip(point, offset, shape))
    backward = tuple((p - o) % n for p, o, n in zip(point, offset, shape))
    return forward, backward


def dense(offsets, T, c):
    """The matrix of one sample, T (k, x, y, z) and c (x, y, z), one pair of neighbours at a time."""
    T, c = T.double().numpy(), c.double().numpy()
    shape = c.shape
    A = np.diag(c.reshape(-1))
    for k, offset in enumerate(offsets):
        for point in np.ndindex(*shape):
            i = np.ravel_multi_index(point, shape)
            j = np.ravel_multi_index(neighbours(point, offset, shape)[0], shape)
            A[np.ix_([i, j], [i, j])] += T[(k, *point)] * np.array([[1, -1], [-1, 1]]) if i != j else 0.0
    return A


def dense_interpolation(offsets, T, c, axes):
    """Dendy's interpolation of one sample, row by row: the stencil summed over even axes, solved for the point."""
    T, c = T.double().numpy(), c.double().numpy()
    shape = c.shape
    coarse = tuple((n + 1) // 2 if a else n for n, a in zip(shape, axes))
    P = np.zeros((c.size, int(np.prod(coarse))))

    def odd(point):
        return tuple(p % 2 if a else 0 for p, a in zip(point, axes))

    for point in sorted(np.ndindex(*shape), key=lambda p: sum(odd(p))):
        i = np.ravel_multi_index(point, shape)
        if not any(odd(point)):
            even = tuple(p // 2 if a else p for p, a in zip(point, axes))
            P[i, np.ravel_multi_index(even, coarse)] = 1.0
            continue
        pivot = c[point]
        row = np.zeros(P.shape[1])
        for k, offset in enumerate(offsets):
            _, backward = neighbours(point, offset, shape)
            step = tuple(o * s for o, s in zip(offset, odd(point)))
            for weight, sign in ((T[(k, *point)], 1), (T[(k, *backward)], -1)):
                if not any(step):  # the neighbour is taken to have the value of the point: it drops out
                    continue
                target = tuple((p + sign * s) % n for p, s, n in zip(point, step, shape))
                pivot += weight
                row += weight * P[np.ravel_multi_index(target, shape)]
        P[i] = row / pivot
    return P


def prolongation(shape, axes, weights, sample):
    """Columns of the prolongation, from unit vectors and the reference (tested elsewhere)."""
    coarse = transfer.coarse_shape(shape, axes)
    n = int(np.prod(coarse))
    columns = torch.zeros(n, *shape, dtype=weights.dtype)
    with use_backend("torch"):
        transfer.prolong_add(
            axes, weights[:, sample : sample + 1], torch.eye(n, dtype=weights.dtype).view(n, *coarse), columns
        )
    return columns.view(n, -1).T.double().numpy()


@pytest.fixture(params=LATTICES, ids=lambda p: "x".join(map(str, p[0])) + "".join("-p"[q] for q in p[1]))
def lattice_case(request):
    """A shape and which of its axes are periodic."""
    return request.param


@pytest.fixture
def oracle():
    """The functions of this file."""
    return SimpleNamespace(
        cross=cross,
        box=box,
        random_operator=random_operator,
        dense=dense,
        dense_interpolation=dense_interpolation,
        prolongation=prolongation,
    )
