"""The inverse of a lattice matrix with constant coefficients on a box, by fast sine, cosine and Fourier transforms.

Along each axis, the matrix is diagonal in a basis that depends only on the two end conditions (Strang, "The discrete
cosine transform", SIAM Review 41 (1999) 135-147). So the inverse is a forward transform, a division by eigenvalues and
a backward transform (Hockney, J. ACM 12 (1965) 95-113; Swarztrauber, SIAM Review 19 (1977) 490-501). End points that
represent half a cell are first scaled by sqrt(1/2).

On the CPU, the transforms are those of scipy (pocketfft). On GPUs they are products with dense matrices, which take
less time than reading a lattice of this size.

Notation: i is the index of a point on an axis, k the index of a basis vector.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any, Literal

import scipy.fft
import torch
from torch import Tensor

from sciml_bounds.operators._linear_operator import LinearOperator

__all__ = ["AxisKind", "BoxInverse", "End"]

#: Condition at an end of an axis: u = 0 ("dirichlet"), zero flux ("neumann"), or "periodic" (at both ends).
End = Literal["dirichlet", "neumann", "periodic"]


@dataclass(frozen=True)
class AxisKind:
    """One axis of a box: number of cells, location of the unknowns, and end conditions.

    Attributes
    ----------
    cells : int
        Number of cells n.
    nodal : bool
        Whether the points are the nodes (n + 1, or n if periodic) or the cells. Nodes at Dirichlet ends are not
        unknowns.
    first, last : End
        Conditions at the two ends.
    """

    cells: int
    nodal: bool
    first: End
    last: End

    @property
    def points(self) -> int:
        """Number of points along the axis."""
        return self.cells + (self.nodal and self.first != "periodic")

    @property
    def unknowns(self) -> slice:
        """The points that are unknowns."""
        start = int(self.nodal and self.first == "dirichlet")
        return slice(start, self.points - int(self.nodal and self.last == "dirichlet"))

    def frequencies(self) -> Tensor:
        """Return, for every basis vector, half the phase difference between adjacent points, in units of pi / (2 n)."""
        count = self.unknowns.stop - self.unknowns.start
        k = torch.arange(count, dtype=torch.float64)
        if self.first == "periodic":
            return 2 * torch.minimum(k, count - k)
        dirichlet = (self.first == "dirichlet") + (self.last == "dirichlet")
        return k + dirichlet / 2

    def eigenvalues(self) -> Tensor:
        """Return the eigenvalues of the negative second difference with unit spacing."""
        return 4 * torch.sin(self.frequencies() * (math.pi / (2 * self.cells))) ** 2

    def shares(self) -> Tensor:
        """Return the fraction of a cell that each unknown represents: 1/2 at Neumann ends of nodal axes, else 1."""
        share = torch.ones(self.points, dtype=torch.float64)
        if self.nodal and self.first != "periodic":
            share[0] = share[-1] = 0.5
        return share[self.unknowns]

    def basis(self) -> Tensor:
        """Return the orthogonal matrix of the forward transform, shape (basis vectors, unknowns)."""
        n, unknowns = self.cells, torch.arange(self.points, dtype=torch.float64)[self.unknowns]
        place = unknowns + (0.0 if self.nodal else 0.5)
        if self.first == "periodic":
            phase = 2 * math.pi / n * torch.arange(n, dtype=torch.float64).unsqueeze(1) * unknowns
            return (torch.cos(phase) + torch.sin(phase)) / math.sqrt(n)
        phase = math.pi / n * self.frequencies().unsqueeze(1) * place
        rows = (torch.sin(phase) if self.first == "dirichlet" else torch.cos(phase)) * self.shares().sqrt()
        basis: Tensor = rows / rows.norm(dim=1, keepdim=True)
        return basis

    @property
    def _types(self) -> tuple[str, int, int]:
        """Family, forward type and backward type of the transforms of scipy."""
        if self.first == "periodic":
            return "hartley", 0, 0
        family = "dst" if self.first == "dirichlet" else "dct"
        mixed = self.first != self.last
        if self.nodal:
            return (family, 3, 2) if mixed else (family, 1, 1)
        return (family, 4, 4) if mixed else (family, 2, 3)

    def transform(self, field: Any, axis: int, workers: int, *, back: bool) -> Any:
        """Transform a numpy array along an axis; the array may be overwritten."""
        family, forward, inverse = self._types
        if family == "hartley":
            return _hartley(field, axis, workers)
        function = scipy.fft.dst if family == "dst" else scipy.fft.dct
        kind = inverse if back else forward
        return function(field, kind, axis=axis, norm="ortho", overwrite_x=True, workers=workers)


def _hartley(field: Any, axis: int, workers: int) -> Any:
    """Return the orthonormal Hartley transform: a real transform for periodic axes that is its own inverse."""
    spectrum = scipy.fft.fft(field, axis=axis, norm="ortho", workers=workers)
    return spectrum.real - spectrum.imag


class BoxInverse(LinearOperator):
    """The inverse of -sum over axes of a_axis (second difference along the axis) + c, integrated over the cells.

    If there are no Dirichlet ends and c = 0, this is the pseudo-inverse, which maps constants to zero.

    Parameters
    ----------
    axes : tuple of AxisKind
        The axes of the lattice, in order, without padded axes.
    weights : tuple of Tensor (b,)
        Coefficient a divided by the square of the spacing, for each axis.
    reaction : Tensor (b,)
        Reaction coefficient c.
    volume : float
        Volume of a cell.
    other : Tensor (b,)
        Factor by which points that are not unknowns are multiplied.
    """

    symmetric = True

    def __init__(
        self, axes: tuple[AxisKind, ...], weights: tuple[Tensor, ...], reaction: Tensor, volume: float, other: Tensor
    ) -> None:
        self.axes = axes
        self.dtype, self.device = reaction.dtype, reaction.device
        points = math.prod(axis.points for axis in axes)
        self.shape = (points, points)
        self._other = other
        self._inside = tuple(axis.unknowns for axis in axes)
        eigenvalues = reaction.double().view(-1, *(1,) * len(axes))
        shares = torch.full((1,) * len(axes), volume, dtype=torch.float64, device=self.device)
        for k, (axis, weight) in enumerate(zip(axes, weights)):
            along = [-1 if j == k else 1 for j in range(len(axes))]
            line = axis.eigenvalues().to(self.device).view(along)
            eigenvalues = eigenvalues + weight.double().view(-1, *(1,) * len(axes)) * line
            shares = shares * axis.shares().to(self.device).view(along)
        regular = eigenvalues > 0
        self._inverse = torch.where(regular, 1 / torch.where(regular, eigenvalues, 1.0), 0.0).to(self.dtype)
        self._scale = shares.rsqrt().to(self.dtype)
        self._bases = [] if self.device.type == "cpu" else [axis.basis().to(self.device, self.dtype) for axis in axes]

    @property
    def batch(self) -> int:
        """Number of operators: 1 or the number of samples."""
        return len(self._inverse)

    def matvec(self, x: Tensor) -> Tensor:
        """Apply the inverse to right-hand sides `(..., n)`."""
        self._check_batch(x)
        field = x.reshape(-1, *(axis.points for axis in self.axes))
        out = field * self._other.view(-1, *(1,) * len(self.axes))
        inside = (slice(None), *self._inside)
        out[inside] = self._scale * self._through_basis(self._scale * field[inside])
        return out.view(x.shape)

    def _through_basis(self, field: Tensor) -> Tensor:
        if self._bases:
            for k, basis in enumerate(self._bases):
                field = _multiply_along(basis, field, 1 + k)
            field = field * self._inverse
            for k, basis in enumerate(self._bases):
                field = _multiply_along(basis.mT, field, 1 + k)
            return field
        workers = torch.get_num_threads()
        array = field.numpy()
        for k, axis in enumerate(self.axes):
            array = axis.transform(array, 1 + k, workers, back=False)
        array = (torch.from_numpy(array) * self._inverse).numpy()
        for k, axis in enumerate(self.axes):
            array = axis.transform(array, 1 + k, workers, back=True)
        return torch.from_numpy(array)


def _multiply_along(matrix: Tensor, field: Tensor, dim: int) -> Tensor:
    return torch.movedim(torch.movedim(field, dim, -1) @ matrix.mT, -1, dim)
