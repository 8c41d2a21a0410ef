"""The contract that every operator keeps, one test a clause; a new one is entered in OPERATORS and inherits them all.

Preconditioners are operators too. Each entry comes with the dense matrices (batch, n, n) that it stands for, made
without it.
"""

from __future__ import annotations

import functools
import importlib
import pkgutil
from collections.abc import Callable, Iterator
from typing import NamedTuple

import numpy as np
import pyamg
import pytest
import scipy.sparse
import scipy.sparse.linalg
import torch
from refusals import refused
from torch import Tensor

import sciml_bounds as sb
from sciml_bounds._linear import LinearSolver
from sciml_bounds._linear_methods import Multigrid
from sciml_bounds.fem import require_dolfinx
from sciml_bounds.multigrid._algebraic import algebraic_cycle
from sciml_bounds.multigrid._learned_preconditioner import network_preconditioner
from sciml_bounds.multigrid._poisson_cycle import poisson_cycle
from sciml_bounds.operators._linear_operator import (
    CallableOperator,
    Diagonal,
    Identity,
    LinearOperator,
    MatrixOperator,
    Stacked,
    aslinearoperator,
    csr_tensor,
)
from sciml_bounds.operators._lu_inverse import LuInverse
from sciml_bounds.problems.discretization import node_system

N = 12
LIKE = torch.zeros(N, dtype=torch.float64)
WALLS = np.zeros((7, 4), dtype=bool)
WALLS[2:5, 1:3] = True  # so large that nodes lie inside


class Pair(NamedTuple):
    """An operator, its matrices (batch, n, n), and the unit round-off of the precision that it works in."""

    operator: LinearOperator
    matrices: Tensor
    eps: float = torch.finfo(torch.float64).eps


def _dense(batch: int = 1, seed: int = 0) -> Tensor:
    return torch.as_tensor(np.random.default_rng(seed).standard_normal((batch, N, N)))


def _symmetric(batch: int = 1) -> Tensor:
    A = _dense(batch)
    return A @ A.mT + torch.eye(N, dtype=torch.float64)


def _sparse() -> scipy.sparse.csr_array:
    A = _dense()[0].numpy()
    return scipy.sparse.csr_array(np.where(np.abs(A) > 0.7, A, 0.0))


def _through(make: Callable[[scipy.sparse.csr_array], object]) -> Pair:
    """An adapter of a sparse matrix that other packages hold."""
    return Pair(aslinearoperator(make(_sparse()), LIKE), torch.as_tensor(_sparse().toarray()).unsqueeze(0))


def _system(batch: int, *, constant: bool = False, walls: bool = False):
    rng = np.random.default_rng(0)
    shape = (batch, 1, 1) if constant else (batch, 7, 4)
    a = np.broadcast_to(rng.lognormal(size=shape), (batch, 7, 4)).copy()
    return node_system(sb.Diffusion(sb.Grid((7, 4)), a, 1.0, reaction=0.1, solid=WALLS if walls else None))


def _matrices(system) -> Tensor:
    A = system.operator
    return torch.stack([torch.as_tensor(A.to_csr(k).toarray()) for k in range(A.batch)])


def _lattice(batch: int) -> Pair:
    system = _system(batch)
    return Pair(system.operator, _matrices(system))


def _transform(batch: int) -> Pair:
    system = _system(batch, constant=True)
    return Pair(system.inverse, torch.linalg.inv(_matrices(system)))


def _columns(operator: LinearOperator) -> Tensor:
    """The matrix of an operator that nobody writes down, one vector at a time."""
    batch, n = operator.batch, operator.shape[0]
    columns = [operator.matvec(e.expand(batch, n).contiguous()).clone() for e in torch.eye(n, dtype=torch.float64)]
    return torch.stack(columns, -1)


def _stationary(operator: LinearOperator, matrices: Tensor) -> Pair:
    """A cycle of multigrid."""
    found = _columns(operator)
    # it is an inverse on what it was made for: the error propagation contracts in the energy norm
    rest = torch.eye(operator.shape[0], dtype=torch.float64) - found @ matrices
    assert float(torch.linalg.eigvals(rest).abs().max()) < 0.5
    return Pair(operator, found)


def _cycle(batch: int, *, walls: bool = False, precision: str = "double") -> Pair:
    system = _system(batch, walls=walls)
    pair = _stationary(LinearSolver(system, Multigrid(precision=precision)).preconditioner, _matrices(system))
    return pair if precision == "double" else pair._replace(eps=torch.finfo(torch.float32).eps)


def _algebraic() -> Pair:
    A = scipy.sparse.csr_array(pyamg.gallery.poisson((11, 11)))
    return _stationary(algebraic_cycle(A), torch.as_tensor(A.toarray()).unsqueeze(0))


def _network() -> Pair:
    """A network as a preconditioner; alone and with weights set by hand it is linear, which it does not claim."""
    operator = network_preconditioner(poisson_cycle(8, post=0), sb.Diffusion(sb.Grid((8, 8)), 1.0, 1.0), sweeps=0)
    return Pair(operator, _columns(operator))


def _directions(batch: int) -> Pair:
    """A linear network of directions, which does not claim to be; with a geometry for each of a batch."""
    torch.manual_seed(0)
    network = sb.LearnedDirections("multigrid", dim=2, levels=1).double()
    geometry = np.random.default_rng(0).integers(0, 3, (batch, 5, 4)).astype(float)
    operator = network.as_preconditioner((5, 4), geometry=geometry)
    return Pair(operator, _columns(operator))


def _petsc(A: scipy.sparse.csr_array) -> object:
    require_dolfinx()
    from petsc4py import PETSc

    matrix = PETSc.Mat().createAIJ(size=A.shape, csr=(A.indptr, A.indices, A.data), comm=PETSc.COMM_SELF)
    matrix.assemble()
    return matrix


def _like_diagonal(batch: int) -> Pair:
    entries = _dense(batch)[:, 0]
    return Pair(Diagonal(entries), torch.diag_embed(entries))


def _lu_inverse() -> LuInverse:
    matrix = scipy.sparse.csr_array(_symmetric()[0].numpy())
    return LuInverse(matrix, dtype=torch.float64, device=torch.device("cpu"))


# --- the table --------------------------------------------------------------------------------------------------------

OPERATORS: dict[str, Callable[[], Pair]] = {
    "Identity": lambda: Pair(Identity(N, torch.float64, torch.device("cpu")), torch.eye(N, dtype=torch.float64)[None]),
    "Diagonal": lambda: _like_diagonal(1),
    "Diagonal, batch": lambda: _like_diagonal(3),
    "MatrixOperator": lambda: Pair(MatrixOperator(_dense()[0]), _dense()),
    "MatrixOperator, symmetric": lambda: Pair(MatrixOperator(_symmetric()[0], symmetric=True), _symmetric()),
    "MatrixOperator, not symmetric": lambda: Pair(MatrixOperator(_dense()[0], symmetric=False), _dense()),
    "MatrixOperator, batch": lambda: Pair(MatrixOperator(_dense(3)), _dense(3)),
    "MatrixOperator, csr": lambda: Pair(
        MatrixOperator(csr_tensor(_sparse())), torch.as_tensor(_sparse().toarray())[None]
    ),
    "CallableOperator": lambda: Pair(CallableOperator(lambda x: x @ _dense()[0].mT, N), _dense()),
    "LuInverse": lambda: Pair(_lu_inverse(), torch.linalg.inv(_symmetric())),
    "Stacked": lambda: Pair(Stacked([MatrixOperator(m) for m in _dense(3)]), _dense(3)),
    "Stacked, one": lambda: Pair(Stacked([MatrixOperator(_symmetric()[0], symmetric=True)]), _symmetric()),
    "LatticeOperator": lambda: _lattice(1),
    "LatticeOperator, batch": lambda: _lattice(3),
    "BoxInverse": lambda: _transform(1),
    "BoxInverse, batch": lambda: _transform(3),
    "Cycle": lambda: _cycle(1),
    "Cycle, batch": lambda: _cycle(3),
    "Cycle, single inside": lambda: _cycle(3, precision="auto"),
    "Cycle, algebraic": _algebraic,
    "WalledCycle": lambda: _cycle(1, walls=True),
    "WalledCycle, batch": lambda: _cycle(3, walls=True),
    "WalledCycle, single inside": lambda: _cycle(1, walls=True, precision="auto"),
    "NetworkPreconditioner": _network,
    "DirectionPreconditioner": lambda: _directions(1),
    "DirectionPreconditioner, batch": lambda: _directions(3),
    "from torch, dense": lambda: _through(lambda A: torch.as_tensor(A.toarray())),
    "from torch, coo": lambda: _through(lambda A: torch.as_tensor(A.toarray()).to_sparse_coo()),
    "from torch, batch": lambda: Pair(aslinearoperator(_dense(3)), _dense(3)),
    "from numpy": lambda: _through(lambda A: A.toarray()),
    "from numpy, read-only": lambda: _through(lambda A: np.broadcast_to(A.toarray(), A.shape)),
    "from scipy, csr": lambda: _through(lambda A: A),
    "from scipy, csc matrix": lambda: _through(scipy.sparse.csc_matrix),
    "from scipy, dia": lambda: _through(scipy.sparse.dia_array),
    "from scipy, operator": lambda: _through(scipy.sparse.linalg.aslinearoperator),
    "from a function": lambda: _through(lambda A: lambda x: x @ torch.as_tensor(A.toarray()).mT),
    "from PETSc": lambda: _through(_petsc),
}
NAMES = [pytest.param(name, marks=[pytest.mark.fem] * (name == "from PETSc")) for name in OPERATORS]


@pytest.fixture(params=NAMES)
def pair(request) -> Pair:
    """One operator of the table and its matrices."""
    return _made(request.param)


@functools.cache
def _made(name: str) -> Pair:
    return OPERATORS[name]()


def _subclasses(cls: type) -> Iterator[type]:
    for sub in cls.__subclasses__():
        yield sub
        yield from _subclasses(sub)


def test_every_operator_of_the_package_is_in_the_table():
    for module in pkgutil.walk_packages(sb.__path__, "sciml_bounds."):
        importlib.import_module(module.name)
    ours = {c for c in _subclasses(LinearOperator) if c.__module__.startswith("sciml_bounds.") and c.__name__[0] != "_"}
    entered = {type(_made(name)[0]) for name in OPERATORS if name != "from PETSc"}
    assert ours <= entered


def _vectors(operator: LinearOperator, seed: int = 0) -> Tensor:
    """As many as there are operators, or two."""
    count = operator.batch if operator.batch > 1 else 2
    return torch.as_tensor(np.random.default_rng(seed).standard_normal((count, operator.shape[0])))


def _expected(matrices: Tensor, x: Tensor) -> Tensor:
    return (matrices @ x.unsqueeze(-1)).squeeze(-1)


def _close(found: Tensor, expected: Tensor, matrices: Tensor, eps: float) -> None:
    # sums of n products in any order, and a transform or a cycle does some ten times as many
    size = float(matrices.abs().sum(-1).max()) * 4  # times the largest of the vectors
    torch.testing.assert_close(found, expected, rtol=0, atol=100 * eps * size)


# --- what it multiplies -----------------------------------------------------------------------------------------------


def test_it_multiplies_by_its_matrix(pair):
    operator, matrices, eps = pair
    x = _vectors(operator)
    assert operator.shape == matrices.shape[1:]
    assert operator.batch == len(matrices)
    product = operator.matvec(x)
    _close(product, _expected(matrices, x), matrices, eps)
    assert (product.dtype, product.device, product.shape) == (operator.dtype, operator.device, x.shape)
    assert torch.equal(operator @ x, product)


def test_vectors_have_any_leading_axes(pair):
    operator, matrices, eps = pair
    n, batch = operator.shape[0], operator.batch
    for leading in ((), (4,), (2, 3)) if batch == 1 else ((batch,), (1, batch)):
        x = torch.as_tensor(np.random.default_rng(0).standard_normal((*leading, n)))
        product = operator.matvec(x)
        assert product.shape == x.shape
        flat = x.reshape(-1, n)
        _close(product.reshape(-1, n), _expected(matrices.expand(max(len(flat), batch), n, n), flat), matrices, eps)
    if batch == 1:
        assert operator.matvec(torch.zeros(0, n, dtype=torch.float64)).shape == (0, n)


def test_vectors_need_not_be_contiguous(pair):
    operator, matrices, eps = pair
    x = _vectors(operator).mT.contiguous().mT
    assert not x.is_contiguous()
    _close(operator.matvec(x), _expected(matrices, x), matrices, eps)


def test_it_writes_into_the_given_buffer_all_of_it(pair):
    operator, matrices, eps = pair
    x = _vectors(operator)
    out = torch.full_like(x, torch.nan)
    assert operator.matvec_into(x, out) is out
    _close(out, _expected(matrices, x), matrices, eps)


def test_it_does_not_write_to_its_vectors_and_repeats_bit_for_bit(pair):
    operator, *_ = pair
    x = _vectors(operator)
    before = x.clone()
    first = operator.matvec(x).clone()
    assert torch.equal(operator.matvec(x), first)
    assert torch.equal(x, before)


def test_a_number_of_vectors_that_does_not_fit_is_refused(pair):
    operator, *_ = pair
    if operator.batch > 1:
        x = torch.ones(operator.batch - 1, operator.shape[0], dtype=torch.float64)
        refused(f"batch {operator.batch} operators {operator.batch - 1} vectors", operator.matvec, x)


# --- what it says about itself ----------------------------------------------------------------------------------------


def test_its_symmetry_is_what_it_says(pair):
    operator, matrices, eps = pair
    gap = float((matrices - matrices.mT).abs().max() / matrices.abs().max())
    if operator.symmetric is True:
        assert gap < 1e4 * eps
    if operator.symmetric is False:
        assert gap > 1e-3


def test_its_linearity_is_what_it_says(pair):
    operator, matrices, eps = pair
    x, y = _vectors(operator), _vectors(operator, seed=1)
    if operator.linear is True:
        sum_first = operator.matvec(2 * x - y).clone()
        _close(sum_first, 2 * operator.matvec(x).clone() - operator.matvec(y), 3 * matrices, eps)


def test_its_bounds_of_the_spectrum_are_bounds(pair):
    operator, matrices, *_ = pair
    if operator.norm_upper is not None:
        norms = torch.linalg.matrix_norm(matrices, 2)
        assert bool((norms <= operator.norm_upper * (1 + 1e-12)).all())
    if operator.eigenvalue_lower is not None:
        smallest = torch.linalg.eigvalsh(matrices)[:, 0]
        assert bool((operator.eigenvalue_lower <= smallest * (1 + 1e-12)).all())


# --- as scipy's -------------------------------------------------------------------------------------------------------


def test_the_sizes_of_its_products_are_those_of_its_matrix(pair):
    """Up to round-off of sums of at most n terms, all of one sign."""
    x = _vectors(pair.operator)
    found = pair.operator.product_sizes(x)
    if found is not None:
        expected = (pair.matrices.abs() @ x.to(pair.matrices).abs().unsqueeze(2)).squeeze(2)
        torch.testing.assert_close(found.to(expected), expected, rtol=0, atol=4 * N * pair.eps * float(expected.max()))


def test_scipy_sees_the_same_operator(pair):
    operator, matrices, eps = pair
    if operator.batch > 1:
        refused("scipy", operator.to_scipy)
        return
    theirs = operator.to_scipy()
    x = _vectors(operator)[:1]
    assert theirs.shape == operator.shape
    assert theirs.dtype == str(operator.dtype).removeprefix("torch.")
    _close(torch.as_tensor(theirs.matvec(x[0].numpy()))[None], _expected(matrices, x), matrices, eps)
    _close(aslinearoperator(theirs).matvec(x), _expected(matrices, x), matrices, eps)  # and back


def test_scipy_gets_an_adjoint_only_where_it_is_known(pair):
    operator, matrices, eps = pair
    if operator.batch > 1:
        return
    theirs, x = operator.to_scipy(), _vectors(operator)[:1]
    if operator.symmetric:
        _close(torch.as_tensor(theirs.rmatvec(x[0].numpy()))[None], _expected(matrices.mT, x), matrices, eps)
    else:
        with pytest.raises(NotImplementedError):
            theirs.rmatvec(x[0].numpy())


# --- precision --------------------------------------------------------------------------------------------------------

SINGLE: dict[str, Callable[[], LinearOperator]] = {
    "Identity": lambda: Identity(N, torch.float32, torch.device("cpu")),
    "Diagonal": lambda: Diagonal(torch.ones(1, N)),
    "MatrixOperator": lambda: MatrixOperator(torch.eye(N)),
    "CallableOperator": lambda: CallableOperator(lambda x: x, N, torch.float32),
    "LuInverse": lambda: LuInverse(scipy.sparse.eye_array(N), dtype=torch.float32, device=torch.device("cpu")),
    "Stacked": lambda: Stacked([MatrixOperator(torch.eye(N))]),
    "LatticeOperator": lambda: node_system(_single()).operator,
    "BoxInverse": lambda: node_system(_single()).inverse,
    "Cycle": lambda: LinearSolver(node_system(_single()), Multigrid()).preconditioner,
    "WalledCycle": lambda: LinearSolver(node_system(_single(walls=True)), Multigrid()).preconditioner,
    "NetworkPreconditioner": lambda: network_preconditioner(
        poisson_cycle(8).float(), sb.Diffusion(sb.Grid((8, 8)), np.ones((8, 8), dtype=np.float32), np.float32(1.0))
    ),
    "DirectionPreconditioner": lambda: sb.LearnedDirections("multigrid", dim=2, levels=1).as_preconditioner(_single()),
}


def _single(*, walls: bool = False) -> sb.Diffusion:
    ones = np.ones((7, 4), dtype=np.float32)
    return sb.Diffusion(sb.Grid((7, 4)), ones, ones, solid=WALLS if walls else None)


@pytest.mark.parametrize("name", SINGLE)
def test_single_precision_stays_single(name):
    operator = SINGLE[name]()
    assert operator.dtype == torch.float32
    assert operator.matvec(torch.ones(1, operator.shape[0])).dtype == torch.float32
    assert operator.to_scipy().matvec(np.ones(operator.shape[0], dtype=np.float32)).dtype == np.float32


def test_every_class_has_a_single_precision():
    assert {type(make()) for make in SINGLE.values()} == {type(_made(n)[0]) for n in OPERATORS if n != "from PETSc"}
