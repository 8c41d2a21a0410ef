"""Options of the `minimize` methods of controls and estimations."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from sciml_bounds.control._reduced_newton import Reduced, minimize_reduced
from sciml_bounds.errors import InputError
from sciml_bounds.optimize._minimize import minimize
from sciml_bounds.optimize._optimize_result import OptimizeResult
from sciml_bounds.stopping import StoppingCriteria

__all__ = ["MinimizeOptions"]


@dataclass(frozen=True, kw_only=True)
class MinimizeOptions:
    """Options of one minimisation.

    Attributes
    ----------
    inner : str, Sketch or Minres
        The solver of the Newton systems.
    stop : StoppingCriteria
        The stopping criteria.
    forcing : float or None
        Relative residual of the inner solves of the reduced Newton method.
    throw : bool
        Raise an error instead of warning when the tolerance is not reached.
    further : mapping
        Further options of `sb.minimize`.
    """

    inner: Any
    stop: StoppingCriteria
    forcing: float | None
    throw: bool
    further: Mapping[str, Any]

    def selects_reduced(self, name: str) -> bool:
        """Return whether `inner` is `name`, which selects the reduced Newton method, and check that options fit it.

        Raises
        ------
        InputError
            If an option is not for the method that `inner` selects.
        """
        reduced = isinstance(self.inner, str) and self.inner == name
        if reduced and self.further:
            raise InputError(
                f"inner={name!r} does not take {next(iter(self.further))}; leave it out, or use inner='direct'."
            )
        if not reduced and self.forcing is not None:
            raise InputError(f"forcing={self.forcing!r} is for inner={name!r} only; leave it out.")
        return reduced

    def minimize_reduced(self, objective: Reduced) -> OptimizeResult:
        """Minimise a reduced objective."""
        return minimize_reduced(objective, self.stop, forcing=self.forcing, throw=self.throw)

    def minimize(self, fun: Callable[[Any], Any], x0: Any, **functions: Any) -> OptimizeResult:
        """Minimise for all unknowns together by `sb.minimize`; `functions` has derivatives and constraints."""
        return minimize(fun, x0, **functions, **vars(self.stop), inner=self.inner, throw=self.throw, **self.further)
