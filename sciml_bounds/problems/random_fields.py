"""Gaussian random fields on boxes and tori that are the same functions on every grid.

A field is a series of cosines or Fourier modes, whose coefficients are drawn in the order of their wavenumbers. A finer
grid adds modes to the series of a coarser grid. So both grids sample the same field, up to the modes missing on the
coarser grid.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache

import numpy as np
import scipy.fft
from numpy.typing import NDArray

__all__ = ["cosine_field", "torus_field"]


def cosine_field(
    sources: Sequence[np.random.Generator], shape: tuple[int, ...], *, tau: float, alpha: float
) -> NDArray[np.float64]:
    """Draw Gaussian fields with zero mean at the cell centres of the unit box.

    In d dimensions, the covariance is tau^(2 alpha - d) (-Laplace + tau^2)^(-alpha), where Laplace has zero Neumann
    conditions and acts on functions of zero mean. These are the fields of the Darcy data of Li et al. (2021),
    arXiv:2010.08895.

    Parameters
    ----------
    sources : sequence of numpy.random.Generator
        Random generator of each field. A generator draws one number per mode of a cube as long as the longest axis.
    shape : tuple of int
        Number of cells along each axis.
    tau : float
        Inverse length scale.
    alpha : float
        Smoothness; above d/2 the field is continuous.

    Returns
    -------
    array (len(sources), *shape)
        The fields, float64.

    Examples
    --------
    >>> import numpy as np
    >>> coarse, fine = (
    ...     cosine_field([np.random.default_rng(0)], (n, n), tau=3.0, alpha=2.0)[0] for n in (64, 192)
    ... )
    >>> bool(np.abs(fine[1::3, 1::3] - coarse).max() < 0.1 * coarse.std())
    True
    """
    dim, longest = len(shape), max(shape)
    squares = [np.square(np.pi * np.arange(n, dtype=np.float64)) for n in shape]
    amplitude = _amplitude(squares, tau, alpha) * np.sqrt(np.prod(shape, dtype=np.float64))
    order = _mode_order(0, longest - 1, dim)
    window = tuple(slice(n) for n in shape)
    fields = np.empty((len(sources), *shape))
    for field, source in zip(fields, sources):  # one by one, so that a field does not depend on the others
        modes = np.empty(longest**dim)
        modes[order] = source.standard_normal(len(order))
        field[...] = scipy.fft.idctn(amplitude * modes.reshape((longest,) * dim)[window], norm="ortho")
    return fields


def torus_field(
    sources: Sequence[np.random.Generator], shape: tuple[int, ...], *, tau: float, alpha: float
) -> NDArray[np.float64]:
    """Draw periodic Gaussian fields with zero mean at the points i / n of the unit torus.

    In d dimensions, the covariance is tau^(2 alpha - d) (-Laplace + tau^2)^(-alpha) on functions of zero mean. With tau
    = 7 and alpha = 2.5, these are the initial vorticities in the code of Li et al. (2021), arXiv:2010.08895; the text
    of the paper states another amplitude. Modes at the Nyquist frequency are omitted.

    Parameters
    ----------
    sources : sequence of numpy.random.Generator
        Random generator of each field. A generator draws two numbers per mode of a cube as long as the longest axis.
    shape : tuple of int
        Number of points along each axis.
    tau : float
        Inverse length scale.
    alpha : float
        Smoothness; above d/2 the field is continuous.

    Returns
    -------
    array (len(sources), *shape)
        The fields, float64.

    Examples
    --------
    >>> import numpy as np
    >>> coarse, fine = (
    ...     torus_field([np.random.default_rng(0)], (n, n), tau=7.0, alpha=2.5)[0] for n in (64, 256)
    ... )
    >>> bool(np.abs(fine[::4, ::4] - coarse).max() < 0.05 * coarse.std())
    True
    """
    dim = len(shape)
    largest = [(n - 1) // 2 for n in shape]
    axes = [np.arange(-m, m + 1) for m in largest]
    amplitude = _amplitude([np.square(2 * np.pi * k) for k in axes], tau, alpha)
    outer = max(largest)
    order = _mode_order(-outer, outer, dim)
    window = tuple(slice(outer - m, outer + m + 1) for m in largest)
    places = np.ix_(*[k % n for k, n in zip(axes, shape)])
    fields = np.empty((len(sources), *shape))
    for field, source in zip(fields, sources):
        modes = np.empty(len(order), np.complex128)
        modes[order] = source.standard_normal((len(order), 2)).view(np.complex128)[:, 0]
        spectrum = np.zeros(shape, np.complex128)
        spectrum[places] = amplitude * modes.reshape((2 * outer + 1,) * dim)[window]
        field[...] = scipy.fft.ifftn(spectrum, norm="forward").real
    return fields


def _amplitude(squares: Sequence[NDArray[np.float64]], tau: float, alpha: float) -> NDArray[np.float64]:
    """Return the square roots of the eigenvalues of the covariance; zero for the constant mode.

    `squares` are the eigenvalues of -d^2/dx^2 along each axis.
    """
    laplace = sum(np.meshgrid(*squares, indexing="ij", sparse=True), start=np.zeros(()))
    scale = tau ** (alpha - len(squares) / 2)
    return np.where(laplace > 0, scale * (laplace + tau**2) ** (-alpha / 2), 0.0)


@lru_cache(maxsize=8)
def _mode_order(first: int, last: int, dim: int) -> NDArray[np.intp]:
    """Return the order of the wavenumbers of a cube by largest component; larger cubes continue smaller ones."""
    grids = [grid.ravel() for grid in np.meshgrid(*[np.arange(first, last + 1)] * dim, indexing="ij")]
    ring = np.abs(np.stack(grids)).max(axis=0)
    return np.lexsort((*grids[::-1], ring))
