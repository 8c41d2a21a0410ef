"""Generate the chunks of a data set in processes of their own.

Parent and worker speak in lines: the parent sends what the job is, then the number of one chunk after the other; the
worker answers each with a line of JSON. A worker whose parent has died finds its input closed, and ends after the chunk
at hand.
"""

from __future__ import annotations

import base64
import json
import os
import pickle
import selectors
import signal
import subprocess
import sys
import traceback
from collections import deque
from collections.abc import Callable, Sequence
from contextlib import ExitStack, suppress
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn, Self

from sciml_bounds.errors import ConvergenceError, InputError, MissingExtraError

if TYPE_CHECKING:
    from sciml_bounds.recipes._job import Job

__all__ = ["main", "run"]

#: How long a worker may take to drop what it does before it is killed.
_PATIENCE = 10.0
#: Errors that are about the input and not about us.
_SENTENCES = {error.__name__: error for error in (InputError, ConvergenceError, MissingExtraError)}

# -P keeps modules in the working folder from being imported in place of others.
_COMMAND = (
    "import sys; root = sys.argv[1]; root in sys.path or sys.path.insert(0, root);"
    "from sciml_bounds.recipes._workers import main; main()"
)


# --- the parent -------------------------------------------------------------------------------------------------------


def run(job: Job, folder: Path, numbers: Sequence[int], workers: int, on_done: Callable[[int], None]) -> None:
    """Generate chunks in a folder, by so many processes that share the threads of this one.

    Raises
    ------
    InputError, ConvergenceError, MissingExtraError
        That of the first worker that fails; the others are stopped.
    """
    import torch

    count = min(workers, len(numbers))
    threads = max(1, torch.get_num_threads() // count)
    order, waiting = _order(job, folder), deque(numbers)
    with ExitStack() as stack, selectors.DefaultSelector() as selector:
        for _ in range(count):
            worker = stack.enter_context(_Worker(threads))
            worker.tell(order)
            worker.tell(str(waiting.popleft()))
            selector.register(worker.answers, selectors.EVENT_READ, worker)
        while selector.get_map():
            for key, _ in selector.select():
                on_done(key.data.answer())
                if waiting:
                    key.data.tell(str(waiting.popleft()))
                else:
                    selector.unregister(key.fileobj)


def _order(job: Job, folder: Path) -> str:
    """Put a job into one line."""
    fields: dict[str, Any] = {"folder": str(folder), "path": sys.path, "name": job.recipe.name if job.named else None}
    try:
        kept = replace(job, recipe=None) if job.named else job  # type: ignore[arg-type]
        fields["job"] = base64.b64encode(pickle.dumps(kept)).decode()
    except (pickle.PicklingError, AttributeError, TypeError) as error:
        raise InputError(
            f"recipe {job.recipe.name} cannot be sent to other processes ({error}); define it in a module, or use "
            "workers=0."
        ) from None
    return json.dumps(fields)


class _Worker:
    """A process that generates chunks, until the end of a `with` block."""

    def __init__(self, threads: int) -> None:
        self._process = subprocess.Popen(
            [sys.executable, "-P", "-c", _COMMAND, str(Path(__file__).parents[2])],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            env=os.environ | {"OMP_NUM_THREADS": str(threads)},
        )
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._orders, self.answers = self._process.stdin, self._process.stdout

    def tell(self, line: str) -> None:
        with suppress(BrokenPipeError):  # it has died, which reading the answer will tell
            self._orders.write(line.encode() + b"\n")
            self._orders.flush()

    def answer(self) -> int:
        line = self.answers.readline()
        if not line.endswith(b"\n"):
            raise self._death()
        answer = json.loads(line)
        if "done" in answer:
            return int(answer["done"])
        raise _SENTENCES.get(answer["error"], RuntimeError)(answer["message"])

    def _death(self) -> InputError:
        code = self._process.wait()
        how = f"signal {signal.Signals(-code).name}" if code < 0 else f"exit code {code}"
        return InputError(
            f"a worker ended with {how} in the midst of its work, for want of memory perhaps; what is finished is "
            "kept, run it again with fewer workers."
        )

    def __enter__(self) -> Self:
        return self

    def __exit__(self, failure: type[BaseException] | None, *_: object) -> None:
        with suppress(BrokenPipeError):
            self._orders.close()  # which ends a worker that has nothing to do
        if failure is not None:
            self._process.terminate()
        try:
            self._process.wait(_PATIENCE)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        self.answers.close()


# --- the worker -------------------------------------------------------------------------------------------------------


def main() -> None:
    """Read what the job is, and generate chunks until there are no more."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # a terminal sends it to all; the parent decides
    signal.signal(signal.SIGTERM, _end)
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)  # whatever a library prints must not look like an answer
    try:
        job, folder = None, Path()
        for line in sys.stdin.buffer:
            try:
                if job is None:
                    job, folder = _read_order(line)
                    continue
                job.generate(folder, int(line))
                answer: dict[str, Any] = {"done": int(line)}
            except Exception as error:
                known = isinstance(error, tuple(_SENTENCES.values()))
                answer = {"error": type(error).__name__, "message": str(error) if known else traceback.format_exc()}
            with suppress(BrokenPipeError):  # the parent has died, which the next line will tell
                print(json.dumps(answer), file=answers, flush=True)
    finally:
        signal.signal(signal.SIGTERM, signal.SIG_DFL)


def _end(number: int, frame: object) -> NoReturn:
    """Leave through every `finally`, so that no half-written file stays."""
    raise SystemExit(128 + number)


def _read_order(line: bytes) -> tuple[Job, Path]:
    from sciml_bounds.recipes._registry import find_recipe

    fields = json.loads(line)
    sys.path.extend(entry for entry in fields["path"] if entry not in sys.path)  # where the recipe may be defined
    job: Job = pickle.loads(base64.b64decode(fields["job"]))  # from our parent, not from a file
    if fields["name"] is not None:
        job = replace(job, recipe=find_recipe(fields["name"]))
    return job, Path(fields["folder"])
