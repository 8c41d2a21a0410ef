"""MATLAB files: version 7.3 is HDF5, versions 5 to 7 are read by scipy.

Arrays have MATLAB's order of axes in every version: A(i, j, k) is `[i, j, k]`. HDF5 libraries show the axes of version
7.3 in the opposite order, because MATLAB stores arrays by columns.
"""

from __future__ import annotations

import math
import struct
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np

from sciml_bounds.errors import InputError
from sciml_bounds.store.reading.contents import Array, ArrayInfo, Contents
from sciml_bounds.store.reading.hdf5_files import open_hdf5

__all__ = ["open_matlab"]

#: Numeric classes of MATLAB and their numpy dtypes; other classes are never loaded.
_CLASSES = {"double": "float64", "single": "float32", "logical": "bool"}
_CLASSES |= {f"{sign}int{bits}": f"{sign}int{bits}" for sign in ("", "u") for bits in (8, 16, 32, 64)}
#: Version 5: type code of a compressed element, flag of a complex array, and number of bytes at the start of elements,
#: compressed or not, that certainly contain its flags.
_COMPRESSED_TYPE, _COMPLEX_FLAG, _START_BYTES = 15, 0x800, 256


@contextmanager
def open_matlab(path: Path) -> Iterator[Contents]:
    """Open a MATLAB file of version 5 or later."""
    import h5py

    if h5py.is_hdf5(path):
        with open_hdf5(path, matlab=_CLASSES) as contents:
            yield contents
        return
    from scipy.io import loadmat, whosmat
    from scipy.io.matlab import matfile_version

    if matfile_version(path, appendmat=False)[0] != 1:
        raise InputError("it is not a MATLAB file of version 5 or later; save it again with save('-v7') or '-v7.3'.")
    declared = [(name, shape, _CLASSES.get(kind, kind)) for name, shape, kind in whosmat(path, appendmat=False)]
    arrays = {
        name: ArrayInfo(shape, f"complex {kind}" if is_complex else kind, working=32 * math.prod(shape))
        for (name, shape, kind), is_complex in zip(declared, _complexity(path), strict=True)
    }

    def blocks(name: str, sample: int | None) -> Iterator[Array]:
        array = np.asarray(loadmat(path, appendmat=False, variable_names=[name])[name])
        if array.shape != arrays[name].shape:
            raise InputError(f"{name!r} does not have the shape in its header; the file is damaged, save it again.")
        yield (array if sample is None else array[sample]).astype(arrays[name].dtype)  # small integers on disk

    yield Contents("MATLAB", arrays, blocks)


def _complexity(path: Path) -> Iterator[bool]:
    """Yield for each array in a version 5 file whether it is complex, which `whosmat` does not report.

    MATLAB, MAT-File Format (R2024a), "Level 5 MAT-Files": a header of 128 bytes is followed by elements with a type and
    a size, compressed or not; the first part of an array element has its class and flags.
    """
    with path.open("rb") as file:
        order = "<" if file.read(128)[126:] == b"IM" else ">"
        while len(tag := file.read(8)) == 8:
            kind, size = struct.unpack(f"{order}2I", tag)
            start = file.read(min(size, _START_BYTES))
            file.seek(size - len(start), 1)
            if kind == _COMPRESSED_TYPE:
                start = zlib.decompressobj().decompress(start, 20)[8:]  # the rest is not unpacked
            yield bool(struct.unpack(f"{order}I", start[8:12])[0] & _COMPLEX_FLAG)
