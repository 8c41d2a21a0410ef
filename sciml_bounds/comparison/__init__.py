"""Methods side by side on one linear system: ours, scipy's, PyAMG's and PETSc's, with set-up counted.

Every method is asked for the same relative residual, in float64 and from a zero guess, and judged by one rule: the
residual of what it returns is computed anew, from the assembled matrix. The clock starts with the set-up, from the
assembled equations, in the form that the method takes (`LatticeSystem` for ours, CSR for the others).
"""

from sciml_bounds.comparison.equations import Equations, from_matrix, from_problem
from sciml_bounds.comparison.methods import METHODS
from sciml_bounds.comparison.protocol import Comparison, Result

__all__ = ["METHODS", "Comparison", "Equations", "Result", "from_matrix", "from_problem"]
