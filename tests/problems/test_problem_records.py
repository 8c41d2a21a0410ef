"""A record restores every problem whose data are constant, and says which data it does not have."""

from __future__ import annotations

import json

import numpy as np
import pytest
import torch
from refusals import refused

import sciml_bounds as sb
from sciml_bounds.problems.problem_records import problem_from_record, problem_record

GRID = sb.Grid((4, 3), lengths=(2.0, 1.0), origin=(-1.0, 0.5))
BOUNDARY = {"x0": sb.Dirichlet(1.0), "x1": sb.Robin(2.0, 3.0), "y0": sb.Neumann(-0.5), "y1": sb.Dirichlet(1.0)}


def restored(problem, **fields):
    record = json.loads(json.dumps(problem_record(problem, fields)))
    return problem_from_record(record, problem.grid.shape, fields)


@pytest.mark.parametrize(
    "options",
    [
        {"boundary": BOUNDARY, "coefficient": 2.0, "source": 1.5, "reaction": 0.25},
        {
            "boundary": {"x0": sb.Periodic(), "x1": sb.Periodic(), "y0": sb.Dirichlet(), "y1": sb.Dirichlet()},
            "source": 1.0,
        },
        {"coefficient": (1.0, 3.0), "source": 1.0},
    ],
)
def test_the_restored_problem_has_the_same_solution(options):
    problem = sb.Diffusion(GRID, **options)
    other = restored(problem)
    assert other.grid == GRID
    torch.testing.assert_close(sb.solve(other, method="direct").values, sb.solve(problem, method="direct").values)


def test_fields_of_samples_are_put_back():
    rng = np.random.default_rng(0)
    problem = sb.Diffusion(GRID, source=1.0, boundary=BOUNDARY)
    fields = {"coefficient": torch.from_numpy(rng.uniform(1, 2, (5, 4, 3))), "solid": torch.zeros(5, 4, 3)}
    fields["solid"][:, 1, 1] = 1.0
    expected = problem.replace(coefficient=fields["coefficient"], solid=fields["solid"] > 0.5)
    found = restored(problem, **fields)
    torch.testing.assert_close(sb.solve(found).values, sb.solve(expected).values)


def test_data_that_vary_are_named_and_not_restored():
    problem = sb.Diffusion(GRID, source=lambda x, y: x, boundary=sb.Dirichlet(lambda x, y: y))
    record = problem_record(problem, ["coefficient"])
    assert record["varies"] == ["source", "boundary"]
    fields = {"coefficient": torch.ones(4, 3)}
    refused("source boundary problem", problem_from_record, record, (4, 3), fields)
    assert "coefficient" not in record
    refused("coefficient", problem_from_record, problem_record(sb.Diffusion(GRID), ["coefficient"]), (4, 3), {})


def test_a_batch_of_problems_and_a_damaged_record():
    refused("batch problem", problem_record, sb.Diffusion(GRID, source=torch.ones(2, 4, 3)))
    record = problem_record(sb.Diffusion(GRID))
    refused("damaged", problem_from_record, record | {"boundary": {"x0": ["glue", 1.0]}}, (4, 3), {})
