"""The partial differential equations: what is solved, on which grid, with which data."""

from sciml_bounds.problems.diffusion import Diffusion

__all__ = ["Diffusion"]
