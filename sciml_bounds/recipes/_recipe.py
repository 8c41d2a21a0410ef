"""Base class of recipes: a recipe is everything that determines the numbers of a data set, under one name."""

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

#: Type of the parameters of a recipe, which files store as JSON.
JSON = str | int | float | bool | None | Sequence["JSON"] | Mapping[str, "JSON"]

#: An array of a data set, of any dtype.
Array = NDArray[Any]


@dataclass(frozen=True)
class Variable:
    """One variable of a data set, without the sample axis.

    Attributes
    ----------
    dims : tuple of str
        Names of the axes of one sample; empty for one number per sample.
    long_name : str
        Description of the variable.
    units : str
        Units; "1" for dimensionless numbers.
    dtype : {"float32", "float64"}
        Precision of the generated and stored numbers.
    """

    dims: tuple[str, ...]
    long_name: str
    units: str = "1"
    dtype: Literal["float32", "float64"] = "float64"


class Recipe(ABC):
    """Recipe for a data set: what is drawn at random, what is solved and what is stored.

    Attributes
    ----------
    name : str
        Name for `find_recipe`.
    title, description : str
        One line, and one paragraph with every choice that users should know.
    reference : str
        Publication of the data set.
    resolution : int
        Published resolution; the description says whether it counts cells or nodes per axis.
    samples : int
        Published number of samples.
    smallest : int
        Smallest resolution that makes sense.
    inputs, targets : tuple of str
        Names of the variables that a network receives and predicts.
    layout : str
        Locations of inputs and targets on the grid: "cells->nodes", "nodes->nodes", "time", ...
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
        """Return the number of samples generated together, which depends on the resolution but not on the machine."""

    @abstractmethod
    def parameters(self, resolution: int) -> dict[str, JSON]:
        """Return everything that determines the numbers, except seed and resolution."""

    @abstractmethod
    def coordinates(self, resolution: int) -> dict[str, tuple[Array, str]]:
        """Return positions and units of the axes that have positions, by name of the axis."""

    @abstractmethod
    def variables(self, resolution: int) -> dict[str, Variable]:
        """Return the variables that `generate` returns, in the order in which they are stored."""

    def check(self, resolution: int) -> None:
        """Check that a resolution can be generated.

        Raises
        ------
        InputError
            If it cannot; the message names resolutions that can.
        """
        if isinstance(resolution, bool) or not isinstance(resolution, Integral) or resolution < self.smallest:
            raise InputError(
                f"recipe {self.name} has no resolution {resolution!r}; give an integer of at least {self.smallest} "
                f"(published: {self.resolution})."
            )

    @abstractmethod
    def generate(self, seed: int, first: int, count: int, resolution: int, device: torch.device) -> dict[str, Array]:
        """Generate the samples `first` to `first + count - 1`.

        On one kind of device, a seed and a sample index always give the same bits: random numbers come from
        `sample_rng`, and whole chunks, aligned to the index, are solved together.

        Parameters
        ----------
        seed : int
            Seed of the random numbers, nonnegative.
        first, count : int
            First sample and number of samples; usually one chunk, `first` a multiple of `chunk(resolution)`.
        resolution : int
            Resolution that passes `check`.
        device : torch.device
            Device of the computation; the arrays are returned on the CPU.

        Returns
        -------
        dict
            One array (count, ...) for each of `variables`, in its dtype.

        Raises
        ------
        ConvergenceError
            If an equation was not solved to the accuracy in the parameters.
        """

    def __repr__(self) -> str:
        return f"<recipe {self.name}>"


def sample_rng(seed: int, index: int) -> np.random.Generator:
    """Return the random number generator of one sample, which depends only on seed and index."""
    return np.random.default_rng([seed, index])
