"""NumPy files: `.npy` and `.npz`."""

from __future__ import annotations

import math
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any, NamedTuple

import numpy as np

from sciml_bounds.errors import InputError
from sciml_bounds.memory import require_memory
from sciml_bounds.store.reading.contents import Array, ArrayInfo, Contents
from sciml_bounds.store.safety.quiet import no_warnings

__all__ = ["open_npy", "open_npz"]

_BLOCK = 2**24
#: Compression methods that numpy writes; others allocate as much memory as the file declares.
_COMPRESSIONS = (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED)


class _Header(NamedTuple):
    shape: tuple[int, ...]
    fortran: bool
    dtype: np.dtype[Any]
    offset: int

    @property
    def info(self) -> ArrayInfo:
        return ArrayInfo(self.shape, "pickled object" if self.dtype.hasobject else str(self.dtype))


@contextmanager
def open_npy(path: Path) -> Iterator[Contents]:
    """Open a file with one array."""
    with path.open("rb") as stream:
        header = _read_header(stream, path.stat().st_size)
        yield Contents("NumPy array", {"": header.info}, lambda _, sample: _blocks(stream, header, sample))


@contextmanager
def open_npz(path: Path) -> Iterator[Contents]:
    """Open an archive of arrays; other members are ignored."""
    with zipfile.ZipFile(path) as archive:
        members = {m.filename.removesuffix(".npy"): m for m in archive.infolist() if m.filename.endswith(".npy")}
        headers = {name: _member_header(archive, member) for name, member in members.items()}

        def blocks(name: str, sample: int | None) -> Iterator[Array]:
            with archive.open(members[name]) as stream:
                yield from _blocks(stream, headers[name], sample)

        yield Contents("NumPy archive", {name: header.info for name, header in headers.items()}, blocks)


def _member_header(archive: zipfile.ZipFile, member: zipfile.ZipInfo) -> _Header:
    if member.compress_type not in _COMPRESSIONS:
        raise InputError("it has a compression that numpy never uses; save it again with numpy.savez_compressed.")
    with archive.open(member) as stream:
        return _read_header(stream, member.file_size)


def _read_header(stream: IO[bytes], size: int) -> _Header:
    """Read a header and check its declared size against the size of the file."""
    version = np.lib.format.read_magic(stream)
    if version not in ((1, 0), (2, 0)):
        raise InputError("it has a structured array; give a plain array of numbers.")
    parse = np.lib.format.read_array_header_1_0 if version == (1, 0) else np.lib.format.read_array_header_2_0
    with no_warnings():
        shape, fortran, dtype = parse(stream)
    header = _Header(shape, fortran, dtype, stream.tell())
    if min(shape, default=0) < 0:
        raise InputError("its header declares a negative length; the file is damaged, create it again.")
    if not dtype.hasobject and math.prod(shape) * dtype.itemsize > size - header.offset:
        raise InputError("it is truncated: it contains fewer numbers than its header declares; create it again.")
    return header


def _blocks(stream: IO[bytes], header: _Header, sample: int | None) -> Iterator[Array]:
    shape, dtype = header.shape, header.dtype
    if header.fortran and len(shape) > 1:  # samples are scattered over the file
        size = math.prod(shape) * dtype.itemsize
        require_memory(2 * size, "the array, which is stored in Fortran order,")
        stream.seek(header.offset)
        array = np.frombuffer(_read_exactly(stream, size), dtype).reshape(shape, order="F")
        yield array if sample is None else array[sample]
        return
    size = math.prod(shape if sample is None else shape[1:]) * dtype.itemsize
    stream.seek(header.offset + (sample or 0) * size)
    step = max(_BLOCK // dtype.itemsize, 1) * dtype.itemsize
    for start in range(0, size, step):
        yield np.frombuffer(_read_exactly(stream, min(step, size - start)), dtype)


def _read_exactly(stream: IO[bytes], size: int) -> bytes:
    content = stream.read(size)
    if len(content) != size:
        raise InputError("it is truncated: it contains fewer numbers than its header declares; create it again.")
    return content
