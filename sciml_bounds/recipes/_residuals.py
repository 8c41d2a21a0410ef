"""Base class of recipes for right-hand sides of the pressure equation on the cells of a box."""

from __future__ import annotations

from sciml_bounds.grid import AXES, Grid
from sciml_bounds.recipes._recipe import Array, Recipe, Variable

__all__ = ["ResidualRecipe"]


class ResidualRecipe(Recipe):
    """Base class of recipes for right-hand sides of norm one and cell types, without labels.

    A network is judged by the residual that remains after one of its steps.
    """

    targets = ("rhs", "geometry")
    layout = "cells->cells"

    def __init__(self, dim: int) -> None:
        self.dim = dim

    def coordinates(self, resolution: int) -> dict[str, tuple[Array, str]]:
        """Return the cell centres of the unit box."""
        grid = Grid((resolution,) * self.dim)
        return {axis: (grid.centers(k).numpy(), "1") for k, axis in enumerate(AXES[: self.dim])}

    def variables(self, resolution: int) -> dict[str, Variable]:
        """Return the variables: right-hand side and cell type."""
        axes = tuple(AXES[: self.dim])
        return {
            "rhs": Variable(axes, "right-hand side b of the pressure equation, of norm one", dtype="float32"),
            "geometry": Variable(axes, "cell type: 0 solid, 1 fluid, 2 air", dtype="float32"),
        }
