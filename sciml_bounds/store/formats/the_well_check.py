"""Check files against the format of The Well, as required by its documentation, its checker and its loader."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from sciml_bounds.errors import InputError
from sciml_bounds.store.formats.the_well_layout import BOUNDARIES
from sciml_bounds.store.reading.contents import printable
from sciml_bounds.store.reading.readers import one_sentence

if TYPE_CHECKING:
    import h5py

__all__ = ["check_the_well"]

_SPLITS = ("train", "valid", "test")
_ENDINGS = (".hdf5", ".h5")


def check_the_well(path: Path | str) -> None:
    """Check a file, or a folder with `data/{train,valid,test}` and `stats.yaml`, against the format of The Well.

    Use it only for trusted files: unlike foreign data, they are opened in this process.

    Raises
    ------
    InputError
        If a file does not conform; the message lists all problems.
    """
    path = Path(path)
    for file in _files(path):
        import h5py

        with one_sentence(f"{file}"), h5py.File(file, "r") as opened:
            problems = list(_problems(opened))
            if problems:
                raise InputError(f"it does not have the format of The Well: {printable('; '.join(problems[:20]))}.")


def _files(path: Path) -> list[Path]:
    if path.is_file():
        return [path]
    files = [file for split in _SPLITS for file in sorted((path / "data" / split).glob("*"))]
    files = [file for file in files if file.suffix in _ENDINGS]
    if not files or not (path / "stats.yaml").is_file():
        raise InputError(f"{path} is not a folder of The Well; it needs data/train/*.hdf5 and stats.yaml.")
    return files


def _problems(file: h5py.File) -> Iterator[str]:
    for name, kind in (("dataset_name", str), ("grid_type", str)):
        if not isinstance(file.attrs.get(name), kind):
            yield f"the root needs an attribute {name}, a string"
    for name in ("n_spatial_dims", "n_trajectories"):
        if not isinstance(file.attrs.get(name), int | np.integer):
            yield f"the root needs an attribute {name}, an integer"
    parameters = _list(file.attrs.get("simulation_parameters"))
    if parameters is None:
        yield "the root needs an attribute simulation_parameters, a list of names"
    groups = ("dimensions", "boundary_conditions", "scalars", "t0_fields", "t1_fields", "t2_fields")
    missing = [name for name in groups if name not in file]
    yield from (f"the group {name} is missing" for name in missing)
    for name in parameters or ():
        if name not in file.attrs or name not in file.get("scalars", {}):
            yield f"the simulation parameter {name} must be an attribute of the root and a data set in scalars"
    if missing or "n_trajectories" not in file.attrs:
        return
    yield from _problems_of_dimensions(file)
    if _list(file["dimensions"].attrs.get("spatial_dims")) is None or "time" not in file["dimensions"]:
        return
    yield from _problems_of_boundaries(file)
    yield from _problems_of_scalars(file)
    for order in range(3):
        yield from _problems_of_fields(file, order)


def _problems_of_dimensions(file: h5py.File) -> Iterator[str]:
    group = file["dimensions"]
    axes = _list(group.attrs.get("spatial_dims"))
    if not axes:
        yield "dimensions needs an attribute spatial_dims, a list of names"
        return
    if len(axes) != file.attrs.get("n_spatial_dims"):
        yield f"n_spatial_dims is {file.attrs.get('n_spatial_dims')}, but spatial_dims names {len(axes)}"
    for name in ("time", *axes):
        if name not in group:
            yield f"dimensions has no data set {name}"
            continue
        yield from _missing_flags(group[name], f"dimensions/{name}")
        if group[name].attrs.get("time_varying", False) != (name == "time"):
            yield f"time_varying of dimensions/{name} must be {name == 'time'}"


def _problems_of_boundaries(file: h5py.File) -> Iterator[str]:
    axes = _axes(file)
    for name, group in file["boundary_conditions"].items():
        where = f"boundary_conditions/{name}"
        yield from _missing_flags(group, where)
        if str(group.attrs.get("bc_type")).upper() not in BOUNDARIES:
            yield f"bc_type of {where} must be one of {', '.join(BOUNDARIES)}"
        associated = _list(group.attrs.get("associated_dims"))
        if not associated or any(axis not in axes for axis in associated):
            yield f"{where} needs an attribute associated_dims, a list of spatial dimensions"
        elif "mask" not in group or group["mask"].shape[-len(associated) :] != tuple(axes[axis] for axis in associated):
            yield f"{where} needs a data set mask over {', '.join(associated)}"
        if _list(group.attrs.get("associated_fields")) is None:
            yield f"{where} needs an attribute associated_fields, a list, which may be empty"


def _problems_of_scalars(file: h5py.File) -> Iterator[str]:
    group = file["scalars"]
    names = _list(group.attrs.get("field_names"))
    if names is None:
        yield "scalars needs an attribute field_names, a list, which may be empty"
    for name in names or ():
        if name not in group:
            yield f"scalars has no data set {name}"
            continue
        yield from _missing_flags(group[name], f"scalars/{name}")
        if group[name].shape != _leading(file, group[name]):
            yield f"scalars/{name} has shape {group[name].shape}, but its flags require {_leading(file, group[name])}"


def _problems_of_fields(file: h5py.File, order: int) -> Iterator[str]:
    group = file[f"t{order}_fields"]
    names = _list(group.attrs.get("field_names"))
    if names is None:
        yield f"t{order}_fields needs an attribute field_names, a list, which may be empty"
    axes = _axes(file)
    for name in names or ():
        where = f"t{order}_fields/{name}"
        if name not in group:
            yield f"the data set {where} is missing"
            continue
        field = group[name]
        yield from _missing_flags(field, where)
        varying = field.attrs.get("dim_varying")
        if not isinstance(varying, np.ndarray) or varying.dtype != bool or len(varying) != len(axes):
            yield f"{where} needs an attribute dim_varying, a boolean for each spatial dimension"
            continue
        space = tuple(length for length, varies in zip(axes.values(), varying) if varies)
        expected = (*_leading(file, field), *space, *(len(axes),) * order)
        if field.shape != expected:
            yield f"{where} has shape {field.shape}, but its flags require {expected}"


def _missing_flags(item: Any, where: str) -> Iterator[str]:
    for name in ("sample_varying", "time_varying"):
        if not isinstance(item.attrs.get(name), bool | np.bool_):
            yield f"{where} needs an attribute {name}, a boolean"


def _leading(file: h5py.File, item: Any) -> tuple[int, ...]:
    samples = (int(file.attrs["n_trajectories"]),) if item.attrs.get("sample_varying") else ()
    return (*samples, *((file["dimensions"]["time"].shape[-1],) if item.attrs.get("time_varying") else ()))


def _axes(file: h5py.File) -> dict[str, int]:
    group = file["dimensions"]
    return {name: group[name].shape[-1] for name in _list(group.attrs["spatial_dims"]) or () if name in group}


def _list(value: Any) -> list[str] | None:
    """Return a list of names, or None if the attribute is missing or not a list."""
    return [str(name) for name in value] if isinstance(value, np.ndarray) else None
