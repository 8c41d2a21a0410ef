"""Constrained optimisation: Newton's method on an exact augmented Lagrangian, with sketched or exact inner solves."""
