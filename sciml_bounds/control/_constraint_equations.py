"""Stiffness matrices of the constraint equations of control problems, on grids and meshes, and multigrid cycles."""

from __future__ import annotations

import math
from typing import Any, Protocol

import scipy.sparse
import torch
from torch import Tensor

from sciml_bounds.arrays import require_instance
from sciml_bounds.errors import InputError
from sciml_bounds.multigrid._algebraic import algebraic_cycle
from sciml_bounds.multigrid._geometric import lattice_cycle
from sciml_bounds.operators._lattice_operator import LatticeOperator
from sciml_bounds.operators._linear_operator import LinearOperator, csr_tensor
from sciml_bounds.problems.diffusion import Diffusion
from sciml_bounds.problems.discretization import node_system
from sciml_bounds.problems.transfers import sum_to_nodes

__all__ = ["GridStiffness", "MatrixStiffness", "Stiffness"]


#: Number of smoothing steps of geometric cycles. Preconditioners apply two cycles in succession, so their errors count
#: twice. Measured for Poisson control on 513^2 cells: conjugate gradients take 15 iterations with 3 smoothing steps
#: (the default of solvers), 11 with 4, 10 with 5, and 7 with exact inverses.
SWEEPS = 4


class Stiffness(Protocol):
    """A symmetric positive semi-definite matrix K (n, n) with a diagonal mass matrix.

    Attributes
    ----------
    mass : Tensor
        Diagonal of the mass matrix, positive, shape (n,).
    """

    mass: Tensor

    def matvec(self, u: Tensor) -> Tensor:
        """Return K u, shape (n,)."""
        ...

    def to_csr(self) -> scipy.sparse.csr_array:
        """Assemble K."""
        ...

    def cycle(self, diagonal: Tensor) -> LinearOperator:
        """Return a fixed symmetric positive definite approximation of (K + diag(d))^-1, with d >= 0 of shape (n,)."""
        ...


class GridStiffness:
    """Vertex-centred equations of a diffusion problem, for the free nodes (those without prescribed values).

    Parameters
    ----------
    problem : Diffusion
        A single problem, not a batch.

    Attributes
    ----------
    load : Tensor
        Source, Neumann data and lifted Dirichlet values, shape (n,); `sb.solve` solves K u = load.
    free : Tensor
        Indices of the free nodes among all nodes, shape (n,).

    Raises
    ------
    InputError
        If `problem` is not a single diffusion problem, or has no free node.
    """

    def __init__(self, problem: Diffusion) -> None:
        require_instance(problem, "the problem", Diffusion, "an sb.Diffusion problem")
        if problem.batch_shape:
            raise InputError(
                f"the problem has batch shape {tuple(problem.batch_shape)}; an optimisation takes a single problem."
            )
        self.problem = problem = problem.detach().to(torch.float64)
        system = node_system(problem)
        self._operator: LatticeOperator = system.operator
        self._chosen = _NodeSubset(problem.free_nodes)
        self.free = self._chosen.indices
        if len(self.free) == 0:
            raise InputError("all nodes have prescribed values; use a grid with more cells.")
        self.load = self.free_values(system.rhs)
        share = problem.fluid.to(torch.float64) * (problem.grid.cell_volume / 2**problem.grid.dim)
        self.mass = self.free_values(sum_to_nodes(share, problem.periodic))

    def free_values(self, lattice: Tensor) -> Tensor:
        """Return the values at free nodes (n,) from values at all nodes."""
        return self._chosen.gather(lattice.reshape(1, -1)).view(-1)

    def _scattered(self, u: Tensor) -> Tensor:
        return self._chosen.scatter(u.unsqueeze(0))

    def values(self, u: Tensor) -> Tensor:
        """Return the nodal field with free values (n,) and prescribed values."""
        return self.problem.complete(self._scattered(u).view(1, *self.problem.node_shape))[0]

    def field(self, u: Tensor) -> Tensor:
        """Return the nodal field with free values (n,) and zeros elsewhere."""
        return self._scattered(u).view(self.problem.node_shape)

    def matvec(self, u: Tensor) -> Tensor:
        """Return K u, shape (n,)."""
        return self.free_values(self._operator.matvec(self._scattered(u)))

    def to_csr(self) -> scipy.sparse.csr_array:
        """Assemble K."""
        index = self.free.cpu().numpy()
        return scipy.sparse.csr_array(self._operator.to_csr()[index][:, index])

    def cycle(self, diagonal: Tensor) -> LinearOperator:
        """Return a geometric V-cycle for K + diag(d)."""
        A = self._operator
        absorption = A.absorption + self._scattered(diagonal).view(A.absorption.shape)
        return _OnFreeNodes(lattice_cycle(LatticeOperator(A.offsets, A.conductance, absorption), SWEEPS), self._chosen)


class _NodeSubset:
    """A subset of the nodes of a lattice; for a box, slices are used, which copy three times as fast as indices."""

    def __init__(self, mask: Tensor) -> None:
        self._lattice = tuple(mask.shape)
        self.indices = torch.nonzero(mask.reshape(-1)).view(-1)
        self.count = len(self.indices)
        places = torch.nonzero(mask)
        self._box: tuple[slice, ...] | None = None
        if self.count:
            box = tuple(slice(int(low), int(high) + 1) for low, high in zip(places.amin(0), places.amax(0)))
            self._box = box if bool(mask[box].all()) else None

    def gather(self, whole: Tensor) -> Tensor:
        """Return the values on the subset, (b, nodes) -> (b, n)."""
        if self._box is None:
            return whole.index_select(1, self.indices)
        return whole.view(-1, *self._lattice)[(slice(None), *self._box)].reshape(-1, self.count)

    def scatter(self, x: Tensor) -> Tensor:
        """Extend values on the subset by zeros, (b, n) -> (b, nodes)."""
        whole = x.new_zeros(len(x), math.prod(self._lattice))
        if self._box is None:
            return whole.index_copy_(1, self.indices, x)
        target = whole.view(-1, *self._lattice)[(slice(None), *self._box)]
        target.copy_(x.view(target.shape))
        return whole


class _OnFreeNodes(LinearOperator):
    """The restriction of an operator on all nodes to the free nodes."""

    symmetric = True

    def __init__(self, whole: LinearOperator, chosen: _NodeSubset) -> None:
        self._whole, self._chosen = whole, chosen
        self.shape = (chosen.count, chosen.count)
        self.dtype, self.device = whole.dtype, whole.device

    def matvec(self, x: Tensor) -> Tensor:
        """Apply to vectors (..., n)."""
        padded = self._chosen.scatter(x.reshape(-1, self.shape[0]))
        return self._chosen.gather(self._whole.matvec_into(padded, torch.empty_like(padded))).view(x.shape)


class MatrixStiffness:
    """A user-supplied stiffness matrix, for example of linear elements on a mesh, with algebraic multigrid cycles.

    Parameters
    ----------
    matrix : scipy sparse matrix or array, shape (n, n)
        Symmetric positive semi-definite matrix K.
    mass : array or Tensor, shape (n,)
        Diagonal of the mass matrix, for example its row sums.

    Raises
    ------
    InputError
        If shapes do not match, or a mass is not positive.
    """

    def __init__(self, matrix: Any, mass: Any) -> None:
        self._matrix = scipy.sparse.csr_array(matrix)
        self.mass = torch.as_tensor(mass, dtype=torch.float64)
        n = self._matrix.shape[0]
        if self._matrix.shape != (n, n) or self.mass.shape != (n,):
            raise InputError(
                f"the matrix has shape {self._matrix.shape} and the mass {tuple(self.mass.shape)}; the shapes must be "
                "(n, n) and (n,)."
            )
        if not bool((self.mass > 0).all()):
            raise InputError("an entry of the mass is not positive; use the row sums of the mass matrix.")
        self._tensor = csr_tensor(self._matrix)

    def matvec(self, u: Tensor) -> Tensor:
        """Return K u, shape (n,)."""
        product: Tensor = self._tensor @ u
        return product

    def to_csr(self) -> scipy.sparse.csr_array:
        """Return K."""
        return self._matrix

    def cycle(self, diagonal: Tensor) -> LinearOperator:
        """Return an algebraic V-cycle for K + diag(d)."""
        return algebraic_cycle(self._matrix + scipy.sparse.diags_array(diagonal.cpu().numpy()))
