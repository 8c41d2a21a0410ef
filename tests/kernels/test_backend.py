from __future__ import annotations

import numpy as np
import pytest
import torch

import sciml_bounds as sb
from sciml_bounds.kernels import _backend, use_backend
from sciml_bounds.kernels._backend import backend_for, constant_table


def test_the_device_chooses_the_implementation_unless_one_is_forced():
    here = torch.zeros(1)
    elsewhere = torch.zeros(1, device="meta")
    assert backend_for(here) == "compiled"
    assert backend_for(elsewhere) == "torch"
    with use_backend("torch"):
        assert backend_for(here) == "torch"
        with use_backend("triton"):
            assert backend_for(here) == "triton"
        assert backend_for(here) == "torch"
    assert backend_for(here) == "compiled"


def test_the_choice_is_undone_by_an_exception():
    with pytest.raises(KeyError), use_backend("torch"):
        raise KeyError
    assert backend_for(torch.zeros(1)) == "compiled"


def test_constant_tables_are_made_once():
    table = constant_table(((1, 2), (3, 4)), torch.int32, torch.device("cpu"))
    assert table.tolist() == [[1, 2], [3, 4]]
    assert constant_table(((1, 2), (3, 4)), torch.int32, torch.device("cpu")) is table


def test_without_compiled_kernels_the_reference_runs_and_that_is_said_once(caplog, monkeypatch):
    monkeypatch.setattr(_backend, "_functions", None)
    monkeypatch.delenv("SCIML_BOUNDS_PURE_SAID", raising=False)
    _backend._without_compiler.cache_clear()
    a = torch.linspace(1, 20, 216).double().view(6, 6, 6) ** 2
    problem = sb.Diffusion(sb.Grid((6, 6, 6)), a, 1.0)
    pure = sb.solve(problem, method="multigrid", certify=True)
    _backend._without_compiler.cache_clear()
    assert _backend._without_compiler() == "torch"
    monkeypatch.setenv("SCIML_BOUNDS_PURE_SAID", "0")  # by a parent
    _backend._without_compiler.cache_clear()
    assert _backend._without_compiler() == "torch"
    assert [record.message.count("C++ compiler") for record in caplog.records] == [1, 1]
    monkeypatch.undo()
    compiled = sb.solve(problem, method="multigrid", certify=True)
    # iterations stop at 1e-8 of the right-hand side
    torch.testing.assert_close(pure.values, compiled.values, rtol=0, atol=1e-7 * float(compiled.values.abs().max()))
    assert float(pure.certificate.upper) == pytest.approx(float(compiled.certificate.upper), rel=1e-7)


@pytest.mark.parametrize(
    "wrong",
    [
        {"out": torch.empty(2, 5, dtype=torch.int32)},
        {"out": torch.empty(5, 2, dtype=torch.float64).T},
        {"out": torch.empty(2, 5, 1, dtype=torch.float64)},
        {"out": np.broadcast_to(np.ones((2, 5)), (2, 5))},
    ],
    ids=["dtype", "strides", "axes", "read-only"],
)
def test_a_compiled_loop_takes_no_array_that_does_not_fit(wrong):
    one, sums = torch.ones(2, dtype=torch.float64), torch.empty(2, 1, dtype=torch.float64)
    arguments = {
        "alpha": one,
        "u": torch.ones(2, 5).double(),
        "beta": one,
        "out": None,
        "sums": sums,
        "norms": one,
    } | wrong
    with pytest.raises(TypeError, match="incompatible function arguments"):
        _backend.run_compiled("combine", 10, *arguments.values())
