"""Whether densities and sources are what they must be: looked at in samples, which can refute but not prove it."""

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

__all__ = ["require_balance", "require_what_is_declared"]

#: Sizes of the values and gradients that are tried, and the largest number a profile or potential is tried with.
SIZES, LARGEST = (1e-2, 0.1, 0.3, 1.0, 3.0), 30.0

#: Eigenvalues of second derivatives may be off by this part of the largest one through round-off.
ROUND_OFF = 1e-9

#: The mean of a source on a box, where it has to be zero, is that of so many drawn points, and zero up to so many
#: standard errors of it.
DRAWN, ERRORS = 2**14, 6.0


def require_balance(source: Callable[[Tensor], Tensor], box: Box) -> None:
    """Look at the mean of a source on a box where nothing fixes the level of u, as far as independent points can tell.

    Raises
    ------
    InputError
        If it is not zero.
    """
    generator = torch.Generator().manual_seed(0)
    values = source(box.points(torch.rand((DRAWN, box.dim), generator=generator, dtype=torch.float64)))
    mean, error = float(values.mean()), float(values.std()) / math.sqrt(DRAWN)
    if abs(mean) > ERRORS * error:
        about = f" +- {error:.2g}" if error > 0 else ""
        raise InputError(
            f"the source has the mean {mean:.6g}{about}, but nothing fixes the level of u (free or periodic sides, and "
            "no reaction), so it must have the mean zero; subtract the mean, or give a reaction."
        )


def require_what_is_declared(density: EnergyDensity, points: Tensor) -> None:
    """Look at a density in points (m, d).

    Raises
    ------
    InputError
        If it is not finite, or declared to be convex or to have a lambda or Lambda and samples show otherwise.
    """
    if not density.declared:
        return
    if isinstance(density, IsotropicEnergy):
        _look_at_profile(density.profile)
        _look_at_potential(density.potential)
        return
    generator = torch.Generator().manual_seed(0)
    for size in SIZES:
        u = size * torch.randn(len(points), generator=generator, dtype=points.dtype).to(points.device)
        p = size * torch.randn(points.shape, generator=generator, dtype=points.dtype).to(points.device)
        _look_at(density, points, u, p)


def _look_at_profile(profile: ScalarFunction) -> None:
    if not isinstance(profile, Custom):
        return
    r = _numbers()
    require_finite(profile.value(r), "the profile g(r), at some r between -30 and 30,")
    slope, size = profile.slope(r), float(profile.slope(r).abs().max())
    if not bool(((slope + profile.slope(-r)).abs() <= ROUND_OFF * size).all()):
        raise InputError("the profile g is not even: g'(-r) is not -g'(r); write it as a function of r.square().")
    found = torch.cat([profile.curvature(r), profile.secant(r)])
    _compare(profile, float(found.min()), float(found.max()), "the profile")


def _look_at_potential(potential: ScalarFunction) -> None:
    if not isinstance(potential, Custom):
        return
    r = _numbers()
    require_finite(potential.value(r), "the potential h(u), at some u between -30 and 30,")
    found = potential.curvature(r)
    _compare(potential, float(found.min()), float(found.max()), "the potential")


def _numbers() -> Tensor:
    r = torch.logspace(-3, math.log10(LARGEST), 200, dtype=torch.float64)
    return torch.cat([-r.flip(0), r])


def _look_at(density: EnergyDensity, x: Tensor, u: Tensor, p: Tensor) -> None:
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
    bad = eigenvalues[..., 0] < -ROUND_OFF * size
    if bool(bad.any()):
        k = int(torch.nonzero(bad)[0])
        raise InputError(
            f"the energy density is declared convex in (u, p) together, but has the curvature {eigenvalues[k, 0]:.3g} "
            f"at u = {u[k]:.3g}, |p| = {p[k].norm():.3g}; leave out convex=True, and no certificate is claimed."
        )


def _compare(declared: Any, low: float, high: float, name: str) -> None:
    slack = ROUND_OFF * max(abs(low), abs(high))
    if declared.convex and low < -slack:
        raise InputError(
            f"{name} is declared convex, but samples have the curvature {low:.3g}; leave out convex=True, and no "
            "certificate is claimed."
        )
    if declared.lower > 0 and low < declared.lower - slack:
        raise InputError(
            f"{name} is declared to have lower = {declared.lower:g}, but samples show {low:.6g}; lower it."
        )
    if high > declared.upper + slack:
        raise InputError(
            f"{name} is declared to have upper = {declared.upper:g}, but samples show {high:.6g}; raise it."
        )
