"""Benchmark methods on one linear system: ours, scipy's, PyAMG's and PETSc's, set-up included.

All methods solve to the same relative residual, in float64, from a zero initial guess. The residual of each solution is
recomputed from the assembled matrix. Timing starts at the set-up and takes the assembled equations in the form that the
method needs (`LatticeSystem` for ours, CSR for the others).
"""

from sciml_bounds.comparison.equations import Equations, from_matrix, from_problem
from sciml_bounds.comparison.methods import METHODS
from sciml_bounds.comparison.protocol import Comparison, Result

__all__ = ["METHODS", "Comparison", "Equations", "Result", "from_matrix", "from_problem"]
