"""Tests of declared properties of densities and sources on samples. Samples can refute a property, but not prove it."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from sciml_bounds.arrays import require_finite
from sciml_bounds.errors import InputError
from sciml_bounds.grid import Box
from sciml_bounds.problems.energies import IsotropicEnergy
from sciml_bounds.problems.energy_density import EnergyDensity
from sciml_bounds.problems.scalar_functions import Custom, ScalarFunction

__all__ = ["check_declarations", "require_balance"]

#: Standard deviations of the sampled values and gradients.
SAMPLE_SIZES = (1e-2, 0.1, 0.3, 1.0, 3.0)

#: Largest sampled argument of a profile or potential.
MAX_ARGUMENT = 30.0

#: Tolerance for the round-off of eigenvalues of second derivatives, relative to the largest eigenvalue.
EIGENVALUE_TOL = 1e-9

#: Number of random points for the mean of a source on a box, and number of standard errors by which it may differ from
#: 0.
MEAN_SAMPLES, MAX_STANDARD_ERRORS = 2**14, 6.0


def require_balance(source: Callable[[Tensor], Tensor], box: Box) -> None:
    """Raise unless the mean of a source over a box is zero, up to the error of a random sample.

    A zero mean is needed if nothing fixes the level of u: without Dirichlet sides and reaction.

    Raises
    ------
    InputError
        If the mean is not zero.
    """
    generator = torch.Generator().manual_seed(0)
    values = source(box.points(torch.rand((MEAN_SAMPLES, box.dim), generator=generator, dtype=torch.float64)))
    mean, error = float(values.mean()), float(values.std()) / math.sqrt(MEAN_SAMPLES)
    if abs(mean) > MAX_STANDARD_ERRORS * error:
        about = f" +- {error:.2g}" if error > 0 else ""
        raise InputError(
            f"the source has mean {mean:.6g}{about}, but it must have mean zero, since nothing fixes the level of u "
            "(Neumann or periodic sides, and no reaction); subtract the mean, or add a reaction."
        )


def check_declarations(density: EnergyDensity, points: Tensor) -> None:
    """Raise if samples of a density at points (m, d) contradict its declared convexity or ellipticity constants.

    Raises
    ------
    InputError
        If the samples contradict a declaration, or the density is not finite.
    """
    if not density.declared:
        return
    if isinstance(density, IsotropicEnergy):
        _check_profile(density.profile)
        _check_potential(density.potential)
        return
    generator = torch.Generator().manual_seed(0)
    for size in SAMPLE_SIZES:
        u = size * torch.randn(len(points), generator=generator, dtype=points.dtype).to(points.device)
        p = size * torch.randn(points.shape, generator=generator, dtype=points.dtype).to(points.device)
        _check_density(density, points, u, p)


def _check_profile(profile: ScalarFunction) -> None:
    if not isinstance(profile, Custom):
        return
    r = _sample_arguments()
    require_finite(profile.value(r), "the profile g(r), at some r between -30 and 30,")
    slope, size = profile.slope(r), float(profile.slope(r).abs().max())
    if not bool(((slope + profile.slope(-r)).abs() <= EIGENVALUE_TOL * size).all()):
        raise InputError("the profile g is not even, since g'(-r) != -g'(r); write it as a function of r.square().")
    found = torch.cat([profile.curvature(r), profile.secant(r)])
    _compare(profile, float(found.min()), float(found.max()), "the profile")


def _check_potential(potential: ScalarFunction) -> None:
    if not isinstance(potential, Custom):
        return
    r = _sample_arguments()
    require_finite(potential.value(r), "the potential h(u), at some u between -30 and 30,")
    found = potential.curvature(r)
    _compare(potential, float(found.min()), float(found.max()), "the potential")


def _sample_arguments() -> Tensor:
    r = torch.logspace(-3, math.log10(MAX_ARGUMENT), 200, dtype=torch.float64)
    return torch.cat([-r.flip(0), r])


def _check_density(density: EnergyDensity, x: Tensor, u: Tensor, p: Tensor) -> None:
    require_finite(density.value(x, u, p), "the energy density at some samples (x, u, p)")
    second = density.second(x, u, p)
    in_p = torch.linalg.eigvalsh(second.pp)
    low, high = float(in_p.min()), float(in_p.max())
    _compare(density, low, high, "the energy density")
    if not density.convex:
        return
    cross = torch.zeros_like(p) if second.up is None else second.up
    top = torch.cat([second.uu.unsqueeze(-1), cross], -1).unsqueeze(-2)
    whole = torch.cat([top, torch.cat([cross.unsqueeze(-1), second.pp], -1)], -2)
    eigenvalues = torch.linalg.eigvalsh(whole)
    size = eigenvalues.abs().amax(-1)
    bad = eigenvalues[..., 0] < -EIGENVALUE_TOL * size
    if bool(bad.any()):
        k = int(torch.nonzero(bad)[0])
        raise InputError(
            f"the energy density is declared convex in (u, p) jointly, but its second derivative has the eigenvalue "
            f"{eigenvalues[k, 0]:.3g} at u = {u[k]:.3g}, |p| = {p[k].norm():.3g}; remove convex=True (then there are "
            "no certificates)."
        )


def _compare(declared: Any, low: float, high: float, name: str) -> None:
    slack = EIGENVALUE_TOL * max(abs(low), abs(high))
    if declared.convex and low < -slack:
        raise InputError(
            f"{name} is declared convex, but samples have the second derivative {low:.3g}; remove convex=True (then "
            "there are no certificates)."
        )
    if declared.lower > 0 and low < declared.lower - slack:
        raise InputError(
            f"{name} is declared to have lower = {declared.lower:g}, but samples have the second derivative {low:.6g}; "
            "reduce lower."
        )
    if high > declared.upper + slack:
        raise InputError(
            f"{name} is declared to have upper = {declared.upper:g}, but samples have the second derivative "
            f"{high:.6g}; increase upper."
        )
