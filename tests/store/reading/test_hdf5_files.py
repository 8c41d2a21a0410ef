"""HDF5: samples without the rest, names and sizes that mean harm."""

import subprocess
import sys
import zlib
from contextlib import ExitStack

import h5py
import numpy as np
import pytest
from refusals import refused

from sciml_bounds.store.reading.readers import find_field, open_file, read_array, read_field

BATCH = np.random.default_rng(0).standard_normal((4, 30, 20))


def test_one_sample_is_read_without_the_others(tmp_path):
    """The chunk of another sample is damaged, which only who reads it sees."""
    path = tmp_path / "a.h5"
    with h5py.File(path, "w") as file:
        file.create_dataset("a", data=BATCH, chunks=(1, 30, 20), compression="gzip", fletcher32=True)
        place = file["a"].id.get_chunk_info(1)
    content = bytearray(path.read_bytes())
    content[place.byte_offset + 100] ^= 1
    path.write_bytes(content)
    with ExitStack() as files:
        found = find_field(f"{path}:a", "a", files)
        np.testing.assert_array_equal(found.read(2), BATCH[2])
        np.testing.assert_array_equal(found.read(0), BATCH[0])
    refused("a.h5", read_array, f"{path}:a", "a")


@pytest.mark.parametrize("chunks", [None, (3, 30, 20), (4, 7, 20)])
def test_blocks_follow_one_another(tmp_path, monkeypatch, chunks):
    from sciml_bounds.store.reading import hdf5_files

    monkeypatch.setattr(hdf5_files, "_BLOCK", 5000)  # a sample has 4800 bytes
    with h5py.File(tmp_path / "a.h5", "w") as file:
        file.create_dataset("a", data=BATCH, chunks=chunks)
    with hdf5_files.open_hdf5(tmp_path / "a.h5") as contents:
        blocks = list(contents.blocks("a", None))
        assert len(blocks) == (1 if chunks and chunks[0] == 4 else 2 if chunks else 4)
        np.testing.assert_array_equal(contents.read("a"), BATCH)


def test_names_that_mean_harm_are_shown_escaped(tmp_path):
    with h5py.File(tmp_path / "a.h5", "w") as file:
        file["other"] = BATCH
        file["two\nlines\x1b[31m"] = BATCH
    message = refused("several", read_field, f"{tmp_path}/a.h5", "a")
    assert message.isprintable()
    assert r"two\nlines\x1b[31m" in message
    np.testing.assert_array_equal(read_field(f"{tmp_path}/a.h5:two\nlines\x1b[31m", "a"), BATCH)
    with h5py.File(tmp_path / "b.h5", "w") as file:
        file[b"bad\xff"] = BATCH
    refused("b.h5 name UTF-8", read_field, f"{tmp_path}/b.h5", "a")


def test_a_path_that_is_no_text(tmp_path):
    path = tmp_path / "bad\udcff.h5"
    with h5py.File(path, "w") as file:
        file["a"] = BATCH
    np.testing.assert_array_equal(read_field(str(path), "a"), BATCH)
    path.write_bytes(b"no")
    assert refused("bad\\udcff.h5", lambda: read_field(str(path), "a")).isprintable()


def test_patterns_of_virtual_sources(tmp_path):
    """HDF5 replaces %b by a number, so that another file is opened than the one that was looked at."""
    for name in ("s-%b.h5", "s-0.h5"):
        with h5py.File(tmp_path / name, "w") as file:
            file["a"] = BATCH[0]
    layout = h5py.VirtualLayout(shape=BATCH.shape, dtype="f8", maxshape=(None, *BATCH.shape[1:]))
    source = h5py.VirtualSource("s-%b.h5", "a", shape=BATCH[0].shape)
    layout[: h5py.h5s.UNLIMITED, :, :] = source
    with h5py.File(tmp_path / "a.h5", "w") as file:
        file.create_virtual_dataset("v", layout)
    refused("virtual", read_field, f"{tmp_path}/a.h5:v", "a")


def test_empty_and_odd_data(tmp_path):
    with h5py.File(tmp_path / "a.h5", "w") as file:
        file["none"] = h5py.Empty("f8")
        file["text"] = "text"
        file["pair"] = np.zeros(3, dtype=[("x", "f8"), ("y", "f4")])
        file["zero"] = np.zeros((0, 5))
    for name in ("none", "text", "pair"):
        refused("never", read_array, f"{tmp_path}/a.h5:{name}", "a")
    assert read_array(f"{tmp_path}/a.h5:zero", "a").shape == (0, 5)


def bomb(size: int) -> bytes:
    """A stream of zlib that becomes `size` MiB of zeros, made of one block again and again."""
    packer = zlib.compressobj(9)
    first = packer.compress(bytes(2**20)) + packer.flush(zlib.Z_FULL_FLUSH)
    again = packer.compress(bytes(2**20)) + packer.flush(zlib.Z_FULL_FLUSH)
    return first + again * (size - 1)


def test_a_chunk_that_unpacks_to_much_more_than_it_declares(tmp_path):
    """HDF5 unpacks it as far as it goes, here to 8 GiB; the child may take little more than a half."""
    with h5py.File(tmp_path / "a.h5", "w") as file:
        dataset = file.create_dataset("a", (100,), dtype="f8", chunks=(100,), compression="gzip")
        dataset.id.write_direct_chunk((0,), bomb(8192))
    code = (
        "import sys, resource; from sciml_bounds.store.reading.readers import read_array\n"
        "try: read_array(sys.argv[1], 'a')\n"
        "except ValueError as error: print(error)\n"
        "print(resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss)"
    )
    done = subprocess.run([sys.executable, "-c", code, f"{tmp_path}/a.h5"], capture_output=True, text=True, check=True)
    sentence, peak = done.stdout.splitlines()
    assert "cannot be read" in sentence
    assert int(peak) < 2**20  # kB


def test_a_chunk_that_declares_more_than_the_memory(tmp_path, monkeypatch):
    with h5py.File(tmp_path / "a.h5", "w") as file:
        file.create_dataset("a", (10, 10**6), maxshape=(None, 10**6), dtype="f8", chunks=(500, 10**6))  # 4 GB a chunk
    monkeypatch.setattr("sciml_bounds.memory.available_memory", lambda: 2**30)
    with ExitStack() as files:
        found = find_field(f"{tmp_path}/a.h5", "a", files)
        refused("GiB memory", found.read, 0)


def test_what_is_in_a_file_is_seen_without_reading_it(tmp_path):
    with h5py.File(tmp_path / "a.h5", "w") as file:
        file.create_dataset("huge", (10**6, 10**6), dtype="f4", chunks=(100, 100))
        file["link"] = h5py.SoftLink("/huge")
        file["elsewhere"] = h5py.ExternalLink("b.h5", "/x")
        file.attrs["title"] = "a title"
    with ExitStack() as files:
        contents = open_file(tmp_path / "a.h5", "a", files)
        assert contents.arrays["huge"].shape == (10**6, 10**6)
        assert contents.arrays["huge"].dtype == "float32"
        assert {name for name, info in contents.arrays.items() if info.role == "link"} == {"link", "elsewhere"}
        assert contents.attributes == {"title": "a title"}
