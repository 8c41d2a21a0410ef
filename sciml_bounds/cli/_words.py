"""Messages of the library in the words of the shell: options in place of arguments of Python."""

from __future__ import annotations

import re

__all__ = ["in_shell_words"]

_WORDS = (
    (
        r"repair them with problem\.impose_boundary\(values\), or leave out strict=True",
        "repair them, or leave out --strict",
    ),
    (r", or an object such as sb\.Multigrid\(cycle='V'\)", ""),
    (r"\bgo on with resume=True", "go on with --resume"),
    (r"; open it with sb\.read\.$", "; show it with: sciml-bounds inspect."),
    (r" or pass a flux of a finer grid", ""),
    (r"\b(method|layout)='([\w-]+)'", r"--\1 \2"),
    (r"^error=(\S+) ", r"--error \1 "),
    (r"^rtol=(\S+) (?:and atol=\S+ )?", r"--rtol \1 "),
    (r"^rtol and atol are one stop rule and error is another", "--rtol is one stop rule and --error is another"),
    (r"^maxiter is", "--maxiter is"),
    (r"\bRaise maxiter\b", "Raise --maxiter"),
    (r"\ba larger rtol\b", "a larger --rtol"),
)


def in_shell_words(message: str) -> str:
    """Say what the library advises as one types it in a shell."""
    for pattern, words in _WORDS:
        message = re.sub(pattern, words, message)
    return message
