"""Files of MATLAB: version 7.3 is HDF5, versions 5 to 7 are read by scipy.

Every array has MATLAB's own order of axes, whichever version wrote it: A(i, j, k) is `[i, j, k]`. An HDF5 library shows
the axes of a file of version 7.3 in the opposite order, because MATLAB stores columns.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np

from sciml_bounds.errors import InputError
from sciml_bounds.store.contents import Array, ArrayInfo, Contents
from sciml_bounds.store.hdf5_files import open_hdf5

__all__ = ["open_matlab"]

#: MATLAB's classes that are numbers, and what numpy calls them; all others are never loaded.
_CLASSES = {"double": "float64", "single": "float32", "logical": "bool"}
_CLASSES |= {f"{sign}int{bits}": f"{sign}int{bits}" for sign in ("", "u") for bits in (8, 16, 32, 64)}


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
    arrays = {
        name: ArrayInfo(shape, _CLASSES.get(kind, kind), working=32 * math.prod(shape))
        for name, shape, kind in whosmat(path, appendmat=False)
    }

    def blocks(name: str, sample: int | None) -> Iterator[Array]:
        array = np.asarray(loadmat(path, appendmat=False, variable_names=[name])[name])
        if array.dtype.kind == "c":
            raise InputError(f"{name!r} is complex; give an array of real numbers.")
        if array.shape != arrays[name].shape:
            raise InputError(f"{name!r} has another shape than it declares; save it again.")
        yield (array if sample is None else array[sample]).astype(arrays[name].dtype)  # small integers on disk

    yield Contents("MATLAB", arrays, blocks)
