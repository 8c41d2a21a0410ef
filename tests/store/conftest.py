"""Small valid files of each kind, and ways to damage their bytes."""

from __future__ import annotations

import random
from collections.abc import Callable
from pathlib import Path

import h5py
import numpy as np
import pytest
import scipy.io
import torch
import xarray

import sciml_bounds as sb

FIELD = np.arange(12, dtype=np.float64).reshape(3, 4) / 8 + 1


def _npy(path: Path) -> None:
    np.save(path, FIELD)


def _npz(path: Path) -> None:
    np.savez_compressed(path, a=FIELD, b=FIELD.astype("f4"))


def _torch(path: Path) -> None:
    torch.save({"a": torch.from_numpy(FIELD), "b": torch.ones(3, 2).T, "epoch": 3}, path)


def _contiguous(path: Path) -> None:
    with h5py.File(path, "w") as file:
        file["a"] = FIELD


def _chunked(path: Path) -> None:
    with h5py.File(path, "w") as file:
        options = {"compression": "gzip", "shuffle": True, "fletcher32": True}
        file.create_dataset("a", data=FIELD, chunks=(1, 4), **options).attrs["units"] = "m"


def _latest(path: Path) -> None:
    with h5py.File(path, "w", libver="latest") as file:
        file.create_dataset("a", data=FIELD, chunks=(2, 4), maxshape=(None, 4), compression="lzf")


def _virtual(path: Path) -> None:
    layout = h5py.VirtualLayout(shape=FIELD.shape, dtype="f8")
    layout[:] = h5py.VirtualSource(".", "b", shape=FIELD.shape)
    with h5py.File(path, "w") as file:
        file["b"] = FIELD
        file.create_virtual_dataset("a", layout)


def _netcdf(path: Path) -> None:
    xarray.Dataset({"a": (["x", "y"], FIELD)}, {"x": [0.0, 1.0, 2.0]}).to_netcdf(path, engine="h5netcdf")


def _matlab(path: Path) -> None:
    scipy.io.savemat(path, {"a": FIELD, "s": {"x": 1.0}, "c": "text"}, do_compression=True)


def _matlab_plain(path: Path) -> None:
    scipy.io.savemat(path, {"a": FIELD, "i": np.arange(3)})


type Arrays = dict[str, tuple[str, np.ndarray]]


def write_matlab_73(path: Path, arrays: Arrays) -> None:
    """Write arrays as MATLAB's version 7.3 does: a block for its own use, axes in the opposite order, classes."""
    with h5py.File(path, "w", userblock_size=512) as file:
        for name, (kind, array) in arrays.items():
            file[name] = array.T
            file[name].attrs["MATLAB_class"] = np.bytes_(kind)
    with path.open("r+b") as stream:
        stream.write(b"MATLAB 7.3 MAT-file".ljust(116) + bytes(8) + b"\x00\x02IM")


def _matlab_73(path: Path) -> None:
    write_matlab_73(path, {"a": ("double", FIELD), "m": ("logical", (FIELD > 1).astype("u1"))})


def _ours(path: Path) -> None:
    sb.data.write(xarray.Dataset({"a": (["x", "y"], FIELD), "b": ((), 2.5)}), path, parameters={"why": "test"})


#: Name of the file -> how it is written; each holds FIELD as `a`.
MAKERS: dict[str, Callable[[Path], None]] = {
    "plain.npy": _npy,
    "plain.npz": _npz,
    "plain.pt": _torch,
    "contiguous.h5": _contiguous,
    "chunked.h5": _chunked,
    "latest.h5": _latest,
    "virtual.h5": _virtual,
    "plain.nc": _netcdf,
    "compressed.mat": _matlab,
    "plain.mat": _matlab_plain,
    "seven.mat": _matlab_73,
    "ours.nc": _ours,
}


def small_files(folder: Path) -> dict[str, bytes]:
    """Write every kind into a folder and return the bytes."""
    for name, make in MAKERS.items():
        make(folder / name)
    return {name: (folder / name).read_bytes() for name in MAKERS}


def damage(content: bytes, seed: int) -> bytes:
    """Cut a file, or change some bytes of it, mostly where there is something; the same for the same seed."""
    draw = random.Random(seed)
    damaged = bytearray(content)
    if draw.random() < 0.05:
        return bytes(damaged[: draw.randrange(len(damaged))])
    filled = [i for i, byte in enumerate(damaged) if byte]
    for _ in range(draw.choice((1, 1, 1, 2, 4, 8))):
        i = draw.choice(filled) if draw.random() < 0.7 else draw.randrange(len(damaged))
        i = min(i, len(damaged) - 1)  # the file may have become shorter
        width = draw.choice((1, 1, 1, 2, 4, 8))
        top = 1 << 8 * width
        number = draw.choice((0, 1, top - 1, top // 2, draw.randrange(top), len(damaged) % top, damaged[i] ^ 1))
        way = draw.random()
        if way < 0.25:
            damaged[i] ^= 1 << draw.randrange(8)
        elif way < 0.8:
            damaged[i : i + width] = number.to_bytes(width, draw.choice(("little", "big")))
        else:
            start = draw.randrange(len(damaged))
            damaged[i : i + 2 * width] = damaged[start : start + 2 * width]
    return bytes(damaged)


@pytest.fixture(scope="session")
def intact(tmp_path_factory: pytest.TempPathFactory) -> dict[str, bytes]:
    """The bytes of a small file of each kind."""
    return small_files(tmp_path_factory.mktemp("intact"))


@pytest.fixture(name="damage")
def _damage() -> Callable[[bytes, int], bytes]:
    return damage


@pytest.fixture(name="write_matlab_73")
def _write_matlab_73() -> Callable[[Path, Arrays], None]:
    return write_matlab_73
