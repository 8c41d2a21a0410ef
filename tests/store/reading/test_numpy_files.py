"""Files of numpy: samples without the rest, and headers that lie."""

import subprocess
import sys
import tracemalloc
import zipfile
from contextlib import ExitStack
from pathlib import Path

import numpy as np
import pytest
from refusals import refused

from sciml_bounds.store.reading.readers import find_field, read_array, read_field

BATCH = np.random.default_rng(0).standard_normal((4, 30, 20))


@pytest.mark.parametrize("order", ["C", "F"])
@pytest.mark.parametrize("ending", ["npy", "npz"])
def test_one_sample(tmp_path, order, ending):
    array = np.asarray(BATCH, order=order)
    if ending == "npy":
        np.save(tmp_path / "a.npy", array)
    else:
        np.savez_compressed(tmp_path / "a.npz", a=array)
    with ExitStack() as files:
        found = find_field(f"{tmp_path}/a.{ending}", "a", files)
        assert found.shape == BATCH.shape
        np.testing.assert_array_equal(found.read(2), BATCH[2])
        np.testing.assert_array_equal(found.read(0), BATCH[0])
        np.testing.assert_array_equal(found.read(None), BATCH)


def test_one_sample_takes_the_memory_of_one_sample(tmp_path):
    np.save(tmp_path / "a.npy", np.zeros((100, 100_000)))  # 80 MB
    tracemalloc.start()
    try:
        with ExitStack() as files:
            found = find_field(f"{tmp_path}/a.npy", "a", files)
            assert found.read(99).shape == (100_000,)
        assert tracemalloc.get_traced_memory()[1] < 3e6
    finally:
        tracemalloc.stop()


def test_fields_larger_than_a_block(tmp_path):
    array = np.arange(5_000_003.0)  # 40 MB are three blocks
    np.save(tmp_path / "a.npy", array)
    np.testing.assert_array_equal(read_field(f"{tmp_path}/a.npy", "a"), array)


def header(shape: str, dtype: str = "<f8") -> bytes:
    text = f"{{'descr': '{dtype}', 'fortran_order': False, 'shape': {shape}, }}".encode()
    return b"\x93NUMPY\x01\x00" + len(text).to_bytes(2, "little") + text


def write_both(folder: Path, content: bytes) -> None:
    """Write an array alone and as a member of an archive."""
    (folder / "a.npy").write_bytes(content)
    with zipfile.ZipFile(folder / "a.npz", "w") as archive:
        archive.writestr("a.npy", content)


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (header("(-2, -3)") + bytes(48), "negative"),
        (header("(10**9,)"), "cannot"),
        (header("(1000000000000, 1000000000000, 1000000000000)"), "truncated"),
        (header("(2, 3)") + bytes(47), "truncated"),
        (header("(" * 900 + ")" * 900), "cannot"),
        (b"\x93NUMPY\x01\x00\xff\xff{" + b" " * 70_000, "cannot"),
        (header("(2,)", "|V1000000000000"), "cannot"),
    ],
)
def test_headers_that_lie(tmp_path, content, words):
    write_both(tmp_path, content)
    for name in ("a.npy", "a.npz"):
        refused(words, read_array, f"{tmp_path}/{name}", "a")


LOUD = {
    "escape": (header("(2,)", r"\d") + bytes(16), "read"),
    "octal escape": (header("(2,)", r"\777") + bytes(16), "read"),
    "number": (header("(1if 1else 2,)") + bytes(16), "read"),
    "Python 2": (header("(2L,)") + bytes(8), "truncated"),
}


@pytest.mark.parametrize("case", LOUD)
def test_nothing_is_said_about_a_header_but_the_one_sentence(tmp_path, recwarn, case):
    content, words = LOUD[case]
    write_both(tmp_path, content)
    for name in ("a.npy", "a.npz"):
        refused(words, read_array, f"{tmp_path}/{name}", "a")
    assert not recwarn.list


def test_files_of_python_2_are_read_without_a_word(tmp_path, recwarn):
    write_both(tmp_path, header("(2L,)") + np.array([1.0, 2.0]).tobytes())
    for name in ("a.npy", "a.npz"):
        np.testing.assert_array_equal(read_array(f"{tmp_path}/{name}", "a"), [1.0, 2.0])
    assert not recwarn.list


def test_booleans_that_are_neither_become_true(tmp_path):
    (tmp_path / "a.npy").write_bytes(header("(3,)", "|b1") + b"\x00\x01\x02")
    array = read_array(f"{tmp_path}/a.npy", "a")
    np.testing.assert_array_equal(array.view(np.uint8), [0, 1, 1])


def test_other_members_and_other_compressions(tmp_path):
    np.savez(tmp_path / "a.npz", a=BATCH)
    with zipfile.ZipFile(tmp_path / "a.npz", "a") as archive:
        archive.writestr("readme.txt", "text")
    np.testing.assert_array_equal(read_array(f"{tmp_path}/a.npz", "a"), BATCH)
    with zipfile.ZipFile(tmp_path / "b.npz", "w", zipfile.ZIP_LZMA) as archive:
        archive.writestr("a.npy", header("(1,)") + bytes(8))
    refused("compressed", read_array, f"{tmp_path}/b.npz", "a")


def test_a_zip_bomb_takes_no_memory(tmp_path):
    """Half a GiB of zeros in a few MB, all of it declared, where a quarter may be taken."""
    archive = zipfile.ZipFile(tmp_path / "a.npz", "w", zipfile.ZIP_DEFLATED, compresslevel=1)
    with archive, archive.open("a.npy", "w", force_zip64=True) as member:
        member.write(header("(67108864,)"))
        for _ in range(32):
            member.write(bytes(2**24))
    assert (tmp_path / "a.npz").stat().st_size < 5e6
    code = """if True:
        import resource, sys
        from sciml_bounds import memory
        from sciml_bounds.store.reading import readers
        memory.available_memory = lambda: 2**28
        before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        try:
            readers.read_array(sys.argv[1], "a")
        except ValueError as error:
            print(error)
        print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before)
    """
    done = subprocess.run([sys.executable, "-c", code, f"{tmp_path}/a.npz"], capture_output=True, text=True, check=True)
    sentence, grown = done.stdout.splitlines()
    assert "0.5 GiB" in sentence
    assert "0.25 GiB" in sentence
    assert int(grown) < 50_000  # kB
