"""DOLFINx functions at the nodes of a grid, and what is said about functions that cannot be taken there."""

from __future__ import annotations

import numpy as np
import pytest
from refusals import refused

import sciml_bounds as sb
from sciml_bounds.errors import MissingExtraError

try:
    sb.fem.require_dolfinx()
except MissingExtraError as missing:
    pytest.skip(str(missing), allow_module_level=True)

from dolfinx import fem, mesh
from mpi4py import MPI

pytestmark = pytest.mark.fem

CORNERS = {2: [(-1.0, 0.5), (1.0, 2.0)], 3: [(-1.0, 0.5, 0.0), (1.0, 2.0, 1.0)]}


def make_function(dim: int, shape: tuple[int, ...] = ()) -> fem.Function:
    """Return x + 2 y (+ 3 z) in linear elements on simplices."""
    corners = CORNERS[dim]
    make = {2: mesh.create_rectangle, 3: mesh.create_box}[dim]
    space = fem.functionspace(make(MPI.COMM_SELF, corners, (5, 4, 3)[:dim]), ("Lagrange", 1, shape))
    function = fem.Function(space)
    if not shape:
        function.interpolate(lambda x: x[0] + 2 * x[1] + 3 * x[2])
    return function


def make_grid(dim: int, shape: tuple[int, ...]) -> sb.Grid:
    low, high = CORNERS[dim]
    return sb.Grid(shape, lengths=np.subtract(high, low).tolist(), origin=low)


@pytest.mark.parametrize("shape", [(7, 9), (5, 4), (3, 4, 6)])
def test_values_of_a_linear_function(shape):
    dim = len(shape)
    values = sb.fem.nodal_values(make_function(dim), make_grid(dim, shape))
    x = np.meshgrid(*(make_grid(dim, shape).nodes(axis).numpy() for axis in range(dim)), indexing="ij")
    expected = sum((i + 1) * axis for i, axis in enumerate(x))
    np.testing.assert_allclose(values, expected, atol=1e-13)  # a few eps of values up to 8


def test_what_is_refused():
    function, grid = make_function(2), make_grid(2, (4, 4))
    wide = sb.Grid((4, 4), lengths=(3.0, 1.5), origin=(-1.0, 0.5))
    refused("node grid mesh 1.25", sb.fem.nodal_values, function, wide)
    refused("dimension 2 grid 3", sb.fem.nodal_values, function, make_grid(3, (4, 4, 4)))
    refused("scalar (2,)", sb.fem.nodal_values, make_function(2, (2,)), grid)
    refused("ndarray dolfinx.fem.Function", sb.fem.nodal_values, np.ones((5, 5)), grid)
    refused("DOLFINx sb.fem.nodal_values", sb.certify, sb.Diffusion(grid, source=1.0), function)
