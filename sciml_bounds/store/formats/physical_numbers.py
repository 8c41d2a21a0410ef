"""Select the parameters of a data set that are physical numbers, such as the viscosity."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

__all__ = ["physical_numbers"]

#: Names with another meaning in our files or foreign ones, and numerical settings such as tolerances.
_NOT_PHYSICAL = {
    "dataset_name", "grid_type", "n_spatial_dims", "n_trajectories", "simulation_parameters", "Conventions", "title",
    "description", "reference", "recipe", "seed", "resolution", "parameters", "sciml_bounds_version", "inputs",
    "targets", "layout", "samples", "chunk", "rtol",
    "cfl", "tolerance",
}  # fmt: skip
#: Largest number that can be stored, in single precision.
_LARGEST = float(np.finfo(np.float32).max)


def physical_numbers(parameters: Mapping[str, Any]) -> dict[str, float]:
    """Return the physical parameters that are single numbers, the only kind that other formats can store.

    Examples
    --------
    >>> physical_numbers({"viscosity": 1e-3, "rtol": 1e-8, "boundary": "periodic", "modes": [1, 2]})
    {'viscosity': 0.001}
    """
    numbers = {
        name: float(value)
        for name, value in parameters.items()
        if isinstance(value, int | float) and not isinstance(value, bool) and abs(value) <= _LARGEST
    }
    return {name: value for name, value in numbers.items() if name.isidentifier() and name not in _NOT_PHYSICAL}
