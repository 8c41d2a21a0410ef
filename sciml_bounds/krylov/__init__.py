"""Krylov methods: conjugate gradients with error bounds, minimal residuals, and learned search directions."""

from sciml_bounds.krylov._cg import cg
from sciml_bounds.krylov._direction_loss import LineSearchLoss
from sciml_bounds.krylov._learned_directions import LearnedDirections
from sciml_bounds.krylov._minres import minres
from sciml_bounds.krylov._ritz_vectors import mixed_right_hand_sides, ritz_pairs

__all__ = [
    "LearnedDirections",
    "LineSearchLoss",
    "cg",
    "minres",
    "mixed_right_hand_sides",
    "ritz_pairs",
]
