"""Benchmarks of solvers on one linear system: those of this package, scipy, PyAMG and PETSc, with their set-up times.

All methods solve to the same relative residual, in float64, from a zero initial guess. The residual of each solution is
recomputed from the assembled matrix. Timing starts with the set-up, from the assembled equations in the form that the
method needs (`LatticeSystem` for this package, CSR for the others).
"""

from sciml_bounds.comparison.equations import Equations, from_matrix, from_problem
from sciml_bounds.comparison.methods import METHODS
from sciml_bounds.comparison.protocol import Comparison, Result

__all__ = ["METHODS", "Comparison", "Equations", "Result", "from_matrix", "from_problem"]
