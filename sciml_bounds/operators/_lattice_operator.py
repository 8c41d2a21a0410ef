"""The lattice operator as a `LinearOperator`, and linear systems with it.

Lattices have shape (b, x, y, z): the batch, then three space axes. In 1-D and 2-D, leading space axes have length 1.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import scipy.sparse
import torch
from torch import Tensor

from sciml_bounds.kernels import lattice as kernel
from sciml_bounds.kernels.survey import Survey, survey
from sciml_bounds.operators._linear_operator import LinearOperator
from sciml_bounds.operators._transform import BoxInverse

__all__ = ["LatticeOperator", "LatticeSystem", "subtract_means", "to_lattice"]


def to_lattice(field: Tensor, dim: int) -> Tensor:
    """Reshape a field (batch..., x, y, z) with `dim` space axes to (b, x, y, z), with leading axes of length 1."""
    space = field.shape[field.ndim - dim :]
    return field.reshape(-1, *(1,) * (3 - dim), *space).contiguous()


class LatticeOperator(LinearOperator):
    """(A u)_i = sum over neighbours j of T_ij (u_i - u_j) + c_i u_i on a box lattice.

    Parameters
    ----------
    offsets : tuple of (int, int, int)
        One offset per pair of neighbours.
    conductance : Tensor (offsets, b, x, y, z)
        Conductance T between point i and point i + offset, with indices modulo the lattice.
    absorption : Tensor (b, x, y, z)
        Diagonal excess c.

    Notes
    -----
    The batch b of the coefficients is 1 or the batch size of the vectors.
    """

    symmetric = True

    def __init__(self, offsets: kernel.Offsets, conductance: Tensor, absorption: Tensor) -> None:
        self.offsets = offsets
        self.conductance = kernel.interleaved(conductance)
        self.absorption = absorption.contiguous()
        self.lattice = tuple(absorption.shape[1:])
        n = absorption[0].numel()
        self.shape = (n, n)
        self.dtype = absorption.dtype
        self.device = absorption.device
        self._norm_upper: Tensor | None = None

    @property
    def norm_upper(self) -> Tensor:  # type: ignore[override]  # computed on first use
        """Upper bound on the norm of the operator of each sample, by Gershgorin's theorem."""
        if self._norm_upper is None:
            self.survey()
        assert self._norm_upper is not None
        return self._norm_upper

    @property
    def batch(self) -> int:
        """Number of operators: 1 or the number of samples."""
        return self.absorption.shape[0]

    @property
    def requires_grad(self) -> bool:
        """Whether the coefficients require gradients."""
        return self.conductance.requires_grad or self.absorption.requires_grad

    def _view(self, x: Tensor) -> Tensor:
        return x.reshape(-1, *self.lattice)

    def matvec(self, x: Tensor) -> Tensor:
        """Apply to vectors `(..., n)`."""
        self._check_batch(x)
        return self.matvec_into(x.contiguous(), torch.empty_like(x, memory_format=torch.contiguous_format))

    def matvec_into(self, x: Tensor, out: Tensor) -> Tensor:
        """Write A x into `out` without allocation; `x` and `out` are contiguous and distinct."""
        kernel.apply(self.offsets, self.conductance, self.absorption, self._view(x), self._view(out))
        return out

    def energy_into(self, x: Tensor, out: Tensor) -> Tensor:
        """Write A x into `out` and return x.A x, shape (b,)."""
        return kernel.energy(self.offsets, self.conductance, self.absorption, self._view(x), self._view(out))

    def residual_into(self, x: Tensor, b: Tensor, out: Tensor) -> Tensor:
        """Write b - A x into `out`."""
        kernel.residual(self.offsets, self.conductance, self.absorption, self._view(x), self._view(b), self._view(out))
        return out

    def diagonal(self) -> Tensor:
        """Return the diagonal, shape (b, x, y, z)."""
        return self.survey().diagonal

    def product_sizes(self, x: Tensor) -> Tensor:
        """Return |A| |x| for flat x (b, n), by one product with A, assuming nonnegative conductances."""
        size, diagonal = x.abs(), self.diagonal().flatten(1)
        return (diagonal + diagonal.abs()) * size - self.matvec(size)

    def absolute_row_sums(self) -> Tensor:
        """Return sum_j |A_ij|, shape (b, x, y, z)."""
        return self.survey().absolute

    def survey(self) -> Survey:
        """Return the `Survey` of the operator: diagonal, absolute row sums, and statistics of the conductances."""
        found = survey(self.offsets, self.conductance.detach(), self.absorption.detach())
        self._norm_upper = found.absolute.flatten(1).amax(1)
        return found

    def floating(self) -> Tensor | None:
        """Label the floating components of the lattice; constants on each component are in the null space.

        Returns
        -------
        Tensor (b, x, y, z) or None
            Labels in the format of `components` of a `LatticeSystem`; None if there are no floating components.
        """
        from scipy.sparse.csgraph import connected_components

        coupled = {offset: (T != 0).cpu() for offset, T in zip(self.offsets, self.conductance)}
        begins = torch.ones(
            self.absorption.shape, dtype=torch.bool
        )  # of runs along the last axis, far fewer than points
        if (0, 0, 1) in coupled:
            begins[..., 1:] = ~coupled[0, 0, 1][..., :-1]
        run = begins.view(-1).cumsum(0).view(begins.shape) - 1
        pairs = []
        for offset, on in coupled.items():
            new = on & (begins | kernel.shifted(begins, offset) | ~on.roll(1, -1))  # once per pair of runs
            pairs.append(torch.stack([run[new], kernel.shifted(run, offset)[new]]))
        rows, columns = torch.cat(pairs, 1).numpy()
        count = int(run.max()) + 1
        graph = scipy.sparse.coo_array((np.ones(len(rows), dtype=np.int8), (rows, columns)), shape=(count, count))
        count, part = connected_components(graph, directed=False)
        parts = part[run.numpy()]
        free = np.bincount(parts.reshape(-1), (self.absorption != 0).cpu().numpy().reshape(-1), count) == 0
        numbers = np.where(free, np.cumsum(free) - 1, -1)
        return torch.as_tensor(numbers[parts], device=self.device) if free.any() else None

    def to(self, dtype: torch.dtype) -> LatticeOperator:
        """Return a copy of the operator in another dtype."""
        return LatticeOperator(self.offsets, self.conductance.to(dtype), self.absorption.to(dtype))

    def detach(self) -> LatticeOperator:
        """Return the same operator without gradient history."""
        return LatticeOperator(self.offsets, self.conductance.detach(), self.absorption.detach())

    def to_csr(self, sample: int = 0) -> scipy.sparse.csr_array:
        """Assemble the matrix of one sample."""
        index = torch.arange(self.shape[0], dtype=torch.int32, device=self.device)  # required by PETSc and PyAMG
        index = index.view(self.lattice)
        flat = index.reshape(-1).cpu().numpy()
        rows, columns, entries = [flat], [flat], [self.diagonal()[sample].reshape(-1).cpu().numpy()]
        for k, offset in enumerate(self.offsets):
            neighbour = kernel.shifted(index, offset).reshape(-1).cpu().numpy()
            value = -self.conductance[k, sample].detach().reshape(-1).cpu().numpy()
            coupled = value != 0
            rows += [flat[coupled], neighbour[coupled]]
            columns += [neighbour[coupled], flat[coupled]]
            entries += [value[coupled], value[coupled]]
        matrix = (np.concatenate(entries), (np.concatenate(rows), np.concatenate(columns)))
        return scipy.sparse.csr_array(matrix, shape=self.shape)


@dataclass(frozen=True)
class LatticeSystem:
    """A linear system A x = b on a lattice, with the null space of A.

    Attributes
    ----------
    operator : LatticeOperator
        Symmetric and positive semi-definite matrix A.
    rhs : Tensor (b, x, y, z)
        Right-hand side b.
    components : Tensor of int (b, x, y, z) or None
        Index of the floating component of each point, -1 for points of no floating component. Constants on a floating
        component are in the null space. None if A is regular.
    weights : Tensor (b, x, y, z) or None
        Volume of each point. The solution has weighted mean zero on every floating component. None if A is regular.
    inverse : BoxInverse or None
        The (pseudo-)inverse of A by fast transforms, for constant coefficients on a box. None otherwise.
    """

    operator: LatticeOperator
    rhs: Tensor
    components: Tensor | None = None
    weights: Tensor | None = None
    inverse: BoxInverse | None = None

    def fix_mean(self, x: Tensor) -> Tensor:
        """Subtract from x (b, x, y, z) its weighted mean on every floating component."""
        if self.components is None or self.weights is None:
            return x
        return subtract_means(x, self.components, self.weights)

    def into_range(self, b: Tensor) -> Tensor:
        """Project b (b, x, y, z) onto the range of A; for compatible data this removes round-off only."""
        if self.components is None:
            return b
        return subtract_means(b, self.components, torch.ones_like(self.components, dtype=b.dtype))


def subtract_means(x: Tensor, labels: Tensor, weights: Tensor) -> Tensor:
    """Subtract from x (b, x, y, z) its weighted mean on each labelled part; points with label -1 are not changed."""
    batch = len(x)
    labels, weights = labels.expand(x.shape), weights.expand(x.shape)
    count = int(labels.max()) + 1
    step = torch.arange(batch, device=x.device).view(-1, 1, 1, 1) * count  # distinct labels in all samples
    where, index = labels >= 0, labels.clamp_min(0) + step

    def summed(field: Tensor) -> Tensor:
        entries = torch.where(where, field, 0.0).reshape(
            -1
        )  # no boolean indexing, which would synchronise with the host
        return torch.zeros(batch * count, dtype=x.dtype, device=x.device).index_add(0, index.reshape(-1), entries)

    sizes = summed(weights)
    means = summed(x * weights) / torch.where(sizes > 0, sizes, 1.0)
    return torch.where(where, x - means[index], x)
