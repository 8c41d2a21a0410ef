"""Darcy flow through two materials with a contrast of four, in large patches."""

from __future__ import annotations

from sciml_bounds.recipes._elliptic_samples import STORED, TwoPhaseRecipe

__all__ = ["DARCY_SMOOTH"]


class _DarcySmooth(TwoPhaseRecipe):
    name = "darcy-smooth"
    title = "Darcy flow, two materials 12 and 3"
    description = (
        "-div(a grad u) = 1, u = 0 on the boundary of the unit square; a = 12 where a Gaussian field with covariance "
        "9 (-Laplace + 9)^-2 is not negative and 3 elsewhere. The resolution counts cells along an axis: 420, so that "
        "the 421 nodes are those of the published grid, and every second one those on which networks are trained. "
        "The published data interpolate the two-valued coefficient by splines, which overshoots, and move the solution "
        "to cell centres, which leaves boundary values that are not zero; these have neither, and differ by that. "
        "1,250 samples have 1,000 for training, as many as published results use. " + STORED
    )
    reference = "Li et al. (2021), Fourier neural operator for parametric PDEs, arXiv:2010.08895"
    resolution = 420
    samples = 1250
    tau = 3.0
    high, low = 12.0, 3.0


DARCY_SMOOTH = _DarcySmooth()
