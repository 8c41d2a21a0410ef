"""Table of all methods by name."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

from sciml_bounds._linear_methods import NAMED_METHODS
from sciml_bounds.comparison.equations import Equations, Solve
from sciml_bounds.comparison.ours import ours
from sciml_bounds.comparison.peers import petsc_cg, pyamg_cg, scipy_cg, scipy_spsolve

__all__ = ["DIRECT", "METHODS"]

#: The set-up function of every method, by name.
METHODS: dict[str, Callable[[Equations], Solve]] = {
    **{name: partial(ours, name) for name in NAMED_METHODS},
    "scipy:cg": scipy_cg,
    "scipy:spsolve": scipy_spsolve,
    "pyamg:ruge-stuben": partial(pyamg_cg, "ruge_stuben_solver"),
    "pyamg:smoothed-aggregation": partial(pyamg_cg, "smoothed_aggregation_solver"),
    "petsc:gamg": partial(petsc_cg, "gamg"),
    "petsc:cg-jacobi": partial(petsc_cg, "jacobi"),
}
#: Names of the methods that do not iterate.
DIRECT = ("direct", "scipy:spsolve")
