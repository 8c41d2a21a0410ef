"""The inverse of a lattice matrix with constant coefficients on a box, by fast sine, cosine and Fourier transforms.

Along each axis the matrix is diagonal in a basis that depends on the two sides only (Strang, "The discrete cosine
transform", SIAM Review 41 (1999) 135-147), so that two transforms and one product invert it: Hockney, J. ACM 12 (1965)
95-113; Swarztrauber, SIAM Review 19 (1977) 490-501. Points whose end stands for half a cell are scaled by the square
root of their share first.

On the CPU the transforms are those of scipy (pocketfft); elsewhere the bases are dense matrices, which accelerators
multiply faster than a lattice of this size can be read.

Legend: i is a point of an axis, k a member of its basis.
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

#: What holds at an end of an axis: u = 0 ("held") or no flux ("free"); "periodic" at both.
End = Literal["held", "free", "periodic"]


@dataclass(frozen=True)
class AxisKind:
    """One axis of a box: its cells, where the unknowns lie, and its two ends.

    Attributes
    ----------
    cells
        Number of cells n.
    nodal
        Whether the unknowns lie on nodes (n + 1 of them, n if periodic; at held ends there are none) or in cells.
    first, last
        What holds at the two ends.
    """

    cells: int
    nodal: bool
    first: End
    last: End

    @property
    def points(self) -> int:
        """Length of the axis of the lattice."""
        return self.cells + (self.nodal and self.first != "periodic")

    @property
    def unknowns(self) -> slice:
        """The points that are unknowns."""
        start = int(self.nodal and self.first == "held")
        return slice(start, self.points - int(self.nodal and self.last == "held"))

    def frequencies(self) -> Tensor:
        """Half the phase from one cell to the next, over pi / (2 n), for every member of the basis."""
        count = self.unknowns.stop - self.unknowns.start
        k = torch.arange(count, dtype=torch.float64)
        if self.first == "periodic":
            return 2 * torch.minimum(k, count - k)
        held = (self.first == "held") + (self.last == "held")
        return k + held / 2

    def eigenvalues(self) -> Tensor:
        """Eigenvalues of the second difference (with spacing one)."""
        return 4 * torch.sin(self.frequencies() * (math.pi / (2 * self.cells))) ** 2

    def shares(self) -> Tensor:
        """Return the part of a cell that each unknown stands for: a half at free ends of nodal axes."""
        share = torch.ones(self.points, dtype=torch.float64)
        if self.nodal and self.first != "periodic":
            share[0] = share[-1] = 0.5
        return share[self.unknowns]

    def basis(self) -> Tensor:
        """Return the orthogonal matrix of the forward transform, shape (members, unknowns)."""
        n, unknowns = self.cells, torch.arange(self.points, dtype=torch.float64)[self.unknowns]
        place = unknowns + (0.0 if self.nodal else 0.5)
        if self.first == "periodic":
            phase = 2 * math.pi / n * torch.arange(n, dtype=torch.float64).unsqueeze(1) * unknowns
            return (torch.cos(phase) + torch.sin(phase)) / math.sqrt(n)
        phase = math.pi / n * self.frequencies().unsqueeze(1) * place
        rows = (torch.sin(phase) if self.first == "held" else torch.cos(phase)) * self.shares().sqrt()
        basis: Tensor = rows / rows.norm(dim=1, keepdim=True)
        return basis

    @property
    def _types(self) -> tuple[str, int, int]:
        """Family and types of scipy's transforms, forward and back."""
        if self.first == "periodic":
            return "hartley", 0, 0
        family = "dst" if self.first == "held" else "dct"
        mixed = self.first != self.last
        if self.nodal:
            return (family, 3, 2) if mixed else (family, 1, 1)
        return (family, 4, 4) if mixed else (family, 2, 3)

    def transform(self, field: Any, axis: int, workers: int, *, back: bool) -> Any:
        """Transform a numpy array along an axis; it may be overwritten."""
        family, forward, inverse = self._types
        if family == "hartley":
            return _hartley(field, axis, workers)
        function = scipy.fft.dst if family == "dst" else scipy.fft.dct
        kind = inverse if back else forward
        return function(field, kind, axis=axis, norm="ortho", overwrite_x=True, workers=workers)


def _hartley(field: Any, axis: int, workers: int) -> Any:
    """Orthonormal Hartley transform, the real one of a periodic axis; its own inverse."""
    spectrum = scipy.fft.fft(field, axis=axis, norm="ortho", workers=workers)
    return spectrum.real - spectrum.imag


class BoxInverse(LinearOperator):
    """The inverse of (sum of a_axis times second differences along the axes, plus c), each integrated over the cells.

    Points that are no unknowns are multiplied by a number. Where no end holds anything and c = 0, constants are mapped
    to zero.

    Parameters
    ----------
    axes
        One an axis of the lattice, in order; lower dimensions are padded in front.
    weights
        a over the square of the spacing, one tensor (b,) an axis.
    reaction
        c, shape (b,).
    volume
        Of a cell.
    other
        What points that are no unknowns are multiplied with, shape (b,).
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
