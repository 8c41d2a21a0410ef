"""What can go wrong, in classes that a caller can tell apart.

Every exception is a `ValueError` (the input is wrong) or a `RuntimeError` (the input was fine and the work failed), so
code that catches the built-in classes keeps working.
"""

from __future__ import annotations

__all__ = ["ConvergenceError", "ConvergenceWarning", "InputError", "MissingExtraError", "TrainingError"]


class InputError(ValueError):
    """Input that cannot be used; the message says what is wrong, where, and what to do."""


class ConvergenceError(RuntimeError):
    """An iteration that ended without reaching what was asked, where the caller wanted that to be an error."""


class TrainingError(ConvergenceError):
    """A training that cannot go on; the message says where it ended, what is kept, and what to do."""


class MissingExtraError(RuntimeError):
    """An optional dependency that is needed here is not installed; the message gives the command."""


class ConvergenceWarning(UserWarning):
    """An iteration ended without reaching what was asked; the result says how far it came."""
