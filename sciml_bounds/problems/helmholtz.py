"""The Helmholtz equation -Laplace(u) - (w / c)^2 u = 0 on the unit square with Neumann data."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, cast

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from sciml_bounds.arrays import Field, convert
from sciml_bounds.grid import side_axis
from sciml_bounds.memory import require_memory
from sciml_bounds.problems.spectral_elements import SpectralElements

__all__ = ["Helmholtz", "HelmholtzSolution", "Strip"]

_SIDES = ("x0", "x1", "y0", "y1")
_Floats = NDArray[np.float64]


@dataclass(frozen=True)
class Strip:
    """Neumann data that are constant on a segment of a side and zero elsewhere.

    Attributes
    ----------
    low, high : float
        Ends of the segment, as coordinates along the side.
    value : float
        Normal derivative du/dn on the segment.
    """

    low: float
    high: float
    value: float = 1.0


#: Accepted types of du/dn on a side; a callable takes the coordinate along the side.
Flux = float | Strip | Callable[[Tensor], Tensor]


class Helmholtz:
    """The Helmholtz equation -Laplace(u) - (w / c)^2 u = 0 on (0, 1)^2, with du/dn prescribed on all four sides.

    Parameters
    ----------
    cells : int or pair of sequences of float
        Number n of equal cells along each axis; or, for each axis, the increasing coordinates of the grid lines from 0
        to 1.
    wave_speed : float, array (batch..., n + 1, n + 1) or callable
        Wave speed c > 0. Values at the corners of the cells are interpolated bilinearly. A callable takes the
        coordinates (x, y) and is evaluated at the Gauss points.
    frequency : float
        Angular frequency w > 0.
    flux : mapping of str to float, Strip or callable
        Normal derivative du/dn by side (`x0`, `x1`, `y0`, `y1`): a number, a `Strip`, or a callable of the coordinate
        along the side. Sides that are not named have du/dn = 0.

    Notes
    -----
    Data are not checked, since only recipes construct this class. Samples are solved one by one on the CPU in float64,
    by a sparse factorisation, without gradients. On one core, bilinear elements on 100 x 100 cells take about 0.1 s,
    and degree 8 on 28 x 22 cells about 0.5 s.

    The solution is unique unless w is a resonance. Near a resonance, small changes of c or of the mesh change u a lot.
    Elements of low degree shift the resonances (pollution), so the discrete solution may be far from the exact solution
    even if the mesh resolves every wave. Compare the solutions of two degrees before trusting either of them.

    Examples
    --------
    >>> import torch
    >>> from sciml_bounds.problems.helmholtz import Helmholtz
    >>> wave = Helmholtz(4, 1.0, frequency=3.0, flux={"x1": -3.0 * torch.sin(torch.tensor(3.0)).item()})
    >>> solution = wave.solve(degree=8)  # cos(3 x)
    >>> bool(torch.allclose(solution.values[:, 0], torch.cos(3 * torch.linspace(0, 1, 5, dtype=torch.float64))))
    True
    """

    def __init__(
        self,
        cells: int | tuple[Sequence[float], Sequence[float]],
        wave_speed: Field,
        *,
        frequency: float = 1000.0,
        flux: Mapping[str, Flux],
    ) -> None:
        self.lines = _lines(cells)
        self.frequency = frequency
        self.flux = dict(flux)
        self.wave_speed = _wave_speed(wave_speed, self.lines)
        self.batch_shape = tuple(self.wave_speed.shape[:-2]) if isinstance(self.wave_speed, Tensor) else ()

    def solve(self, degree: int = 1) -> HelmholtzSolution:
        """Solve with elements of a given degree, by a direct method.

        Parameters
        ----------
        degree : int
            Polynomial degree along each axis. Degree 1 is the bilinear element with 3 x 3 Gauss points; degrees 6 to 10
            resolve a wave with one or two cells.

        Raises
        ------
        ConvergenceError
            If w is a resonance of the discrete equation to working precision.
        """
        count = math.prod(len(lines) - 1 for lines in self.lines)
        require_memory(24 * count * (degree + 1) ** 4, f"the matrix of {count} cells of degree {degree}")
        elements = SpectralElements(self.lines, degree)
        load = self._load(elements)
        found = [self._solve_one(elements, speed, load) for speed in self._speeds(elements)]
        coefficients = torch.from_numpy(np.stack([values for values, _ in found]))
        residuals = torch.tensor([residual for _, residual in found], dtype=torch.float64)
        return HelmholtzSolution(
            coefficients.reshape(*self.batch_shape, *elements.shape), residuals.reshape(self.batch_shape), elements
        )

    def _solve_one(self, elements: SpectralElements, speed: _Floats, load: _Floats) -> tuple[_Floats, float]:
        squared = (self.frequency / speed) ** 2
        if elements.degree > 1:
            assert _can_eliminate(self.lines, float(squared.max()))
        return elements.solve(elements.matrix_of_cells(-squared), load)

    def _speeds(self, elements: SpectralElements) -> list[_Floats]:
        """Return the wave speed of each sample at the Gauss points."""
        points = elements.gauss_points
        if not isinstance(self.wave_speed, Tensor):
            x, y = (torch.from_numpy(p) for p in points)
            values = self.wave_speed(*torch.meshgrid(x, y, indexing="ij"))
            return [convert(values, "wave_speed", torch.float64, torch.device("cpu")).expand(len(x), len(y)).numpy()]
        bilinear = SpectralElements(self.lines, 1)
        along_x, along_y = bilinear.interpolation(0, points[0]), bilinear.interpolation(1, points[1])
        samples = self.wave_speed.reshape(-1, *self.wave_speed.shape[-2:]).numpy()
        return [(along_y @ (along_x @ sample).T).T for sample in samples]

    def _load(self, elements: SpectralElements) -> _Floats:
        load = np.zeros(elements.shape)
        for side, data in self.flux.items():
            axis, end = side_axis(side)
            low, high = (data.low, data.high) if isinstance(data, Strip) else (0.0, 1.0)
            load += elements.load_of_side(axis, end, _along(side, data), low, high)
        return load


@dataclass(frozen=True)
class HelmholtzSolution:
    """The discrete solution of a Helmholtz equation.

    Attributes
    ----------
    coefficients : Tensor (batch..., n degree + 1, n degree + 1)
        Values at the nodes of the elements, float64.
    residuals : Tensor (batch...)
        Largest residual divided by the largest load, which measures the round-off of the factorisation.
    elements : SpectralElements
        The elements, with attributes `degree` and `lines`.
    """

    coefficients: Tensor
    residuals: Tensor
    elements: SpectralElements = field(repr=False)

    @property
    def values(self) -> Tensor:
        """The solution at the corners of the cells, shape (batch..., n + 1, n + 1)."""
        step = self.elements.degree
        return self.coefficients[..., ::step, ::step]

    def at(self, x: Any, y: Any) -> Tensor:
        """Return the values of the solution at all pairs of coordinates x and y, shape (batch..., len(x), len(y))."""
        along_x, along_y = (
            self.elements.interpolation(axis, torch.as_tensor(points, dtype=torch.float64).numpy()).toarray()
            for axis, points in ((0, x), (1, y))
        )
        return torch.from_numpy(along_x) @ self.coefficients @ torch.from_numpy(along_y).T


# --- data -------------------------------------------------------------------------------------------------------------


def _lines(cells: int | tuple[Sequence[float], Sequence[float]]) -> tuple[_Floats, _Floats]:
    if isinstance(cells, int):
        lines = np.linspace(0.0, 1.0, cells + 1)
        return lines, lines
    x, y = (np.asarray(lines, dtype=np.float64) for lines in cells)
    assert all(lines[0] == 0 and lines[-1] == 1 and (np.diff(lines) > 0).all() for lines in (x, y))
    return x, y


def _wave_speed(value: Any, lines: tuple[_Floats, _Floats]) -> Tensor | Callable[[Tensor, Tensor], Any]:
    if callable(value) and not hasattr(value, "dtype"):
        return cast(Callable[[Tensor, Tensor], Any], value)
    speed = convert(value, "wave_speed", torch.float64, torch.device("cpu")).detach()
    shape = tuple(len(line) for line in lines)
    speed = speed.expand(shape) if speed.ndim == 0 else speed
    assert tuple(speed.shape[-2:]) == shape
    assert bool((speed > 0).all())
    return speed


def _along(side: str, data: Flux) -> Callable[[_Floats], _Floats]:
    """Return the data of a side as a function of numpy arrays."""
    if isinstance(data, Strip):
        return lambda points: np.full(points.shape, data.value)
    if not callable(data):
        return lambda points: np.full(points.shape, float(data))

    def sample(points: _Floats) -> _Floats:
        values = convert(data(torch.from_numpy(points)), f"flux on side {side}", torch.float64, torch.device("cpu"))
        return np.broadcast_to(values.numpy(), points.shape)

    return sample


def _can_eliminate(lines: tuple[_Floats, _Floats], largest: float) -> bool:
    """Return whether the inner nodes of every cell can be eliminated stably.

    The smallest eigenvalue of -Laplace on a cell hx x hy with u = 0 on its boundary is pi^2 (1 / hx^2 + 1 / hy^2). If
    (w / c)^2 is below this eigenvalue, the matrix of the inner nodes is positive definite for every degree.
    """
    hx, hy = (float(np.diff(line).max()) for line in lines)
    return largest < math.pi**2 * (1 / hx**2 + 1 / hy**2)
