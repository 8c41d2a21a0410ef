from __future__ import annotations

import itertools
import math

import numpy as np
import pytest
import scipy.ndimage
import torch
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays
from refusals import refused

import sciml_bounds as sb
from sciml_bounds.errors import InputError
from sciml_bounds.problems.components import Components, cell_graph

AXES = "xyz"


def _sides(grid, periodic, others=None):
    others = sb.Dirichlet(0.0) if others is None else others
    return {side: sb.Periodic() if periodic[AXES.index(side[0])] else others for side in grid.sides}


def _by_image_analysis(fluid, periodic):
    """Labels of the open cells by scipy.ndimage, merged across periodic seams one pair of cells at a time."""
    labels, count = scipy.ndimage.label(fluid)  # neighbours share a face by default
    parent = np.arange(count + 1)

    def root(i):
        while parent[i] != i:
            i = parent[i]
        return i

    for axis, wraps in enumerate(periodic):
        if wraps:
            first, last = np.moveaxis(labels, axis, 0)[[0, -1]]
            for one, other in zip(first.reshape(-1), last.reshape(-1)):
                if one and other:
                    parent[root(one)] = root(other)
    return np.vectorize(root)(labels)


def _same_partition(ours, theirs):
    pairs = set(zip(ours.reshape(-1).tolist(), theirs.reshape(-1).tolist()))
    return len(pairs) == len({one for one, _ in pairs}) == len({other for _, other in pairs})


masks = arrays.arrays(
    bool, st.one_of(*[st.tuples(*[st.integers(2, 5)] * d) for d in (1, 2, 3)]), elements=st.booleans()
)


@given(masks, st.tuples(st.booleans(), st.booleans(), st.booleans()))
def test_components_are_those_of_image_analysis(solid, periodic):
    solid[(0,) * solid.ndim] = False
    grid = sb.Grid(solid.shape)
    problem = sb.Diffusion(grid, boundary=_sides(grid, periodic), solid=solid)
    labels = problem.components.labels[0].numpy()
    assert ((labels == -1) == solid).all()
    assert _same_partition(labels, _by_image_analysis(~solid, problem.periodic))
    assert set(np.unique(labels[~solid])) == set(range(len(problem.components.floating)))


def test_samples_of_a_batch_have_their_own_numbers():
    solid = torch.zeros(3, 4, 4, dtype=torch.bool)
    solid[1, 2] = solid[2, :, 1] = True
    labels = sb.Diffusion(sb.Grid((4, 4)), solid=solid).components.labels
    numbers = [set(part[part >= 0].tolist()) for part in labels]
    assert [len(n) for n in numbers] == [1, 2, 2]
    assert not numbers[0] & numbers[1]
    assert not numbers[1] & numbers[2]


@pytest.mark.parametrize(
    ("fields", "floats"),
    [
        ({"boundary": sb.Neumann()}, True),
        ({"boundary": sb.Periodic()}, True),
        ({"boundary": sb.Robin(0.0, 0.0)}, True),
        ({"boundary": sb.Robin(1e-3, 0.0)}, False),
        ({"boundary": sb.Neumann(), "reaction": 1e-3}, False),
        ({"boundary": sb.Neumann(), "reaction": np.eye(3, 4)}, False),
        ({"boundary": {"x0": sb.Neumann(), "x1": sb.Dirichlet(0.0), "y0": sb.Neumann(), "y1": sb.Neumann()}}, False),
        ({"boundary": {"x0": sb.Periodic(), "x1": sb.Periodic(), "y0": sb.Neumann(), "y1": sb.Neumann()}}, True),
    ],
    ids=str,
)
def test_a_box_floats_if_nothing_fixes_its_level(fields, floats):
    assert sb.Diffusion(sb.Grid((3, 4)), **fields).components.floating.tolist() == [floats]


def test_each_component_is_held_by_its_own_faces_and_reaction():
    # three chambers along x; the first touches the Dirichlet side, the second reacts in one cell, the third is cut off
    solid = np.zeros((8, 3), dtype=bool)
    solid[[2, 5]] = True
    reaction = np.zeros((8, 3))
    reaction[4, 1] = 1.0
    sides = {"x0": sb.Dirichlet(0.0), "x1": sb.Neumann(), "y0": sb.Neumann(), "y1": sb.Neumann()}
    components = sb.Diffusion(sb.Grid((8, 3)), boundary=sides, reaction=reaction, solid=solid).components
    chamber = [int(components.labels[0, x, 0]) for x in (0, 3, 6)]
    assert [bool(components.floating[k]) for k in chamber] == [False, False, True]


def test_one_face_of_exchange_is_enough_and_faces_of_solids_do_not_count():
    alpha = np.array([0.0, 1.0, 0.0])
    solid = np.zeros((4, 3), dtype=bool)
    sides = {"x0": sb.Robin(alpha, 0.0), "x1": sb.Neumann(), "y0": sb.Neumann(), "y1": sb.Neumann()}
    grid = sb.Grid((4, 3))
    assert sb.Diffusion(grid, boundary=sides, solid=solid).components.floating.tolist() == [False]
    solid[0, 1] = True  # the face with the exchange is now that of a wall
    assert sb.Diffusion(grid, boundary=sides, solid=solid).components.floating.tolist() == [True]


# --- balance ----------------------------------------------------------------------------------------------------------


def test_what_does_not_balance_is_refused_with_the_sum():
    grid = sb.Grid((4, 5), lengths=(2.0, 1.0))
    refused("domain 6 zero mean", lambda: sb.Diffusion(grid, source=3.0, boundary=sb.Neumann()))
    refused("6", lambda: sb.Diffusion(grid, source=3.0, boundary=sb.Periodic()))
    refused("3", lambda: sb.Diffusion(grid, boundary=sb.Neumann(0.5)))
    sb.Diffusion(grid, source=-1.5, boundary=sb.Neumann(0.5))  # -1.5 * 2 + 0.5 * 6 = 0
    sb.Diffusion(grid, source=-0.1 * 3, boundary=sb.Neumann(0.1))  # up to round-off


@pytest.mark.parametrize("boundary", [sb.Neumann(), sb.Periodic()])
def test_the_slack_of_the_balance_is_round_off_and_no_more(boundary):
    """1e4 round-offs are 2.2e-12 of the sum of absolute values, which is 2 here."""
    for imbalance in (4e-7, 1e-10, 1e-11):
        refused(
            "zero", sb.Diffusion, sb.Grid(2, lengths=2.0), source=np.array([1.0 + imbalance, -1.0]), boundary=boundary
        )
    sb.Diffusion(sb.Grid(2, lengths=2.0), source=np.array([1.0 + 1e-12, -1.0]), boundary=boundary)


def test_every_floating_component_must_balance_by_itself():
    solid = np.zeros((7, 3), dtype=bool)
    solid[3] = True
    f = np.zeros((7, 3))
    f[:3], f[4:] = 1.0, -1.0  # balanced over all, not in either chamber
    with pytest.raises(InputError, match=r"component \d of the fluid sum to"):
        sb.Diffusion(sb.Grid((7, 3)), source=f, boundary=sb.Neumann(), solid=solid)
    f[:3, :] = [[1.0, -1.0, 0.0]] * 3
    f[4:, :] = [[2.0, 0.0, -2.0]] * 3
    f[3] = 17.0  # sources in solids do not count
    assert sb.Diffusion(sb.Grid((7, 3)), source=f, boundary=sb.Neumann(), solid=solid).components.floating.all()


def test_a_batch_balances_sample_by_sample():
    f = np.zeros((2, 3, 3))
    f[:, 0, 0], f[:, 2, 2] = 1.0, -1.0
    sb.Diffusion(sb.Grid((3, 3)), source=f, boundary=sb.Neumann())
    f[1, 2, 2] = 1.0
    refused("0.222222", lambda: sb.Diffusion(sb.Grid((3, 3)), source=f, boundary=sb.Neumann()))


@pytest.mark.parametrize("batch", [(), (3,)])
def test_single_precision_sources_balance_in_double_precision_too(batch):
    """Two chambers, one with a Neumann inflow: data that balance in float32 are balanced again in float64."""
    rng = np.random.default_rng(1)
    solid = np.zeros((9, 6), dtype=bool)
    solid[4] = True
    f = rng.standard_normal((*batch, 9, 6)).astype(np.float32)
    f[..., :4, :] -= (f[..., :4, :].sum((-2, -1), keepdims=True) + 3.0) / 24  # what flows in through x0
    f[..., 5:, :] -= f[..., 5:, :].mean((-2, -1), keepdims=True)
    sides = dict.fromkeys(("x0", "x1", "y0", "y1"), sb.Neumann(np.float32(0.0)))
    sides["x0"] = sb.Neumann(np.float32(3.0 / 54))
    problem = sb.Diffusion(sb.Grid((9, 6)), source=f, boundary=sides, solid=solid)
    wide = problem.to(torch.float64)
    scale = np.abs(f).max()
    assert float((wide.source - problem.source).abs().max()) <= 1e-6 * scale  # a few round-offs of float32
    inflow = float(problem.boundary["x0"].flux.double().sum()) / 6
    left = wide.source[..., :4, :].sum((-2, -1)) / 54 + inflow
    right = wide.source[..., 5:, :].sum((-2, -1)) / 54
    assert float(left.abs().max()) <= 1e-15 * scale
    assert float(right.abs().max()) <= 1e-15 * scale


# --- the graph --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("periodic", list(itertools.product([False, True], repeat=2)))
def test_the_graph_lists_each_pair_of_open_neighbours(periodic):
    rng = np.random.default_rng(0)
    fluid = rng.random((4, 5)) < 0.7
    graph, numbers = cell_graph(fluid, periodic)
    assert (numbers[~fluid] == -1).all()
    expected = set()
    for x, y in np.argwhere(fluid):
        for dx, dy in ((1, 0), (0, 1)):
            i, j = x + dx, y + dy
            if (i < 4 or periodic[0]) and (j < 5 or periodic[1]) and fluid[i % 4, j % 5]:
                expected.add((int(numbers[x, y]), int(numbers[i % 4, j % 5])))
    assert set(zip(*(q.tolist() for q in graph.tocoo().coords))) == expected


def test_sums_over_many_cells_gather_little_round_off():
    """A million tenths, added one by one, are off by 1e-11; in 1024 sums of 977 by less than 977 round-offs."""
    components = Components(torch.zeros((1, 1000, 1000), dtype=torch.int64), torch.ones(1, dtype=torch.bool))
    field = torch.full((1, 1000, 1000), 0.1, dtype=torch.float64)
    exact = math.fsum(field.flatten().tolist())
    assert abs(float(components.sums(field)) - exact) <= 977 * np.finfo(float).eps * exact
    two = Components(torch.cat([components.labels, components.labels + 1]), torch.ones(2, dtype=torch.bool))
    torch.testing.assert_close(two.sums(torch.cat([field, 2 * field])), exact * torch.tensor([1.0, 2.0]).double())
