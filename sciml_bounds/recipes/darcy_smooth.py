"""Darcy flow through two materials with a contrast of four, in large patches."""

from __future__ import annotations

from sciml_bounds.recipes._elliptic_samples import STORED, TwoPhaseRecipe

__all__ = ["DARCY_SMOOTH"]


class _DarcySmooth(TwoPhaseRecipe):
    name = "darcy-smooth"
    title = "Darcy flow, two materials 12 and 3"
    description = (
        "-div(a grad u) = 1, u = 0 on the boundary of the unit square; a = 12 where a Gaussian field with covariance "
        "9 (-Laplace + 9)^-2 is >= 0, and 3 elsewhere. The resolution is the number of cells per axis: 420 gives the "
        "421 nodes of the published grid, and every second node is one on which networks are trained. The published "
        "data differ: their two-valued coefficient is interpolated by splines, which overshoot, and their solution is "
        "interpolated to cell centres, so its boundary values are not zero. 1,250 samples contain 1,000 for training, "
        "as in published results. " + STORED
    )
    reference = "Li et al. (2021), Fourier neural operator for parametric PDEs, arXiv:2010.08895"
    resolution = 420
    samples = 1250
    tau = 3.0
    high, low = 12.0, 3.0


DARCY_SMOOTH = _DarcySmooth()
