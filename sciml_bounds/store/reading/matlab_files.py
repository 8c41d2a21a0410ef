"""Files of MATLAB: version 7.3 is HDF5, versions 5 to 7 are read by scipy.

Every array has MATLAB's own order of axes, whichever version wrote it: A(i, j, k) is `[i, j, k]`. An HDF5 library shows
the axes of a file of version 7.3 in the opposite order, because MATLAB stores columns.
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

#: MATLAB's classes that are numbers, and what numpy calls them; all others are never loaded.
_CLASSES = {"double": "float64", "single": "float32", "logical": "bool"}
_CLASSES |= {f"{sign}int{bits}": f"{sign}int{bits}" for sign in ("", "u") for bits in (8, 16, 32, 64)}
#: In files of version 5: the type of an element that is compressed, the flag of a complex array, and how many bytes of
#: an element, compressed or not, certainly have its flags among them.
_COMPRESSED, _COMPLEX, _START = 15, 0x800, 256


@contextmanager
def open_matlab(path: Path) -> Iterator[Contents]:
    """Open a file of version 5 or later."""
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
            raise InputError(f"{name!r} has another shape than it declares; save it again.")
        yield (array if sample is None else array[sample]).astype(arrays[name].dtype)  # small integers on disk

    yield Contents("MATLAB", arrays, blocks)


def _complexity(path: Path) -> Iterator[bool]:
    """Tell of each array in a file of version 5 whether it is complex, which `whosmat` leaves out.

    MATLAB, MAT-File Format (R2024a), "Level 5 MAT-Files": a header of 128 bytes, and elements of a type and a size,
    compressed or not; in an array (another element) the first part is its class and its flags.
    """
    with path.open("rb") as file:
        order = "<" if file.read(128)[126:] == b"IM" else ">"
        while len(tag := file.read(8)) == 8:
            kind, size = struct.unpack(f"{order}2I", tag)
            start = file.read(min(size, _START))
            file.seek(size - len(start), 1)
            if kind == _COMPRESSED:
                start = zlib.decompressobj().decompress(start, 20)[8:]  # the rest is not unpacked
            yield bool(struct.unpack(f"{order}I", start[8:12])[0] & _COMPLEX)
