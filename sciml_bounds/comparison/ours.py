"""Methods of this package, as used by `solve` and `cg`."""

from __future__ import annotations

import scipy.sparse.linalg
import torch

from sciml_bounds._linear import LinearSolver
from sciml_bounds._linear_methods import as_method
from sciml_bounds.comparison.equations import Array, Equations, Solve, Watch
from sciml_bounds.errors import InputError
from sciml_bounds.krylov._cg import cg
from sciml_bounds.multigrid._algebraic import algebraic_cycle
from sciml_bounds.operators._linear_operator import Diagonal, LinearOperator
from sciml_bounds.stopping import StoppingCriteria

__all__ = ["ours"]


def ours(name: str, equations: Equations) -> Solve:
    """Set up a method of `solve`; for equations given by a matrix only, the corresponding algebraic method.

    Raises
    ------
    InputError
        If the method does not apply to the equations.
    """
    if equations.system is None:
        return _on_matrix(name, equations)
    solver = LinearSolver(equations.system, as_method(name))

    def solve(rtol: float, maxiter: int, watch: Watch | None) -> tuple[Array, int]:
        monitor = None if watch is None else lambda _, x, __: watch(x[0].numpy())
        solution = solver.solve(stop=StoppingCriteria(rtol=rtol, maxiter=maxiter, callback=monitor))
        return solution.x[0].numpy(), int(solution.iterations[0])

    return solve


def _on_matrix(name: str, equations: Equations) -> Solve:
    A, b = equations.matrix, equations.rhs
    if name == "direct":
        factors = scipy.sparse.linalg.splu(A.tocsc())
        return lambda rtol, maxiter, watch: (factors.solve(b), 0)
    if name == "cg":
        M: LinearOperator = Diagonal(torch.from_numpy(1 / equations.positive_diagonal()).unsqueeze(0))
    elif name == "algebraic":
        M = algebraic_cycle(A)
    else:
        raise InputError(f"method {name} needs a problem on a grid; for a matrix use cg, algebraic or direct.")

    def solve(rtol: float, maxiter: int, watch: Watch | None) -> tuple[Array, int]:
        callback = None if watch is None else lambda x: watch(x.numpy())
        solution = cg(A, b, M=M, rtol=rtol, maxiter=maxiter, callback=callback)
        return solution.x.numpy(), int(solution.iterations)

    return solve
