"""Krylov methods: one conjugate-gradient loop, and what it knows about its own error; minimal residuals."""

from sciml_bounds.krylov.cg import cg
from sciml_bounds.krylov.minres import minres

__all__ = ["cg", "minres"]
