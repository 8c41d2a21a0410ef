"""Draw and solve the two-phase sample: `python -m sciml_bounds.samples.make_two_phase [target.npz]`."""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import scipy.fft
import scipy.sparse as sp
import scipy.sparse.linalg
from numpy.typing import NDArray

from sciml_bounds.samples import TwoPhase

__all__ = ["make_two_phase"]

SAMPLES, CELLS, SEED = 8, 16, 20
COEFFICIENTS = (3.0, 12.0)


def make_two_phase() -> TwoPhase:
    """Draw the phases and solve for the solutions; every call returns the same numbers."""
    rng = np.random.default_rng(SEED)
    phases = [_draw_phase(rng) for _ in range(SAMPLES)]
    answers = [_solve(np.where(phase, COEFFICIENTS[1], COEFFICIENTS[0])) for phase in phases]
    return TwoPhase(np.stack(phases), np.stack(answers).astype(np.float32))


def _draw_phase(rng: np.random.Generator) -> NDArray[np.bool_]:
    """Return where a Gaussian field with covariance (9 - Laplace)^-2 and Neumann sides is positive."""
    k = np.arange(CELLS)
    spectrum = (np.pi**2 * (k[:, None] ** 2 + k**2) + 9.0) ** -1.0
    spectrum[0, 0] = 0.0
    return np.asarray(scipy.fft.idctn(spectrum * rng.standard_normal((CELLS, CELLS)), norm="ortho") > 0)


def _solve(a: NDArray[np.float64]) -> NDArray[np.float64]:
    """Solve the two-point flux equations on the cells of the unit square, and scale to a maximum of one."""
    count = a.size
    number = np.arange(count).reshape(a.shape)
    matrix = sp.csr_array((count, count))
    for axis in (0, 1):
        left, right = np.moveaxis(number, axis, 0)[:-1].ravel(), np.moveaxis(number, axis, 0)[1:].ravel()
        first, second = a.ravel()[left], a.ravel()[right]
        difference = sp.csr_array(
            (np.repeat([1.0, -1.0], len(left)), (np.tile(np.arange(len(left)), 2), np.concatenate([left, right]))),
            (len(left), count),
        )
        matrix = matrix + difference.T @ sp.diags_array(2 * first * second / (first + second)) @ difference
        ends = np.concatenate([np.moveaxis(number, axis, 0)[end] for end in (0, -1)])
        matrix = matrix + sp.csr_array((2 * a.ravel()[ends], (ends, ends)), (count, count))
    u = scipy.sparse.linalg.spsolve(matrix.tocsc(), np.full(count, 1.0 / count)).reshape(a.shape)
    return np.asarray(u / u.max())


if __name__ == "__main__":
    target = Path(sys.argv[1]) if len(sys.argv) > 1 else Path(__file__).with_name("two_phase.npz")
    np.savez_compressed(target, **make_two_phase()._asdict())
