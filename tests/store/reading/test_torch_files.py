"""Files of torch: samples without the rest, and pickles that would call something."""

import pickle
import tracemalloc
import zipfile
from contextlib import ExitStack
from pathlib import Path

import numpy as np
import pytest
import torch
from refusals import refused

from sciml_bounds.store.reading.readers import find_field, open_file, read_array
from sciml_bounds.store.reading.torch_files import read_torch


def rewritten(path: Path, pickled: bytes | None = None, compression: int = zipfile.ZIP_STORED) -> Path:
    """A file of torch with another pickle in it, or compressed."""
    torch.save(torch.ones(50), path)
    with zipfile.ZipFile(path) as archive:
        members = {info.filename: archive.read(info) for info in archive.infolist()}
    with zipfile.ZipFile(path, "w", compression) as archive:
        for name, content in members.items():
            archive.writestr(name, pickled if pickled and name.endswith("data.pkl") else content)
    return path


def test_one_sample_stays_in_the_file_until_it_is_read(tmp_path):
    batch = torch.randn(50, 100, 200, dtype=torch.float64)  # 8 MB
    torch.save({"a": batch, "t": batch.transpose(0, 1), "n": 3}, tmp_path / "a.pt")
    tracemalloc.start()
    try:
        with ExitStack() as files:
            found = find_field(f"{tmp_path}/a.pt:a", "a", files)
            np.testing.assert_array_equal(found.read(7), batch[7])
            assert find_field(f"{tmp_path}/a.pt:t", "a", files).shape == (100, 50, 200)
        assert tracemalloc.get_traced_memory()[1] < 2e6
    finally:
        tracemalloc.stop()
    np.testing.assert_array_equal(read_array(f"{tmp_path}/a.pt:t", "a"), batch.transpose(0, 1))


def test_a_file_that_changes_later_does_not_change_what_was_read(tmp_path):
    torch.save(torch.ones(1000), tmp_path / "a.pt")
    array = read_array(f"{tmp_path}/a.pt", "a")
    with (tmp_path / "a.pt").open("r+b") as stream:
        stream.write(bytes((tmp_path / "a.pt").stat().st_size))
    assert (array == 1).all()


BOMB = b"\x80\x02cbuiltins\nbytearray\n\x8a\x06" + (2**46).to_bytes(6, "little") + b"\x85R."


@pytest.mark.parametrize(
    "pickled",
    [
        BOMB,  # torch itself would run it, and ask for 64 TiB
        pickle.dumps(bytearray, protocol=4),
        b"\x80\x02cos\nsystem\nX\x04\x00\x00\x00true\x85R.",
        b"\x80\x02ctorch\nload\n.",
        b"(S'true'\nios\nsystem\n.",
        b"\x80\x02c__builtin__\nFloatStorage\n.",
    ],
)
def test_pickles_that_would_call_something(tmp_path, pickled):
    path = rewritten(tmp_path / "a.pt", pickled)
    for read in (lambda: read_array(str(path), "a"), lambda: read_torch(path.open("rb"))):
        refused("tensors", read)


def test_what_torch_saves_of_tensors_is_allowed(tmp_path):
    module = torch.nn.Sequential(torch.nn.Linear(3, 2), torch.nn.BatchNorm1d(2))
    torch.save(module.state_dict(), tmp_path / "a.pt")
    torch.save(
        {"p": torch.nn.Parameter(torch.ones(2)), "h": torch.ones(3).half(), "f": torch.float64}, tmp_path / "b.pt"
    )
    np.testing.assert_array_equal(read_array(f"{tmp_path}/a.pt:0.weight", "a"), module[0].weight.detach())
    np.testing.assert_array_equal(read_array(f"{tmp_path}/b.pt:p", "a"), [1, 1])


def test_tensors_in_dictionaries_and_lists_have_names_of_their_own(tmp_path):
    """Containers that hold themselves, or each other many times over, are gone through once."""
    a, b, c, d, e = (torch.full((2,), float(i)) for i in range(5))
    held: dict = {"a": a, "nest": {"b": b, "deep": {0: c}}, "l": [d, (e,)], "n": 3, "nest.b": d}
    held["nest"]["again"] = held
    twice: dict = {}
    for _ in range(60):
        twice = {"x": twice, "y": twice}
    held["twice"] = twice
    torch.save(held, tmp_path / "a.pt")
    with ExitStack() as files:
        arrays = open_file(tmp_path / "a.pt", "a", files).arrays
        assert sorted(arrays) == ["a", "l.0", "l.1.0", "nest.b", "nest.deep.0"]
    expected = {"a": a, "l.0": d, "l.1.0": e, "nest.b": d, "nest.deep.0": c}  # of two with one name the outer one
    for name, tensor in expected.items():
        np.testing.assert_array_equal(read_array(f"{tmp_path}/a.pt:{name}", "a"), tensor)
    refused("array 'nest'", read_array, f"{tmp_path}/a.pt:nest", "a")


def test_compressed_files_are_refused(tmp_path):
    """torch maps the file into memory, where compressed bytes would be taken for numbers."""
    path = rewritten(tmp_path / "a.pt", compression=zipfile.ZIP_DEFLATED)
    refused("compressed", lambda: read_array(str(path), "a"))


@pytest.mark.parametrize("place", [20, 24], ids=["compressed", "unpacked"])
def test_a_member_that_declares_more_than_the_file_holds(tmp_path, place):
    """A GiB, which Python would take before it finds out that it is not there."""
    path = tmp_path / "a.pt"
    torch.save(torch.ones(50), path)
    content = bytearray(path.read_bytes())
    entry = content.rindex(b"PK\x01\x02", 0, content.rindex(b"data.pkl"))  # in the directory at the end
    content[entry + place : entry + place + 4] = (2**30).to_bytes(4, "little")
    path.write_bytes(content)
    tracemalloc.start()
    try:
        for read in (lambda: read_array(str(path), "a"), lambda: read_torch(path.open("rb"))):
            refused("truncated", read)
        assert tracemalloc.get_traced_memory()[1] < 2e6
    finally:
        tracemalloc.stop()


def test_a_shape_whose_size_overflows(tmp_path):
    torch.save(torch.ones(1).expand(2**31, 2**31), tmp_path / "a.pt")  # 2^64 bytes: zero in 64 bits
    refused("GiB memory", read_array, f"{tmp_path}/a.pt", "a")
    with ExitStack() as files:
        assert open_file(tmp_path / "a.pt", "a", files).arrays[""].shape == (2**31, 2**31)
