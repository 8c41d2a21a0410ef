from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from sciml_bounds.kernels import use_backend
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


def _with_two_threads(*arguments: str, **environment: str) -> dict:
    environment |= {"OMP_NUM_THREADS": "2", "NUMBA_NUM_THREADS": "2"}
    environment["OMP_WAIT_POLICY"] = "passive"  # other workers have the cores too
    worker = Path(__file__).with_name("threads_worker.py")
    done = subprocess.run(
        [sys.executable, worker, *arguments], env=os.environ | environment, capture_output=True, text=True, timeout=300
    )
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


def test_loops_run_as_python_where_nothing_is_compiled():
    code = (
        "import torch, sciml_bounds as sb; a = torch.linspace(1, 20, 216).double().view(6, 6, 6) ** 2;"
        "solution = sb.solve(sb.Diffusion(sb.Grid((6, 6, 6)), a, 1.0), method='multigrid', certify=True);"
        "found = [int(solution.iterations), float(solution.certificate.upper)]"
    )
    names: dict[str, list[float]] = {}
    exec(code, names)
    python = [sys.executable, "-c", f"{code}; print(found)"]
    environment = os.environ | {"NUMBA_DISABLE_JIT": "1"}
    done = subprocess.run(python, env=environment, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr
    # cycles are in single precision, and sums in another order; iterations stop at 1e-8
    assert json.loads(done.stdout) == pytest.approx(names["found"], rel=1e-7)


@pytest.mark.slow
def test_two_threads_change_no_bit_of_any_kernel():
    assert _with_two_threads("differences") == {"differences": 0}


@pytest.mark.slow
@pytest.mark.parametrize("first", ["serial", "parallel"])
def test_neither_form_is_served_for_the_other_from_the_cache_and_a_forked_child_lives(tmp_path, first):
    order = (first, "serial" if first == "parallel" else "parallel")
    report = _with_two_threads(*order, NUMBA_CACHE_DIR=str(tmp_path))
    assert report == {"serial": [0], "parallel": [0, 1], "child": 0}
