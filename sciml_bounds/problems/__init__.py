"""Problem classes: partial differential equations with their grids and data."""

from sciml_bounds.problems.diffusion import Diffusion

__all__ = ["Diffusion"]
