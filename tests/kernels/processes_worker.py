"""Run by test_processes.py in a process of its own: `processes_worker.py SCENARIO`.

A scenario solves and certifies one problem in several threads or processes and compares the answers: bit for bit with
those on as many threads, and within the stop rule where the number of threads differs (sums are ordered otherwise).
"""

from __future__ import annotations

import _thread
import multiprocessing
import os
import signal
import sys
import threading
import time

import torch
from torch.utils.data import DataLoader, Dataset

import sciml_bounds as sb
from sciml_bounds.kernels import _backend

_backend.SERIAL_BELOW = 0  # every kernel has threads where it may
RTOL = 1e-10
N = 24


def problem(number: int = 0) -> sb.Diffusion:
    generator = torch.Generator().manual_seed(number)
    a = torch.where(torch.rand(N, N, generator=generator) < 0.5, 12.0, 3.0).double()
    return sb.Diffusion(sb.Grid((N, N)), coefficient=a, source=1.0)


def answer(number: int = 0) -> torch.Tensor:
    """Nodal values, and the bounds of their error behind them."""
    solution = sb.solve(problem(number), rtol=RTOL, certify=True)
    assert solution.converged
    return torch.cat([solution.values.flatten(), solution.certificate.upper[None], solution.certificate.lower[None]])


def on_threads(threads: int, number: int = 0) -> torch.Tensor:
    torch.set_num_threads(threads)
    try:
        return answer(number)
    finally:
        torch.set_num_threads(2)


def require_close(first: torch.Tensor, second: torch.Tensor) -> None:
    """Both residuals are below RTOL ||b||, so that applied to the difference the matrix gives at most twice that."""
    solver = sb.prepare(problem())
    difference = (first - second)[:-2]
    assert solver.operator.matvec(difference[None]).norm() <= 2 * RTOL * solver.rhs.norm()
    # the energy of the difference is at most ||difference|| ||A difference||, and the bounds follow it
    slack = (difference.norm() * 2 * RTOL * solver.rhs.norm()).sqrt() + 1e-12 * first[-2]
    assert ((first - second)[-2:].abs() <= slack).all()


class Solved(Dataset):
    """A data set that solves for each of its items."""

    def __len__(self) -> int:
        return 3

    def __getitem__(self, number: int) -> torch.Tensor:
        return answer(number)


def in_child(number: int) -> list[float]:
    return answer(number).tolist()


def on_one_thread(number: int) -> list[float]:
    torch.set_num_threads(1)
    return in_child(number)


# --- scenarios --------------------------------------------------------------------------------------------------------


def settings() -> None:
    """The setting of torch is the one found, in the first solve and in later ones, and kernels follow it."""
    threaded = answer()  # starts the threads of the kernels
    assert torch.get_num_threads() == 2
    torch.set_num_threads(1)
    require_close(answer(), threaded)
    assert torch.get_num_threads() == 1
    torch.set_num_threads(5)  # more than there are cores
    require_close(answer(), threaded)


def threads() -> None:
    """Four Python threads solve at once; then a gradient is computed on another thread than its solve."""
    expected = [on_threads(2, number) for number in range(4)]
    found: dict[int, list[torch.Tensor]] = {}

    def work(number: int) -> None:
        found[number] = [answer(number) for _ in range(5)]

    workers = [threading.Thread(target=work, args=(number,)) for number in range(4)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    assert all(torch.equal(values, expected[number]) for number in range(4) for values in found[number])

    def gradient(elsewhere: bool) -> torch.Tensor:
        a = problem().coefficient[0].clone().requires_grad_()
        loss = sb.solve(problem().replace(coefficient=a), rtol=RTOL).values.sum()
        if elsewhere:
            worker = threading.Thread(target=loss.backward)
            worker.start()
            worker.join()
        else:
            loss.backward()
        return a.grad

    assert torch.equal(gradient(elsewhere=True), gradient(elsewhere=False))


def fork() -> None:
    """Children forked after kernels and large operations of torch ran on threads: by os, a pool, a data loader."""
    require_close(on_threads(2), on_threads(1))
    (torch.ones(10**6) * 2).sum()  # torch has started its threads, too
    expected = [on_threads(1, number) for number in range(3)]
    child = os.fork()
    if child == 0:
        same = torch.equal(answer(), expected[0]) and (torch.ones(10**6) * 2).sum() == 2 * 10**6
        os._exit(0 if same and torch.get_num_threads() == 1 else 1)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
    with multiprocessing.get_context("fork").Pool(2) as pool:
        assert pool.map(in_child, range(3)) == [values.tolist() for values in expected]
    loaded = DataLoader(Solved(), batch_size=None, num_workers=2, multiprocessing_context="fork")
    assert all(torch.equal(values, expected[number]) for number, values in enumerate(loaded))
    assert torch.get_num_threads() == 2  # the parent goes on as before
    require_close(answer(), expected[0])


def pools() -> None:
    """Pools whose workers are new processes, while this one has threads."""
    on_threads(2)
    expected = [on_threads(1, number).tolist() for number in range(3)]
    for method in ("spawn", "forkserver"):
        with multiprocessing.get_context(method).Pool(2) as pool:
            assert pool.map(on_one_thread, range(3)) == expected


def loaders() -> None:
    """Data loaders whose workers are new processes; torch gives each of them one thread."""
    on_threads(2)
    expected = [on_threads(1, number) for number in range(3)]
    for method in ("spawn", "forkserver"):
        loaded = DataLoader(Solved(), batch_size=None, num_workers=2, multiprocessing_context=method)
        assert all(torch.equal(values, expected[number]) for number, values in enumerate(loaded))


def interrupt_until(caught: threading.Event, delay: float) -> None:
    """Interrupt the main thread, and repeat every minute, as Python drops exceptions raised in a finalizer."""
    time.sleep(delay)
    while not caught.is_set():
        _thread.interrupt_main()
        caught.wait(60.0)  # far longer than a loaded machine needs to report the first one


def interrupt() -> None:
    """After Ctrl-C at twenty moments of a solve, the process continues with its settings and the same results."""
    signal.signal(signal.SIGINT, signal.default_int_handler)  # a shell that runs tests in the background ignores it
    expected = on_threads(2)
    start = time.perf_counter()
    answer()
    seconds = time.perf_counter() - start
    interrupted = 0
    for moment in range(20):
        caught = threading.Event()
        nagging = threading.Thread(target=interrupt_until, args=(caught, seconds * moment / 20))
        try:
            nagging.start()
            while True:
                answer()
        except KeyboardInterrupt:
            caught.set()
            interrupted += 1
        nagging.join()
        assert torch.get_num_threads() == 2
        assert torch.equal(answer(), expected)
    assert interrupted == 20


if __name__ == "__main__":
    torch.set_num_threads(2)
    globals()[sys.argv[1]]()
    print("done")
