"""Arguments of networks for a problem: box, Dirichlet sides, and values there."""

from __future__ import annotations

import pytest
import torch
from refusals import refusals

import sciml_bounds as sb
from sciml_bounds.barron import Box
from sciml_bounds.network_solvers._trial_space import network_arguments, require_linear, require_problem, side_values
from sciml_bounds.variational import PLaplacian, QuadraticEnergy, VariationalProblem


@pytest.mark.parametrize("on_grid", [False, True])
def test_liftings_have_the_prescribed_values(on_grid):
    """The value 1 + x: what is linear in x and y has it on two sides only."""
    if on_grid:
        sides = {"x0": sb.Dirichlet(1.0), "x1": sb.Dirichlet(2.0), "y0": sb.Dirichlet(lambda x, y: 1 + x)}
        problem = VariationalProblem(sb.Grid((4, 4)), QuadraticEnergy(), boundary=sides | {"y1": sb.Neumann(0.0)})
    else:
        problem = VariationalProblem(Box([1.0, 1.0]), QuadraticEnergy(), boundary=sb.Dirichlet(lambda x: 1 + x[..., 0]))
    none = torch.zeros((0, 2), dtype=torch.float64)
    right = sb.BarronNetwork.of(none, [], [], slope=[1.0, 0.0], offset=1.0)
    assert network_arguments(problem, right)["lifting"] is right
    for slope, offset in (([1.0, 0.1], 1.0), ([1.0, 0.0], 1.1), ([0.9, 0.0], 1.0)):
        wrong = sb.BarronNetwork.of(none, [], [], slope=slope, offset=offset)
        with pytest.raises(sb.InputError, match=r"lifting .* by up to 0\.[0-9]+ on a Dirichlet side"):
            network_arguments(problem, wrong)


def on_line(density=None, **sides):
    """A problem on a grid of one axis, with Dirichlet sides of value 0 where nothing else is said."""
    boundary = {"x0": sb.Dirichlet(0.0), "x1": sb.Dirichlet(0.0)} | sides
    return VariationalProblem(sb.Grid(8), density or QuadraticEnergy(), boundary=boundary)


PLACES = torch.zeros((1, 1), dtype=torch.float64)


test_bad_input = refusals(
    ("sb.variational.VariationalProblem Diffusion", lambda: require_problem(sb.Diffusion(sb.Grid(4)), "here")),
    ("linear PLaplacian", lambda: require_linear(on_line(PLaplacian(3)), "here")),
    ("number sides lifting=", lambda: network_arguments(on_line(x1=sb.Dirichlet(1.0)), None)),
    ("lifting float BarronNetwork", lambda: network_arguments(on_line(), 1.0)),
    ("lifting 2 variables 1", lambda: network_arguments(on_line(), sb.BarronNetwork(2, 3))),
    ("lifting 1 Dirichlet side", lambda: network_arguments(on_line(), sb.BarronNetwork.of([[0.0]], [0.0], [1.0]))),
    (
        "side periodic",
        lambda: network_arguments(on_line(QuadraticEnergy(reaction=1.0), x0=sb.Periodic(), x1=sb.Periodic()), None),
    ),
    ("Neumann flux zero", lambda: network_arguments(on_line(x1=sb.Neumann(1.0)), None)),
    ("values grid number", lambda: side_values(on_line(x1=sb.Dirichlet(1.0)), PLACES)),
)
