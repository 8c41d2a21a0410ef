"""Write results and labelled fields to files, and read them back.

The files are netCDF-4, and therefore HDF5, with named axes, coordinates and units; `xarray.open_dataset` and `h5py`
open them without this package. Their root attributes are `content` ("Solution", "Certificate" or "Dataset"),
`format_version`, `sciml_bounds_version`, `created`, `asked` (the parameters, as JSON) and `checksum` (SHA-256 of
the whole content).
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from contextlib import ExitStack
from datetime import UTC, datetime
from io import BytesIO
from os import PathLike
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from sciml_bounds import __version__
from sciml_bounds.errors import InputError
from sciml_bounds.grid import AXES, Grid
from sciml_bounds.memory import require_memory
from sciml_bounds.reports import Reason
from sciml_bounds.results import Certificate, LinearSolution, Solution
from sciml_bounds.store.datasets.vtk_series import VTK_SUFFIXES, write_vtk
from sciml_bounds.store.reading.contents import Contents
from sciml_bounds.store.reading.hdf5_files import CHECKSUM, stored_digest
from sciml_bounds.store.reading.readers import one_sentence, open_file
from sciml_bounds.store.safety.writer import FILTERS, SUFFIXES, check_target, replacing

if TYPE_CHECKING:
    import xarray

__all__ = ["FORMAT_VERSION", "check_content", "check_format", "check_replaceable", "is_ours", "read", "write"]

#: Version of the file layout: programs read files up to their own major version; minor versions are additions.
FORMAT_VERSION = "0.1"
#: Attributes of the file itself, which are not part of its content.
_FILE_ATTRIBUTES = ("content", "format_version", "sciml_bounds_version", "created", CHECKSUM)
#: Variables of a diagonal coefficient along the axes after the first.
_OTHER_COEFFICIENTS = tuple(f"coefficient_{axis}" for axis in AXES[1:])
#: Maximum bytes per chunk; older versions of HDF5 cannot read chunks of 4 GiB.
_MAX_CHUNK_BYTES = 2**28


# --- writing ----------------------------------------------------------------------------------------------------------


def write(
    result: Solution | Certificate | xarray.Dataset,
    path: Path | str,
    *,
    parameters: Mapping[str, Any] | None = None,
    flux: bool = False,
) -> None:
    """Write a result or labelled fields as netCDF-4, or as VTK images for ParaView; each file is written atomically.

    Parameters
    ----------
    result : Solution, Certificate or xarray.Dataset
        A solution, a certificate, or a data set of numeric variables with named axes.
    path : Path or str
        File to write, ending in .nc, .h5 or .hdf5 (netCDF-4, which `read` reads back), in .vti (one VTK image) or in
        .pvd (a series of VTK images: one per sample, or per entry of the axis `time`). An existing file is replaced if
        it has a result of the same kind; any other existing file is an error.
    parameters : mapping, optional
        Parameters of the run, stored in the file as JSON.
    flux : bool, default False
        Store the flux of the certificate, which has 2^d d times as many numbers as the values in d dimensions.

    Raises
    ------
    InputError
        If the file cannot be written, exists with other content, or a variable is not numeric.
    MissingExtraError
        If the file is a VTK file and pyvista is not installed.

    Notes
    -----
    The file is assembled in memory, because the HDF5 library crashes on a full disk.

    Examples
    --------
    >>> import tempfile
    >>> import sciml_bounds as sb
    >>> solution = sb.solve(sb.Diffusion(sb.Grid((8, 8)), source=1.0), certify=True)
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     sb.data.write(solution, f"{folder}/u.nc")
    ...     bool((sb.data.read(f"{folder}/u.nc").certificate.upper == solution.certificate.upper).all())
    True
    """
    content = type(result).__name__
    if isinstance(path, str | PathLike) and Path(path).suffix.lower() in VTK_SUFFIXES:
        _write_vtk_result(result, path, parameters=parameters, flux=flux)
        return
    check_replaceable(path, content)
    if parameters is not None and not isinstance(parameters, Mapping):
        raise InputError(
            f"parameters is of type {type(parameters).__name__}; give a dictionary with the parameters of the run."
        )
    image = _image(_to_dataset(result, flux=flux), content, parameters)
    with replacing(path) as part:
        part.write_bytes(image)


def _write_vtk_result(result: Any, path: Path | str, *, parameters: Any, flux: bool) -> None:
    if flux or parameters is not None:
        raise InputError(
            f"{path} is a VTK file, which cannot store `flux` or `parameters`; write a file that ends in .nc."
        )
    write_vtk(_fields(result), path)


def _fields(result: Any) -> xarray.Dataset:
    import xarray

    if isinstance(result, Solution | Certificate):
        return result.to_xarray()
    if not isinstance(result, xarray.Dataset):
        raise InputError(
            f"result is a {type(result).__name__}; only a Solution, Certificate or xarray.Dataset can be written."
        )
    return result


def check_replaceable(path: Path | str, content: str) -> None:
    """Check before the work that a result can be written and would replace only a result of the same kind.

    Parameters
    ----------
    path : Path or str
        File to write.
    content : str
        Kind of the result: "Solution", "Certificate" or "Dataset".

    Raises
    ------
    InputError
        If the file cannot be written, or exists with other content.
    """
    target = check_target(path, SUFFIXES)
    if not target.exists():
        return
    try:
        with ExitStack() as files:
            contents = open_file(target, "the output", files)
            present = contents.attributes.get("content") if is_ours(contents) else None
            if "recipe" in contents.attributes:
                present = "data set of a recipe"
    except InputError:
        present = None
    if present != content:
        what = "is not a result of this package" if present is None else f"contains a {present}, not a {content}"
        raise InputError(f"{path} already exists and {what}; remove it, or choose another name.")


def _image(dataset: xarray.Dataset, content: str, parameters: Mapping[str, Any] | None) -> bytes:
    """Return the bytes of the file, with the checksum of their content as read back."""
    import h5py

    for name, variable in dataset.variables.items():
        if variable.dtype.kind not in "fiubMm":
            raise InputError(
                f"variable {name!r} has {variable.dtype} values, but only numbers can be written; drop it."
            )
    dataset = dataset.assign_attrs(
        content=content,
        format_version=FORMAT_VERSION,
        sciml_bounds_version=__version__,
        created=datetime.now(UTC).isoformat(timespec="seconds"),
    )
    if parameters is not None:
        dataset.attrs["asked"] = json.dumps(parameters, default=str)
    stream = BytesIO()
    encoding = {str(name): _encoding(variable) for name, variable in dataset.variables.items()}
    dataset.to_netcdf(stream, engine="h5netcdf", encoding=encoding)
    with h5py.File(stream, "r+") as file:
        file.attrs[CHECKSUM] = stored_digest(file)
    return stream.getvalue()  # not a view: if kept alive by a traceback, it crashes Python 3.12


def _encoding(variable: xarray.Variable) -> dict[str, Any]:
    """Return compression, checksums and chunks: one sample of a field per chunk, so that it can be read alone."""
    plain: dict[str, Any] = {"_FillValue": None}
    if not variable.size or not variable.ndim:
        return plain
    batch = [str(dim).startswith(("sample", "batch")) for dim in variable.dims]
    chunks = [1 if one and not all(batch) else size for one, size in zip(batch, variable.shape)]
    rest = math.prod(chunks) * variable.dtype.itemsize
    if rest > _MAX_CHUNK_BYTES and not all(batch):
        axis = batch.index(False)
        chunks[axis] = max(1, chunks[axis] * _MAX_CHUNK_BYTES // rest)
    return plain | {"chunksizes": tuple(chunks)} | FILTERS


def _to_dataset(result: Any, *, flux: bool) -> xarray.Dataset:
    dataset, parts = _fields(result), []
    if isinstance(result, Solution):
        parts.append(_solution_parts(result))
        if result.certificate is not None:
            parts.append(_certificate_parts(result.certificate, flux=flux))
    elif isinstance(result, Certificate):
        parts.append(_certificate_parts(result, flux=flux))
    else:
        dataset = dataset.copy()
        dataset.attrs = {name: value for name, value in result.attrs.items() if name not in _FILE_ATTRIBUTES}
    if flux and not any(name.startswith("flux_") for variables, _ in parts for name in variables):
        raise InputError("flux=True needs a certificate, but the result has none; solve with certify=True.")
    for variables, attributes in parts:
        dataset = dataset.assign(variables).assign_attrs(attributes)
    if not isinstance(result, Solution | Certificate):
        return dataset
    grid = {f"grid_{name}": list(getattr(result.grid, name)) for name in ("shape", "lengths", "origin")}
    return dataset.assign_attrs(grid)


def _batch_dims(count: int) -> list[str]:
    return [f"batch{i}" if i else "sample" for i in range(count)]


def _per_sample(tensor: torch.Tensor, long_name: str, *before: str, **attributes: Any) -> tuple[list[str], Any, Any]:
    dims = [*before, *_batch_dims(tensor.ndim - len(before))]
    return dims, tensor.detach().cpu().numpy(), {"long_name": long_name, "units": "1"} | attributes


def _reasons(reason: Reason | tuple[Reason, ...], like: torch.Tensor, long_name: str) -> tuple[list[str], Any, Any]:
    """Encode reasons as numbers with flag meanings, as in the CF conventions."""
    each = reason if isinstance(reason, tuple) else (reason,) * like.numel()
    values = list(Reason)
    numbers = torch.tensor([values.index(one) for one in each], dtype=torch.int8).reshape(like.shape)
    meanings = " ".join(str(one).replace(" ", "_") for one in values)
    return _per_sample(numbers, long_name, flag_values=np.arange(len(values), dtype=np.int8), flag_meanings=meanings)


def _solution_parts(solution: Solution) -> tuple[dict[str, Any], dict[str, Any]]:
    linear = solution.linear
    variables = {
        "converged": _per_sample(solution.converged, "whether the tolerance or error target was reached"),
        "reason": _reasons(solution.reason, solution.converged, "why the solver stopped"),
        "iterations": _per_sample(solution.iterations, "number of iterations"),
        "residual_norm": _per_sample(solution.residual_norm, "residual norm"),
        "tolerance": _per_sample(solution.tolerance, "tolerance of the residual norm"),
        "residual_norms": _per_sample(linear.residual_norms, "residual norm before each iteration", "iteration"),
        "linear_converged": _per_sample(linear.converged, "whether the residual norm is below the tolerance"),
        "linear_reason": _reasons(linear.reason, linear.converged, "why the linear solver stopped"),
    }
    if linear.error_lower is not None:
        variables["algebraic_error_lower"] = _per_sample(
            linear.error_lower, "lower bound of the A-norm error before each iteration", "iteration"
        )
    if linear.error_upper is not None:
        kind = {"kind": str(linear.error_upper_kind)}
        variables["algebraic_error_upper"] = _per_sample(linear.error_upper, "largest A-norm error", **kind)
    attributes = {"seconds": solution.seconds, "linear_seconds": linear.seconds, "flexible": int(linear.flexible)}
    return variables, attributes


def _certificate_parts(certificate: Certificate, *, flux: bool) -> tuple[dict[str, Any], dict[str, Any]]:
    variables = {
        "energy": _per_sample(certificate.energy, "energy norm of the values"),
        "boundary_gap": _per_sample(certificate.boundary_gap, "largest error of the boundary values"),
    }
    for name, term in certificate.terms.items():
        variables[f"term_{name}"] = _per_sample(term, f"part of the squared upper bound: {name}")
    for axis, face in zip(AXES, certificate.flux if flux else ()):
        dims = [f"{other}_flux_{axis}" for other in AXES[: certificate.grid.dim]]
        values = face.detach().cpu().numpy()
        attributes = {"long_name": f"equilibrated flux along {axis}, at face centres", "units": "1"}
        variables[f"flux_{axis}"] = ([*_batch_dims(values.ndim - len(dims)), *dims], values, attributes)
    return variables, {"layout": certificate.layout, "certificate_seconds": certificate.seconds}


# --- reading ----------------------------------------------------------------------------------------------------------


def read(path: Path | str) -> Solution | Certificate | xarray.Dataset:
    """Read a file of `write`, after checking its whole content against its checksum.

    Parameters
    ----------
    path : Path or str
        The file.

    Returns
    -------
    Solution, Certificate or xarray.Dataset
        The result, on the CPU. A certificate cannot compute new bounds, since the problem is not in the file; its
        `flux` is empty unless it was written. In a solution, `linear.x` has the nodal values.

    Raises
    ------
    InputError
        If it is not a file of this package, is damaged, or has a newer format.
    """
    if not isinstance(path, str | PathLike):
        raise InputError(f"the path of the result is {path!r}; give a string or a Path.")
    with ExitStack() as files:
        contents = open_file(Path(path), "the result", files)
        with one_sentence(f"the result in {path}"):
            check_content(contents)
            dataset = _read_dataset(contents)
            content = contents.attributes["content"]
            makers = {"Solution": _make_solution, "Certificate": _make_certificate, "Dataset": _make_dataset}
            if content not in makers:
                raise InputError(f"it contains a {content}, which this version cannot read; install a newer version.")
            return makers[content](dataset)


def is_ours(contents: Contents) -> bool:
    """Return whether the attributes of a file say that this package wrote it."""
    return "format_version" in contents.attributes and "sciml_bounds_version" in contents.attributes


def check_content(contents: Contents) -> None:
    """Check that this package wrote a file, that its format is supported, and that its content matches its checksum.

    Raises
    ------
    InputError
        If one of these checks fails.
    """
    if not is_ours(contents):
        raise InputError("this package did not write it; open it with xarray or h5py.")
    check_format(contents)
    if contents.digest is None or contents.digest() != contents.attributes.get(CHECKSUM):
        raise InputError(
            "its content does not match its checksum; it was damaged or changed after it was written, create it again."
        )


def check_format(contents: Contents) -> None:
    """Check that this version supports the format of a file, without reading its content.

    Raises
    ------
    InputError
        If it does not.
    """
    version, ours = str(contents.attributes["format_version"]), int(FORMAT_VERSION.partition(".")[0])
    major = version.partition(".")[0]
    if not (major.isascii() and major.isdigit()):
        raise InputError(f"its format version {version!r} is invalid; the file is damaged.")
    if int(major) > ours:
        raise InputError(
            f"it has format {version}, but this version of sciml_bounds reads formats up to {ours}; install the "
            f"version that wrote it ({contents.attributes['sciml_bounds_version']}) or a newer one."
        )


def _read_dataset(contents: Contents) -> xarray.Dataset:
    import xarray

    sizes = (math.prod(info.shape) * np.dtype(info.dtype).itemsize for info in contents.arrays.values())
    require_memory(sum(sizes), "its content")
    variables = {name: _read_variable(contents, name) for name in contents.arrays}
    attributes = {name: value for name, value in contents.attributes.items() if name not in _FILE_ATTRIBUTES}
    return xarray.decode_cf(xarray.Dataset(variables, attrs=attributes))


def _read_variable(contents: Contents, name: str) -> tuple[tuple[str, ...], Any, dict[str, Any]]:
    info = contents.arrays[name]
    return info.dims or (), contents.read(name), dict(info.attributes)


def _make_dataset(dataset: xarray.Dataset) -> xarray.Dataset:
    return dataset


def _make_solution(dataset: xarray.Dataset) -> Solution:
    values, flexible = _tensor(dataset, "solution"), bool(dataset.attrs["flexible"])
    grid = _grid(dataset)
    upper = dataset.get("algebraic_error_upper")
    linear = LinearSolution(
        x=values.flatten(values.ndim - grid.dim),
        converged=_tensor(dataset, "linear_converged"),
        reason=_read_reasons(dataset["linear_reason"]),
        iterations=_tensor(dataset, "iterations"),
        residual_norms=_tensor(dataset, "residual_norms"),
        residual_norm=_tensor(dataset, "residual_norm"),
        tolerance=_tensor(dataset, "tolerance"),
        error_lower=_tensor(dataset, "algebraic_error_lower") if "algebraic_error_lower" in dataset else None,
        error_upper=None if upper is None else _tensor(dataset, "algebraic_error_upper"),
        error_upper_kind=None if upper is None else upper.attrs["kind"],
        flexible=flexible,
        method=str(dataset.attrs["method"]),
        seconds=float(dataset.attrs["linear_seconds"]),
    )
    return Solution(
        values=values,
        converged=_tensor(dataset, "converged"),
        reason=_read_reasons(dataset["reason"]),
        linear=linear,
        grid=grid,
        coefficient=_tensor(dataset, "coefficient"),
        certificate=_make_certificate(dataset) if "error_upper" in dataset else None,
        seconds=float(dataset.attrs["seconds"]),
        other_coefficients=tuple(_tensor(dataset, name) for name in _OTHER_COEFFICIENTS if name in dataset),
    )


def _make_certificate(dataset: xarray.Dataset) -> Certificate:
    grid = _grid(dataset)
    return Certificate(
        upper=_tensor(dataset, "error_upper"),
        lower=_tensor(dataset, "error_lower"),
        energy=_tensor(dataset, "energy"),
        indicators=_tensor(dataset, "error_indicator"),
        boundary_part=_tensor(dataset, "boundary_part"),
        boundary_gap=_tensor(dataset, "boundary_gap"),
        terms={str(n).removeprefix("term_"): _tensor(dataset, n) for n in dataset if str(n).startswith("term_")},
        flux=tuple(_tensor(dataset, f"flux_{axis}") for axis in AXES[: grid.dim] if f"flux_{axis}" in dataset),
        values=_tensor(dataset, "values" if "values" in dataset else "solution").double(),
        layout=str(dataset.attrs["layout"]),
        grid=grid,
        seconds=float(dataset.attrs["certificate_seconds"]),
        kind=dataset["error_upper"].attrs["kind"],
    )


def _tensor(dataset: xarray.Dataset, name: Any) -> torch.Tensor:
    return torch.from_numpy(np.array(dataset[name].values))


def _grid(dataset: xarray.Dataset) -> Grid:
    shape, lengths, origin = (np.atleast_1d(dataset.attrs[f"grid_{name}"]) for name in ("shape", "lengths", "origin"))
    return Grid(tuple(map(int, shape)), tuple(map(float, lengths)), tuple(map(float, origin)))


def _read_reasons(variable: xarray.DataArray) -> Reason | tuple[Reason, ...]:
    meanings = [meaning.replace("_", " ") for meaning in variable.attrs["flag_meanings"].split()]
    reasons = tuple(Reason(meanings[number]) for number in variable.values.reshape(-1).tolist())
    return reasons if variable.ndim else reasons[0]
