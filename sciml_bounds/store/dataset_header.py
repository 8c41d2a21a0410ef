"""What one of our data-set files says about itself: all but the samples."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from sciml_bounds.errors import InputError
from sciml_bounds.store.contents import Array, ArrayInfo, Contents
from sciml_bounds.store.hdf5_files import CHECKSUM
from sciml_bounds.store.readers import one_sentence, open_file
from sciml_bounds.store.results import check_content, is_ours
from sciml_bounds.store.splits import SPLITS, split_of
from sciml_bounds.store.streams import stream_samples

__all__ = ["DatasetHeader", "read_header"]

_WHAT = "the data set"


@dataclass(frozen=True)
class DatasetHeader:
    """The description of a data set, and its samples one after the other.

    Attributes
    ----------
    path
        The file.
    attributes
        The root attributes.
    variables
        What it says about each array that has samples, by name, except `sample` and `split`.
    coordinates
        Positions along the axes that have some, by the name of the axis.
    axis_attributes
        What it says about those, such as their units.
    inputs, targets
        Names of the variables that a network is given and is to predict.
    parameters
        What determines the numbers.
    samples
        The global index of each sample.
    splits
        The place in `SPLITS` of each sample.
    """

    path: Path
    attributes: Mapping[str, Any]
    variables: Mapping[str, ArrayInfo]
    coordinates: Mapping[str, Array]
    axis_attributes: Mapping[str, dict[str, str]]
    inputs: tuple[str, ...]
    targets: tuple[str, ...]
    parameters: Mapping[str, Any]
    samples: Array
    splits: Array

    @property
    def fields(self) -> tuple[str, ...]:
        """Inputs and targets, each once."""
        return tuple(dict.fromkeys((*self.inputs, *self.targets)))

    @property
    def recipe(self) -> str:
        """The name of the recipe."""
        return str(self.attributes.get("recipe", "data"))

    @property
    def layout(self) -> str:
        """How the variables lie relative to each other, in one word."""
        return str(self.attributes.get("layout", ""))

    def dims(self, name: str) -> tuple[str, ...]:
        """Give the axes of one sample of a variable."""
        return (self.variables[name].dims or ())[1:]

    def shape(self, name: str) -> tuple[int, ...]:
        """Give the shape of one sample of a variable."""
        return self.variables[name].shape[1:]

    def stream(self, name: str) -> Iterator[Array]:
        """Give the samples of a variable one after the other, in memory that does not grow with the file."""
        return stream_samples(self.path, name, _WHAT)


def read_header(path: Path | str) -> DatasetHeader:
    """Read what a data-set file says about itself.

    Raises
    ------
    InputError
        If the file is no data set of this package, is damaged, or its variables disagree.
    """
    path = Path(path)
    with ExitStack() as files:
        contents = open_file(path, _WHAT, files)
        with one_sentence(f"{_WHAT} {path}"):
            return _header(path, contents)


def _header(path: Path, contents: Contents) -> DatasetHeader:
    if not is_ours(contents) or contents.attributes.get("content") != "Dataset":
        raise InputError("it is no data set of this package; make one with sciml-bounds generate or import.")
    if CHECKSUM in contents.attributes:
        check_content(contents)
    attributes = contents.attributes
    inputs, targets = _names(attributes, "inputs"), _names(attributes, "targets")
    variables = {name: info for name, info in contents.arrays.items() if info.dims and info.dims[0] == "sample"}
    splits = variables.pop("split", None)
    indices = variables.pop("sample", None)
    count = {info.shape[0] for info in variables.values()}
    missing = [name for name in (*inputs, *targets) if name not in variables]
    if missing:
        raise InputError(f"it names {missing[0]!r} as an input or a target, but has no such variable; make it again.")
    if len(count) != 1 or not inputs or not targets:
        raise InputError("it has no samples, inputs or targets; make it again.")
    samples = contents.read("sample") if indices is not None else np.arange(count.pop())
    coordinates = {
        name: contents.read(name)
        for name, info in contents.arrays.items()
        if info.dims == (name,) and name != "sample" and info.is_numeric
    }
    return DatasetHeader(
        path=path,
        attributes=attributes,
        variables=variables,
        coordinates=coordinates,
        axis_attributes={name: _about_axis(contents.arrays[name]) for name in coordinates},
        inputs=inputs,
        targets=targets,
        parameters=_parameters(attributes),
        samples=samples,
        splits=_splits(contents.read("split"), len(samples)) if splits is not None else split_of(samples),
    )


def _about_axis(info: ArrayInfo) -> dict[str, str]:
    return {name: str(value) for name, value in info.attributes.items() if name in ("long_name", "units")}


def _names(attributes: Mapping[str, Any], key: str) -> tuple[str, ...]:
    value = attributes.get(key, [])
    return (value,) if isinstance(value, str) else tuple(map(str, value))


def _parameters(attributes: Mapping[str, Any]) -> Mapping[str, Any]:
    try:
        parameters = json.loads(attributes.get("parameters", "{}"))
    except (TypeError, ValueError):
        raise InputError("its parameters are not JSON; it was changed after it was written.") from None
    if not isinstance(parameters, dict):
        raise InputError("its parameters are not a JSON object; it was changed after it was written.")
    return parameters


def _splits(splits: Array, count: int) -> Array:
    if splits.shape != (count,) or not np.isin(splits, range(len(SPLITS))).all():
        raise InputError(f"its splits are not one of 0 to {len(SPLITS) - 1} a sample; make it again.")
    return splits
