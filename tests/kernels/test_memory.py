"""New fields are like those of torch, wherever the system gives large pages."""

from __future__ import annotations

import pytest
import torch

from sciml_bounds.kernels import memory


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
