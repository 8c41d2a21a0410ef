"""Linear operators: lattice stencils, sparse matrices, callables, and adapters for operators of other packages."""

from sciml_bounds.operators._lattice_operator import LatticeOperator
from sciml_bounds.operators._linear_operator import (
    CallableOperator,
    Diagonal,
    Identity,
    LinearOperator,
    aslinearoperator,
)

__all__ = [
    "CallableOperator",
    "Diagonal",
    "Identity",
    "LatticeOperator",
    "LinearOperator",
    "aslinearoperator",
]
