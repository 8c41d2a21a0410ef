"""What a recipe is: everything that determines the numbers of a data set, under one name."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from numbers import Integral
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
from numpy.typing import NDArray

from sciml_bounds.errors import InputError

if TYPE_CHECKING:
    import torch

__all__ = ["JSON", "Array", "Recipe", "Variable", "sample_rng"]

#: What the parameters of a recipe are made of, so that a file can keep them as text.
JSON = str | int | float | bool | None | Sequence["JSON"] | Mapping[str, "JSON"]

#: An array of a data set, whatever its dtype.
Array = NDArray[Any]


@dataclass(frozen=True)
class Variable:
    """One variable of a data set, without the sample axis.

    Attributes
    ----------
    dims
        Names of the axes of one sample; empty for one number a sample.
    long_name
        What it is, in words.
    units
        "1" where nothing has a unit.
    dtype
        In which it is generated and stored.
    """

    dims: tuple[str, ...]
    long_name: str
    units: str = "1"
    dtype: Literal["float32", "float64"] = "float64"


class Recipe(ABC):
    """One data set: what is drawn, what is solved and what is stored.

    Attributes
    ----------
    name
        As in `find_recipe`.
    title, description
        A line, and a paragraph that states every choice a user should know of.
    reference
        Where the data set was published.
    resolution
        The published one; what it counts (cells or nodes along an axis) is said in the description.
    samples
        The published number of samples.
    smallest
        The smallest resolution that makes sense.
    inputs, targets
        Names of the variables that a network is given and is to predict.
    layout
        How the inputs and targets lie relative to each other, one word: "cells->nodes", "nodes->nodes", "time", ...
    """

    name: str
    title: str
    description: str
    reference: str
    resolution: int
    samples: int
    smallest: int = 2
    inputs: tuple[str, ...]
    targets: tuple[str, ...]
    layout: str

    @abstractmethod
    def chunk(self, resolution: int) -> int:
        """Count the samples that are generated together; it depends on the resolution only, never on the machine."""

    @abstractmethod
    def parameters(self, resolution: int) -> dict[str, JSON]:
        """Give everything that determines the numbers, beside seed and resolution."""

    @abstractmethod
    def coordinates(self, resolution: int) -> dict[str, tuple[Array, str]]:
        """Give the positions and the units of each axis that has some, by the name of the axis."""

    @abstractmethod
    def variables(self, resolution: int) -> dict[str, Variable]:
        """Give what `generate` returns, in the order in which it is stored."""

    def check(self, resolution: int) -> None:
        """Refuse a resolution that cannot be generated.

        Raises
        ------
        InputError
            With the reason, and what would do.
        """
        if isinstance(resolution, bool) or not isinstance(resolution, Integral) or resolution < self.smallest:
            raise InputError(
                f"recipe {self.name} cannot be generated at resolution {resolution!r}; "
                f"give an integer of at least {self.smallest} (published: {self.resolution})."
            )

    @abstractmethod
    def generate(self, seed: int, first: int, count: int, resolution: int, device: torch.device) -> dict[str, Array]:
        """Generate the samples `first` to `first + count - 1`.

        The same seed and index give the same bits in whatever piece they are asked for (on one kind of device): what is
        random comes from `sample_rng`, and what is solved together is a whole chunk, aligned to the index.

        Parameters
        ----------
        seed
            A non-negative integer; other seeds give other data.
        first, count
            The samples; usually one chunk, `first` a multiple of `chunk(resolution)`.
        resolution
            As in `check`.
        device
            Where the work is done; the arrays come back to the CPU.

        Returns
        -------
        dict
            One array (count, ...) for each of `variables`, in its dtype.

        Raises
        ------
        ConvergenceError
            If an equation was not solved as well as the parameters say.
        """

    def __repr__(self) -> str:
        return f"<recipe {self.name}>"


def sample_rng(seed: int, index: int) -> np.random.Generator:
    """Return the source of all that is random in one sample; it depends on nothing but its arguments."""
    return np.random.default_rng([seed, index])
