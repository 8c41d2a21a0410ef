"""Bounds of networks on cells: tried on random networks at random points and at corners, where nothing may be outside.

A few hundred networks by default; the full count, with a table of how tight the bounds are:

    SCIML_BOUNDS_CASES=20200 pytest tests/barron/test_cell_bounds.py -s
"""

from __future__ import annotations

import os

import numpy as np
import pytest
import torch
from refusals import refusals

import sciml_bounds as sb
import sciml_bounds.barron._cell_bounds as module

pytestmark = pytest.mark.slow

N = sb.BarronNetwork
CASES = int(os.environ.get("SCIML_BOUNDS_CASES", "1200")) // 5
KINDS = [("cosine", 1), ("tanh", 1), ("sigmoid", 1), ("relu", 1), ("relu", 2), ("relu", 3), ("relu", 5)]
POINTS = 12  # random points in each cell, in addition to its corners

#: Round-off of sums of `width` terms and of formulas that cancel, relative to the sums of magnitudes.
SLACK = 1e-13


def draw(rng):
    """One network of any kind, and a grid that need not be its box."""
    dim = int(rng.integers(1, 4))
    activation, power = KINDS[rng.integers(len(KINDS))]
    width = int(rng.integers(1, 40))
    lengths = tuple(map(float, 10 ** rng.uniform(-0.4, 0.4, dim)))
    w = rng.standard_normal((width, dim)) * 10 ** rng.uniform(-0.5, 1.3) / lengths
    w *= rng.random((width, dim)) < rng.choice([0.6, 1.0])
    b = -(w * rng.uniform(-0.2, 1.2, (width, dim)) * lengths).sum(1)
    held = [(axis, end) for axis in range(dim) for end in (0, 1) if rng.random() < rng.choice([0.0, 0.6])]
    lifting = N(dim, 3, "tanh", seed=int(rng.integers(99)), scale=2.0) if rng.random() < 0.2 else None
    network = N.of(
        w, b, rng.standard_normal(width), activation=activation, power=power, slope=rng.standard_normal(dim),
        offset=1.0, lengths=lengths, dirichlet_sides=held, lifting=lifting,
    )  # fmt: skip
    shape = tuple(int(n) for n in rng.integers(2, {1: 20, 2: 8, 3: 4}[dim], dim))
    origin = tuple(map(float, rng.uniform(-0.3, 0.3, dim)))
    return network, sb.Grid(shape, lengths, origin), bool(held)


def places(rng, grid):
    """Points of all cells, (points, n, d): random ones, and the corners, drawn in by round-off."""
    corners = np.stack(np.meshgrid(*[[0.0, 1.0]] * grid.dim, indexing="ij"), -1).reshape(-1, grid.dim)
    local = np.concatenate([rng.random((POINTS, *grid.shape, grid.dim)), np.broadcast_to(
        corners.reshape(-1, *(1,) * grid.dim, grid.dim), (len(corners), *grid.shape, grid.dim))])  # fmt: skip
    low = np.stack(np.meshgrid(*[grid.nodes(i)[:-1] for i in range(grid.dim)], indexing="ij"), -1)
    return torch.as_tensor(low + local * (1 - 2e-12) * np.array(grid.spacing) + 1e-12 * np.array(grid.spacing))


def value(network, x):
    """Evaluate the network by products whose automatic derivatives need no division (unlike those of `prod`)."""
    t = x @ network.weights.T + network.biases
    activations = {"cosine": torch.cos, "tanh": torch.tanh, "sigmoid": torch.sigmoid, "relu": torch.relu}
    v = activations[network.activation.name](t) ** network.activation.power @ network.outer
    v = v + x @ network.slope + network.offset
    for axis, length in enumerate(network.lengths):
        s = x[..., axis] / length
        ends = [end for held, end in network.dirichlet_sides if held == axis]
        v = v * ((4 if len(ends) == 2 else 1) * (s if 0 in ends else 1) * (1 - s if 1 in ends else 1))
    return v if network.lifting is None else v + value(network.lifting, x)


def derivatives(network, x):
    """Value, gradient, second and the third derivatives that are bounded, by automatic differentiation."""
    x = x.requires_grad_()
    dim = x.shape[-1]
    v = value(network, x)
    gradient = torch.autograd.grad(v.sum(), x, create_graph=True)[0].unbind(-1)
    second, third = [], []
    for i in range(dim):
        rows = torch.autograd.grad(gradient[i].sum(), x, create_graph=True, allow_unused=True)[0]
        rows = torch.zeros_like(x) if rows is None else rows
        second.append(rows.unbind(-1))
        third.append([slope_of(rows[..., j], x)[..., j] for j in range(dim)])
    return v, gradient, second, third


def slope_of(values, x):
    if not values.requires_grad:
        return torch.zeros_like(x)
    slope = torch.autograd.grad(values.sum(), x, retain_graph=True, allow_unused=True)[0]
    return torch.zeros_like(x) if slope is None else slope


def summed(network, grid, order):
    """The size of the numbers whose sum is a derivative: sum_j |a_j| (2 reach + 1)^p (|w_j|_1 + 8 / l)^order."""
    size = network.weights.detach().abs().sum(1) + 8 / min(grid.lengths)
    reach = (
        2 * (network.weights.abs().sum(1) * max(grid.lengths) + network.biases.abs()).detach() + 1
        if network.activation.name == "relu"
        else torch.ones_like(size)
    )
    lifting = 0.0 if network.lifting is None else summed(network.lifting, grid, order)
    affine = (network.path_norm + 8 * float(network.slope.detach().abs().sum())) * (8 / min(grid.lengths)) ** order
    return float(network.outer.detach().abs() @ (reach**network.activation.power * size**order)) + affine + lifting


def outside(found, lower, upper, scale):
    """By how much samples (points, n) leave the bounds (n), relative to a scale of round-off, and the tightness."""
    found = found.detach()
    excess = torch.maximum(found.amax(0) - upper, lower - found.amin(0)).amax() / scale
    spread = float((found.amax(0) - found.amin(0)).mean())
    return float(excess), float((upper - lower).mean()) / spread if spread > 1e-9 * scale else np.nan


@pytest.fixture(scope="module")
def results():
    """For each network: its kind, whether it has Dirichlet sides, and (order, excess, tightness) of each derivative."""
    rows = []
    for seed in range(CASES):
        rng = np.random.default_rng([5, seed])
        network, grid, held = draw(rng)
        bounds = network.cell_bounds(grid)
        v, gradient, second, third = derivatives(network, places(rng, grid))
        kind = f"{network.activation.name}^{network.activation.power}" + (" held" if held else "")
        scale = [summed(network, grid, order) for order in range(4)]
        rows.append((kind, 0, *outside(v, *bounds.value, scale[0])))
        for i in range(grid.dim):
            rows.append((kind, 1, *outside(gradient[i], bounds.gradient[0][i], bounds.gradient[1][i], scale[1])))
            for j in range(grid.dim):
                rows.append((kind, 2, *outside(second[i][j], bounds.second[0][i, j], bounds.second[1][i, j], scale[2])))
                rows.append((kind, 3, *outside(third[i][j], -bounds.third[i, j], bounds.third[i, j], scale[3])))
    return rows


def test_nothing_is_outside(results):
    print(f"\n{'network':16}{'order':>6}{'fields':>8}{'violations':>12}{'median width / sampled range':>30}")
    for kind in sorted({row[0] for row in results}):
        for order in range(4):
            chosen = np.array([row[2:] for row in results if row[:2] == (kind, order)])
            violations = int((chosen[:, 0] > SLACK).sum())
            tight = chosen[np.isfinite(chosen[:, 1]), 1]
            median = f"{np.median(tight):30.2f}" if order < 3 and len(tight) else ""
            print(f"{kind:16}{order:6}{len(chosen):8}{violations:12}{median}")
    assert max(row[2] for row in results) <= SLACK


def test_bounds_of_smooth_networks_are_tight(results):
    """Ranges of 20 samples a cell are some 20 % short in one dimension, more in three; a factor 2 leaves no slack."""
    for order in range(3):
        tight = [row[3] for row in results if row[:2] == ("cosine^1", order) and np.isfinite(row[3])]
        assert np.median(tight) < 2


@pytest.mark.parametrize("held", [(), "all"])
def test_widths_shrink_with_the_cells(held):
    """First order in the spacing: twice as many cells halve the largest width of every derivative, within 25 %."""
    network = N(2, 30, "tanh", dirichlet_sides=held, scale=6.0)
    widths = []
    for n in (32, 64, 128):
        bounds = network.cell_bounds(sb.Grid((n, n)))
        parts = (bounds.value, bounds.gradient, bounds.second)
        widths.append([float((upper - lower).max()) for lower, upper in parts])
    ratios = np.array(widths[1:]) / np.array(widths[:-1])
    assert (ratios < 0.625).all()
    assert (ratios > 0.4).all()


def test_cells_away_from_kinks_are_exact():
    """v = max(x - 1/2, 0)^2 on 5 cells: second derivatives 0 and 2, and both on the cell of the kink."""
    bounds = N.of([[1.0]], [-0.5], [1.0], activation="relu", power=2).cell_bounds(sb.Grid(5))
    assert bounds.second[0].flatten().tolist() == [0, 0, 0, 2, 2]
    assert bounds.second[1].flatten().tolist() == [0, 0, 2, 2, 2]
    assert bounds.third.flatten().tolist() == [0, 0, np.inf, 0, 0]
    torch.testing.assert_close(bounds.value[1], torch.tensor([0, 0, 0.01, 0.09, 0.25], dtype=torch.float64))


def test_chunks_change_nothing(monkeypatch):
    network, grid = N(2, 30, "tanh", dirichlet_sides="all"), sb.Grid((9, 5))
    whole = network.cell_bounds(grid)
    monkeypatch.setattr(module, "CHUNK_SIZE", 100)
    parts = network.cell_bounds(grid)
    for a, b in zip(whole[:5], parts[:5]):
        torch.testing.assert_close(a, b, rtol=0, atol=1e-13 * float(whole.second[1].max()))


def test_single_precision_is_bounded_as_the_numbers_that_it_holds():
    network, grid = N(2, 10, "tanh").float(), sb.Grid((4, 4))
    bounds = network.cell_bounds(grid)
    expected = N(2, 10, "tanh").float().double().cell_bounds(grid)
    assert bounds.nodes.dtype == torch.float64
    assert torch.equal(bounds.value[0], expected.value[0])
    assert network.outer.dtype == torch.float32


def with_nan():
    network = N(1, 4)
    with torch.no_grad():
        network.slope[0] = float("nan")
    return network


test_bad_input = refusals(
    ("grid tuple", lambda: N(2, 4).cell_bounds((4, 4))),
    ("network 2 variables grid 3 axes", lambda: N(2, 4).cell_bounds(sb.Grid((4, 4, 4)))),
    ("network step", lambda: sb.certify(sb.Diffusion(sb.Grid(4)), N(1, 4, "step"))),
    ("parameter slope network 1 NaN", lambda: with_nan().cell_bounds(sb.Grid(4))),
)
