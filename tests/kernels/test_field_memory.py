"""New fields are like those of torch, wherever the system gives large pages."""

from __future__ import annotations

import os
import signal
import threading

import pytest
import torch

from sciml_bounds.kernels import field_memory as memory


@pytest.mark.parametrize("system", ["this", "another"])
@pytest.mark.parametrize("shape", [(), (0, 3), (5, 7), (3, 1 << 20)], ids=str)
def test_new_fields_have_the_shape_and_type_that_were_asked_for(monkeypatch, system, shape):
    if system == "another":
        monkeypatch.setattr(memory, "_libc", None)
    like = torch.ones(4, dtype=torch.float64)
    out = memory.new_field(like, shape, torch.float32)
    assert out.shape == shape
    assert out.dtype == torch.float32
    assert out.is_contiguous()
    assert torch.equal(out.fill_(2.0), torch.full(shape, 2.0))
    assert memory.new_field(like).shape == like.shape
    assert memory.new_field(like).dtype == like.dtype


@pytest.mark.skipif(memory._libc is None, reason="large pages are asked for on Linux only")
@pytest.mark.parametrize("extra", [-1, 0, 1, 12345])
def test_large_fields_start_where_a_large_page_starts(extra):
    like = torch.empty(0, dtype=torch.float64)
    fields = [memory.new_field(like, (memory.LARGE_PAGE // 8 * 3 + extra,)).fill_(k) for k in range(3)]
    assert all(field.data_ptr() % memory.LARGE_PAGE == 0 for field in fields)
    assert all(bool((field == k).all()) for k, field in enumerate(fields))  # each in memory of its own
    assert all(field.untyped_storage().nbytes() == field.nbytes for field in fields)  # all that saving one writes
    small = memory.new_field(like, (memory.LARGE_PAGE // 8 - 1,))
    assert small.untyped_storage().nbytes() == small.nbytes


def _place(fields: list[torch.Tensor]) -> set[int]:
    return {field.data_ptr() for field in fields}


@pytest.fixture
def pool(monkeypatch):
    if memory._libc is None:
        pytest.skip("memory is kept on Linux only")
    found = memory._Pool()
    monkeypatch.setattr(memory, "_pool", found)
    return found


def test_a_field_gets_the_memory_of_one_that_was_given_up_and_never_that_of_one_in_use(pool):
    like, size = torch.empty(0), (memory.LARGE_PAGE,)
    fields = [memory.new_field(like, size).fill_(k) for k in range(3)]
    view, places = fields[1][5:], _place(fields)
    del fields[0], fields[0]  # a view still uses the second
    again = [memory.new_field(like, size).fill_(-1) for _ in range(3)]
    assert len(_place([*again, *fields, view])) == 5  # no two at the same place
    assert len(_place(again) & places) == 1
    assert bool((view == 1).all())
    assert bool((fields[0] == 2).all())


def test_no_more_memory_is_kept_than_said_and_what_came_back_last_stays(pool, monkeypatch):
    size = 2 * memory.LARGE_PAGE  # what a field of one page and less takes
    monkeypatch.setattr(memory, "MAX_POOLED_BYTES", 3 * size)
    fields = [memory.new_field(torch.empty(0), (memory.LARGE_PAGE // 4,)) for _ in range(5)]
    places = [field.data_ptr() for field in fields]
    while fields:
        del fields[0]
    assert sum(len(block) for block in pool._blocks.values()) == 3 * size
    again = [memory.new_field(torch.empty(0), (memory.LARGE_PAGE // 4,)) for _ in range(3)]
    assert _place(again) == set(places[2:])
    assert not pool._blocks


def test_threads_that_make_and_drop_fields_never_share_one(pool):
    wrong: list[int] = []

    def work(number: int) -> None:
        for _ in range(200):
            fields = [memory.new_field(torch.empty(0), (memory.LARGE_PAGE // 4 + k,)) for k in range(3)]
            for field in fields:
                field[::4096] = number
            wrong.extend(number for field in fields if bool((field[::4096] != number).any()))

    threads = [threading.Thread(target=work, args=(k,)) for k in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not wrong


class _SlowToComeBack(torch.Tensor):
    """A block whose place takes until `go` to tell."""

    asked, go = threading.Event(), threading.Event()

    def data_ptr(self) -> int:
        self.asked.set()
        self.go.wait()
        return super().data_ptr()


@pytest.mark.skipif(not hasattr(os, "fork"), reason="fork is of Linux and macOS")
@pytest.mark.filterwarnings("ignore:.*fork.*:DeprecationWarning")
def test_a_forked_child_gets_memory_though_another_thread_gave_some_back_at_that_moment(pool):
    block = torch.empty(10, dtype=torch.uint8).as_subclass(_SlowToComeBack)
    thread = threading.Thread(target=pool.give_back, args=(block,))
    thread.start()
    block.asked.wait()
    child = os.fork()
    if child == 0:  # where that thread is not, and nothing ends what it has begun
        signal.alarm(1800)  # a child that hangs ends when pytest ends its parent
        os._exit(pool.take(10) is not None)
    block.go.set()
    thread.join()
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
