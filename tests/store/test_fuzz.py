"""Damaged files of every kind: an array comes out, or one sentence.

Time and memory of the child are bounded by the system (`test_isolation.py`); of this process they are watched here."""

from __future__ import annotations

import os
import tracemalloc

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import sciml_bounds as sb
from sciml_bounds.errors import InputError
from sciml_bounds.store.reading.readers import read_array

#: Damaged files of each kind that need a process of their own; of the others 25 times as many.
COUNT = int(os.environ.get("SCIML_BOUNDS_FUZZ", "6"))
IN_PROCESS = ("plain.npy", "plain.npz", "plain.pt")
ISOLATED = (
    "contiguous.h5", "chunked.h5", "latest.h5", "virtual.h5", "plain.nc", "compressed.mat", "plain.mat", "seven.mat"
)  # fmt: skip
FIELD = np.arange(12, dtype=np.float64).reshape(3, 4) / 8 + 1


def cases(count: int):
    checks = [HealthCheck.function_scoped_fixture, HealthCheck.too_slow]
    return lambda test: settings(max_examples=count, suppress_health_check=checks, database=None)(
        given(seed=st.integers(0, 2**40))(test)
    )


def outcome(read) -> str:
    """Read, and tell what came out; anything but an array and an `InputError` of one sentence fails."""
    try:
        array = read()
    except InputError as error:
        message = str(error)
        assert message.isprintable()
        assert message.endswith(".")
        return "crash" if "crash" in message else "too long" if "far too long" in message else "refused"
    assert array.dtype.kind in "fiub"
    assert array.nbytes < 2**30
    return "read"


@pytest.mark.parametrize("name", IN_PROCESS)
def test_files_that_are_read_here(intact, damage, tmp_path, name):
    path, counts = tmp_path / name, {}

    @cases(25 * COUNT)
    def run(seed):
        path.write_bytes(damage(intact[name], seed))
        for member in ("", ":a"):
            result = outcome(lambda member=member: read_array(f"{path}{member}", "a"))
            counts[result] = counts.get(result, 0) + 1

    tracemalloc.start()
    try:
        run()
        assert tracemalloc.get_traced_memory()[1] < 2**26
    finally:
        tracemalloc.stop()
    assert set(counts) <= {"read", "refused"}  # nothing that Python and torch read may crash
    assert counts["refused"] > counts["read"] / 10
    print(f"\n{name}: {counts}")


@pytest.mark.slow
@pytest.mark.parametrize("name", ISOLATED)
def test_files_that_are_read_by_a_child(intact, damage, tmp_path, name):
    path, counts = tmp_path / name, {}

    @cases(COUNT)
    def run(seed):
        path.write_bytes(damage(intact[name], seed))
        result = outcome(lambda: read_array(f"{path}:a", "a"))
        counts[result] = counts.get(result, 0) + 1

    run()
    print(f"\n{name}: {counts}")


@pytest.mark.slow
def test_damage_to_our_files_never_goes_unseen(intact, damage, tmp_path):
    """What is read is exactly what was written, or nothing is."""
    path, counts = tmp_path / "ours.nc", {"same": 0, "refused": 0}

    @cases(2 * COUNT)
    def run(seed):
        path.write_bytes(damage(intact["ours.nc"], seed))
        try:
            read = sb.data.read(path)
        except InputError:
            counts["refused"] += 1
            return
        assert set(read.variables) == {"a", "b"}
        np.testing.assert_array_equal(read["a"], FIELD)
        assert float(read["b"]) == 2.5
        counts["same"] += 1

    run()
    print(f"\nours.nc: {counts}")


def test_intact_files_are_read(intact, tmp_path):
    """The damaged ones are refused for their damage, and not because every file is."""
    for name, content in intact.items():
        path = tmp_path / name
        path.write_bytes(content)
        member = "" if name.endswith(".npy") else ":a"
        np.testing.assert_array_equal(read_array(f"{path}{member}", "a"), FIELD)
