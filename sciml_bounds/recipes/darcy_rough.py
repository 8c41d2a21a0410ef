"""Darcy flow through two materials with a contrast of six, in small patches."""

from __future__ import annotations

from sciml_bounds.recipes._elliptic_samples import STORED, TwoPhaseRecipe

__all__ = ["DARCY_ROUGH"]


class _DarcyRough(TwoPhaseRecipe):
    name = "darcy-rough"
    title = "Darcy flow, two materials 12 and 2"
    description = (
        "-div(a grad u) = 1, u = 0 on the boundary of the unit square; a = 12 where a Gaussian field with covariance "
        "25 (-Laplace + 25)^-2 is >= 0, and 2 elsewhere. The sources disagree on the length scale: the name of the "
        "published file says tau = 5, as here, the text of its authors tau^2 = 20. The resolution is the number of "
        "cells per axis: 512, twice the 256 on which networks are trained; the published grid has 512 nodes. As in "
        "darcy-smooth, nothing is interpolated by splines. 1,600 samples contain the published 1,280 for training. "
        + STORED
    )
    reference = "Liu, Xu, Cao, Zhang (2024), HANO, J. Comput. Phys.; He, Liu, Xu (2024), MgNO, arXiv:2310.19809"
    resolution = 512
    samples = 1600
    tau = 5.0
    high, low = 12.0, 2.0


DARCY_ROUGH = _DarcyRough()
