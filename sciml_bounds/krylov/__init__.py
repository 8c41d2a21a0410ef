"""Krylov methods: one conjugate-gradient loop, and what it knows about its own error."""

from sciml_bounds.krylov.cg import cg

__all__ = ["cg"]
