"""Read one array from a file that somebody else made.

Foreign files are hostile: nothing in them is ever executed, nothing outside them is followed except virtual sources in
their own folder, and what they declare is checked against the memory before it is read. Every failure is one sentence.

A file is named by its path, followed by `:name` where it holds several arrays: `a.npy`, `fields.npz:a`,
`data.h5:group/a`, `u.nc:solution`, `data.pt:x`.
"""

from __future__ import annotations

import math
import os
import re
import zipfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any

import numpy as np

from sciml_bounds.errors import InputError
from sciml_bounds.store.memory import require_memory

if TYPE_CHECKING:
    import h5py
    import torch

__all__ = ["Array", "read_array", "read_field", "read_mask", "read_torch"]

type Array = np.ndarray[Any, np.dtype[Any]]

#: Kinds of dtypes that are numbers: floating-point, integer, unsigned, boolean.
_KINDS = "fiub"


def read_field(text: str, what: str) -> float | Array:
    """Read a field of floating-point numbers, or a plain number such as `1.0`.

    Parameters
    ----------
    text
        A number, or a file as the head of this module says.
    what
        What it is meant to be, for messages: "the coefficient".

    Raises
    ------
    InputError
        If it cannot be read, or holds anything but float32 or float64.
    """
    try:
        number = float(text)
    except ValueError:
        pass
    else:
        if not math.isfinite(number):
            raise InputError(f"{what} is {text}; give a finite number or a file.")
        return number
    array = read_array(text, what)
    if array.dtype.kind != "f" or array.dtype.itemsize not in (4, 8):
        raise InputError(f"{what} in {text} has dtype {array.dtype}; convert it to float32 or float64 first.")
    return array


def read_mask(text: str, what: str) -> Array:
    """Read a boolean field, such as the solid cells.

    Raises
    ------
    InputError
        If it cannot be read, or is not boolean.
    """
    array = read_array(text, what)
    if array.dtype != np.bool_:
        raise InputError(f"{what} in {text} has dtype {array.dtype}; convert it to bool first (True where it applies).")
    return array


def read_array(text: str, what: str) -> Array:
    """Read one numeric or boolean array from a file.

    Raises
    ------
    InputError
        If it cannot be read.
    """
    path, name = _split(text)
    if not os.path.exists(path):  # unlike Path.exists, no error for a name that no file can have
        raise InputError(f"{what}: there is no file {path}; give an existing file or a number.")
    if not path.is_file():
        raise InputError(f"{what}: {path} is not a file; give a file or a number.")
    reader = _READERS.get(path.suffix.lower())
    if reader is None:
        raise InputError(
            f"{what}: the format of {path} is not known by its ending; use one of {', '.join(_READERS)}, or a number."
        )
    with _one_sentence(f"{what} in {path}"):
        array = reader(path, name)
        if array.dtype.kind not in _KINDS:
            raise InputError(f"it holds {array.dtype} values; give an array of real numbers.")
        return array


def _split(text: str) -> tuple[Path, str | None]:
    match = _WITH_NAME.fullmatch(text)
    if match is None or os.path.exists(text):
        return Path(text), None
    return Path(match["path"]), match["name"]


@contextmanager
def _one_sentence(where: str) -> Iterator[None]:
    """Say where a failure happened, in one line; a hostile file may fail anywhere in a parser, with any exception."""
    try:
        yield
    except InputError as error:
        raise InputError(f"{where}: {error}") from None
    except Exception as error:
        lines = str(error).splitlines() or [type(error).__name__]
        raise InputError(
            f"{where} cannot be read ({lines[0].rstrip('.')}); the file is damaged or of another format."
        ) from None


def _choose(names: list[str], name: str | None) -> str:
    """Choose the array that is meant: the named one, or the only one."""
    listing = ", ".join(names[:20]) + (", ..." if len(names) > 20 else "")
    if not names:
        raise InputError("it holds no array; give another file.")
    if name is None and len(names) > 1:
        raise InputError(f"it holds several arrays; name one after a colon ({listing}).")
    if name is not None and name not in names:
        raise InputError(f"it has no array {name!r}; the arrays in it are {listing}.")
    return names[0] if name is None else name


# --- numpy ------------------------------------------------------------------------------------------------------------


def _read_npy(path: Path, name: str | None) -> Array:
    if name is not None:
        raise InputError(f"a .npy file holds one array without a name; leave out ':{name}'.")
    with path.open("rb") as stream:
        return _parse_npy(stream, path.stat().st_size)


def _read_npz(path: Path, name: str | None) -> Array:
    with zipfile.ZipFile(path) as archive:
        members = {info.filename.removesuffix(".npy"): info for info in archive.infolist()}
        member = members[_choose(list(members), name)]
        with archive.open(member) as stream:
            return _parse_npy(stream, member.file_size)


def _parse_npy(stream: IO[bytes], size: int) -> Array:
    """Read an array after comparing what its header declares with the size of the file and with the memory."""
    version = np.lib.format.read_magic(stream)
    if version not in ((1, 0), (2, 0)):
        raise InputError("it holds a structured array; give a plain array of numbers.")
    parse = np.lib.format.read_array_header_1_0 if version == (1, 0) else np.lib.format.read_array_header_2_0
    shape, _, dtype = parse(stream)
    if dtype.hasobject:
        raise InputError("it holds pickled objects, which are never loaded; save a plain array of numbers.")
    declared = math.prod(shape) * dtype.itemsize
    if declared > size - stream.tell():
        raise InputError("it is truncated: its header declares more numbers than it holds; make it again.")
    require_memory(declared, "the array")
    stream.seek(0)
    return np.lib.format.read_array(stream, allow_pickle=False)


# --- HDF5 -------------------------------------------------------------------------------------------------------------


def _read_hdf5(path: Path, name: str | None) -> Array:
    import h5py

    with h5py.File(path, "r") as file:
        dataset = _dataset(file, name)
        _check_storage(dataset, path.resolve())
        if dataset.dtype.kind not in _KINDS:
            raise InputError(f"{dataset.name!r} holds {dataset.dtype} values; give an array of real numbers.")
        require_memory(dataset.size * dataset.dtype.itemsize, f"{dataset.name!r}")
        return np.asarray(dataset[()])


def _dataset(file: h5py.File, name: str | None) -> h5py.Dataset:
    """Find the array that is meant, without following links; coordinates are not meant unless they are named."""
    import h5py

    links: dict[str, Any] = {}
    file.visititems_links(links.__setitem__)  # returns None, which means: go on
    if name is not None and isinstance(links.get(name.strip("/")), h5py.SoftLink | h5py.ExternalLink):
        raise InputError(f"{name!r} is a link, and links are not followed; name the array that it points to.")
    hard = {name: file[name] for name, link in links.items() if isinstance(link, h5py.HardLink)}
    arrays = {name: item for name, item in hard.items() if isinstance(item, h5py.Dataset)}
    named = [key for key in arrays if name is not None or not arrays[key].is_scale]
    return arrays[_choose(named, None if name is None else name.strip("/"))]


def _check_storage(dataset: h5py.Dataset, path: Path, *, virtual: bool = True) -> None:
    """Refuse data that lie outside the file, except virtual sources in its folder that are plain data sets."""
    import h5py

    if dataset.external:
        raise InputError(
            f"{dataset.name!r} keeps its data in another file ({dataset.external[0][0]}), which is not read; "
            "copy the data into this one."
        )
    if not dataset.is_virtual:
        return
    for source in dataset.virtual_sources():
        place = path if source.file_name == "." else (path.parent / source.file_name).resolve()
        if not virtual or place.parent != path.parent:
            raise InputError(
                f"{dataset.name!r} is virtual and takes data from {source.file_name}, which is not read; "
                "copy the data into this file."
            )
        with h5py.File(place, "r") as file:
            _check_storage(_dataset(file, source.dset_name), place, virtual=False)


# --- torch ------------------------------------------------------------------------------------------------------------


def _read_torch_field(path: Path, name: str | None) -> Array:
    with path.open("rb") as stream:
        loaded = read_torch(stream)
    if name is None and not isinstance(loaded, Mapping):
        return _tensor_to_array(loaded)
    if not isinstance(loaded, Mapping):
        raise InputError(f"it holds one tensor without a name; leave out ':{name}'.")
    tensors = {str(key): value for key, value in loaded.items() if hasattr(value, "untyped_storage")}
    return _tensor_to_array(tensors[_choose(list(tensors), name)])


def read_torch(stream: IO[bytes]) -> Any:
    """Load what `torch.save` wrote, tensors and plain containers only; nothing is executed.

    Raises
    ------
    InputError
        If the file holds anything else, or is not in the zip format of torch >= 1.6 (the older one declares sizes that
        cannot be checked).
    """
    import pickle

    import torch

    if not zipfile.is_zipfile(stream):
        raise InputError("it is not a file that torch.save wrote (zip format), or it is damaged; save it again.")
    with zipfile.ZipFile(stream) as archive:
        require_memory(sum(member.file_size for member in archive.infolist()), "its content")
    stream.seek(0)
    try:
        return torch.load(stream, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError:
        raise InputError("it holds more than tensors, which is never loaded; save the tensors alone.") from None


def _tensor_to_array(value: Any) -> Array:
    import torch

    if not isinstance(value, torch.Tensor):
        raise InputError(f"it holds a {type(value).__name__} and not a tensor; save the tensor alone.")
    tensor: torch.Tensor = value.detach()
    if tensor.layout != torch.strided or tensor.device.type != "cpu" or tensor.dtype not in _torch_dtypes():
        kind = f"{tensor.layout}, {tensor.dtype}".replace("torch.", "")
        raise InputError(f"its tensor is {kind}; save a dense tensor of float32 or float64.")
    require_memory(tensor.numel() * tensor.element_size(), "the tensor")  # strides may repeat a small storage
    return np.ascontiguousarray(tensor.numpy()).reshape(tensor.shape)


def _torch_dtypes() -> tuple[torch.dtype, ...]:
    import torch

    return (torch.bool, torch.uint8, torch.int8, torch.int16, torch.int32, torch.int64, torch.float32, torch.float64)


_READERS = {
    ".npy": _read_npy,
    ".npz": _read_npz,
    ".h5": _read_hdf5,
    ".hdf5": _read_hdf5,
    ".nc": _read_hdf5,
    ".pt": _read_torch_field,
    ".pth": _read_torch_field,
}
_WITH_NAME = re.compile(rf"(?P<path>.+?(?:{'|'.join(map(re.escape, _READERS))})):(?P<name>.+)", re.DOTALL)
