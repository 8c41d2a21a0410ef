"""Coefficient fields on which multigrid is judged, and the two lattices of a problem."""

from __future__ import annotations

from types import SimpleNamespace

import numpy as np
import pytest
import scipy.fft
import scipy.ndimage

import sciml_bounds as sb
from sciml_bounds.multigrid import _geometric as geometric
from sciml_bounds.problems.discretization import cell_fluxes


def gaussian_field(shape, seed=0):
    """A field of unit variance from the cosine series with coefficients (pi^2 |k|^2 + 9)^-1, that of the Darcy data."""
    rng = np.random.default_rng(seed)
    k2 = sum(q**2 for q in np.meshgrid(*[np.arange(n) * (max(shape) / n) for n in shape], indexing="ij"))
    series = rng.standard_normal(shape) / (np.pi**2 * k2 + 9)
    series[(0,) * len(shape)] = 0
    field = scipy.fft.idctn(series, norm="ortho")
    return field / field.std()


def inclusions(shape, jump, seed=0, count=12):
    """Round inclusions of random size and place."""
    rng = np.random.default_rng(seed)
    centers = np.meshgrid(*[(np.arange(n) + 0.5) / n for n in shape], indexing="ij")
    a = np.ones(shape)
    for _ in range(count):
        middle, radius = rng.random(len(shape)), 0.03 + 0.09 * rng.random()
        a[sum((x - m) ** 2 for x, m in zip(centers, middle)) < radius**2] = jump
    return a


def discs(shape, seed=0, count=40):
    """Solid discs of random size and place, and the floating fluid components between them."""
    solid = inclusions(shape, 2.0, seed, count) > 1
    labels, _ = scipy.ndimage.label(~solid)
    held = np.concatenate([labels[0], labels[-1], labels[:, 0], labels[:, -1]])
    return solid | ~np.isin(labels, held)


FIELDS = {
    "constant": lambda shape, seed: np.ones(shape),
    "log-normal": lambda shape, seed: np.exp(2 * gaussian_field(shape, seed)),
    "12/3": lambda shape, seed: np.where(gaussian_field(shape, seed) >= 0, 12.0, 3.0),
    "two-phase 1e4": lambda shape, seed: np.where(gaussian_field(shape, seed) >= 0, 1e4, 1.0),
    "two-phase 1e6": lambda shape, seed: np.where(gaussian_field(shape, seed) >= 0, 1e6, 1.0),
    "inclusions 1e6": lambda shape, seed: inclusions(shape, 1e6, seed),
    "inclusions 1e-6": lambda shape, seed: inclusions(shape, 1e-6, seed),
}


def operator(problem, lattice):
    """The matrix of a problem on its nodes or on its cells."""
    return sb.prepare(problem, method="cg").operator if lattice == "nodes" else cell_fluxes(problem).system.operator


@pytest.fixture
def media():
    """The functions of this file."""
    return SimpleNamespace(field=lambda name, shape, seed=0: FIELDS[name](shape, seed), discs=discs, operator=operator)


@pytest.fixture
def single_on_small_grids(monkeypatch):
    """Use single precision on lattices of any size."""
    monkeypatch.setattr(geometric, "SINGLE_PRECISION_POINTS", 0)
