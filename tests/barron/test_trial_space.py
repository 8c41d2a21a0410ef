"""What networks are given of a problem: box, held sides, and values there."""

from __future__ import annotations

import pytest
import torch

import sciml_bounds as sb
from sciml_bounds.barron.trial_space import network_arguments


@pytest.mark.parametrize("on_grid", [False, True])
def test_liftings_have_the_prescribed_values(on_grid):
    """The value 1 + x: what is linear in x and y has it on two sides only."""
    if on_grid:
        sides = {"x0": sb.Dirichlet(1.0), "x1": sb.Dirichlet(2.0), "y0": sb.Dirichlet(lambda x, y: 1 + x)}
        problem = sb.VariationalProblem(sb.Grid((4, 4)), sb.QuadraticEnergy(), boundary=sides | {"y1": sb.Neumann(0.0)})
    else:
        problem = sb.VariationalProblem(
            sb.Box([1.0, 1.0]), sb.QuadraticEnergy(), boundary=sb.Dirichlet(lambda x: 1 + x[..., 0])
        )
    none = torch.zeros((0, 2), dtype=torch.float64)
    right = sb.BarronNetwork.of(none, [], [], slope=[1.0, 0.0], offset=1.0)
    assert network_arguments(problem, right)["lifting"] is right
    for slope, offset in (([1.0, 0.1], 1.0), ([1.0, 0.0], 1.1), ([0.9, 0.0], 1.0)):
        wrong = sb.BarronNetwork.of(none, [], [], slope=slope, offset=offset)
        with pytest.raises(sb.InputError, match=r"the lifting is off by up to 0\.[0-9]+ on a Dirichlet side"):
            network_arguments(problem, wrong)
