"""Data sets as map-style torch data sets, read lazily, and safe in the workers of a `DataLoader`."""

from __future__ import annotations

import json
import math
import os
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
import torch
from torch import Tensor

from sciml_bounds.arrays import require_choice, require_count
from sciml_bounds.errors import InputError
from sciml_bounds.grid import AXES
from sciml_bounds.memory import require_memory
from sciml_bounds.store.datasets.dataset_files import check_dataset, names_in
from sciml_bounds.store.datasets.splits import SPLITS, split_of
from sciml_bounds.store.reading.contents import Array, Contents
from sciml_bounds.store.reading.hdf5_files import CHECKSUM
from sciml_bounds.store.reading.readers import one_sentence, open_file

if TYPE_CHECKING:
    import h5py

__all__ = ["TorchDataset"]

type Split = Literal["train", "validation", "test", "all"]

_LABEL_ERROR = "label_error"
_TIME = "time"


class TorchDataset(torch.utils.data.Dataset[tuple[Tensor, Tensor]]):
    """Samples of a data set as pairs (x, y) of tensors (channel, *space).

    Samples are read when they are used, and each process opens the file itself, so the workers of a `DataLoader` may be
    forked or spawned.

    Parameters
    ----------
    path : Path or str
        File of `make_dataset`, `sciml-bounds generate` or `sciml-bounds import`.
    split : {"train", "validation", "test", "all"}, default "train"
        Part of the samples.
    inputs, targets : sequence of str, optional
        Variables that form the channels of x and y; by default the inputs and targets in the file.
    subsample : int, default 1
        Coarsening factor k of the grid. Nodal values and values on periodic grids are sampled at every k-th point. Cell
        values are averaged over k^d cells: this is the exact cell value of a source, and preserves the share of each
        material in a coefficient. The solution remains that of the fine coefficient, so `label_error` is not available
        for k > 1.
    in_memory : bool, default False
        Read all samples at once and keep them in memory.
    limit : int, optional
        Maximum number of samples; the first ones are used.
    dtype : torch.dtype, default torch.float32
        Floating-point dtype of the tensors.
    pairs : bool, optional
        If True, an item is a pair of consecutive frames, x at time t and y at time t + 1; if False, all frames are
        channels. The default is True for time-dependent samples (layout "time").
    recipe : str, optional
        Name of the recipe that the file must have.

    Attributes
    ----------
    recipe, layout : str
        Recipe and layout in the file.
    parameters : dict
        Parameters in the file.
    seed, resolution : int or None
        Seed and resolution with which the file was generated.
    inputs, targets : tuple of str
        Variables, in the order of the channels.
    samples : Tensor (samples,)
        Index of each sample in the whole data set.
    trajectories : Tensor (items,)
        Index of the sample to which each item belongs; with pairs, many items belong to one trajectory.

    Raises
    ------
    InputError
        If the file is not a data set or has another recipe, a variable is missing, the split is empty, or `subsample`
        does not divide the grid. Accessing an item raises it if the sample is damaged or not finite.

    Examples
    --------
    >>> import sciml_bounds as sb
    >>> train = sb.TorchDataset("darcy.nc", "train", subsample=2)  # doctest: +SKIP
    >>> loader = torch.utils.data.DataLoader(train, batch_size=8, shuffle=True, num_workers=2)  # doctest: +SKIP
    """

    def __init__(
        self,
        path: Path | str,
        split: Split = "train",
        *,
        inputs: Sequence[str] | None = None,
        targets: Sequence[str] | None = None,
        subsample: int = 1,
        in_memory: bool = False,
        limit: int | None = None,
        dtype: torch.dtype = torch.float32,
        pairs: bool | None = None,
        recipe: str | None = None,
    ) -> None:
        _check_options(split, subsample, limit, dtype)
        self.path, self.split, self.subsample, self.dtype = Path(path).absolute(), split, int(subsample), dtype
        with ExitStack() as files:
            contents = open_file(Path(path), "the data set", files)
            with one_sentence(f"the data set in {path}"):
                check_dataset(contents)
                self._describe(contents, recipe, inputs, targets)
                self._choose(contents, limit)
        self.pairs = self.layout == _TIME if pairs is None else pairs
        self._steps = self._count_steps() if self.pairs else 1
        self.trajectories = self.samples.repeat_interleave(self._steps)
        self._source = _Source(self.path, self._checksum)
        self._kept: dict[str, Tensor] | None = None
        if in_memory:
            self._kept = self._read_all()

    def __len__(self) -> int:
        return len(self.trajectories)

    def __getitem__(self, index: int) -> tuple[Tensor, Tensor]:
        item = index + len(self) if index < 0 else index
        if not 0 <= item < len(self):
            raise IndexError(f"item {index} of {len(self)}")
        sample, step = divmod(item, self._steps)
        return self._channels(self.inputs, sample, step), self._channels(self.targets, sample, step + 1)

    @property
    def label_error(self) -> Tensor:
        """Guaranteed relative error of each label, shape (samples,), in float64.

        Raises
        ------
        InputError
            If the file has no error bounds, or the samples are coarsened or in half precision.
        """
        if self.subsample != 1:
            raise InputError(
                f"label_error is valid on the grid of {self.path}, not on a grid {self.subsample} times coarser; use "
                "subsample=1, or certify the labels on the coarser grid."
            )
        if torch.finfo(self.dtype).bits < 32:  # labels are stored in single precision
            raise InputError(
                f"label_error is valid for the labels stored in {self.path}, not after rounding to {self.dtype}; use "
                "dtype=torch.float32."
            )
        if self._label_error is None:
            raise InputError(f"the data set in {self.path} has no label_error, since its labels are not certified.")
        return self._label_error

    def _describe(
        self, contents: Contents, recipe: str | None, inputs: Sequence[str] | None, targets: Sequence[str] | None
    ) -> None:
        attributes = contents.attributes
        self.recipe, self.layout = str(attributes["recipe"]), str(attributes["layout"])
        if recipe is not None and recipe != self.recipe:
            raise InputError(f"its recipe is {self.recipe!r}, not {recipe!r}; give a file of that recipe.")
        self.parameters: dict[str, Any] = json.loads(str(attributes.get("parameters", "{}")))
        self.seed: int | None = attributes.get("seed")
        self.resolution: int | None = attributes.get("resolution")
        self._checksum = attributes.get(CHECKSUM)
        self.inputs = names_in(attributes["inputs"] if inputs is None else inputs)
        self.targets = names_in(attributes["targets"] if targets is None else targets)
        self._fields = {name: self._field(contents, name) for name in (*self.inputs, *self.targets)}
        for what, names in (("inputs", self.inputs), ("targets", self.targets)):
            shapes = {name: self._fields[name].space for name in names}
            if len(set(shapes.values())) != 1:
                listing = ", ".join(f"{name} {shape}" for name, shape in shapes.items()) or "none"
                raise InputError(
                    f"the {what} must be on one grid to be channels of one tensor, but their shapes are {listing}; "
                    "choose other variables."
                )

    def _field(self, contents: Contents, name: str) -> _Field:
        info = contents.arrays.get(name)
        if info is None or not info.is_numeric or (info.dims or ())[:1] != ("sample",):
            others = [n for n, i in contents.arrays.items() if (i.dims or ())[:1] == ("sample",) and len(i.shape) > 1]
            raise InputError(f"it has no variable {name!r} with samples; the choices are {', '.join(others)}.")
        dims = (info.dims or ())[1:]
        periodic = self.layout == _TIME or self.parameters.get("boundary") == "periodic"
        if not [dim for dim in dims if dim != _TIME]:
            raise InputError(f"{name!r} is not a field but one number per sample; choose another variable.")
        return _Field(name, dims, info.shape[1:], tuple(_kind(dim, periodic) for dim in dims), self.subsample)

    def _choose(self, contents: Contents, limit: int | None) -> None:
        """Select the samples of the split."""
        indices = contents.read("sample")
        splits = contents.read("split") if "split" in contents.arrays else split_of(indices)
        chosen = np.arange(len(indices)) if self.split == "all" else np.flatnonzero(splits == SPLITS.index(self.split))
        if not len(chosen):
            raise InputError(
                f"it has no {self.split} samples among the samples {indices.min(initial=0)} to "
                f"{indices.max(initial=0)}; of ten in a row, the ninth is for validation and the tenth for tests, so "
                "generate more."
            )
        chosen = chosen[:limit]
        self._places = chosen.tolist()
        self.samples = torch.from_numpy(indices[chosen].astype(np.int64))
        errors = contents.read(_LABEL_ERROR) if _LABEL_ERROR in contents.arrays else None
        self._label_error = None if errors is None else torch.from_numpy(errors[chosen].astype(np.float64))

    def _count_steps(self) -> int:
        """Return the number of pairs per trajectory."""
        lengths = {field.shape[0] for field in self._fields.values() if field.timed}
        steps = max(lengths, default=0) - 1
        if len(lengths) != 1 or steps < 1:
            raise InputError(f"the samples in {self.path} have no frames for pairs; use pairs=False.")
        return steps

    # reading

    def _channels(self, names: Sequence[str], sample: int, frame: int) -> Tensor:
        return torch.cat([self._values(self._fields[name], sample, frame) for name in names])

    def _values(self, field: _Field, sample: int, frame: int) -> Tensor:
        """Return the channels of one variable, shape (channel, *space)."""
        part = slice(frame, frame + 1) if self.pairs and field.timed else slice(None)
        values = self._read(field, sample, part) if self._kept is None else self._kept[field.name][sample][part]
        return values if field.timed else values[None]

    def _read(self, field: _Field, sample: int, part: slice = slice(None)) -> Tensor:
        array = self._source.read(field.name, self._places[sample], part)
        if not np.isfinite(array).all():
            raise InputError(
                f"sample {int(self.samples[sample])} in {self.path} has values in {field.name!r} that are not finite; "
                "generate the file again, or leave out the sample."
            )
        return torch.from_numpy(field.coarsen(array)).to(self.dtype)

    def _read_all(self) -> dict[str, Tensor]:
        sizes = (math.prod(field.coarse_shape) for field in self._fields.values())
        require_memory(sum(sizes) * len(self.samples) * self.dtype.itemsize, f"the data set in {self.path}")
        arrays = {}
        for name, field in self._fields.items():
            arrays[name] = torch.empty((len(self.samples), *field.coarse_shape), dtype=self.dtype)
            for sample, row in enumerate(arrays[name]):
                row.copy_(self._read(field, sample))
        self._source.close()
        return arrays


@dataclass(frozen=True)
class _Field:
    """A variable: axes and shape of a sample, kinds of the axes (see `_kind`), and coarsening factor."""

    name: str
    dims: tuple[str, ...]
    shape: tuple[int, ...]
    kinds: tuple[str, ...]
    factor: int

    def __post_init__(self) -> None:
        for dim, length, kind in zip(self.dims, self.shape, self.kinds):
            cells = length - (kind == "nodes")
            if kind != "times" and cells % self.factor:
                possible = [k for k in range(2, cells) if cells % k == 0][:8]
                raise InputError(
                    f"subsample={self.factor} does not divide the {cells} intervals of {self.name!r} along {dim}; "
                    f"use one of {', '.join(map(str, [1, *possible]))}."
                )

    @property
    def space(self) -> tuple[int, ...]:
        """Shape of a sample without time."""
        return self.shape[1:] if self.timed else self.shape

    @property
    def timed(self) -> bool:
        """Return whether the first axis is time."""
        return self.dims[0] == _TIME

    @property
    def coarse_shape(self) -> tuple[int, ...]:
        """Shape of a sample on the coarser grid."""
        shape = ((n - 1) // self.factor + 1 if kind == "nodes" else n // self.factor
                 for n, kind in zip(self.shape, self.kinds))  # fmt: skip
        return tuple(n if kind == "times" else c for n, c, kind in zip(self.shape, shape, self.kinds))

    def coarsen(self, array: Array) -> Array:
        """Return a sample on the coarser grid."""
        if self.factor == 1:
            return array
        for axis, kind in enumerate(self.kinds):
            if kind in ("nodes", "points"):
                array = array[(slice(None),) * axis + (slice(None, None, self.factor),)]
            elif kind == "cells":
                blocks = (*array.shape[:axis], -1, self.factor, *array.shape[axis + 1 :])
                array = array.reshape(blocks).mean(axis=axis + 1, dtype=np.float64)
        return np.ascontiguousarray(array)


def _kind(dim: str, periodic: bool) -> str:
    """Return the kind of an axis: "cells", "nodes" (both ends included), "points" of a periodic grid, or "times"."""
    if dim == _TIME:
        return "times"
    if dim in AXES:
        return "points" if periodic else "cells"
    return "points" if dim.endswith("_point") else "nodes"


class _Source:
    """The file, which each process opens when it first reads."""

    def __init__(self, path: Path, checksum: Any) -> None:
        self._path, self._checksum = path, checksum
        self._file: h5py.File | None = None
        self._owner = -1

    def read(self, name: str, place: int, part: slice) -> Array:
        """Read a sample, or a part of its first axis.

        Raises
        ------
        InputError
            If the sample cannot be read.
        """
        with one_sentence(f"the data set in {self._path}"):
            array: Array = self._open()[name][place, part]
        return array

    def _open(self) -> h5py.File:
        import h5py

        if self._file is None or self._owner != os.getpid():  # a forked process shares the file position
            # Files are replaced atomically and never change, so no lock is needed; some file systems have none.
            file = h5py.File(self._path, "r")
            if file.attrs.get(CHECKSUM) != self._checksum:
                file.close()
                raise InputError("the file was replaced by another one; open the data set again.")
            self._file, self._owner = file, os.getpid()
        return self._file

    def close(self) -> None:
        """Close the file; the next read opens it again."""
        if self._file is not None and self._owner == os.getpid():
            self._file.close()
        self._file = None

    def __getstate__(self) -> dict[str, Any]:
        return self.__dict__ | {"_file": None}


def _check_options(split: str, subsample: int, limit: int | None, dtype: torch.dtype) -> None:
    require_choice(split, "split", (*SPLITS, "all"))
    for name, value in (("subsample", subsample), ("limit", 1 if limit is None else limit)):
        require_count(value, name, 1)
    if not isinstance(dtype, torch.dtype) or not dtype.is_floating_point:
        raise InputError(f"dtype={dtype} is not a floating-point dtype; give torch.float32 or torch.float64.")
