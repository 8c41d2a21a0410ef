"""Grids: positions of nodes and cells, forms of the arguments, and invalid input."""

import dataclasses
import math
import pickle
from fractions import Fraction

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from refusals import refusals

import sciml_bounds as sb
from sciml_bounds.grid import AXES, side_axis

EPS = np.finfo(np.float64).eps


def grids(largest: int = 9) -> st.SearchStrategy[sb.Grid]:
    """Boxes of every dimension with sides and corners of all sizes."""
    lengths = st.floats(1e-3, 1e3)
    corners = st.floats(-1e3, 1e3)
    axes = st.lists(st.tuples(st.integers(2, largest), lengths, corners), min_size=1, max_size=3)
    return axes.map(lambda entries: sb.Grid(*zip(*entries)))


# --- geometry ---------------------------------------------------------------------------------------------------------


@given(grids())
def test_nodes_divide_the_box_evenly(grid):
    """Against rational arithmetic: k / n, times the length, plus the origin are three roundings of eps / 2 each."""
    for axis, n in enumerate(grid.shape):
        length, origin = Fraction(grid.lengths[axis]), Fraction(grid.origin[axis])
        slack = 2 * EPS * (grid.lengths[axis] + abs(grid.origin[axis]))
        nodes, centers = grid.nodes(axis), grid.centers(axis)
        assert (nodes.shape, centers.shape) == ((n + 1,), (n,))
        assert (nodes.dtype, centers.dtype) == (torch.float64, torch.float64)
        np.testing.assert_allclose(nodes, [float(origin + length * k / n) for k in range(n + 1)], rtol=0, atol=slack)
        exact = [float(origin + length * (2 * k + 1) / (2 * n)) for k in range(n)]
        np.testing.assert_allclose(centers, exact, rtol=0, atol=slack)
        assert nodes[0].item() == grid.origin[axis]
        assert nodes[-1].item() == grid.origin[axis] + grid.lengths[axis]  # where callables on the side are sampled


@given(grids())
def test_cells_and_faces_fill_the_box(grid):
    assert grid.dim == len(grid.shape)
    volume = math.prod(grid.lengths)
    assert grid.cell_volume * math.prod(grid.shape) == pytest.approx(volume, rel=8 * EPS)
    for axis, h in enumerate(grid.spacing):
        assert h * grid.shape[axis] == pytest.approx(grid.lengths[axis], rel=2 * EPS)
        faces = math.prod(n for other, n in enumerate(grid.shape) if other != axis)
        section = math.prod(length for other, length in enumerate(grid.lengths) if other != axis)
        assert grid.face_area(axis) * faces == pytest.approx(section, rel=10 * EPS)


def test_coordinates_are_rounded_once():
    """In single precision they are the closest numbers to those in double precision, not a sum of rounded steps."""
    grid = sb.Grid(1000, lengths=0.3, origin=1 / 3)
    for place in (grid.nodes, grid.centers):
        np.testing.assert_array_equal(place(0, torch.float32), place(0).numpy().astype(np.float32))


def test_coordinates_are_made_where_they_are_needed():
    grid = sb.Grid((2, 3))
    assert grid.nodes(1, device="meta").device.type == "meta"
    assert grid.centers(1, torch.float32, "meta").device.type == "meta"


def test_sides_are_named_after_axis_and_end():
    assert sb.Grid((2, 2, 2)).sides == ("x0", "x1", "y0", "y1", "z0", "z1")
    for dim in (1, 2, 3):
        sides = sb.Grid((2,) * dim).sides
        assert [side_axis(side) for side in sides] == [(axis, end) for axis in range(dim) for end in (0, 1)]
    assert AXES == "xyz"


@given(grids(), st.integers(1, 5), st.integers(1, 5))
def test_refining_divides_every_cell(grid, factor, again):
    fine = grid.refine(factor)
    assert fine.shape == tuple(factor * n for n in grid.shape)
    assert (fine.lengths, fine.origin) == (grid.lengths, grid.origin)
    for axis in range(grid.dim):
        assert torch.equal(fine.nodes(axis)[::factor], grid.nodes(axis))  # (k f) / (n f) rounds as k / n does
    assert fine.refine(again) == grid.refine(factor * again)
    assert grid.refine(1) == grid
    assert sb.Grid(grid.shape, grid.lengths, grid.origin).refine() == grid.refine(2)


# --- how it is given --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("shape", [5, 5.0, np.int64(5), np.array(5), torch.tensor(5), (5,), [np.int8(5)], range(5, 6)])
def test_a_shape_of_one_axis(shape):
    grid = sb.Grid(shape)
    assert grid == sb.Grid((5,), (1.0,), (0.0,))
    assert type(grid.shape[0]) is int


@pytest.mark.parametrize("shape", [[4, 3], torch.Size((4, 3)), np.array([4, 3]), torch.tensor([4, 3]), (4.0, 3.0)])
def test_a_shape_of_two_axes(shape):
    assert sb.Grid(shape) == sb.Grid((4, 3))
    assert sb.Grid(shape).shape == (4, 3)


@pytest.mark.parametrize(
    ("given_as", "expected"),
    [
        (2, (2.0, 2.0)),
        (np.float32(2.5), (2.5, 2.5)),
        (np.array(3.0), (3.0, 3.0)),
        (torch.tensor(0.5), (0.5, 0.5)),
        ([1, 2.5], (1.0, 2.5)),
        (np.array([1.0, 2.0], dtype=np.float32), (1.0, 2.0)),
        (torch.tensor([3, 4]), (3.0, 4.0)),
        ((torch.tensor(1.5), np.float32(0.5)), (1.5, 0.5)),
        ((Fraction(1, 4), 7), (0.25, 7.0)),
    ],
    ids=repr,
)
def test_lengths_and_origin_are_numbers_or_one_an_axis(given_as, expected):
    grid = sb.Grid((4, 3), lengths=given_as, origin=given_as)
    assert grid.lengths == grid.origin == expected
    assert all(type(number) is float for number in grid.lengths + grid.origin)


def test_a_grid_does_not_change_with_what_it_was_given():
    shape, lengths = [4, 3], np.array([1.0, 2.0])
    grid = sb.Grid(shape, lengths)
    shape[0], lengths[0] = 7, 5.0
    assert grid == sb.Grid((4, 3), (1.0, 2.0))
    with pytest.raises(dataclasses.FrozenInstanceError):
        grid.shape = (2, 2)


def test_equal_grids_are_one_key():
    grid = sb.Grid((4, 2), lengths=(1, 3))
    same = sb.Grid([4, 2], lengths=[1.0, 3.0], origin=0.0)
    others = [
        sb.Grid((4, 3), (1, 3)),
        sb.Grid((2, 4), (1, 3)),
        sb.Grid((4, 2), (1, 2)),
        sb.Grid((4, 2), (1, 3), (0, 1)),
    ]
    assert grid == same
    assert len({grid, same}) == 1
    assert all(grid != other for other in others)
    assert len({grid, *others}) == 5


def test_the_printed_form_makes_the_same_grid():
    grid = sb.Grid((4, 2), lengths=(1.0, 1 / 3), origin=(-1.0, 0.1))
    assert repr(grid) == f"Grid(shape=(4, 2), lengths=(1.0, {1 / 3}), origin=(-1.0, 0.1))"
    assert eval(repr(grid), {"Grid": sb.Grid}) == grid
    assert pickle.loads(pickle.dumps(grid)) == grid


# --- what is refused --------------------------------------------------------------------------------------------------

NAN, INF = math.nan, math.inf
BAD = [
    ("axis x 1 cell", {"shape": 1}),
    ("Grid((8, 8)) lengths=(8,)", {"shape": 8, "lengths": 8}),
    ("axis z 0", {"shape": (4, 4, 0)}),
    ("axis x -4", {"shape": (-4, 4)}),
    ("axes () 0", {"shape": ()}),
    ("axes (2, 2, 2, 2) 4", {"shape": (2, 2, 2, 2)}),
    *[
        ("shape integer", {"shape": bad})
        for bad in ((4, 4.5), NAN, (4, INF), (True, 4), "44", b"44", None, {4, 5}, np.array([[4, 4]]), (4, (4,)), 4j)
    ],
    ("length axis y 0.0 positive", {"shape": (4, 4), "lengths": (1.0, 0.0)}),
    ("length axis x -1.0 positive", {"shape": (4, 4), "lengths": -1}),
    ("lengths finite nan", {"shape": (4, 4), "lengths": (1.0, NAN)}),
    ("lengths finite inf", {"shape": (4,), "lengths": 10**400}),
    ("lengths 1 2 axes", {"shape": (4, 4), "lengths": (1.0,)}),
    ("lengths 0 2 axes", {"shape": (4, 4), "lengths": ()}),
    *[
        ("lengths number", {"shape": 4, "lengths": bad})
        for bad in ("12", b"12", True, (np.True_,), (None,), {"x": 1}, {1.0}, 1j)
    ],
    ("spacing axis y 2.5e-201", {"shape": (4, 4), "lengths": (1, 1e-200)}),
    ("spacing axis x 5e+149", {"shape": 2, "lengths": 1e150}),
    ("origin finite nan", {"shape": (4, 4), "origin": (NAN, 0)}),
    ("origin 2 1 axis", {"shape": 4, "origin": (0, 0)}),
    ("origin number '0'", {"shape": 4, "origin": "0"}),
]

test_bad_boxes = refusals(
    *[(words, lambda arguments=arguments: sb.Grid(**arguments)) for words, arguments in BAD],
    *[
        ("refinement factor integer", lambda factor=factor: sb.Grid((4, 4)).refine(factor))
        for factor in (0, -2, 1.5, 2.0, NAN, INF, "2", None, True)
    ],
    ("refinement factor 0", lambda: sb.Diffusion(sb.Grid((4, 4))).refine(0)),
    ("box axis", lambda: sb.barron.Box([])),
    ("lengths box number 'ab'", lambda: sb.barron.Box("ab")),
    ("lengths box number None", lambda: sb.barron.Box(None)),
    ("length axis 1 box 0.0 positive", lambda: sb.barron.Box([1.0, 0.0])),
    ("lengths finite nan", lambda: sb.barron.Box([1.0, NAN])),
    ("origin 3 2 axes", lambda: sb.barron.Box([1.0, 1.0], [0.0] * 3)),
    ("origin number 'a'", lambda: sb.barron.Box([1.0, 1.0], "a")),
    ("points (3,) 2 coordinates", lambda: sb.barron.Box([1.0, 1.0]).points([1, 2, 3])),
    ("points () 1", lambda: sb.barron.Box(1.0).points(0.5)),
    ("points array", lambda: sb.barron.Box(1.0).points("a")),
)


@pytest.mark.parametrize("h", [1.001e-100, 0.999e100])
def test_volumes_and_squares_of_accepted_spacings_are_normal_numbers(h):
    grid = sb.Grid((2, 2, 2), lengths=2 * h)
    normal = np.finfo(np.float64).tiny
    for number in (grid.cell_volume, h**2, h**-2, grid.cell_volume / h**2, grid.face_area(0)):
        assert normal < number < math.inf


# --- conditions -------------------------------------------------------------------------------------------------------


def test_conditions_without_data_are_homogeneous():
    assert sb.Dirichlet() == sb.Dirichlet(0.0)
    assert sb.Neumann() == sb.Neumann(0.0)
    assert sb.Robin(2.0) == sb.Robin(alpha=2.0, g=0.0)
    assert sb.Periodic() == sb.Periodic()
    with pytest.raises(TypeError, match="alpha"):
        sb.Robin()


def test_conditions_of_other_kinds_or_data_differ():
    conditions = [sb.Dirichlet(), sb.Dirichlet(1.0), sb.Neumann(), sb.Neumann(1.0), sb.Robin(1.0), sb.Robin(1.0, 1.0)]
    conditions.append(sb.Periodic())
    assert len(set(conditions)) == len(conditions)


@pytest.mark.parametrize("condition", [sb.Dirichlet(1.0), sb.Neumann(2.0), sb.Robin(1.0, 3.0), sb.Periodic()])
def test_conditions_are_plain_values(condition):
    assert pickle.loads(pickle.dumps(condition)) == condition
    assert eval(repr(condition), vars(sb)) == condition
    with pytest.raises(dataclasses.FrozenInstanceError):
        condition.value = 2.0


# --- boxes without cells ----------------------------------------------------------------------------------------------


def test_boxes_map_points_of_the_unit_cube():
    box = sb.barron.Box(np.array([1.0, 2.0]), torch.tensor([0.5, -1.0]))
    assert (box.lengths, box.origin, box.dim, box.volume) == ((1.0, 2.0), (0.5, -1.0), 2, 2.0)
    assert sb.barron.Box(3).lengths == (3.0,)
    assert box.points([[0.0, 0.0], [1.0, 0.5]]).tolist() == [[0.5, -1.0], [1.5, 0.0]]
    assert box.points(torch.zeros(3, 4, 2)).dtype == torch.float32
