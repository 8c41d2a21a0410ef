"""Generate the chunks of a data set in worker processes.

The parent sends one line with the job, then the number of one chunk after the other; the worker answers each with one
line of JSON. If the parent dies, the input of the worker is closed, and the worker exits after its current chunk.
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

#: Seconds a worker may take to exit before it is killed.
_EXIT_SECONDS = 10.0
#: Time until a discarded exit is repeated.
_ALARM_SECONDS = 0.01
#: Expected errors, which are raised again in the parent; others are bugs.
_USER_ERRORS = {error.__name__: error for error in (InputError, ConvergenceError, MissingExtraError)}

# The option -P keeps modules in the working folder from shadowing installed ones.
_COMMAND = (
    "import sys; root = sys.argv[1]; root in sys.path or sys.path.insert(0, root);"
    "from sciml_bounds.recipes._workers import main; main()"
)


# --- the parent -------------------------------------------------------------------------------------------------------


def run(job: Job, folder: Path, numbers: Sequence[int], workers: int, on_done: Callable[[int], None]) -> None:
    """Generate chunks in a folder, by worker processes that share the threads of this one.

    Raises
    ------
    InputError, ConvergenceError, MissingExtraError
        The error of the first worker that fails; the others are stopped.
    """
    import torch

    count = min(workers, len(numbers))
    threads = max(1, torch.get_num_threads() // count)
    order, waiting = _order(job, folder), deque(numbers)
    with ExitStack() as stack, selectors.DefaultSelector() as selector:
        for _ in range(count):
            worker = stack.enter_context(_Worker(threads))
            worker.send(order)
            worker.send(str(waiting.popleft()))
            selector.register(worker.answers, selectors.EVENT_READ, worker)
        while selector.get_map():
            for key, _ in selector.select():
                on_done(key.data.answer())
                if waiting:
                    key.data.send(str(waiting.popleft()))
                else:
                    selector.unregister(key.fileobj)


def _order(job: Job, folder: Path) -> str:
    """Return a job as one line of JSON."""
    fields: dict[str, Any] = {"folder": str(folder), "path": sys.path, "location": job.location}
    if job.location is None:
        _require_importable(type(job.recipe))
    try:
        kept = job if job.location is None else replace(job, recipe=None)  # type: ignore[arg-type]
        fields["job"] = base64.b64encode(pickle.dumps(kept)).decode()
    except (pickle.PicklingError, AttributeError, TypeError) as error:
        raise InputError(
            f"recipe {job.recipe.name} cannot be sent to other processes ({error}); define it in a module, or use "
            "workers=0."
        ) from None
    return json.dumps(fields)


def _require_importable(kind: type) -> None:
    """Raise unless a new process can import the class of a recipe."""
    found: Any = sys.modules.get(kind.__module__)
    for part in kind.__qualname__.split("."):
        found = getattr(found, part, None)
    if kind.__module__ == "__main__" or found is not kind:
        raise InputError(
            f"the recipe class {kind.__qualname__} is defined in {kind.__module__}, where other processes do not find "
            "it; define it in a module, or use workers=0."
        )


# Not concurrent.futures: its workers outlive a parent that is killed, the death of one breaks the pool without naming
# the signal, and the main module of the user is imported again in each.
class _Worker:
    """A process that generates chunks inside a `with` block."""

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

    def send(self, line: str) -> None:
        with suppress(BrokenPipeError):  # the worker has died; reading its answer raises the error
            self._orders.write(line.encode() + b"\n")
            self._orders.flush()

    def answer(self) -> int:
        line = self.answers.readline()
        if not line.endswith(b"\n"):
            raise self._exit_error()
        answer = json.loads(line)
        if "done" in answer:
            return int(answer["done"])
        raise _USER_ERRORS.get(answer["error"], RuntimeError)(answer["message"])

    def _exit_error(self) -> InputError:
        code = self._process.wait()
        how = f"signal {signal.Signals(-code).name}" if code < 0 else f"exit code {code}"
        return InputError(
            f"a worker process died with {how}, possibly out of memory; finished chunks are kept, so run the command "
            "again with fewer workers."
        )

    def __enter__(self) -> Self:
        return self

    def __exit__(self, failure: type[BaseException] | None, *_: object) -> None:
        with suppress(BrokenPipeError):
            self._orders.close()  # an idle worker exits
        if failure is not None:
            self._process.terminate()
        try:
            self._process.wait(_EXIT_SECONDS)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        self.answers.close()


# --- the worker -------------------------------------------------------------------------------------------------------


def main() -> None:
    """Read the job, and generate chunks until there are no more."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # a terminal sends it to all processes; the parent stops the workers
    _exit_on_termination()
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)  # output of libraries must not look like an answer
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
                expected = isinstance(error, tuple(_USER_ERRORS.values()))
                answer = {"error": type(error).__name__, "message": str(error) if expected else traceback.format_exc()}
            with suppress(BrokenPipeError):  # the parent has died, so the loop ends
                print(json.dumps(answer), file=answers, flush=True)
    finally:
        signal.signal(signal.SIGALRM, signal.SIG_IGN)
        signal.signal(signal.SIGTERM, signal.SIG_DFL)


def _exit_on_termination() -> None:
    """Exit on SIGTERM through every `finally`, which removes partial files.

    Python discards an exception that the handler raises while a destructor or a weak reference runs. An alarm then
    raises it again a moment later.
    """

    def repeat(discarded: Any) -> None:
        if isinstance(discarded.exc_value, SystemExit):
            signal.setitimer(signal.ITIMER_REAL, _ALARM_SECONDS)
        else:
            sys.__unraisablehook__(discarded)

    for number in (signal.SIGTERM, signal.SIGALRM):
        signal.signal(number, _end)
    sys.unraisablehook = repeat


def _end(number: int, frame: object) -> NoReturn:
    raise SystemExit(128 + signal.SIGTERM)


def _read_order(line: bytes) -> tuple[Job, Path]:
    from sciml_bounds.recipes._registry import find_recipe

    fields = json.loads(line)
    sys.path.extend(entry for entry in fields["path"] if entry not in sys.path)  # the recipe may be defined there
    job: Job = pickle.loads(base64.b64decode(fields["job"]))  # from our parent, not from a file
    if fields["location"] is not None:
        job = replace(job, recipe=find_recipe(fields["location"]))
    return job, Path(fields["folder"])
