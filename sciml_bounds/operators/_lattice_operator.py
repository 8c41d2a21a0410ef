"""The lattice operator as a `LinearOperator`, and the linear systems that stand on it.

Lattices are padded to three axes (lower dimensions by 1 in front), with the batch as the first axis: (b, x, y, z).
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
    """Reshape a field (batch..., x, y, z) with `dim` space axes to (b, x, y, z), padded in front."""
    space = field.shape[field.ndim - dim :]
    return field.reshape(-1, *(1,) * (3 - dim), *space).contiguous()


class LatticeOperator(LinearOperator):
    """(A u)_i = sum over neighbours j of T_ij (u_i - u_j) + c_i u_i on a box lattice.

    Parameters
    ----------
    offsets
        One offset of each pair of neighbours.
    conductance
        T, shape (offsets, b, x, y, z): between point i and point i + offset, indices modulo the lattice.
    absorption
        c, shape (b, x, y, z).

    Notes
    -----
    The batch of the coefficients is 1 or that of the vectors.
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
    def norm_upper(self) -> Tensor:  # type: ignore[override]  # computed when it is asked for
        """Upper bound of the norm of each sample, after Gershgorin."""
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
        """Whether gradients flow into its coefficients."""
        return self.conductance.requires_grad or self.absorption.requires_grad

    def _view(self, x: Tensor) -> Tensor:
        return x.reshape(-1, *self.lattice)

    def matvec(self, x: Tensor) -> Tensor:
        """Apply to vectors `(..., n)`."""
        self._check_batch(x)
        return self.matvec_into(x.contiguous(), torch.empty_like(x, memory_format=torch.contiguous_format))

    def matvec_into(self, x: Tensor, out: Tensor) -> Tensor:
        """Apply without allocation; `x` and `out` are contiguous and distinct."""
        kernel.apply(self.offsets, self.conductance, self.absorption, self._view(x), self._view(out))
        return out

    def energy_into(self, x: Tensor, out: Tensor) -> Tensor:
        """Write A x into `out` and return x . A x, shape (b,)."""
        return kernel.energy(self.offsets, self.conductance, self.absorption, self._view(x), self._view(out))

    def residual_into(self, x: Tensor, b: Tensor, out: Tensor) -> Tensor:
        """Write b - A x into `out`."""
        kernel.residual(self.offsets, self.conductance, self.absorption, self._view(x), self._view(b), self._view(out))
        return out

    def diagonal(self) -> Tensor:
        """Return the diagonal, shape (b, x, y, z)."""
        return self.survey().diagonal

    def product_sizes(self, x: Tensor) -> Tensor:
        """Return |A| |x| for flat x (b, n), by one product with A: conductances are not negative."""
        size, diagonal = x.abs(), self.diagonal().flatten(1)
        return (diagonal + diagonal.abs()) * size - self.matvec(size)

    def absolute_row_sums(self) -> Tensor:
        """Return sum_j |A_ij|, shape (b, x, y, z)."""
        return self.survey().absolute

    def survey(self) -> Survey:
        """Return diagonal, absolute row sums and the range of the conductances."""
        found = survey(self.offsets, self.conductance.detach(), self.absorption.detach())
        self._norm_upper = found.absolute.flatten(1).amax(1)
        return found

    def floating(self) -> Tensor | None:
        """Label the parts of the lattice that nothing holds: constants on each of them are in the null space.

        Returns
        -------
        Tensor
            As the `components` of a `LatticeSystem`; None if everything is held.
        """
        from scipy.sparse.csgraph import connected_components

        coupled = {offset: (T != 0).cpu() for offset, T in zip(self.offsets, self.conductance)}
        begins = torch.ones(self.absorption.shape, dtype=torch.bool)  # of runs along the last axis, which are far fewer
        if (0, 0, 1) in coupled:
            begins[..., 1:] = ~coupled[0, 0, 1][..., :-1]
        run = begins.view(-1).cumsum(0).view(begins.shape) - 1
        pairs = []
        for offset, on in coupled.items():
            new = on & (begins | kernel.shifted(begins, offset) | ~on.roll(1, -1))  # once for each pair of runs
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
        """Return the same operator in another dtype."""
        return LatticeOperator(self.offsets, self.conductance.to(dtype), self.absorption.to(dtype))

    def detach(self) -> LatticeOperator:
        """Return the same operator without gradient history."""
        return LatticeOperator(self.offsets, self.conductance.detach(), self.absorption.detach())

    def to_csr(self, sample: int = 0) -> scipy.sparse.csr_array:
        """Assemble the matrix of one sample."""
        index = torch.arange(self.shape[0], dtype=torch.int32, device=self.device)  # PETSc and PyAMG take no other
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
    """A linear system A x = b on a lattice, with what is known about its null space.

    Attributes
    ----------
    operator
        A, symmetric and positive semi-definite.
    rhs
        b, shape (b, x, y, z).
    components
        For each point the number of the floating component it belongs to (constants on it are in the null space), -1
        elsewhere; shape (b, x, y, z). None if A is regular.
    weights
        The volume that each point stands for, shape (b, x, y, z): on a floating component the solution has weighted
        mean zero. None if A is regular.
    inverse
        The (pseudo-)inverse of A where fast transforms give it: constant coefficients on a box. None elsewhere.
    """

    operator: LatticeOperator
    rhs: Tensor
    components: Tensor | None = None
    weights: Tensor | None = None
    inverse: BoxInverse | None = None

    def fix_mean(self, x: Tensor) -> Tensor:
        """Make the weighted mean of x (b, x, y, z) zero on every floating component."""
        if self.components is None or self.weights is None:
            return x
        return subtract_means(x, self.components, self.weights)

    def into_range(self, b: Tensor) -> Tensor:
        """Remove what lies outside the range of A from b (b, x, y, z): round-off, if the data are compatible."""
        if self.components is None:
            return b
        return subtract_means(b, self.components, torch.ones_like(self.components, dtype=b.dtype))


def subtract_means(x: Tensor, labels: Tensor, weights: Tensor) -> Tensor:
    """Make the weighted mean of x (b, x, y, z) zero on each part that has a number; labels are -1 elsewhere."""
    batch = len(x)
    labels, weights = labels.expand(x.shape), weights.expand(x.shape)
    count = int(labels.max()) + 1
    step = torch.arange(batch, device=x.device).view(-1, 1, 1, 1) * count  # numbers distinct over the samples
    where, index = labels >= 0, labels.clamp_min(0) + step

    def summed(field: Tensor) -> Tensor:
        entries = torch.where(where, field, 0.0).reshape(-1)  # selecting those of parts, the host would have to wait
        return torch.zeros(batch * count, dtype=x.dtype, device=x.device).index_add(0, index.reshape(-1), entries)

    sizes = summed(weights)
    means = summed(x * weights) / torch.where(sizes > 0, sizes, 1.0)
    return torch.where(where, x - means[index], x)
