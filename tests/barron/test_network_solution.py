"""What solvers by networks return: orders and contractions of made-up records, and their tables."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch

import sciml_bounds as sb
from sciml_bounds.barron.network_solution import NetworkSolution, NetworkStep

N = sb.BarronNetwork


def solution(network=None, history=(), **more):
    given = {"energy": -1.0, "energy_change": 0.0, "method": "by hand", "integrals": "exact", "proven_order": None}
    return NetworkSolution(network=network or N(2, 4), history=tuple(history), seconds=0.0, **(given | more))


@pytest.mark.parametrize("order", [0.5, 1.5, 2.0])
def test_the_order_of_a_power_law_is_fitted(order):
    """Errors n^-p, whose squares are sums of squares of steps; what the last step leaves is not seen."""
    n = np.arange(1, 129)
    squares = -np.diff((np.arange(1, 130) - 0.5) ** (-2 * order))
    steps = [NetworkStep(int(k), 0.0, 1.0, float(size)) for k, size in zip(n, np.sqrt(squares))]
    left = np.sqrt((n[:-1] + 0.5) ** (-2 * order) - 128.5 ** (-2 * order))
    used = (n[:-1] >= 127 / 8) & (n[:-1] <= 127 / 2)
    slope = np.polyfit(np.log(n[:-1][used]), np.log(left[used]), 1)[0]
    assert solution(history=steps).fitted_order == pytest.approx(-slope, rel=1e-10)


def test_few_steps_and_unknown_sizes_have_no_order():
    assert math.isnan(solution(history=[NetworkStep(k, 0.0, 1.0, 1.0) for k in range(1, 16)]).fitted_order)
    assert math.isnan(solution(history=[NetworkStep(k, 0.0, 1.0) for k in range(1, 40)]).fitted_order)


def test_contraction_is_seen_where_no_neurons_come():
    """The ratio 0.9 is of a step that adds neurons, and the last step is round-off."""
    record = [(2, 1.0), (4, 0.9), (4, 0.45), (4, 0.27), (4, 1e-12)]
    found = solution(history=[NetworkStep(width, 0.0, 1.0, size) for width, size in record])
    assert found.observed_contraction == pytest.approx(0.6)
    assert math.isnan(solution().observed_contraction)


def test_a_short_table():
    network = N.of([[3.0, 4.0]], [0.0], [2.0])
    assert repr(solution(network, energy_change=1e-5, proven_order=1.5, proven_contraction=0.5)).splitlines() == [
        "NetworkSolution",
        "  method       by hand",
        "  width        1",
        "  energy       -1",
        "  integrals    exact; other points change J by 1.0e-05",
        "  Barron norm  12",
        "  order        proven 1.50",
        "  contraction  proven 0.500, observed nan",
    ]


def test_held_relus_say_why_their_norm_is_infinite_and_what_is_finite():
    network = N.of([[1.0, 0.0]], [0.0], [2.0], activation="relu", power=2, held="all")
    assert network.barron_norm == math.inf
    assert repr(solution(network)).splitlines()[-2:] == [
        "  Barron norm  infinite, since relu neurons times a factor (held sides) have no variation norm",
        "  path norm    2",
    ]
    assert float(network(torch.rand(100, 2).double()).detach().abs().max()) <= network.path_norm
