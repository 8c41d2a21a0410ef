"""The contract of every recipe, as a function for one's own."""

from __future__ import annotations

import functools
import json
import random
from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np
import torch

from sciml_bounds.errors import InputError
from sciml_bounds.recipes._recipe import Array, Recipe
from sciml_bounds.recipes._registry import as_recipe, find_recipe

__all__ = ["CLAUSES", "RecipeTrial", "check_recipe"]

#: Resolution at which a recipe is tried by default, if it has it.
TRIAL_RESOLUTION = 12
#: Locations of inputs and targets that a layout may name.
_LAYOUTS = {"cells->nodes", "cells->cells", "nodes->nodes", "nodes->cells", "same", "time"}
#: Values that are not resolutions.
_NOT_RESOLUTIONS = (0, -4, 2.5, "64", True, None)


def check_recipe(recipe: str | Recipe | type[Recipe], *, resolution: int | None = None, seed: int = 0) -> None:
    """Check that a recipe keeps the contract on which generation, shards and resuming rely.

    Parameters
    ----------
    recipe : str, Recipe or type
        Name or location of a recipe, the recipe itself, or its class.
    resolution : int, optional
        A small resolution, at which a few samples are generated; by default 12, or the nearest that the recipe has.
    seed : int, default 0
        Seed of these samples; the next one is tried too.

    Raises
    ------
    InputError
        If a clause is violated; the message says which, and what to change. The clauses: name, texts and layout are
        given; inputs and targets are variables; coordinates ascend; parameters are JSON values; arrays are as declared;
        sample i depends on seed and i only, not on the chunk, the number of threads or any global random state; other
        samples and seeds are different; invalid resolutions are refused.

    Examples
    --------
    >>> import sciml_bounds as sb
    >>> sb.data.check_recipe("darcy-rough")
    """
    found = find_recipe(recipe) if isinstance(recipe, str) else as_recipe(recipe, "check_recipe")
    size = max(found.smallest, min(TRIAL_RESOLUTION, found.resolution)) if resolution is None else resolution
    trial = RecipeTrial(found, size, seed)
    for clause in CLAUSES:
        clause(trial)


@dataclass(frozen=True, eq=False)
class RecipeTrial:
    """A recipe, with the resolution and the seed at which it is tried."""

    recipe: Recipe
    resolution: int
    seed: int = 3

    @functools.cached_property
    def samples(self) -> dict[str, Array]:
        """The first two samples."""
        return self.generate(self.seed, 0, 2)

    @functools.cached_property
    def other_seed(self) -> dict[str, Array]:
        """The first sample of another seed."""
        return self.generate(self.seed + 1, 0, 1)

    def generate(self, seed: int, first: int, count: int) -> dict[str, Array]:
        """Generate samples on the CPU."""
        return self.recipe.generate(seed, first, count, self.resolution, torch.device("cpu"))

    def require(self, kept: bool, violation: str, remedy: str) -> None:
        """Raise unless a clause is kept."""
        if not kept:
            name = getattr(self.recipe, "name", type(self.recipe).__name__)
            raise InputError(f"recipe {name}: {violation}; {remedy}.")


# --- clauses ----------------------------------------------------------------------------------------------------------


def texts_are_given(trial: RecipeTrial) -> None:
    """Check that name, title, description and reference are texts, and the published numbers are positive."""
    for name in ("name", "title", "description", "reference"):
        text = getattr(trial.recipe, name, None)
        trial.require(isinstance(text, str) and len(text) > 3, f"its {name} is {text!r}", f"set {name} to a text")
    for name in ("samples", "resolution"):
        number = getattr(trial.recipe, name, None)
        positive = isinstance(number, int) and number >= 1
        trial.require(positive, f"its {name} is {number!r}", f"set {name} to a positive integer")
    layout = getattr(trial.recipe, "layout", None)
    choices = ", ".join(sorted(_LAYOUTS))
    trial.require(layout in _LAYOUTS, f"its layout is {layout!r}", f"use one of {choices}")


def resolutions_are_checked(trial: RecipeTrial) -> None:
    """Check that `check` accepts the published and the given resolution, and refuses what is not one."""
    trial.recipe.check(trial.recipe.resolution)
    trial.recipe.check(trial.resolution)
    for resolution in _NOT_RESOLUTIONS:
        try:
            trial.recipe.check(resolution)  # type: ignore[arg-type]
        except InputError:
            continue
        trial.require(False, f"check accepts the resolution {resolution!r}", "call super().check(resolution) first")


def inputs_and_targets_are_variables(trial: RecipeTrial) -> None:
    """Check that inputs and targets are names of variables, which have a description and units."""
    variables = trial.recipe.variables(trial.resolution)
    for role in ("inputs", "targets"):
        names = getattr(trial.recipe, role, ())
        listed = isinstance(names, tuple | list) and bool(names)
        trial.require(listed, f"its {role} are {names!r}", "give a tuple of names of variables")
        unknown = [name for name in names if name not in variables]
        trial.require(not unknown, f"its {role} {unknown} are not variables", "name what variables() returns")
    for name, variable in variables.items():
        described = bool(variable.long_name and variable.units)
        trial.require(described, f"the variable {name!r} has no long_name or units", "describe it")


def coordinates_ascend(trial: RecipeTrial) -> None:
    """Check that coordinates are ascending positions along axes of variables, with units."""
    for resolution in (trial.resolution, trial.recipe.resolution):
        dims = {dim for variable in trial.recipe.variables(resolution).values() for dim in variable.dims}
        for axis, (positions, units) in trial.recipe.coordinates(resolution).items():
            trial.require(axis in dims, f"the coordinate {axis!r} is not an axis of a variable", "leave it out")
            ascending = np.ndim(positions) == 1 and bool((np.diff(positions) > 0).all())
            trial.require(ascending, f"the positions along {axis!r} do not ascend", "give a sorted array of one axis")
            trial.require(bool(units), f"the coordinate {axis!r} has no units", 'give "1" for numbers without')


def parameters_are_json(trial: RecipeTrial) -> None:
    """Check that parameters survive being written as text."""
    for resolution in (trial.resolution, trial.recipe.resolution):
        parameters = trial.recipe.parameters(resolution)
        try:
            restored = json.loads(json.dumps(parameters))
        except (TypeError, ValueError) as error:
            trial.require(False, f"its parameters are not JSON values ({error})", "use numbers, texts, lists and dicts")
        remedy = "give everything that determines the numbers, with lists instead of tuples and texts as keys"
        trial.require(bool(parameters) and restored == parameters, "its parameters change when they are stored", remedy)


def chunks_have_a_size(trial: RecipeTrial) -> None:
    """Check that a chunk has a positive number of samples."""
    for resolution in (trial.resolution, trial.recipe.resolution):
        size = trial.recipe.chunk(resolution)
        positive = isinstance(size, int) and size >= 1
        trial.require(positive, f"chunk({resolution}) is {size!r}", "return a positive integer")


def arrays_are_as_declared(trial: RecipeTrial) -> None:
    """Check that the arrays have the declared names, dtypes and shapes, and are finite."""
    variables = trial.recipe.variables(trial.resolution)
    coordinates = trial.recipe.coordinates(trial.resolution)
    lengths = {axis: len(positions) for axis, (positions, _) in coordinates.items()}
    names = list(trial.samples)
    trial.require(names == list(variables), f"generate returns {names}", f"return {list(variables)} in this order")
    for name, variable in variables.items():
        array = trial.samples[name]
        same = array.dtype == np.dtype(variable.dtype)
        trial.require(same, f"{name!r} has dtype {array.dtype}", f"convert it to the declared {variable.dtype}")
        expected = (2, *(lengths.setdefault(dim, n) for dim, n in zip(variable.dims, array.shape[1:])))
        fits = array.shape == expected and array.ndim == 1 + len(variable.dims)
        axes = ", ".join(("sample", *variable.dims))
        trial.require(fits, f"two samples of {name!r} have shape {array.shape}", f"return the declared axes {axes}")
        finite = bool(np.isfinite(array).all())
        trial.require(finite, f"{name!r} has NaN or infinity", "raise ConvergenceError where a sample cannot be solved")


def samples_depend_on_seed_and_index_only(trial: RecipeTrial) -> None:
    """Check that a sample has the same bits in any part of a data set, with one and with two threads."""
    threads = torch.get_num_threads()
    for sample, count in ((0, 1), (1, 2)):
        torch.set_num_threads(count)
        try:
            part = trial.generate(trial.seed, sample, 1)
        finally:
            torch.set_num_threads(threads)
        for name, values in trial.samples.items():
            same = part[name].tobytes() == values[sample : sample + 1].tobytes()
            remedy = "draw with sample_rng(seed, index) alone, and solve whole chunks or one sample at a time"
            trial.require(same, f"sample {sample} of {name!r} differs when it is generated alone", remedy)


def samples_differ(trial: RecipeTrial) -> None:
    """Check that other samples and other seeds have other numbers."""
    remedy = "draw sample i with sample_rng(seed, i)"
    for role in ("inputs", "targets"):
        names = getattr(trial.recipe, role)
        here = [trial.samples[name] for name in names]
        trial.require(any((a[0] != a[1]).any() for a in here), f"samples 0 and 1 have the same {role}", remedy)
        there = [trial.other_seed[name] for name in names]
        differ = any((a[0] != b[0]).any() for a, b in zip(here, there))
        trial.require(differ, f"two seeds give the same {role}", remedy)


def global_random_states_are_left_alone(trial: RecipeTrial) -> None:
    """Check that the global generators of Python, numpy and torch are neither used nor changed."""
    before = _global_states()
    trial.generate(trial.seed, 0, 1)
    changed = [name for name, state in _global_states().items() if state != before[name]]
    trial.require(not changed, f"it uses the global random state of {' and '.join(changed)}", "use sample_rng")


def _global_states() -> Mapping[str, object]:
    numpy_state = np.random.get_state(legacy=False)["state"]  # noqa: NPY002 - it is only looked at
    return {
        "Python": random.getstate(),
        "numpy": (numpy_state["key"].tobytes(), numpy_state["pos"]),
        "torch": torch.get_rng_state().numpy().tobytes(),
    }


#: Clauses of the contract, in the order in which they are checked.
CLAUSES: tuple[Callable[[RecipeTrial], None], ...] = (
    texts_are_given,
    resolutions_are_checked,
    inputs_and_targets_are_variables,
    coordinates_ascend,
    parameters_are_json,
    chunks_have_a_size,
    arrays_are_as_declared,
    samples_depend_on_seed_and_index_only,
    samples_differ,
    global_random_states_are_left_alone,
)
