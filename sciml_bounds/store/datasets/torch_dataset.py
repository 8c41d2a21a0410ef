"""Data sets as torch wants them: map-style, lazy, and safe in the workers of a `DataLoader`."""

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
    """The samples of a data set as pairs (x, y) of tensors (channel, *space).

    Nothing is read before it is asked for, and each process opens the file for itself, so that the workers of a
    `DataLoader` may be forked or spawned.

    Parameters
    ----------
    path
        A file of `make_dataset`, `sciml-bounds generate` or `sciml-bounds import`.
    split
        "train", "validation", "test", or "all" of them.
    inputs, targets
        Variables that are the channels of x and y; by default those that the file names.
    subsample
        Take the samples to a grid that is so many times coarser. Of values at nodes and on periodic grids every k-th is
        taken: they stay what they were. Of values in cells the mean over k^d cells is taken, which is the cell value of
        a source on the coarser grid, and keeps the share of each material in a coefficient, which picking single cells
        would not. The solution is still that of the fine coefficient, so there is no `label_error` any more.
    in_memory
        Whether to read all now and keep it.
    limit
        Take at most so many samples, the first ones.
    dtype
        Of the tensors.
    pairs
        Whether an item is a pair of frames one step apart, of x at time t and of y at time t + 1, which is the default
        for time-dependent samples (layout "time"); otherwise all frames are channels.
    recipe
        Refuse a file of another recipe.

    Attributes
    ----------
    recipe, parameters, seed, resolution, layout
        What the file says about itself; the resolution is the one that it was generated at. Parameters and seed of an
        imported file are empty and None.
    inputs, targets
        The variables, in the order of the channels.
    samples
        The index of each sample in the whole data set, (samples,).
    trajectories
        The index of the sample that each item belongs to, (items,): of pairs, many items belong to one trajectory.

    Raises
    ------
    InputError
        If it is no data set or one of another recipe, a variable is missing, a split is empty, the grid cannot be
        made so much coarser; when an item is asked for, if it is damaged or holds numbers that are not finite.

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
        """The guaranteed relative error of each label, (samples,) in float64.

        Raises
        ------
        InputError
            If the file has none, or the samples were taken to a coarser grid or to half precision.
        """
        if self.subsample != 1:
            raise InputError(
                f"label_error holds on the grid that {self.path} was solved on, and not on one {self.subsample} times "
                "coarser; take subsample=1, or certify the labels there."
            )
        if torch.finfo(self.dtype).bits < 32:  # labels are stored in single precision
            raise InputError(
                f"label_error holds for the labels that {self.path} stores, and not for them in {self.dtype}; take "
                "dtype=torch.float32."
            )
        if self._label_error is None:
            raise InputError(f"the data set in {self.path} has no label_error: its labels are not certified.")
        return self._label_error

    def _describe(
        self, contents: Contents, recipe: str | None, inputs: Sequence[str] | None, targets: Sequence[str] | None
    ) -> None:
        attributes = contents.attributes
        self.recipe, self.layout = str(attributes["recipe"]), str(attributes["layout"])
        if recipe is not None and recipe != self.recipe:
            raise InputError(f"it is of the recipe {self.recipe!r}, not {recipe!r}; give a file of that.")
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
                raise InputError(f"the {what} need one grid to be channels of one tensor ({listing}); choose others.")

    def _field(self, contents: Contents, name: str) -> _Field:
        info = contents.arrays.get(name)
        if info is None or not info.is_numeric or (info.dims or ())[:1] != ("sample",):
            known = [n for n, i in contents.arrays.items() if (i.dims or ())[:1] == ("sample",) and len(i.shape) > 1]
            raise InputError(f"it has no variable {name!r} of samples; there are {', '.join(known)}.")
        dims = (info.dims or ())[1:]
        periodic = self.layout == _TIME or self.parameters.get("boundary") == "periodic"
        if not [dim for dim in dims if dim != _TIME]:
            raise InputError(f"{name!r} is one number a sample and no field; choose another variable.")
        return _Field(name, dims, info.shape[1:], tuple(_kind(dim, periodic) for dim in dims), self.subsample)

    def _choose(self, contents: Contents, limit: int | None) -> None:
        """Choose the samples of the split."""
        indices = contents.read("sample")
        splits = contents.read("split") if "split" in contents.arrays else split_of(indices)
        chosen = np.arange(len(indices)) if self.split == "all" else np.flatnonzero(splits == SPLITS.index(self.split))
        if not len(chosen):
            raise InputError(
                f"it has no sample for {self.split}, with the samples {indices.min(initial=0)} to "
                f"{indices.max(initial=0)}; of ten in a row, the ninth validates and the tenth tests: generate more."
            )
        chosen = chosen[:limit]
        self._places = chosen.tolist()
        self.samples = torch.from_numpy(indices[chosen].astype(np.int64))
        errors = contents.read(_LABEL_ERROR) if _LABEL_ERROR in contents.arrays else None
        self._label_error = None if errors is None else torch.from_numpy(errors[chosen].astype(np.float64))

    def _count_steps(self) -> int:
        """Count the pairs of a trajectory."""
        lengths = {field.shape[0] for field in self._fields.values() if field.timed}
        steps = max(lengths, default=0) - 1
        if len(lengths) != 1 or steps < 1:
            raise InputError(f"the samples in {self.path} have no frames to make pairs of; leave out pairs=True.")
        return steps

    # reading

    def _channels(self, names: Sequence[str], sample: int, frame: int) -> Tensor:
        return torch.cat([self._values(self._fields[name], sample, frame) for name in names])

    def _values(self, field: _Field, sample: int, frame: int) -> Tensor:
        """Give the channels of one variable, (channel, *space)."""
        part = slice(frame, frame + 1) if self.pairs and field.timed else slice(None)
        values = self._read(field, sample, part) if self._kept is None else self._kept[field.name][sample][part]
        return values if field.timed else values[None]

    def _read(self, field: _Field, sample: int, part: slice = slice(None)) -> Tensor:
        array = self._source.read(field.name, self._places[sample], part)
        if not np.isfinite(array).all():
            raise InputError(
                f"sample {int(self.samples[sample])} in {self.path} has numbers that are not finite in {field.name!r}; "
                "make the file again, or leave the sample out."
            )
        return torch.from_numpy(field.coarsen(array)).to(self.dtype)

    def _read_all(self) -> dict[str, Tensor]:
        sizes = (math.prod(field.coarse_shape) for field in self._fields.values())
        require_memory(sum(sizes) * len(self.samples) * self.dtype.itemsize, f"the data set in {self.path}")
        kept = {}
        for name, field in self._fields.items():
            kept[name] = torch.empty((len(self.samples), *field.coarse_shape), dtype=self.dtype)
            for sample, place in enumerate(kept[name]):
                place.copy_(self._read(field, sample))
        self._source.close()
        return kept


@dataclass(frozen=True)
class _Field:
    """A variable: axes and shape of a sample, what each axis counts, and how much coarser it is taken."""

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
                    f"take one of {', '.join(map(str, [1, *possible]))}."
                )

    @property
    def space(self) -> tuple[int, ...]:
        """The shape without time."""
        return self.shape[1:] if self.timed else self.shape

    @property
    def timed(self) -> bool:
        """Whether its first axis is time."""
        return self.dims[0] == _TIME

    @property
    def coarse_shape(self) -> tuple[int, ...]:
        """The shape of a sample on the coarser grid."""
        shape = ((n - 1) // self.factor + 1 if kind == "nodes" else n // self.factor
                 for n, kind in zip(self.shape, self.kinds))  # fmt: skip
        return tuple(n if kind == "times" else c for n, c, kind in zip(self.shape, shape, self.kinds))

    def coarsen(self, array: Array) -> Array:
        """Take a sample to the coarser grid."""
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
    """Say what an axis counts: cells, nodes with both ends, points of a periodic grid, or times."""
    if dim == _TIME:
        return "times"
    if dim in AXES:
        return "points" if periodic else "cells"
    return "nodes"


class _Source:
    """The file, opened by each process for itself when it first reads."""

    def __init__(self, path: Path, checksum: Any) -> None:
        self._path, self._checksum = path, checksum
        self._file: h5py.File | None = None
        self._owner = -1

    def read(self, name: str, place: int, part: slice) -> Array:
        """Read a sample, or a part of its first axis.

        Raises
        ------
        InputError
            If it cannot be read.
        """
        with one_sentence(f"the data set in {self._path}"):
            array: Array = self._open()[name][place, part]
        return array

    def _open(self) -> h5py.File:
        import h5py

        if self._file is None or self._owner != os.getpid():  # a forked process shares the position in a file
            # Files appear whole and never change, so that no lock is needed, which some file systems do not have.
            file = h5py.File(self._path, "r")
            if file.attrs.get(CHECKSUM) != self._checksum:
                file.close()
                raise InputError("it was replaced by another one; open the data set again.")
            self._file, self._owner = file, os.getpid()
        return self._file

    def close(self) -> None:
        """Close the file until it is needed again."""
        if self._file is not None and self._owner == os.getpid():
            self._file.close()
        self._file = None

    def __getstate__(self) -> dict[str, Any]:
        return self.__dict__ | {"_file": None}


def _check_options(split: str, subsample: int, limit: int | None, dtype: torch.dtype) -> None:
    if split not in (*SPLITS, "all"):
        raise InputError(f"split={split!r} is none of {', '.join(SPLITS)} and all.")
    for name, value in (("subsample", subsample), ("limit", 1 if limit is None else limit)):
        if isinstance(value, bool) or not isinstance(value, int) or value < 1:
            raise InputError(f"{name}={value!r} is not a positive integer; give one.")
    if not isinstance(dtype, torch.dtype) or not dtype.is_floating_point:
        raise InputError(f"dtype={dtype} is not a floating-point dtype; give torch.float32 or torch.float64.")
