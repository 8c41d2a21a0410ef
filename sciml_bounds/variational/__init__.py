"""Variational problems: functions of least energy, found by Newton, Kacanov or gradient methods."""

from sciml_bounds.bounds._convex import certify_energy
from sciml_bounds.bounds._energy_certificate import EnergyCertificate
from sciml_bounds.problems.energies import (
    GinzburgLandau,
    IsotropicEnergy,
    MinimalSurface,
    PLaplacian,
    QuadraticEnergy,
    ShearThinning,
)
from sciml_bounds.problems.energy_density import EnergyDensity
from sciml_bounds.problems.variational_problem import VariationalProblem
from sciml_bounds.variational._minimize_energy import minimize_energy
from sciml_bounds.variational._variational_solution import EnergyStep, VariationalSolution

__all__ = [
    "EnergyCertificate",
    "EnergyDensity",
    "EnergyStep",
    "GinzburgLandau",
    "IsotropicEnergy",
    "MinimalSurface",
    "PLaplacian",
    "QuadraticEnergy",
    "ShearThinning",
    "VariationalProblem",
    "VariationalSolution",
    "certify_energy",
    "minimize_energy",
]
