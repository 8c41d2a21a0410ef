"""Data sets from one's own arrays: in memory, or in files of any known format."""

from __future__ import annotations

import hashlib
import logging
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from itertools import batched
from pathlib import Path
from typing import Any

import numpy as np
import torch

from sciml_bounds.arrays import require_instance
from sciml_bounds.bounds._certify import certify as certify_values
from sciml_bounds.errors import InputError
from sciml_bounds.grid import AXES, Grid
from sciml_bounds.problems.batch_axes import known_batch
from sciml_bounds.problems.diffusion import Diffusion
from sciml_bounds.problems.problem_records import CELL_FIELDS, problem_record
from sciml_bounds.recipes._array_sources import ArraySource, open_sources, walk_together
from sciml_bounds.recipes._recipe import Array, Variable
from sciml_bounds.store.datasets.dataset_files import DatasetHeader, writing_dataset
from sciml_bounds.store.reading.contents import printable
from sciml_bounds.store.safety.writer import SUFFIXES, check_new_file

__all__ = ["find_grid", "from_arrays"]

#: Approximate number of bytes per write, and number of cells that are certified together.
_WRITE_BYTES, _CERTIFY_CELLS = 2**22, 2**18
_LABEL_ERROR = "guaranteed upper bound of the relative energy error of the stored solution"

_log = logging.getLogger(__name__)


def from_arrays(
    arrays: Mapping[str, Any],
    path: Path | str,
    *,
    grid: Grid | None = None,
    problem: Diffusion | None = None,
    inputs: Sequence[str] | None = None,
    targets: Sequence[str] | None = None,
    certify: bool = False,
    title: str = "Imported arrays",
    callback: Callable[[int, int], None] | None = None,
) -> Path:
    """Write arrays as a data set of this package, like one of `make_dataset`.

    Parameters
    ----------
    arrays : mapping of str to array, str or Path
        Fields of all samples, shape (samples, *space) or (samples, 1, *space), by the name of the variable. A string
        or Path names an array in a file: "a.npy", "f.npz:a", "d.h5:group/a", "d.pt:x", "d.mat:coeff". Such files are
        read sample by sample, and nothing in them is executed. The names "coefficient", "source", "reaction", "solid"
        and "solution" are those of `sb.Diffusion`.
    path : Path or str
        Data set to write, ending in .nc, .h5 or .hdf5; it must not exist.
    grid : Grid, optional
        Grid of the samples. An array whose shape is that of the grid has one value per cell, one with an entry more
        along every axis has one per node. By default the unit box with the cells of the smaller arrays; it must be
        given if all arrays have the same shape. A log message says what was assumed.
    problem : Diffusion, optional
        The problem of one sample on this grid; arrays that are named as one of its fields replace that field. The
        data set records it if it is constant apart from the arrays, so that `sb.training.evaluate` can certify
        predictions.
    inputs, targets : sequence of str, optional
        Variables that a network receives and predicts. By default "solution" is predicted from all other arrays.
    certify : bool, default False
        Certify every label, and store the guaranteed bound of its relative energy error as `label_error`. Needs
        `problem` and a single target.
    title : str
        One line that describes the data.
    callback : callable, optional
        Called repeatedly with the number of finished samples and the number of all samples.

    Returns
    -------
    Path
        The data set; its `recipe` is "imported". Samples keep their order, which determines their split.

    Raises
    ------
    InputError
        If shapes or numbers of samples do not fit, numbers are not finite, or the file cannot be written.

    Examples
    --------
    >>> import tempfile
    >>> import numpy as np
    >>> import sciml_bounds as sb
    >>> a = np.random.default_rng(0).uniform(1.0, 2.0, (20, 8, 8))
    >>> problem = sb.Diffusion(sb.Grid((8, 8)), source=1.0)
    >>> u = sb.solve(problem.replace(coefficient=a)).values
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     path = sb.data.from_arrays(
    ...         {"coefficient": a, "solution": u}, f"{folder}/own.nc", problem=problem, certify=True
    ...     )
    ...     test = sb.TorchDataset(path, "test")
    ...     len(test), test.inputs, bool((test.label_error < 0.3).all())
    (2, ('coefficient',), True)
    """
    target = check_new_file(path, SUFFIXES)
    sources = open_sources(arrays)
    count = sources[0].shape[0]
    own_grid = _agreed_grid(sources, grid, problem)
    places = {source.name: _location(source, own_grid, problem) for source in sources}
    received, predicted = _roles(list(places), inputs, targets)
    _log.info("%s", "; ".join(f"{name}: {place.describe()}" for name, place in places.items()))
    bound = None
    if certify:
        bound = _label_bound(problem, predicted, places)
    header = _header(sources, places, own_grid, problem, received, predicted, count, title, certified=certify)
    with writing_dataset(target, header, range(count)) as writer:
        done = 0
        for rows in batched(walk_together(sources), _block(sources, own_grid, certified=certify)):
            block = {source.name: np.stack([row[source.name] for row in rows]) for source in sources}
            if bound is not None:
                block["label_error"] = bound(block)
            writer.write(done, block)
            done += len(rows)
            if callback is not None:
                callback(done, count)
    return target


def _block(sources: Sequence[ArraySource], grid: Grid, *, certified: bool) -> int:
    """Return the number of samples that are certified and written together."""
    size = sum(math.prod(source.space) * 8 for source in sources)
    block = max(1, _WRITE_BYTES // size)
    return max(1, min(block, _CERTIFY_CELLS // math.prod(grid.shape))) if certified else block


# --- the grid ---------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class _Location:
    """Axes and shape of a variable, and whether it has one value per cell or per node."""

    dims: tuple[str, ...]
    shape: tuple[int, ...]
    kind: str

    def describe(self) -> str:
        return f"one value per {self.kind} ({' x '.join(map(str, self.shape))})"


def find_grid(
    arrays: Mapping[str, Any],
    lengths: float | Sequence[float] | None = None,
    origin: float | Sequence[float] | None = None,
) -> Grid:
    """Return the grid of arrays: its cells are those of the smaller arrays, if the others have one entry more.

    Raises
    ------
    InputError
        If all arrays have the same shape, or the shapes do not fit.
    """
    return _grid_of(open_sources(arrays), lengths, origin)


def _grid_of(sources: Sequence[ArraySource], lengths: Any = None, origin: Any = None) -> Grid:
    cells = min((source.space for source in sources), key=math.prod)
    if all(source.space == cells for source in sources):
        nodes = tuple(n - 1 for n in cells)
        raise InputError(
            f"all arrays have the shape {cells} per sample, which does not tell whether it has one value per cell or "
            f"per node; give the grid (grid=, --shape): {cells} cells for values on cells, {nodes} for values at nodes."
        )
    return Grid(cells, lengths, origin)


def _agreed_grid(sources: Sequence[ArraySource], grid: Grid | None, problem: Diffusion | None) -> Grid:
    if problem is not None:
        require_instance(problem, "the problem", Diffusion, "an sb.Diffusion problem")
    if problem is None:
        return _grid_of(sources) if grid is None else grid
    if grid is not None and grid != problem.grid:
        raise InputError(f"grid={grid} is not the grid of the problem, {problem.grid}; leave it out.")
    return problem.grid


def _location(source: ArraySource, grid: Grid, problem: Diffusion | None) -> _Location:
    """Return where the values of an array are, from its shape (on periodic boxes from its name)."""
    nodes = tuple(n + 1 for n in grid.shape) if problem is None else problem.node_shape
    if source.space not in (grid.shape, nodes):
        raise InputError(
            f"{source.name!r} has the shape {source.space} per sample, but the grid has {grid.shape} cells and "
            f"{nodes} nodes; give the grid of the arrays."
        )
    on_cells = source.name in CELL_FIELDS if nodes == grid.shape else source.space == grid.shape
    if on_cells:
        return _Location(tuple(AXES[: grid.dim]), grid.shape, "cell")
    if problem is not None and source.name in CELL_FIELDS:
        raise InputError(
            f"{source.name!r} has one value per node, shape {source.space}, but the problem needs one per cell, shape "
            f"{grid.shape}; give its cell values, or another name to what is not a field of the problem."
        )
    suffixes = ("_node" if n > cells else "_point" for n, cells in zip(nodes, grid.shape))
    return _Location(tuple(axis + suffix for axis, suffix in zip(AXES, suffixes)), nodes, "node")


def _roles(
    names: list[str], inputs: Sequence[str] | None, targets: Sequence[str] | None
) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """Return the names of inputs and targets."""
    if targets is None and "solution" not in names:
        listing = ", ".join(names)
        raise InputError(f"no array is named 'solution'; give the targets (targets=, --targets) among {listing}.")
    predicted = ("solution",) if targets is None else _listed(targets)
    received = tuple(n for n in names if n not in predicted) if inputs is None else _listed(inputs)
    for what, chosen in (("inputs", received), ("targets", predicted)):
        unknown = [name for name in chosen if name not in names]
        if unknown or not chosen:
            raise InputError(
                f"{what}={list(chosen)} must name at least one of the arrays {', '.join(names)} and nothing else."
            )
    return received, predicted


def _listed(names: Sequence[str]) -> tuple[str, ...]:
    return (names,) if isinstance(names, str) else tuple(names)


# --- labels and header ------------------------------------------------------------------------------------------------


def _label_bound(
    problem: Diffusion | None, targets: tuple[str, ...], places: Mapping[str, _Location]
) -> Callable[[Mapping[str, Array]], Array]:
    """Return a function that bounds the relative error of the labels in a block of samples."""
    if problem is None:
        raise InputError("labels are certified for a problem; give problem=sb.Diffusion(...).")
    if len(targets) != 1:
        raise InputError(f"only a single target can be certified, not {', '.join(targets)}; give targets=.")
    (name,) = targets
    layout: Any = f"{places[name].kind}s"

    def bound(block: Mapping[str, Array]) -> Array:
        fields: dict[str, Any] = {
            field: torch.from_numpy(block[field]).double() for field in CELL_FIELDS if field in block
        }
        if "solid" in fields:
            fields["solid"] = fields["solid"] > 0.5
        labels = torch.from_numpy(block[name])
        with known_batch():
            sample = problem.detach().to(torch.float64).replace(**fields)
        return certify_values(sample, labels, lower=False, layout=layout).relative_upper.numpy()

    return bound


def _header(
    sources: Sequence[ArraySource],
    places: Mapping[str, _Location],
    grid: Grid,
    problem: Diffusion | None,
    inputs: tuple[str, ...],
    targets: tuple[str, ...],
    count: int,
    title: str,
    *,
    certified: bool,
) -> DatasetHeader:
    files = {s.name: {"file": printable(s.file.name), "sha256": _checksum(s.file)} for s in sources if s.file}
    parameters: dict[str, Any] = {"kind": "arrays", "files": files}
    if problem is not None:
        parameters["problem"] = problem_record(problem, [name for name in CELL_FIELDS if name in places])
    variables = {
        source.name: Variable(places[source.name].dims, source.name, dtype=source.dtype)  # type: ignore[arg-type]
        for source in sources
    }
    if certified:
        variables["label_error"] = Variable((), _LABEL_ERROR)
    listing = ", ".join(f"{name} with {place.describe()}" for name, place in places.items())
    labels = "label_error bounds the error of the labels" if certified else "the labels have no certified errors"
    dims = {dim for place in places.values() for dim in place.dims}
    return DatasetHeader(
        recipe="imported",
        title=title,
        description=f"Imported from arrays: {listing}; {labels}.",
        reference="own data",
        parameters=parameters,
        seed=-1,
        resolution=grid.shape[0],
        device="cpu",
        samples=count,
        inputs=inputs,
        targets=targets,
        layout=f"{places[inputs[0]].kind}s->{places[targets[0]].kind}s",
        coordinates={dim: value for dim, value in _positions(grid).items() if dim in dims},
        variables=variables,
        lengths={dim: n for place in places.values() for dim, n in zip(place.dims, place.shape)},
    )


def _positions(grid: Grid) -> dict[str, tuple[Array, str]]:
    positions: dict[str, Array] = {}
    for axis, name in enumerate(AXES[: grid.dim]):
        nodes = grid.nodes(axis).numpy()
        positions |= {name: grid.centers(axis).numpy(), f"{name}_node": nodes, f"{name}_point": nodes[:-1]}
    return {dim: (values, "1") for dim, values in positions.items()}


def _checksum(file: Path) -> str:
    with file.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()
