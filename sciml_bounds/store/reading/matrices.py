"""Read a sparse matrix or a right-hand side from a foreign file.

Formats: MatrixMarket (`.mtx`: Boisvert, Pozo, Remington, NIST IR 5935 (1996)) and `scipy.sparse.save_npz`. As for every
foreign file, nothing is executed, sizes are checked against the memory first, and every failure is one sentence.
"""

from __future__ import annotations

import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import scipy.io
import scipy.sparse

from sciml_bounds.errors import InputError
from sciml_bounds.memory import require_memory
from sciml_bounds.store.reading.contents import ArrayInfo, Contents
from sciml_bounds.store.reading.numpy_files import open_npz
from sciml_bounds.store.reading.readers import Array, one_sentence, read_array
from sciml_bounds.store.safety.quiet import no_warnings

__all__ = ["describe_matrix", "read_matrix", "read_vector"]

#: Minimum number of characters of an entry in a MatrixMarket file: two indices and a number, or a number, with spaces.
_MIN_ENTRY_SIZE = {"coordinate": 6, "array": 2}


def describe_matrix(path: Path) -> Contents:
    """Return the contents that the header of a `.mtx` file declares, without reading its entries.

    Raises
    ------
    InputError
        If the file does not exist, or its header is invalid.
    """
    with one_sentence(f"the matrix in {_existing(path)}"):
        rows, columns, entries, form, field, symmetry = scipy.io.mminfo(path)
    stored = f"MatrixMarket ({form}, {symmetry}, {entries:,} entries stored)"
    return Contents(stored, {"": ArrayInfo((rows, columns), field, role="matrix")}, lambda *_: iter(()))


def read_matrix(path: Path | str) -> scipy.sparse.csr_array:
    """Read a square real matrix.

    Parameters
    ----------
    path : Path or str
        A `.mtx` file, or an `.npz` file of `scipy.sparse.save_npz`.

    Returns
    -------
    csr_array
        The matrix in float64; symmetric files are expanded to both triangles.

    Raises
    ------
    InputError
        If it cannot be read, or is not a square sparse matrix of real numbers.
    """
    path = _existing(path)
    readers = {".mtx": _read_mtx, ".npz": _read_npz}
    if path.suffix.lower() not in readers:
        raise InputError(f"the matrix: {path} has an unknown file name extension; use .mtx or .npz.")
    with one_sentence(f"the matrix in {path}"):
        matrix = readers[path.suffix.lower()](path)
        if not scipy.sparse.issparse(matrix):
            raise InputError("it is a dense array; give a sparse matrix (coordinate format).")
        if matrix.dtype.kind not in "fiu":
            raise InputError(f"it has {matrix.dtype} values; give a matrix of real numbers.")
        if matrix.shape[0] != matrix.shape[1]:
            raise InputError(f"it has shape {matrix.shape}; give a square matrix.")
        csr = scipy.sparse.csr_array(matrix, dtype=np.float64)
        csr.check_format(full_check=True)  # an index out of range would make products read invalid memory
        csr.sum_duplicates()
        return csr


def read_vector(text: str) -> Array:
    """Read a right-hand side: an array in a `.mtx` file or in any file that `read_array` accepts.

    Raises
    ------
    InputError
        If it cannot be read.
    """
    if Path(text).suffix.lower() != ".mtx":
        return read_array(text, "the right-hand side")
    path = _existing(text)
    with one_sentence(f"the right-hand side in {path}"):
        vector = _read_mtx(path)
        return np.asarray(vector.toarray() if scipy.sparse.issparse(vector) else vector, dtype=np.float64)


def _existing(path: Path | str) -> Path:
    path = Path(path)
    if not path.is_file():
        raise InputError(f"the file {path} does not exist; give an existing one.")
    return path


def _read_mtx(path: Path) -> Any:
    rows, columns, entries, form, field, _ = scipy.io.mminfo(path)
    if field not in ("real", "double", "integer"):
        raise InputError(f"it has {field} entries; give a matrix of real numbers.")
    if entries * _MIN_ENTRY_SIZE[form] > path.stat().st_size:
        raise InputError("it is truncated: it contains fewer entries than its header declares; create it again.")
    # two indices and a number per entry, twice if symmetric entries are expanded, and row pointers
    require_memory(8 * rows * columns if form == "array" else 56 * entries + 16 * rows, "the matrix")
    return scipy.io.mmread(path, spmatrix=False)


def _read_npz(path: Path) -> Any:
    with zipfile.ZipFile(path) as archive:
        members = {info.filename.removesuffix(".npy"): info.file_size for info in archive.infolist()}
    if not {"format", "shape", "data"} <= members.keys():
        raise InputError("it was not written by scipy.sparse.save_npz; save the matrix with that function.")
    require_memory(3 * sum(members.values()), "the matrix")
    with open_npz(path) as contents:
        for name in contents.arrays.keys() - {"format"}:
            contents.read(name)  # checks the headers, and that nothing is pickled
        rows = int(contents.read("shape")[0])
    require_memory(16 * rows, "the matrix")
    with no_warnings():
        return scipy.sparse.load_npz(path)
