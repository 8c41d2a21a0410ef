"""Data sets of residuals of the pressure of a fluid, on the cells of a box."""

from __future__ import annotations

from sciml_bounds.grid import AXES, Grid
from sciml_bounds.recipes._recipe import Array, Recipe, Variable

__all__ = ["ResidualRecipe"]


class ResidualRecipe(Recipe):
    """Right-hand sides of norm one, and what each cell is; a network is judged by what it leaves of them."""

    targets = ("rhs", "geometry")
    layout = "cells->cells"

    def __init__(self, dim: int) -> None:
        self.dim = dim

    def coordinates(self, resolution: int) -> dict[str, tuple[Array, str]]:
        """Give the centres of the cells of the unit box."""
        grid = Grid((resolution,) * self.dim)
        return {axis: (grid.centers(k).numpy(), "1") for k, axis in enumerate(AXES[: self.dim])}

    def variables(self, resolution: int) -> dict[str, Variable]:
        """Give the right-hand side, and what each cell is."""
        axes = tuple(AXES[: self.dim])
        return {
            "rhs": Variable(axes, "right-hand side b of the pressure equation, of norm one", dtype="float32"),
            "geometry": Variable(axes, "what a cell is: 0 solid, 1 fluid, 2 air", dtype="float32"),
        }
