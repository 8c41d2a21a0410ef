import zipfile

import numpy as np
import pytest
import scipy.io
import scipy.sparse
from refusals import refused

from sciml_bounds.store.reading.matrices import read_matrix, read_vector

A = scipy.sparse.random_array((9, 9), density=0.3, rng=np.random.default_rng(0)) + scipy.sparse.eye_array(9)
S = A + A.T


@pytest.mark.parametrize("form", ["csr", "csc", "coo", "dia", "bsr"])
def test_what_scipy_saved_comes_back(tmp_path, form):
    scipy.sparse.save_npz(tmp_path / "A.npz", A.asformat(form))
    found = read_matrix(tmp_path / "A.npz")
    assert found.format == "csr"
    assert found.dtype == np.float64
    np.testing.assert_array_equal(found.toarray(), A.toarray())


@pytest.mark.parametrize("symmetry", ["general", "symmetric"])
@pytest.mark.parametrize("dtype", [np.float64, np.int64])
def test_matrix_market_files_come_back_with_both_triangles(tmp_path, symmetry, dtype):
    matrix = (4 * S).astype(dtype)
    scipy.io.mmwrite(tmp_path / "A.mtx", matrix, symmetry=symmetry, precision=17)
    np.testing.assert_array_equal(read_matrix(tmp_path / "A.mtx").toarray(), matrix.toarray())


def test_right_hand_sides_are_arrays_of_either_kind(tmp_path):
    b = np.arange(9.0)
    scipy.io.mmwrite(tmp_path / "b.mtx", b[:, None])
    np.save(tmp_path / "b.npy", b)
    np.testing.assert_array_equal(read_vector(str(tmp_path / "b.mtx")), b[:, None])
    np.testing.assert_array_equal(read_vector(str(tmp_path / "b.npy")), b)


HEAD = "%%MatrixMarket matrix coordinate real general\n"
TEXTS = {
    "not a matrix": ("hello\n", "read"),
    "empty": ("", "read"),
    "not square": (f"{HEAD}2 3 1\n1 1 1.0\n", "square"),
    "truncated": (f"{HEAD}3 3 900\n1 1 1.0\n", "entries"),
    "huge and truncated": (f"{HEAD}3 3 900000000000\n1 1 1.0\n", "header"),
    "huge and empty": (f"{HEAD}9000000000000 9000000000000 1\n1 1 1.0\n", "GiB memory"),
    "index beyond the end": (f"{HEAD}2 2 1\n7 1 1.0\n", "read"),
    "index zero": (f"{HEAD}2 2 1\n0 1 1.0\n", "read"),
    "negative": (f"{HEAD}-2 -2 1\n1 1 1.0\n", "read"),
    "words": (f"{HEAD}2 2 1\n1 1 one\n", "read"),
    "complex": ("%%MatrixMarket matrix coordinate complex general\n1 1 1\n1 1 1.0 2.0\n", "complex entries"),
    "pattern": ("%%MatrixMarket matrix coordinate pattern general\n1 1 1\n1 1\n", "entries"),
    "dense": ("%%MatrixMarket matrix array real general\n1 1\n1.0\n", "dense array"),
}


@pytest.mark.parametrize("case", TEXTS)
def test_bad_matrix_market_files_are_one_sentence(tmp_path, case):
    text, words = TEXTS[case]
    (tmp_path / "A.mtx").write_text(text)
    refused(f"matrix {words}", read_matrix, tmp_path / "A.mtx")


def _csr(**changes):
    members = {"format": np.bytes_("csr"), "shape": np.array([3, 3]), "data": np.ones(3)}
    members |= {"indices": np.array([0, 1, 2], np.int32), "indptr": np.array([0, 1, 2, 3], np.int32), **changes}
    return {name: member for name, member in members.items() if member is not None}


ARCHIVES = {
    "fields": ({"a": np.ones(3)}, "scipy.sparse.save_npz"),
    "index beyond the end": (_csr(indices=np.array([0, 1, 999999], np.int32)), "read"),
    "index below zero": (_csr(indices=np.array([0, 1, -9], np.int32)), "read"),
    "pointers beyond the end": (_csr(indptr=np.array([0, 1, 2, 999999], np.int32)), "read"),
    "pointers missing": (_csr(indptr=None), "read"),
    "unknown format": (_csr(format=np.bytes_("xyz")), "read"),
    "complex": (_csr(data=np.ones(3, complex)), "complex128 values"),
    "pickled": (_csr(data=np.array([print] * 3, dtype=object)), "never"),
    "pickled format": (_csr(format=np.array(print, dtype=object)), "read"),
    "huge": (_csr(shape=np.array([10**13, 10**13]), format=np.bytes_("coo")), "GiB memory"),
    "not square": (_csr(shape=np.array([3, 4])), "square"),
}


@pytest.mark.parametrize("case", ARCHIVES)
def test_bad_archives_are_one_sentence_and_nothing_is_executed(tmp_path, case, capsys):
    members, words = ARCHIVES[case]
    np.savez(tmp_path / "A.npz", allow_pickle=True, **members)
    message = refused(f"matrix {words}", read_matrix, tmp_path / "A.npz")
    assert message.count("A.npz") == 1
    assert capsys.readouterr().out == ""


def test_archives_of_python_2_are_read_without_a_word(tmp_path, recwarn):
    np.savez(tmp_path / "A.npz", **_csr())
    with zipfile.ZipFile(tmp_path / "A.npz") as old, zipfile.ZipFile(tmp_path / "B.npz", "w") as new:
        for name in old.namelist():
            new.writestr(name, old.read(name).replace(b"(3,), } ", b"(3L,), }"))
    np.testing.assert_array_equal(read_matrix(tmp_path / "B.npz").toarray(), np.eye(3))
    assert not recwarn.list


def test_a_truncated_archive_is_one_sentence(tmp_path):
    scipy.sparse.save_npz(tmp_path / "A.npz", A)
    content = (tmp_path / "A.npz").read_bytes()
    for size in (0, 10, len(content) // 2, len(content) - 1):
        (tmp_path / "B.npz").write_bytes(content[:size])
        refused("matrix", read_matrix, tmp_path / "B.npz")


def test_a_header_that_declares_more_than_the_member_holds_is_found_before_memory_is_taken(tmp_path):
    np.savez(tmp_path / "A.npz", **_csr())
    with zipfile.ZipFile(tmp_path / "A.npz") as old, zipfile.ZipFile(tmp_path / "B.npz", "w") as new:
        for name in old.namelist():
            content = old.read(name)
            if name == "data.npy":
                content = content.replace(b"(3,)", b"(3000000000000,)").replace(b" " * 12 + b"\n", b"\n")
            new.writestr(name, content)
    refused("numbers", read_matrix, tmp_path / "B.npz")


def test_other_files_are_refused(tmp_path):
    (tmp_path / "A.csv").write_text("1")
    refused(".mtx .npz", read_matrix, tmp_path / "A.csv")
    for read in (read_matrix, read_vector):
        refused("file", read, str(tmp_path / "none.mtx"))
