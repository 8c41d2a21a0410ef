"""Real processes that are told to stop."""

import signal
import subprocess
import sys
import threading
from pathlib import Path

import pytest
import torch

from sciml_bounds.store.datasets.weights import read_weights
from sciml_bounds.training._signals import StopRequest, listening

SCRIPT = Path(__file__).with_name("script.py")


@pytest.mark.slow
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_an_interrupted_process_continues_to_the_same_weights(tmp_path, number):
    whole, parts = tmp_path / "whole", tmp_path / "parts"
    subprocess.run([sys.executable, str(SCRIPT), str(whole)], check=True, capture_output=True)
    waiting = [sys.executable, str(SCRIPT), str(parts), "wait"]
    pipes = dict.fromkeys(("stdin", "stdout", "stderr"), subprocess.PIPE)
    with subprocess.Popen(waiting, **pipes, text=True) as process:
        assert [process.stdout.readline() for _ in range(3)] == ["1\n", "2\n", "3\n"]
        process.send_signal(number)
        _, errors = process.communicate()
    # As without a handler. After a KeyboardInterrupt Python ends by the signal, unless something calls `eval` at exit,
    # as torch does where tabulate is installed: then the code is 1.
    assert process.returncode == -number or errors.endswith("KeyboardInterrupt\n")
    card = read_weights(parts / "last.safetensors")[1]
    assert card["state"]["epoch"] == 3
    subprocess.run([sys.executable, str(SCRIPT), str(parts)], check=True, capture_output=True)
    for name in ("last.safetensors", "best.safetensors"):
        ours, theirs = read_weights(parts / name)[0], read_weights(whole / name)[0]
        assert ours.keys() == theirs.keys()
        assert all(torch.equal(ours[key], theirs[key]) for key in theirs)


def test_the_second_signal_acts_at_once():
    seen = []
    previous = signal.signal(signal.SIGTERM, lambda number, frame: seen.append(number))
    try:
        with listening() as request:
            signal.raise_signal(signal.SIGTERM)
            assert (request.number, seen) == (signal.SIGTERM, [])
            signal.raise_signal(signal.SIGTERM)
            assert seen == [signal.SIGTERM]
        request.raise_again()
        assert seen == [signal.SIGTERM] * 2
    finally:
        signal.signal(signal.SIGTERM, previous)


def test_handlers_are_put_back_and_nothing_is_raised_without_a_signal():
    before = signal.getsignal(signal.SIGINT)
    with listening() as request:
        assert signal.getsignal(signal.SIGINT) is not before
    assert signal.getsignal(signal.SIGINT) is before
    request.raise_again()
    StopRequest().raise_again()


def test_other_threads_leave_signals_alone():
    handlers = []

    def work():
        with listening():
            handlers.append(signal.getsignal(signal.SIGINT))

    before = signal.getsignal(signal.SIGINT)
    thread = threading.Thread(target=work)
    thread.start()
    thread.join()
    assert handlers == [before]


def test_an_ignored_signal_stays_ignored():
    previous = signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        with listening() as request:
            signal.raise_signal(signal.SIGINT)
        assert request.number == 0
    finally:
        signal.signal(signal.SIGINT, previous)
