"""Functions and networks of the coordinates are certified through their values at the nodes, if that is said."""

from __future__ import annotations

import torch
from refusals import refused

import sciml_bounds as sb

PROBLEM = sb.Diffusion(sb.Grid((8, 12)), source=1.0)


def bump(x, y):
    return x * (1 - x) * y * (1 - y)


class Bump(torch.nn.Module):
    """The same function as a network, in float32."""

    def __init__(self) -> None:
        super().__init__()
        self.scale = torch.nn.Parameter(torch.ones(()))

    def forward(self, points: torch.Tensor) -> torch.Tensor:
        return self.scale * bump(*points.T)[:, None]


def test_function_has_the_certificate_of_its_nodal_values():
    x, y = torch.meshgrid(PROBLEM.grid.nodes(0), PROBLEM.grid.nodes(1), indexing="ij")
    expected = sb.certify(PROBLEM, bump(x, y))
    for given in (bump, Bump().double(), lambda x, y: bump(x, y).numpy()):
        found = sb.certify(PROBLEM, given, layout="nodes")
        assert found.upper == expected.upper
        assert "interpolant of nodal values" in found.certified
    single = sb.certify(PROBLEM, Bump(), layout="nodes")
    assert abs(single.upper - expected.upper) < 1e-6  # float32 values of size 0.06


def test_gradients_reach_the_weights_of_a_network():
    network = Bump().double()
    sb.certify(PROBLEM, network, layout="nodes", lower=False).upper.backward()
    assert abs(network.scale.grad) > 0


def test_what_is_refused():
    refused("function coordinates layout='nodes' interpolant", sb.certify, PROBLEM, bump)
    refused("Bump layout='nodes'", sb.certify, PROBLEM, Bump())
    refused("layout='nodes'", sb.certify, PROBLEM, bump, layout="cells")
    refused("one value per node", sb.certify, PROBLEM, lambda x, y: x[0], layout="nodes")
    refused("points (117, 2) (117, 5)", sb.certify, PROBLEM, torch.nn.Linear(2, 5), layout="nodes")


def test_relative_bounds_say_why_they_are_large():
    wrong = sb.certify(PROBLEM, bump, layout="nodes", lower=False)
    assert wrong.relative_to("solution") == wrong.relative_upper
    far = sb.certify(PROBLEM, lambda x, y: -bump(x, y), layout="nodes")
    assert far.relative_upper == torch.inf
    assert far.relative_to("values") == far.upper / far.energy
    assert "<= inf; the bound is" in repr(far)
    refused("reference 'energy' solution values", wrong.relative_to, "energy")
