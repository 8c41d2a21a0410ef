"""Methods of solution for lattice systems, as values."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from sciml_bounds.arrays import require_choice, require_count
from sciml_bounds.errors import InputError
from sciml_bounds.multigrid._algebraic import KINDS
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
    """Geometric multigrid.

    Parameters
    ----------
    cycle : {"full", "V"}, default "full"
        "full": full multigrid computes or corrects the initial guess, V-cycles follow. "V": V-cycles only.
    sweeps : int, default 3
        Smoothing steps before and after each coarse correction.
    accelerate : bool, default True
        Use the cycle to precondition conjugate gradients; otherwise iterate cycles alone.
    precision : {"auto", "double"}, default "auto"
        "auto": single-precision cycles inside double-precision iterations, which reach the same residuals, unless the
        coefficient jumps by more than 1e5 or the grid is small. "double": cycles in the precision of the problem.
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
class Algebraic:
    """Conjugate gradients preconditioned by a PyAMG hierarchy, which torch applies to one sample at a time.

    Parameters
    ----------
    kind : {"ruge-stuben", "smoothed-aggregation"}, default "ruge-stuben"
        How the hierarchy is built.
    sweeps : int, default 2
        Smoothing steps before and after each coarse correction.
    """

    kind: Literal["ruge-stuben", "smoothed-aggregation"] = "ruge-stuben"
    sweeps: int = 2

    def __post_init__(self) -> None:
        require_choice(self.kind, "kind", KINDS)
        require_count(self.sweeps, "sweeps", 1)


@dataclass(frozen=True)
class ConjugateGradients:
    """Conjugate gradients with Jacobi preconditioning."""


@dataclass(frozen=True)
class Direct:
    """Sparse LU factorisation by scipy, on the CPU, one sample at a time."""


@dataclass(frozen=True)
class Transform:
    """Fast sine, cosine and Fourier transforms, for constant coefficients on a box."""


@dataclass(frozen=True)
class Automatic:
    """Fast transforms if they apply, otherwise geometric multigrid, or LU factors of a small matrix used many times.

    Parameters
    ----------
    otherwise : Multigrid
        The method without fast transforms.
    reused : bool
        Whether the set-up pays for many right-hand sides, so that small matrices are factorised.
    """

    otherwise: Multigrid = Multigrid()
    reused: bool = False


#: Any method for a lattice system.
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
    """Return the method with a given name; methods are returned unchanged.

    Raises
    ------
    InputError
        If the name is unknown, or if `method` is a preconditioner or network, which belong in `sb.cg`.
    """
    if isinstance(method, Method):
        return method
    kind = type(method).__name__
    if isinstance(method, LinearOperator):
        raise InputError(f"method is a {kind}, which is a preconditioner; pass it to sb.cg as M.")
    if hasattr(method, "as_preconditioner") and not isinstance(method, type):
        raise InputError(f"method is a {kind}; pass the result of its as_preconditioner(problem) to sb.cg as M.")
    if not isinstance(method, str) or method not in NAMED_METHODS:
        choices = ", ".join(map(repr, NAMED_METHODS))
        raise InputError(
            f"unknown method {method!r}; the choices are {choices}, or an object such as sb.Multigrid(cycle='V')."
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
