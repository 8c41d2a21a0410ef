"""Declarations of densities that samples refute are rejected in one sentence; correct ones pass."""

from __future__ import annotations

import pytest
import torch
from refusals import refused

import sciml_bounds as sb

GRID = sb.Grid((4, 4))


def squared(x, u, p):
    return p.square().sum(-1) / 2


@pytest.mark.parametrize(
    "density",
    [
        sb.variational.EnergyDensity(squared, convex=True, lower=1.0, upper=1.0),
        sb.variational.EnergyDensity(lambda x, u, p: squared(x, u, p) + u**4, convex=True),
        sb.variational.EnergyDensity(lambda x, u, p: squared(x, u, p) - u**2),  # nothing is declared
        sb.variational.EnergyDensity(
            lambda x, u, p: squared(x, u, p) * (1 + x[..., 0]), convex=True, lower=1.0, upper=2.0
        ),
        sb.variational.IsotropicEnergy(
            lambda r: torch.log(torch.cosh(r)) + r**2 / 2, convex=True, lower=1.0, upper=2.0
        ),
        sb.variational.IsotropicEnergy(lambda r: r**2, lambda u: u**2 / 2 + torch.cos(u) / 2, convex=True, lower=2.0),
        sb.variational.IsotropicEnergy(lambda r: r**2, torch.cos),
    ],
)
def test_what_is_true_passes(density):
    sb.variational.VariationalProblem(GRID, density)
    sb.variational.VariationalProblem(sb.barron.Box([1.0, 1.0]), density)


@pytest.mark.parametrize(
    ("density", "message"),
    [
        (
            sb.variational.EnergyDensity(lambda x, u, p: -squared(x, u, p), convex=True),
            "declared convex second derivative",
        ),
        (
            sb.variational.EnergyDensity(lambda x, u, p: squared(x, u, p) - u**2 / 9, convex=True),
            "convex in (u, p) jointly eigenvalue",
        ),
        (
            sb.variational.EnergyDensity(lambda x, u, p: squared(x, u, p) + 2 * u * p[..., 0] + u**2, convex=True),
            "jointly",
        ),
        (sb.variational.EnergyDensity(squared, convex=True, lower=1.5), "lower = 1.5 samples 1"),
        (sb.variational.EnergyDensity(squared, convex=True, upper=0.5), "upper = 0.5 samples 1"),
        (sb.variational.EnergyDensity(lambda x, u, p: torch.log(u), convex=True), "NaN or infinite"),
        (sb.variational.IsotropicEnergy(lambda r: torch.cos(r), convex=True), "profile convex"),
        (sb.variational.IsotropicEnergy(lambda r: r**2, torch.cos, convex=True), "potential convex"),
        (
            sb.variational.IsotropicEnergy(lambda r: r**2, convex=True, lower=2.5),
            "profile lower = 2.5",
        ),
        (
            sb.variational.IsotropicEnergy(lambda r: r**2, convex=True, upper=1.5),
            "profile upper = 1.5",
        ),
        (sb.variational.IsotropicEnergy(lambda r: (r - 1) ** 2, convex=True), "profile g even"),
        (sb.variational.IsotropicEnergy(lambda r: torch.sqrt(r), convex=True), "NaN or infinite"),
        (sb.variational.IsotropicEnergy(lambda r: r**2, lambda u: torch.log(u), convex=True), "potential h(u)"),
    ],
)
def test_what_samples_refute_is_refused(density, message):
    refused(message, sb.variational.VariationalProblem, GRID, density)
