"""Equality-constrained optimisation: Newton's method on an exact augmented Lagrangian, exact or sketched solves."""

from sciml_bounds.optimize._kkt_minres import Minres
from sciml_bounds.optimize._minimize import minimize
from sciml_bounds.optimize._optimize_result import NewtonStep, OptimizeResult
from sciml_bounds.optimize._sketched_newton import SketchedNewton

__all__ = [
    "Minres",
    "NewtonStep",
    "OptimizeResult",
    "SketchedNewton",
    "minimize",
]
