"""Records of solvers by networks: orders and contractions of sequences that are written down."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch

import sciml_bounds as sb
from sciml_bounds.network_solvers._network_solution import NetworkSolution, NetworkStep, warn_unless_converged


def solution(widths, sizes, **more) -> NetworkSolution:
    history = tuple(NetworkStep(int(n), -1.0, 1.0, float(size)) for n, size in zip(widths, sizes))
    network = sb.BarronNetwork.of([[1.0, 2.0], [0.0, 1.0]], [0.0, 0.5], [3.0, -1.0])
    given = {
        "network": network, "energy": -1.25, "energy_change": 0.0, "method": "by hand", "integrals": "exact",
        "proven_order": None, "seconds": 0.0,
    }  # fmt: skip
    return NetworkSolution(history=history, **(given | more))


def sizes_of(errors):
    """Steps of orthogonal projections: e_(n-1)^2 = e_n^2 + size_n^2, of which the last one leaves nothing."""
    squares = np.append(errors, 0.0) ** 2
    return np.sqrt(squares[:-1] - squares[1:])


@pytest.mark.parametrize("neurons", [1, 3])
@pytest.mark.parametrize("order", [0.5, 2.0])
def test_the_order_of_a_power_is_found(neurons, order):
    n = np.arange(41)
    errors = np.append(2.0, 1 / n[1:].astype(float) ** order)
    assert solution(neurons * (n + 1), sizes_of(errors)).fitted_order == pytest.approx(order, rel=1e-9)


def test_the_order_is_that_between_an_eighth_and_half_of_the_neurons():
    """1 / n^2 from 8 to 32 of 64 neurons that leave something, n^(-1/2) before and n^-4 after; numpy's line says 2."""
    n = np.arange(1, 65)
    errors = np.where(n < 8, 8.0**-1.5 * n**-0.5, np.where(n > 32, 32.0**2 * n**-4.0, n**-2.0))
    found = solution(np.arange(1, 66), sizes_of(np.append(2.0, errors))).fitted_order
    used = (n >= 8) & (n <= 32)
    assert found == pytest.approx(-np.polyfit(np.log(n[used]), np.log(errors[used]), 1)[0], rel=1e-9)
    assert found == pytest.approx(2, rel=1e-9)


def test_without_enough_steps_or_sizes_there_is_no_order():
    sizes = sizes_of(1 / np.arange(1, 17))
    widths = np.arange(1, 17)
    assert math.isfinite(solution(widths, sizes).fitted_order)
    assert math.isnan(solution(widths[:15], sizes[:15]).fitted_order)
    sizes[3] = math.nan
    assert math.isnan(solution(widths, sizes).fitted_order)


def test_contractions_are_those_of_steps_that_add_no_neurons():
    """A growing step may be any size; 1e-12 and 8e-12 are round-off compared with 5."""
    widths, sizes = [2, 4, 4, 4, 4, 6, 6, 6, 6], [1.0, 5.0, 2.0, 1.0, 0.3, 1.5, 0.45, 1e-12, 8e-12]
    assert solution(widths, sizes).observed_contraction == 0.5
    assert math.isnan(solution([2, 4], [1.0, 0.5]).observed_contraction)
    assert math.isnan(solution([], []).observed_contraction)


def test_a_short_table():
    """|a| (1 + |w|_2): 3 (1 + sqrt 5) + 2."""
    given = solution([2], [1.0], proven_contraction=0.25, proven_order=1.5, energy_change=2e-7)
    assert given.width == 2
    assert repr(given).splitlines() == [
        "NetworkSolution",
        "  method       by hand",
        "  converged    yes",
        "  width        2",
        "  energy       -1.25",
        "  integrals    exact; other points change J by 2.0e-07",
        f"  Barron norm  {3 * (1 + math.sqrt(5)) + 2:.4g}",
        "  order        proven 1.50",
        "  contraction  proven 0.250, observed nan",
    ]
    n = torch.arange(1, 33).double()
    assert "proven 1.00, fitted 1.00 (estimate)" in repr(
        solution(n, sizes_of(np.append(2.0, 1 / n[:-1].numpy())), proven_order=1.0)
    )
    assert "order" not in repr(solution(n, n))
    assert "change J" not in repr(solution(n, n))


def test_held_relus_say_why_their_norm_is_infinite_and_what_is_finite():
    network = sb.BarronNetwork.of([[1.0, 0.0]], [0.0], [2.0], activation="relu", power=2, dirichlet_sides="all")
    assert network.barron_norm == math.inf
    assert repr(solution([1], [1.0], network=network)).splitlines()[-2:] == [
        "  Barron norm  infinite, since relu networks with Dirichlet sides have no variation norm",
        "  path norm    2",
    ]
    assert float(network(torch.rand(100, 2).double()).detach().abs().max()) <= network.path_norm


SHRINKING = ([2, 2], [1.0, 0.5])


@pytest.mark.parametrize(
    ("given", "words"),
    [
        ({"residual": 1.1e-4}, "a gradient of 1.1e-04 is left after the fit"),
        ({"residual": math.nan}, "a gradient of nan is left"),
        ({"energy_change": 0.0126}, "the energy differs by 1.3e-02 between the points of the solver and other points"),
        ({"energy": math.inf}, "the energy differs by"),
        ({"energy_change": math.nan}, "the energy differs by nan"),
        ({"proven_contraction": 0.49999}, "steps contract by the factor 0.5, but 0.5 is proven"),
    ],
    ids=range(6),
)
def test_what_is_off_is_said(given, words):
    found = solution(*SHRINKING, **given)
    assert not found.converged
    assert found.shortcoming.startswith(words)
    assert f"converged    no: {words}" in repr(found)
    with pytest.warns(sb.ConvergenceWarning, match=f"the network did not converge: {words}"):
        warn_unless_converged(found)


@pytest.mark.parametrize(
    "given",
    [
        {"residual": 0.9e-4},
        {"energy_change": 0.0124},
        {"energy": 1e-17, "energy_change": 1e-16},  # round-off of a zero
        {"proven_contraction": 0.5 - 1e-7},
    ],
    ids=range(4),
)
def test_what_is_within_its_margin_converged(given):
    found = solution(*SHRINKING, **given)
    assert found.converged
    warn_unless_converged(found)
    assert "converged    yes" in repr(found)
