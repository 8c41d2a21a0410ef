from __future__ import annotations

import pytest
import torch

import sciml_bounds as sb
from sciml_bounds.bounds._correction import correction_by_cycles, correction_from_pressure
from sciml_bounds.bounds._energy import EnergyForm
from sciml_bounds.bounds._flux import flux_and_pressure
from sciml_bounds.problems.transfers import with_periodic_copies

SIDES = {
    "held": {},
    "mixed": {"x0": sb.Dirichlet(1.0), "x1": sb.Neumann(0.5), "y0": sb.Robin(2.0, 1.0), "y1": sb.Neumann(0.0)},
    "periodic": {"x0": sb.Periodic(), "x1": sb.Periodic(), "y0": sb.Dirichlet(0.0), "y1": sb.Dirichlet(1.0)},
}


@pytest.mark.parametrize("way", ["pressure", "cycles"])
@pytest.mark.parametrize("sides", SIDES)
def test_a_correction_leads_close_to_the_discrete_solution(sides, way):
    boundary = {f"{axis}{end}": sb.Dirichlet(0.0) for axis in "xy" for end in (0, 1)} | SIDES[sides]
    problem = sb.Diffusion(sb.Grid((32, 24)), lambda x, y: 1 + x * y, source=1.0, boundary=boundary)
    exact = with_periodic_copies(sb.solve(problem).values.unsqueeze(0), problem.periodic)
    values = with_periodic_copies(problem.impose_boundary(torch.zeros_like(problem.dirichlet_values)), problem.periodic)
    if way == "pressure":
        correction = correction_from_pressure(problem, values, flux_and_pressure(problem)[1])
    else:
        correction = correction_by_cycles(problem, values)
    form = EnergyForm(problem)
    # both schemes are of first order in energy: a few cells' widths over 24 cells
    assert form.norm(values + correction - exact) < 0.15 * form.norm(values - exact)
    for axis, wraps in enumerate(problem.periodic):
        if wraps:
            assert torch.equal(correction.select(1 + axis, 0), correction.select(1 + axis, -1))
    held = with_periodic_copies(problem.dirichlet_nodes, problem.periodic)
    assert not correction[held.expand_as(correction)].any()  # boundary values are left as they are
