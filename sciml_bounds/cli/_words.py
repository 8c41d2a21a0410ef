"""Reword messages of the library for the shell: command-line options in place of Python arguments."""

from __future__ import annotations

import re

__all__ = ["in_shell_words"]

_REPLACEMENTS = (
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
    (r"^error cannot be combined with rtol or atol", "--error cannot be combined with --rtol"),
    (r"^maxiter is", "--maxiter is"),
    (r"\bRaise maxiter\b", "Raise --maxiter"),
    (r"\ba larger rtol\b", "a larger --rtol"),
    (r"\bgrid=sb\.Grid\(\((\d+),\)\)", r"--shape \1"),
    (r"\bgrid=sb\.Grid\(\((\d+), (\d+)\)\)", r"--shape \1,\2"),
    (r"\bgrid=sb\.Grid\(\((\d+), (\d+), (\d+)\)\)", r"--shape \1,\2,\3"),
    (r"\bgive its class \(network=CNN\), or register it first: sb\.data\.register_model\(CNN\)", "give --class"),
    (r"\bsay with targets=", "say with --targets"),
    (r"sb\.data\.from_arrays or: (?=sciml-bounds)", ""),
)


def in_shell_words(message: str) -> str:
    """Return a message of the library with its Python arguments replaced by command-line options."""
    for pattern, replacement in _REPLACEMENTS:
        message = re.sub(pattern, replacement, message)
    return message
