"""Methods of solution for lattice systems, as values."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from sciml_bounds.arrays import require_choice, require_count
from sciml_bounds.errors import InputError
from sciml_bounds.multigrid._algebraic import Algebraic
from sciml_bounds.multigrid._geometric import Precision
from sciml_bounds.operators._linear_operator import LinearOperator

__all__ = [
    "NAMED_METHODS",
    "Algebraic",
    "Automatic",
    "ConjugateGradients",
    "Direct",
    "Method",
    "Multigrid",
    "Transform",
    "as_method",
    "describe_method",
]


@dataclass(frozen=True)
class Multigrid:
    """Solve by geometric multigrid.

    Parameters
    ----------
    cycle : {"full", "V"}, default "full"
        "full": full multigrid computes or corrects the initial guess, and V-cycles follow. "V": V-cycles only.
    sweeps : int, default 3
        Number of smoothing steps before and after each coarse correction.
    accelerate : bool, default True
        If True, the cycle preconditions conjugate gradients; if False, cycles are iterated without acceleration.
    precision : {"auto", "double"}, default "auto"
        "auto": cycles in single precision inside iterations in double precision, which reach the same residuals, unless
        the coefficient jumps by more than 1e5 or the grid is small. "double": cycles in the precision of the problem.
    """

    cycle: Literal["full", "V"] = "full"
    sweeps: int = 3
    accelerate: bool = True
    precision: Precision = "auto"

    def __post_init__(self) -> None:
        require_choice(self.cycle, "cycle", ("full", "V"))
        require_choice(self.precision, "precision", ("auto", "double"))
        require_count(self.sweeps, "sweeps", 1)


@dataclass(frozen=True)
class ConjugateGradients:
    """Solve by conjugate gradients with Jacobi preconditioning."""


@dataclass(frozen=True)
class Direct:
    """Solve by the sparse LU factorisation of scipy, on the CPU, one sample after the other."""


@dataclass(frozen=True)
class Transform:
    """Solve by fast sine, cosine and Fourier transforms, for constant coefficients on a box."""


@dataclass(frozen=True)
class Automatic:
    """Choose fast transforms if they apply, otherwise geometric multigrid, or LU for a small matrix that is reused.

    Parameters
    ----------
    otherwise : Multigrid
        The method if fast transforms do not apply.
    reused : bool
        Whether many right-hand sides are expected. Then small matrices are factorised.
    """

    otherwise: Multigrid = Multigrid()
    reused: bool = False


#: Any method that solves a lattice system.
Method = Automatic | Transform | Multigrid | Algebraic | ConjugateGradients | Direct

#: Methods by name.
NAMED_METHODS: dict[str, Method] = {
    "auto": Automatic(),
    "transform": Transform(),
    "multigrid": Multigrid(),
    "cg": ConjugateGradients(),
    "algebraic": Algebraic(),
    "direct": Direct(),
}


def as_method(method: str | Method) -> Method:
    """Return the method with the given name; a method is returned unchanged.

    Raises
    ------
    InputError
        If the name is unknown, or `method` is a preconditioner or a network, which are arguments of `sb.cg`.
    """
    if isinstance(method, Method):
        return method
    kind = type(method).__name__
    if isinstance(method, LinearOperator):
        raise InputError(f"method is a {kind}, which is a preconditioner; give it to sb.cg as the argument M.")
    if hasattr(method, "as_preconditioner") and not isinstance(method, type):
        raise InputError(
            f"method is a {kind}, not a method; give the result of its as_preconditioner(problem) to sb.cg as the "
            "argument M."
        )
    if not isinstance(method, str) or method not in NAMED_METHODS:
        choices = ", ".join(map(repr, NAMED_METHODS))
        raise InputError(
            f"method is {method!r}; choose from {choices}, or in Python an object such as sb.Multigrid(cycle='V')."
        )
    return NAMED_METHODS[method]


def describe_method(method: Method) -> str:
    """Return a description of a method, for results."""
    if isinstance(method, Multigrid):
        cycle = "full multigrid, then V-cycles" if method.cycle == "full" else "V-cycles"
        return (
            f"conjugate gradients with geometric multigrid ({cycle})"
            if method.accelerate
            else f"geometric multigrid ({cycle})"
        )
    if isinstance(method, Transform):
        return "fast transforms"
    if isinstance(method, Algebraic):
        return f"conjugate gradients with algebraic multigrid ({method.kind})"
    return "sparse LU" if isinstance(method, Direct) else "conjugate gradients with the diagonal"
