"""Read HDF5 and MATLAB files in a child process, whose crash, hang or memory use cannot harm this one.

Damaged files can make the HDF5 library access invalid memory, loop forever, or unpack far more data than declared. The
child has limits on memory and processor time. Parent and child exchange lines of JSON; a line that announces bytes is
followed by those bytes.
"""

from __future__ import annotations

import json
import math
import os
import resource
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import IO, Any

import numpy as np

from sciml_bounds.errors import InputError
from sciml_bounds.store.reading.contents import Array, ArrayInfo, Contents

__all__ = ["main", "open_isolated"]

#: Limits of the child in addition to those for the size of an array: memory in bytes and processor time in seconds.
_MEMORY, _SECONDS = 2**29, 20
#: Minimum speed of decompression, in bytes per second.
_MIN_SPEED = 20e6

#: Suppresses SIGPIPE: Python ignores it, but PETSc exits on it. (macOS has no such flag.)
_NO_SIGNAL = getattr(socket, "MSG_NOSIGNAL", 0)

# The option -P keeps modules in the working folder, which may be hostile, from being imported.
_COMMAND = (
    "import sys; root = sys.argv[1]; root in sys.path or sys.path.insert(0, root);"
    "from sciml_bounds.store.reading.isolation import main; main(sys.argv[2])"
)


# --- the parent -------------------------------------------------------------------------------------------------------


@contextmanager
def open_isolated(path: Path) -> Iterator[Contents]:
    """Open an HDF5 or MATLAB file in a child process."""
    command = [sys.executable, "-P", "-c", _COMMAND, str(Path(__file__).parents[3]), str(path)]
    few_threads = dict.fromkeys(("OPENBLAS_NUM_THREADS", "OMP_NUM_THREADS"), "1")
    questions, stdin = socket.socketpair()
    with questions, stdin:
        child = subprocess.Popen(
            command,
            stdin=stdin.fileno(),
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            env=os.environ | few_threads,
        )
        stdin.close()
        try:
            yield _Child(child, questions).contents()
        finally:
            child.kill()
            child.wait()
            if child.stdout is not None:
                child.stdout.close()


class _Child:
    """The child process, seen from the parent."""

    def __init__(self, process: subprocess.Popen[bytes], questions: socket.socket) -> None:
        assert process.stdout is not None
        self.process, self.questions, self.answers = process, questions, process.stdout

    def contents(self) -> Contents:
        found = self._answer()
        arrays = {name: _info(fields) for name, fields in found["arrays"].items()}
        return Contents(found["format"], arrays, self._blocks, found["attributes"], self._digest)

    def _digest(self) -> str:
        self._ask({"digest": True})
        return str(self._answer()["digest"])

    def _blocks(self, name: str, sample: int | None) -> Iterator[Array]:
        self._ask({"name": name, "sample": sample})
        while (size := self._answer()["bytes"]) is not None:
            content = self.answers.read(size)
            if len(content) != size:
                raise self._exit_error()
            yield np.frombuffer(content, self._answer()["dtype"])

    def _ask(self, question: dict[str, Any]) -> None:
        with suppress(BrokenPipeError, ConnectionResetError):  # the child has died; reading its answer raises the error
            self.questions.sendall(json.dumps(question).encode() + b"\n", _NO_SIGNAL)

    def _answer(self) -> dict[str, Any]:
        line = self.answers.readline()
        if not line.endswith(b"\n"):
            raise self._exit_error()
        answer: dict[str, Any] = json.loads(line)
        if "refused" in answer:
            raise InputError(answer["refused"])
        if "failed" in answer:
            raise RuntimeError(answer["failed"])
        return answer

    def _exit_error(self) -> RuntimeError:
        code = self.process.wait()
        if code in (-signal.SIGXCPU, -signal.SIGKILL):
            return RuntimeError("reading it takes too much time or memory")
        return RuntimeError(f"the library that reads it crashed with {_signal_name(code)}")


def _info(fields: list[Any]) -> ArrayInfo:
    shape, dtype, dims, *others = fields
    return ArrayInfo(tuple(shape), dtype, None if dims is None else tuple(dims), *others)


def _signal_name(code: int) -> str:
    return signal.Signals(-code).name if code < 0 else f"exit code {code}"


# --- the child --------------------------------------------------------------------------------------------------------


def main(path: str) -> None:
    """Open a file, send its contents, and answer requests until there are no more."""
    answers = os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)  # output of libraries must not look like an answer
    try:
        _limit(0)
        with _open(Path(path)) as contents:
            arrays = {name: list(info) for name, info in contents.arrays.items()}
            _send(answers, {"format": contents.format, "arrays": arrays, "attributes": dict(contents.attributes)})
            for line in sys.stdin.buffer:
                _reply(answers, contents, json.loads(line))
    except InputError as error:
        _send(answers, {"refused": str(error)})
    except Exception as error:
        lines = str(error).splitlines() or [type(error).__name__]
        _send(answers, {"failed": lines[0]})
    os._exit(0)  # skips closing a damaged file, which could crash


@contextmanager
def _open(path: Path) -> Iterator[Contents]:
    from sciml_bounds.store.reading.hdf5_files import open_hdf5
    from sciml_bounds.store.reading.matlab_files import open_matlab

    with (open_matlab if path.suffix.lower() == ".mat" else open_hdf5)(path) as contents:
        yield contents


def _reply(answers: IO[bytes], contents: Contents, question: dict[str, Any]) -> None:
    if "digest" in question:
        assert contents.digest is not None
        _limit(sum(map(_size, contents.arrays.values())), max((i.working for i in contents.arrays.values()), default=0))
        _send(answers, {"digest": contents.digest()})
        return
    info = contents.arrays[question["name"]]
    _limit(_size(info), info.working)
    for block in contents.blocks(question["name"], question["sample"]):
        content = np.ascontiguousarray(block)
        _send(answers, {"bytes": content.nbytes})
        answers.write(content.reshape(-1).view(np.uint8).data)
        _send(answers, {"dtype": content.dtype.str})
    _send(answers, {"bytes": None})


def _size(info: ArrayInfo) -> int:
    return math.prod(info.shape) * np.dtype(info.dtype).itemsize if info.is_numeric else 0


def _send(answers: IO[bytes], answer: dict[str, Any]) -> None:
    answers.write(json.dumps(answer).encode() + b"\n")
    answers.flush()


def _limit(size: int, working: int = 0) -> None:
    """Limit processor time to that for reading `size` bytes, and memory to the present use plus `working` bytes."""
    used = resource.getrusage(resource.RUSAGE_SELF)
    _lower(resource.RLIMIT_CPU, int(used.ru_utime + used.ru_stime + _SECONDS + size / _MIN_SPEED))
    with suppress(OSError):  # outside Linux the file does not exist, nor is the limit enforced
        pages = int(Path("/proc/self/statm").read_text().split()[0])
        _lower(resource.RLIMIT_AS, pages * resource.getpagesize() + _MEMORY + working)


def _lower(limit: int, value: int) -> None:
    hard = resource.getrlimit(limit)[1]
    resource.setrlimit(limit, (value if hard == resource.RLIM_INFINITY else min(value, hard), hard))
