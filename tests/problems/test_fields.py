from __future__ import annotations

import pytest
import torch
from refusals import refused

import sciml_bounds as sb
from sciml_bounds.problems.fields import cell_field, node_shape, unbatched_shape

GRID = sb.Grid((2, 3, 4))
CPU = torch.device("cpu")


def test_shapes_of_nodes_and_sides():
    assert node_shape(GRID, (False, False, False)) == (3, 4, 5)
    assert node_shape(GRID, (True, False, True)) == (2, 4, 4)
    open_box, wrapped = (False, False, False), (True, False, False)
    assert unbatched_shape("y0", sb.Dirichlet(), GRID, open_box) == (3, 5)
    assert unbatched_shape("y0", sb.Dirichlet(), GRID, wrapped) == (2, 5)
    assert unbatched_shape("y0", sb.Neumann(), GRID, open_box) == (2, 4)
    assert unbatched_shape("x0", sb.Dirichlet(), sb.Grid(3), (False,)) == ()


def test_a_plain_number_fills_the_grid():
    assert cell_field(2, "a", GRID, torch.float32, CPU).shape == (2, 3, 4)


def test_an_array_that_is_callable_is_an_array():
    class Odd(torch.nn.Parameter):
        def __call__(self):
            raise AssertionError

    field = cell_field(Odd(torch.ones(2, 3, 4), requires_grad=False), "a", GRID, torch.float64, CPU)
    assert field.dtype == torch.float64


def test_what_a_callable_returns_is_checked_like_an_array():
    refused("a shape (3, 4)", lambda: cell_field(lambda x, y, z: x[0], "a", GRID, torch.float64, CPU))
    refused("a dtype int64", lambda: cell_field(lambda x, y, z: (x > 0).long(), "a", GRID, torch.float64, CPU))
    refused("a 24 entries NaN", cell_field, lambda x, y, z: x / 0 - x / 0, "a", GRID, torch.float64, CPU)


def test_a_callable_of_too_few_or_too_many_coordinates_is_refused():
    words = "function 3 coordinates; grid 3 axes x, y z"
    for function in (lambda x, y: x, lambda x, y, z, t: x, lambda: 1.0, lambda x, y, z, *, t: x):
        refused(f"{words}", cell_field, function, "a", GRID, torch.float64, CPU)
    refused("1 grid axis x", lambda: cell_field(lambda x, y: x, "a", sb.Grid(4), torch.float64, CPU))
    refused(
        f"Neumann flux y1 {words}",
        lambda: sb.Diffusion(
            GRID, boundary=dict.fromkeys(GRID.sides, sb.Dirichlet()) | {"y1": sb.Neumann(lambda x, z: x)}
        ),
    )
    for function in (lambda *x: x[0], lambda x, y, z, t=0.0: x + t, torch.add):
        dim = 2 if function is torch.add else 3
        field = cell_field(function, "a", sb.Grid((2,) * dim), torch.float64, CPU)
        assert field.shape == (2,) * dim


def test_an_error_inside_a_callable_is_not_hidden():
    def wrong(x, y, z):
        return x + "1"

    with pytest.raises(TypeError, match="unsupported"):
        cell_field(wrong, "a", GRID, torch.float64, CPU)


def test_functions_of_points_are_sampled_like_functions_of_coordinates():
    f = sb.barron.BarronFunction.cosine([[1, 2], [0, 1]], [1.0, 0.25])
    network = sb.BarronNetwork(2, 5, "tanh")
    grid = sb.Grid((4, 3), origin=(0.5, -1.0))

    def of_coordinates(x, y):
        return f(torch.stack([x, y], -1))

    given = sb.Diffusion(grid, 2 + f, f, boundary=sb.Dirichlet(network))
    plain = sb.Diffusion(
        grid, lambda x, y: 2 + of_coordinates(x, y), of_coordinates,
        boundary=sb.Dirichlet(lambda x, y: network(torch.stack([x, y], -1))),
    )  # fmt: skip
    torch.testing.assert_close(given.coefficient[0], plain.coefficient[0])
    torch.testing.assert_close(given.source, plain.source)
    for side in grid.sides:
        torch.testing.assert_close(given.boundary[side].value, plain.boundary[side].value)
    refused("points 2 coordinates", lambda: sb.Diffusion(sb.Grid(4), f))
