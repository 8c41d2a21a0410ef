"""Import layouts of the published files of the FNO authors (MATLAB) and of neuraloperator (torch)."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from sciml_bounds.errors import InputError
from sciml_bounds.store.formats.foreign_layout import (
    SPACE,
    ForeignLayout,
    ForeignVariable,
    plain_dtype,
    require_arrays,
    same_samples,
)
from sciml_bounds.store.reading.contents import Array, Contents

__all__ = ["describe_fno", "describe_neuraloperator", "is_fno", "is_neuraloperator"]

_FNO = "Li et al., Fourier neural operator for parametric partial differential equations, ICLR 2021"
_NEURALOPERATOR = "neuraloperator, https://github.com/neuraloperator/neuraloperator"


def is_fno(contents: Contents) -> bool:
    """Return whether a file has the array names of the FNO authors."""
    return {"coeff", "sol"} <= contents.arrays.keys() or {"a", "u"} <= contents.arrays.keys()


def describe_fno(contents: Contents) -> ForeignLayout:
    """Return the layout of Darcy flow (coeff, sol), Burgers (a, u) or Navier-Stokes (a, u, t).

    Raises
    ------
    InputError
        If an array is missing, or the shapes disagree.
    """
    if "coeff" in contents.arrays or "sol" in contents.arrays:
        return _darcy(contents)
    require_arrays(contents, ("a", "u"), {"a": (2, 3), "u": (2, 4)})
    if len(contents.arrays["u"].shape) == 4:
        return _navier_stokes(contents)
    return _burgers(contents)


def _darcy(contents: Contents) -> ForeignLayout:
    require_arrays(contents, ("coeff", "sol"), {"coeff": (3,), "sol": (3,)})
    same_samples(contents, ("coeff", "sol"), same_shape=True)
    shape = contents.arrays["coeff"].shape[1:]
    dims = ("x_node", "y_node")
    positions = {dim: (np.linspace(0.0, 1.0, n), "1") for dim, n in zip(dims, shape)}
    return ForeignLayout(
        "Darcy flow of the FNO authors",
        _FNO,
        {
            "coefficient": ForeignVariable(("coeff",), dims, shape, plain_dtype(contents, "coeff"), "coefficient"),
            "solution": ForeignVariable(("sol",), dims, shape, plain_dtype(contents, "sol"), "solution"),
        },
        ("coefficient",),
        ("solution",),
        "same",
        positions,
        {"equation": "-div(a grad u) = f in (0, 1)^2, u = 0 on the boundary"},
    )


def _burgers(contents: Contents) -> ForeignLayout:
    same_samples(contents, ("a", "u"), same_shape=True)
    shape = contents.arrays["a"].shape[1:]
    return ForeignLayout(
        "Burgers' equation of the FNO authors",
        _FNO,
        {
            "initial": ForeignVariable(("a",), ("x",), shape, plain_dtype(contents, "a"), "solution at time 0"),
            "solution": ForeignVariable(
                ("u",), ("x",), shape, plain_dtype(contents, "u"), "solution at the final time"
            ),
        },
        ("initial",),
        ("solution",),
        "same",
        {"x": (np.arange(shape[0]) / shape[0], "1")},
        {"boundary": "periodic"},
    )


def _navier_stokes(contents: Contents) -> ForeignLayout:
    """Return the layout of trajectories: the initial frame `a`, then the frames `u`, whose last axis is time."""
    require_arrays(contents, ("a",), {"a": (3,)})
    require_arrays(contents, ("t",), {"t": (1, 2)})
    same_samples(contents, ("a", "u"))
    initial, shape = contents.arrays["a"].shape, contents.arrays["u"].shape
    space = initial[1:]
    times = contents.read("t").reshape(-1).astype(np.float64)
    if shape[1:3] != space or len(times) != shape[3]:
        raise InputError(
            f"the shapes of its arrays disagree: a {initial}, u {shape}, {len(times)} times t; correct them."
        )
    times = np.concatenate([[0.0], times])
    if not (np.diff(times) > 0).all():
        raise InputError("its times t must increase and be positive, because the initial frame a is at time 0.")
    positions = {dim: (np.arange(n) / n, "1") for dim, n in zip(("x", "y"), space)}
    dtype = plain_dtype(contents, "u")
    trajectory = ForeignVariable(
        ("a", "u"), ("time", "x", "y"), (len(times), *space), dtype, "vorticity", make=_initial_first
    )
    return ForeignLayout(
        "Navier-Stokes equations of the FNO authors",
        _FNO,
        {"vorticity": trajectory},
        ("vorticity",),
        ("vorticity",),
        "time",
        {"time": (times, "1")} | positions,
        {"boundary": "periodic"},
    )


def _initial_first(rows: Sequence[Array]) -> Array:
    initial, frames = rows
    return np.concatenate([initial[None], np.moveaxis(frames, -1, 0)])


def is_neuraloperator(contents: Contents) -> bool:
    """Return whether a file has the array names of neuraloperator."""
    return contents.format == "torch" and ({"x", "y"} <= contents.arrays.keys() or _is_burgers(contents))


def _is_burgers(contents: Contents) -> bool:
    return {"input", "output"} <= contents.arrays.keys()


def describe_neuraloperator(contents: Contents) -> ForeignLayout:
    """Return the layout of Darcy flow (x, y) or Burgers (input, output, visc).

    Raises
    ------
    InputError
        If an array is missing, or the shapes disagree.
    """
    if _is_burgers(contents):
        return _frames(contents)
    require_arrays(contents, ("x", "y"), {"x": (2, 3, 4), "y": (2, 3, 4)})
    same_samples(contents, ("x", "y"), same_shape=True)
    shape = contents.arrays["x"].shape[1:]
    dims = SPACE[: len(shape)]
    # Booleans tell the two materials apart; their coefficients are not in the file.
    phases = contents.arrays["x"].dtype == "bool"
    name, about = ("phase", "index of the material, 0 or 1") if phases else ("coefficient", "coefficient")
    return ForeignLayout(
        "Darcy flow of neuraloperator",
        _NEURALOPERATOR,
        {
            name: ForeignVariable(("x",), dims, shape, plain_dtype(contents, "x"), about, make=_not_negative),
            "solution": ForeignVariable(("y",), dims, shape, plain_dtype(contents, "y"), "solution"),
        },
        (name,),
        ("solution",),
        "same",
    )


def _not_negative(rows: Sequence[Array]) -> Array:
    """Raise if x is not a coefficient: neuraloperator also publishes forced flows with the same array names."""
    if (rows[0] < 0).any():
        raise InputError(
            "its x has negative values, so it is not a coefficient of Darcy flow; of files with x and y, only Darcy "
            "flow can be imported."
        )
    return rows[0]


def _frames(contents: Contents) -> ForeignLayout:
    """Return the layout of trajectories whose first frame is the input."""
    require_arrays(contents, ("input", "output"), {"input": (2,), "output": (3,)})
    same_samples(contents, ("input", "output"))
    initial, shape = contents.arrays["input"].shape, contents.arrays["output"].shape
    if initial[1] != shape[2]:
        raise InputError(f"the shapes of its arrays disagree: input {initial}, output {shape}; correct them.")
    viscosity = contents.read("visc") if "visc" in contents.arrays else np.empty(0)
    solution = ForeignVariable(
        ("input", "output"), ("time", "x"), shape[1:], plain_dtype(contents, "output"), "solution", make=_check_first
    )
    return ForeignLayout(
        "Burgers' equation of neuraloperator",
        _NEURALOPERATOR,
        {"solution": solution},
        ("solution",),
        ("solution",),
        "time",
        parameters={"viscosity": float(viscosity.reshape(-1)[0])} if viscosity.size == 1 else {},
    )


def _check_first(rows: Sequence[Array]) -> Array:
    initial, frames = rows
    if not np.array_equal(initial, frames[0]):
        raise InputError("the first frame of its output differs from its input; in files of neuraloperator they agree.")
    return frames
