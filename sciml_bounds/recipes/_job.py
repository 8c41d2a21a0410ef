"""A data set to generate: its recipe, its size and its chunks."""

from __future__ import annotations

from dataclasses import dataclass
from numbers import Integral
from pathlib import Path
from typing import Any

import numpy as np

from sciml_bounds.errors import ConvergenceError, InputError
from sciml_bounds.recipes._recipe import Array, Recipe
from sciml_bounds.reports import counted
from sciml_bounds.store.datasets.dataset_files import DatasetHeader, is_whole, writing_dataset

__all__ = ["Job", "require_integer"]


@dataclass(frozen=True)
class Job:
    """A data set to generate; `location` is the name or location by which a new process finds its recipe, if any."""

    recipe: Recipe
    location: str | None
    seed: int
    resolution: int
    samples: int
    device: str

    @property
    def chunk(self) -> int:
        """Number of samples that are generated together."""
        return self.recipe.chunk(self.resolution)

    def shard(self, count: int, index: int) -> range:
        """Return the samples of one of `count` shards."""
        chunks = -(-self.samples // self.chunk)
        if count > chunks:
            raise InputError(
                f"{count} shards are too many: {counted(self.samples, 'sample')} of {self.recipe.name} at resolution "
                f"{self.resolution} make {counted(chunks, 'chunk')} of at most {self.chunk}, and a shard has at least "
                f"one chunk; give at most {counted(chunks, 'shard')}."
            )
        if require_integer("the index of the shard", index, 0) >= count:
            raise InputError(
                f"the index of the shard is {index}; with {count} shards it must be between 0 and {count - 1}."
            )
        first, last = (i * chunks // count * self.chunk for i in (index, index + 1))
        return range(first, min(last, self.samples))

    def part(self, folder: Path, number: int) -> tuple[Path, range]:
        """Return the file of a chunk and its samples."""
        first = number * self.chunk
        return folder / f"{first:09d}.nc", range(first, first + self.chunk)

    def header(self, lengths: dict[str, int]) -> DatasetHeader:
        """Return the header of the data set, for given lengths of its axes."""
        recipe = self.recipe
        return DatasetHeader(
            recipe=recipe.name,
            title=recipe.title,
            description=recipe.description,
            reference=recipe.reference,
            parameters=recipe.parameters(self.resolution),
            seed=self.seed,
            resolution=self.resolution,
            device=self.device.partition(":")[0],
            samples=self.samples,
            inputs=tuple(recipe.inputs),
            targets=tuple(recipe.targets),
            layout=recipe.layout,
            coordinates=recipe.coordinates(self.resolution),
            variables=recipe.variables(self.resolution),
            lengths=lengths,
        )

    def generate(self, folder: Path, number: int) -> None:
        """Generate a chunk and write it to the folder, unless it exists."""
        import torch

        path, indices = self.part(folder, number)
        if is_whole(path, indices):
            return
        device = torch.device(self.device)
        arrays = self.recipe.generate(self.seed, indices.start, len(indices), self.resolution, device)
        header = self.header(self._check(arrays, indices))
        with writing_dataset(path, header, indices) as writer:
            writer.write(indices.start, arrays)

    def _check(self, arrays: dict[str, Array], indices: range) -> dict[str, int]:
        """Check generated arrays, and return the lengths of the axes."""
        lengths = {"sample": len(indices)}
        lengths |= {dim: len(positions) for dim, (positions, _) in self.recipe.coordinates(self.resolution).items()}
        for name, variable in self.recipe.variables(self.resolution).items():
            array, dims = arrays[name], ("sample", *variable.dims)
            for dim, length in zip(dims, array.shape):
                lengths.setdefault(dim, length)
            expected = tuple(lengths.get(dim, -1) for dim in dims)
            if array.shape != expected or array.dtype != variable.dtype:
                raise InputError(
                    f"recipe {self.recipe.name} generated {name!r} as {array.dtype} of shape {array.shape}, but "
                    f"declares {variable.dtype} with axes {', '.join(dims)}; correct the recipe."
                )
            finite = np.isfinite(array.reshape(len(array), -1)).all(axis=1)
            if not finite.all():
                bad = indices[int(np.argmin(finite))]
                raise ConvergenceError(
                    f"recipe {self.recipe.name} generated NaN or infinity in {name!r} of sample {bad}; its equation "
                    f"could not be solved at resolution {self.resolution} and seed {self.seed}."
                )
        return {dim: length for dim, length in lengths.items() if dim != "sample"}


def require_integer(what: str, value: Any, least: int) -> int:
    """Return an integer that is at least `least`.

    Raises
    ------
    InputError
        If the value is not an integer, or is too small.
    """
    if isinstance(value, bool) or not isinstance(value, Integral) or not least <= int(value) < 2**63:
        raise InputError(f"{what} is {value!r}; give an integer of at least {least}.")
    return int(value)
