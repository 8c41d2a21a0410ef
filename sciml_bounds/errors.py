"""Exceptions and warnings of the package.

Every exception is a `ValueError` (invalid input) or a `RuntimeError` (valid input, but the computation failed), so code
that catches the built-in classes also catches these exceptions.
"""

from __future__ import annotations

__all__ = ["ConvergenceError", "ConvergenceWarning", "InputError", "InputWarning", "MissingExtraError", "TrainingError"]


class InputError(ValueError):
    """Invalid input; the message gives cause, location and remedy."""


class ConvergenceError(RuntimeError):
    """An iteration ended without reaching its tolerance, and the caller requested an error in this case."""


class TrainingError(ConvergenceError):
    """A training run cannot continue; the message states where it stopped, which files are kept, and the remedy."""


class MissingExtraError(RuntimeError):
    """An optional dependency is not installed; the message gives the install command."""


class ConvergenceWarning(UserWarning):
    """An iteration ended without reaching its tolerance; the result contains the last residual."""


class InputWarning(UserWarning):
    """Input that could have two meanings; the message gives the assumed one and how to express the other."""
