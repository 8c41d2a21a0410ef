"""Read a file in a process of its own, which may crash, hang or ask for all memory without harm to this one.

Damaged bytes make the HDF5 library leave its memory, loop for ever, or unpack far more than is declared. So the files
that it reads, and MATLAB's, are opened by a child with limits on memory and processor time. Parent and child speak in
lines of JSON; a line that announces bytes is followed by them.
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

#: What the child may take before it is known how much an array needs, and how long it may compute.
_MEMORY, _SECONDS = 2**29, 20
#: The least that is expected of a library that unpacks, in bytes a second.
_SPEED = 20e6

#: Python ignores the signal of a broken pipe, but PETSc ends the process with it. (macOS knows another way.)
_NO_SIGNAL = getattr(socket, "MSG_NOSIGNAL", 0)

# -P keeps modules in the working folder, which may be the hostile file's own, from being imported.
_COMMAND = (
    "import sys; root = sys.argv[1]; root in sys.path or sys.path.insert(0, root);"
    "from sciml_bounds.store.reading.isolation import main; main(sys.argv[2])"
)


# --- the parent -------------------------------------------------------------------------------------------------------


@contextmanager
def open_isolated(path: Path) -> Iterator[Contents]:
    """Open an HDF5 or MATLAB file in a child."""
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
    """The other end of the line."""

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
                raise self._death()
            yield np.frombuffer(content, self._answer()["dtype"])

    def _ask(self, question: dict[str, Any]) -> None:
        with suppress(BrokenPipeError, ConnectionResetError):  # it has died, which reading the answer will tell
            self.questions.sendall(json.dumps(question).encode() + b"\n", _NO_SIGNAL)

    def _answer(self) -> dict[str, Any]:
        line = self.answers.readline()
        if not line.endswith(b"\n"):
            raise self._death()
        answer: dict[str, Any] = json.loads(line)
        if "refused" in answer:
            raise InputError(answer["refused"])
        if "failed" in answer:
            raise RuntimeError(answer["failed"])
        return answer

    def _death(self) -> RuntimeError:
        code = self.process.wait()
        if code in (-signal.SIGXCPU, -signal.SIGKILL):
            return RuntimeError("reading it takes far too long or too much memory")
        return RuntimeError(f"it makes the library that reads it crash, with {_signal_name(code)}")


def _info(fields: list[Any]) -> ArrayInfo:
    shape, dtype, dims, *others = fields
    return ArrayInfo(tuple(shape), dtype, None if dims is None else tuple(dims), *others)


def _signal_name(code: int) -> str:
    return signal.Signals(-code).name if code < 0 else f"exit code {code}"


# --- the child --------------------------------------------------------------------------------------------------------


def main(path: str) -> None:
    """Open a file, say what is in it, and answer questions until there are no more."""
    answers = os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)  # whatever a library prints must not look like an answer
    try:
        _limit(0)
        with _open(Path(path)) as contents:
            arrays = {name: list(info) for name, info in contents.arrays.items()}
            _tell(answers, {"format": contents.format, "arrays": arrays, "attributes": dict(contents.attributes)})
            for line in sys.stdin.buffer:
                _reply(answers, contents, json.loads(line))
    except InputError as error:
        _tell(answers, {"refused": str(error)})
    except Exception as error:
        lines = str(error).splitlines() or [type(error).__name__]
        _tell(answers, {"failed": lines[0]})
    os._exit(0)  # closing a damaged file once more is a chance to crash


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
        _tell(answers, {"digest": contents.digest()})
        return
    info = contents.arrays[question["name"]]
    _limit(_size(info), info.working)
    for block in contents.blocks(question["name"], question["sample"]):
        content = np.ascontiguousarray(block)
        _tell(answers, {"bytes": content.nbytes})
        answers.write(content.reshape(-1).view(np.uint8).data)
        _tell(answers, {"dtype": content.dtype.str})
    _tell(answers, {"bytes": None})


def _size(info: ArrayInfo) -> int:
    return math.prod(info.shape) * np.dtype(info.dtype).itemsize if info.is_numeric else 0


def _tell(answers: IO[bytes], answer: dict[str, Any]) -> None:
    answers.write(json.dumps(answer).encode() + b"\n")
    answers.flush()


def _limit(size: int, working: int = 0) -> None:
    """Limit processor time to what `size` bytes take to read, and memory to what is taken now and `working`."""
    used = resource.getrusage(resource.RUSAGE_SELF)
    _lower(resource.RLIMIT_CPU, int(used.ru_utime + used.ru_stime + _SECONDS + size / _SPEED))
    with suppress(OSError):  # outside Linux there is no such file, nor a limit that is kept
        pages = int(Path("/proc/self/statm").read_text().split()[0])
        _lower(resource.RLIMIT_AS, pages * resource.getpagesize() + _MEMORY + working)


def _lower(limit: int, value: int) -> None:
    hard = resource.getrlimit(limit)[1]
    resource.setrlimit(limit, (value if hard == resource.RLIM_INFINITY else min(value, hard), hard))
