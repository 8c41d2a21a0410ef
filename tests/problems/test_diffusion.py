from __future__ import annotations

import numpy as np
import pytest
import torch
from refusals import refused

import sciml_bounds as sb

GRID = sb.Grid((4, 3))
ZERO = sb.Dirichlet(0.0)
ALL = dict.fromkeys(GRID.sides, ZERO)


# --- what is accepted -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "value",
    [2.0, 2, np.full((4, 3), 2.0), torch.full((4, 3), 2.0, dtype=torch.float64), [[2.0] * 3] * 4, [[2] * 3] * 4,
     lambda x, y: 2 + 0 * x, lambda x, y: 2.0],
    ids=["float", "int", "numpy", "torch", "list", "list of ints", "callable", "constant callable"],
)  # fmt: skip
def test_a_field_may_be_given_in_many_ways(value):
    problem = sb.Diffusion(GRID, value, value, reaction=value, boundary=sb.Robin(1.0, 2.0))
    for field in (problem.coefficient[0], problem.source, problem.reaction):
        assert field.dtype == torch.float64
        assert field.shape == (4, 3)
        assert (field == 2).all()


@pytest.mark.parametrize(
    "give",
    [
        lambda wall: wall[::-1].copy()[::-1],
        lambda wall: wall.astype(">b1"),
        lambda wall: np.broadcast_to(wall, (4, 3)),
        lambda wall: np.asfortranarray(wall),
        lambda wall: wall.tolist(),
        lambda wall: np.ma.array(wall),
        lambda wall: torch.from_numpy(wall),
        lambda wall: lambda x, y: x > 2 * y,
        lambda wall: lambda x, y: (x > 2 * y).numpy(),
    ],
    ids=["negative stride", "big-endian", "read-only", "Fortran", "list", "unmasked", "torch", "callable",
         "callable with numpy"],
)  # fmt: skip
@pytest.mark.filterwarnings("error")
def test_solids_may_be_given_in_many_ways(give):
    x, y = (np.arange(4) + 0.5) / 4, (np.arange(3) + 0.5) / 3
    wall = x[:, None] > 2 * y
    np.testing.assert_array_equal(sb.Diffusion(GRID, solid=give(wall)).solid, wall)


def test_callables_are_sampled_at_centres_nodes_and_faces():
    grid = sb.Grid((4, 3), lengths=(2.0, 0.6), origin=(1.0, -0.3))
    problem = sb.Diffusion(
        grid, lambda x, y: 1 + x + 10 * y**2, lambda x, y: x * y,
        boundary={"x0": sb.Dirichlet(lambda x, y: x + y), "x1": sb.Neumann(lambda x, y: x + y),
                  "y0": sb.Robin(lambda x, y: x, lambda x, y: y), "y1": sb.Periodic()} | {"y0": sb.Periodic()},
    )  # fmt: skip
    x, y = 1 + 0.5 * (np.arange(4) + 0.5), -0.3 + 0.2 * (np.arange(3) + 0.5)
    np.testing.assert_allclose(problem.coefficient[0], 1 + x[:, None] + 10 * y**2, rtol=1e-14)
    np.testing.assert_allclose(problem.source, x[:, None] * y, rtol=1e-14, atol=1e-15)
    np.testing.assert_allclose(problem.boundary["x0"].value, 1 - 0.3 + 0.2 * np.arange(3), rtol=1e-13)  # periodic: 3
    np.testing.assert_allclose(problem.boundary["x1"].flux, 3 + y, rtol=1e-14)
    robin = sb.Diffusion(grid, boundary=sb.Robin(lambda x, y: x, lambda x, y: y)).boundary["y1"]
    np.testing.assert_allclose(robin.alpha, x, rtol=1e-14)
    np.testing.assert_allclose(robin.g, 0.3, rtol=1e-14)


def test_a_diagonal_coefficient_is_a_tuple_of_fields():
    problem = sb.Diffusion(GRID, (2.0, np.full((4, 3), 3.0)))
    assert [float(a[0, 0]) for a in problem.coefficient] == [2.0, 3.0]
    assert not problem.has_scalar_coefficient
    assert sb.Diffusion(GRID, 2.0).has_scalar_coefficient


def test_the_widest_dtype_wins_and_plain_numbers_have_none():
    single = np.ones((4, 3), dtype=np.float32)
    assert sb.Diffusion(GRID, single, 1.0, reaction=lambda x, y: x).dtype == torch.float32
    assert sb.Diffusion(GRID, single, single.astype(np.float64)).dtype == torch.float64
    assert sb.Diffusion(GRID, 1.0, boundary=sb.Dirichlet(torch.tensor(0.0))).dtype == torch.float32
    assert sb.Diffusion(GRID).dtype == torch.float64


def test_batches_of_all_fields_broadcast():
    a = np.ones((5, 1, 4, 3))
    g = np.zeros((2, 4))
    problem = sb.Diffusion(GRID, a, boundary=ALL | {"y0": sb.Neumann(g)}, solid=np.zeros((5, 1, 4, 3), dtype=bool))
    assert problem.batch_shape == (5, 2)
    assert problem.samples(problem.coefficient[0]).shape == (10, 4, 3)
    assert problem.samples(problem.boundary["y0"].flux, 1).shape == (10, 4)
    assert problem.samples(problem.source).shape == (1, 4, 3)
    assert problem.unflatten(torch.zeros(10, 7)).shape == (5, 2, 7)
    assert problem.unflatten(torch.zeros(1, 7)).shape == (7,)
    for sides in ({"x0": sb.Robin(np.ones((2, 3)), 0.0)}, {"x0": sb.Robin(1.0, np.ones((2, 3)))}):
        assert sb.Diffusion(GRID, boundary=ALL | sides).batch_shape == (2,)


def test_gradients_reach_the_fields():
    a = torch.ones(4, 3, dtype=torch.float64, requires_grad=True)
    assert sb.Diffusion(GRID, a).coefficient[0].requires_grad


# --- geometry ---------------------------------------------------------------------------------------------------------


def test_nodes_are_dirichlet_or_active_or_inside_solids():
    solid = np.zeros((4, 3), dtype=bool)
    solid[:2, :2] = True
    sides = ALL | {"x1": sb.Neumann(), "y0": sb.Neumann(), "y1": sb.Dirichlet(2.0), "x0": sb.Dirichlet(2.0)}
    problem = sb.Diffusion(GRID, boundary=sides, solid=solid)
    active = np.ones((5, 4), dtype=bool)
    active[:2, :2] = False
    np.testing.assert_array_equal(problem.active_nodes[0], active)
    held = np.zeros((5, 4), dtype=bool)
    held[0, 2:] = held[:, 3] = True
    np.testing.assert_array_equal(problem.dirichlet_nodes[0], held)
    np.testing.assert_array_equal(problem.dirichlet_values[0], np.where(held, 2.0, 0.0))


def test_a_periodic_axis_has_one_node_less():
    sides = {"x0": sb.Periodic(), "x1": sb.Periodic(), "y0": ZERO, "y1": ZERO}
    problem = sb.Diffusion(GRID, boundary=sides)
    assert problem.node_shape == (4, 4)
    assert problem.periodic == (True, False)


def test_a_detached_problem_has_the_same_data_without_history():
    a, f, c, g = (torch.rand(4, 3, dtype=torch.float64).add_(0.5).requires_grad_() for _ in range(4))
    sides = {"x0": sb.Dirichlet(g[0, 0]), "x1": sb.Robin(g[0, 1], g[0, 2]), "y0": sb.Neumann(g[1, 0]),
             "y1": sb.Periodic()}  # fmt: skip
    sides["y0"] = sides["y1"]
    for coefficient in (a, (a, 2 * a)):
        problem = sb.Diffusion(GRID, coefficient, f, boundary=sides, reaction=c)
        detached = problem.detach()
        assert detached.has_scalar_coefficient is problem.has_scalar_coefficient
        for ours, theirs in zip(_all_data(detached), _all_data(problem)):
            assert theirs.requires_grad
            assert not ours.requires_grad
            assert torch.equal(ours, theirs)


def _all_data(problem):
    x0, x1 = problem.boundary["x0"], problem.boundary["x1"]
    return [*problem.coefficient, problem.source, problem.reaction, x0.value, x1.alpha, x1.g]


def test_impose_boundary_writes_the_prescribed_values_only():
    problem = sb.Diffusion(GRID, boundary=sb.Dirichlet(lambda x, y: x - y))
    v = torch.full((2, 5, 4), 9.0, dtype=torch.float64)
    repaired = problem.impose_boundary(v)
    assert (repaired[:, 1:-1, 1:-1] == 9).all()
    np.testing.assert_allclose(repaired[1, 0], -np.arange(4) / 3, atol=1e-15)
    assert (v == 9).all()
    refused("values shape (4, 3)", lambda: problem.impose_boundary(np.zeros((4, 3))))
    batched = sb.Diffusion(GRID, np.ones((2, 4, 3)))
    refused("batch axes (3,) values (2,)", lambda: batched.impose_boundary(np.zeros((3, 5, 4))))


# --- other problems from one ------------------------------------------------------------------------------------------


def test_replace_changes_what_it_is_told_and_nothing_else():
    problem = sb.Diffusion(GRID, (1.0, 2.0), 3.0, boundary=ALL | {"x0": sb.Robin(1.0, 2.0)}, reaction=4.0)
    other = problem.replace(source=5.0)
    assert (other.source == 5).all()
    assert [float(a[0, 0]) for a in other.coefficient] == [1.0, 2.0]
    assert (other.reaction == 4).all()
    assert (other.boundary["x0"].alpha == 1).all()
    assert problem.replace(coefficient=7.0).has_scalar_coefficient
    refused("field 'sources' fields coefficient", problem.replace, sources=1.0)


def test_to_converts_every_field():
    sides = {"x0": sb.Robin(1.0, 2.0), "x1": sb.Neumann(1.0), "y0": ZERO, "y1": ZERO}
    single = sb.Diffusion(GRID, 2.0, 1.0, boundary=sides, reaction=1.0).to(torch.float32)
    fields = [*single.coefficient, single.source, single.reaction, single.boundary["x0"].alpha,
              single.boundary["x0"].g, single.boundary["x1"].flux, single.boundary["y0"].value]  # fmt: skip
    assert {field.dtype for field in fields} == {torch.float32}
    assert single.to(torch.float32) is single


def test_to_moves_to_a_device():
    problem = sb.Diffusion(GRID, 2.0, 1.0)
    assert problem.to("cpu") is problem
    assert problem.to(torch.device("cpu")) is problem
    for place in ("nowhere", "float32"):
        refused(f"device='{place}' device", problem.to, place)


def test_to_moves_every_field_to_a_device(device):
    sides = {"x0": sb.Robin(1.0, 2.0), "x1": sb.Neumann(1.0), "y0": ZERO, "y1": ZERO}
    solid = torch.zeros(GRID.shape, dtype=torch.bool)
    there = sb.Diffusion(GRID, 2.0, 1.0, boundary=sides, reaction=1.0, solid=solid).to(device)
    fields = [*there.coefficient, there.source, there.reaction, there.solid, there.boundary["x0"].alpha,
              there.boundary["x0"].g, there.boundary["x1"].flux, there.boundary["y0"].value]  # fmt: skip
    assert {field.device for field in fields} == {device}


def test_it_describes_itself():
    problem = sb.Diffusion(GRID, np.ones((2, 4, 3), dtype=np.float32))
    assert repr(problem) == (
        "Diffusion(4x3 cells, batch (2,), float32; x0: Dirichlet, x1: Dirichlet, y0: Dirichlet, y1: Dirichlet)"
    )


# --- what is refused --------------------------------------------------------------------------------------------------


def _with(value, index=(1, 2)):
    field = np.ones((4, 3))
    field[index] = value
    return field


BAD = {
    "zero coefficient": (
        {"coefficient": _with(0.0)},
        "coefficient must be positive cell (1, 2) 0",
    ),
    "negative coefficient": ({"coefficient": -1.0}, "coefficient must be positive (0, 0) -1 12 cells"),
    "negative part": ({"coefficient": (1.0, -1.0)}, "coefficient along y must be positive"),
    "NaN": (
        {"coefficient": _with(np.nan)},
        "coefficient has 1 entry that is NaN or infinite, at index (1, 2); remove or replace it.",
    ),
    "infinity": ({"source": _with(np.inf)}, "source has 1 entry that is NaN or infinite, at index (1, 2)"),
    "NaN on a side": ({"boundary": sb.Dirichlet(np.nan)}, "Dirichlet value x0 nan finite"),
    "negative reaction": ({"reaction": -2.0}, "reaction negative -2"),
    "negative reaction with gradients": (
        {"reaction": torch.tensor(-2.0, requires_grad=True)},
        "reaction negative -2",
    ),
    "negative exchange": ({"boundary": sb.Robin(-1.0)}, "Robin alpha x0 negative -1"),
    "node field": (
        {"coefficient": np.ones((5, 4))},
        "coefficient shape (5, 4) cell (batch..., 4, 3) node field",
    ),
    "transposed": ({"source": np.ones((3, 4))}, "axes reverse transpose"),
    "too few axes": ({"source": np.ones(3)}, "source shape (3,) cell"),
    "too few parts": ({"coefficient": (1.0,)}, "field axis (2) tuple 1"),
    "wrong side data": (
        {"boundary": ALL | {"x0": sb.Dirichlet(np.ones(3))}},
        "Dirichlet value x0 shape (3,) node (batch..., 4)",
    ),
    "node data for faces": (
        {"boundary": ALL | {"x0": sb.Neumann(np.ones(4))}},
        "Neumann flux x0 shape (4,) face (batch..., 3)",
    ),
    "batches apart": (
        {"coefficient": np.ones((2, 4, 3)), "source": np.ones((3, 4, 3))},
        "the batch axes of the fields do not broadcast (coefficient (2,), source (3,))",
    ),
    "unknown side": (
        {"boundary": ALL | {"left": ZERO}},
        "unknown side 'left'; the sides of this grid are x0, x1, y0, y1",
    ),
    "side of another axis": ({"boundary": ALL | {"z0": ZERO}}, "unknown side 'z0'"),
    "missing sides": ({"boundary": {"x0": ZERO, "y1": ZERO}}, "condition x1, y0"),
    "a number for a side": (
        {"boundary": ALL | {"x0": 0.0}},
        "the condition on x0 is a float; use Dirichlet, Neumann, Robin or Periodic",
    ),
    "a number for all sides": (
        {"boundary": 0.0},
        "boundary condition dict float",
    ),
    "half periodic": ({"boundary": ALL | {"x0": sb.Periodic()}}, "only one of x0 and x1 is periodic"),
    "corners apart": (
        {"boundary": ALL | {"x0": sb.Dirichlet(1.0)}},
        "the Dirichlet values on x0 and y0 differ by 1 where the two sides meet",
    ),
    "unbalanced": ({"source": 1.0, "boundary": sb.Neumann()}, "must sum to zero"),
    "integers": (
        {"coefficient": np.ones((4, 3), dtype=int)},
        "coefficient dtype int64 float32 float64",
    ),
    "half precision": ({"source": torch.ones(4, 3, dtype=torch.float16)}, "source has dtype float16"),
    "complex": ({"source": np.ones((4, 3), dtype=complex)}, "source has dtype complex128"),
    "truth values": ({"coefficient": np.ones((4, 3), dtype=bool)}, "coefficient has dtype bool"),
    "words": (
        {"coefficient": "a"},
        "coefficient cannot be read as an array of numbers (str, dtype <U1); load the file first.",
    ),
    "ragged": ({"coefficient": [[1.0], [1.0, 2.0]]}, "coefficient cannot be read as an array of numbers (list)"),
    "devices apart": (
        {"coefficient": torch.ones(4, 3), "source": torch.ones(4, 3, device="meta")},
        "coefficient device cpu source meta",
    ),
    "solid of numbers": ({"solid": np.zeros((4, 3))}, "solid has dtype float64 boolean"),
    "solid of wrong shape": (
        {"solid": np.zeros((3, 4), dtype=bool)},
        "solid shape (3, 4) cell",
    ),
    "solid of words": (
        {"solid": "wall"},
        "solid cannot be read as an array of numbers (str, dtype <U4); load the file",
    ),
    "solid by name": (
        {"solid": {"x": True}},
        "solid array of numbers (dict, dtype object)",
    ),
    "ragged solid": ({"solid": [[True], [True, False]]}, "solid cannot be read as an array of numbers (list)"),
    "masked solid": (
        {"solid": np.ma.array(np.zeros((4, 3), dtype=bool), mask=True)},
        "solid has 12 masked entries; fill them",
    ),
    "sparse solid": (
        {"solid": torch.zeros(4, 3, dtype=torch.bool).to_sparse()},
        "solid sparse dense",
    ),
    "solid without samples": (
        {"solid": np.zeros((0, 4, 3), dtype=bool)},
        "solid shape (0, 4, 3) empty batch",
    ),
    "solid without numbers": (
        {"solid": torch.zeros(4, 3, dtype=torch.bool, device="meta")},
        "solid device meta",
    ),
    "callable solid of numbers": ({"solid": lambda x, y: x - 0.5}, "solid has dtype float64 boolean"),
    "no numbers": ({"source": torch.ones(4, 3, device="meta")}, "device meta"),
    "nested": (
        {"source": torch.nested.nested_tensor([torch.ones(4, 3), torch.ones(4, 3)], layout=torch.jagged)},
        "source nested tensor samples",
    ),
    "no samples on a side": (
        {"boundary": ALL | {"x0": sb.Dirichlet(np.zeros((0, 4)))}},
        "Dirichlet value x0 shape (0, 4) empty batch",
    ),
    "beyond double precision": ({"source": 10**400}, "source double precision"),
    "no samples": ({"coefficient": np.ones((0, 4, 3))}, "coefficient shape (0, 4, 3) empty batch"),
    "too small to be squared": ({"source": 1e-80}, "source is of size 1e-80, whose square underflows"),
    "too small to be squared in single precision": (
        {"source": torch.full((4, 3), 1e-20)},
        "of float32; choose units in which it lies between 1e-15 and 1e+15, or use float64.",
    ),
    "too large to be squared": ({"coefficient": 1e80}, "coefficient is of size 1e+80, whose square overflows"),
    "one tiny coefficient": (
        {"coefficient": np.where(np.arange(12).reshape(4, 3) == 5, 1e-80, 1.0)},
        "the smallest coefficient is of size 1e-80",
    ),
    "a large boundary value": ({"boundary": sb.Dirichlet(1e90)}, "the Dirichlet value on x0 is of size 1e+90"),
    "all solid": ({"solid": np.ones((4, 3), dtype=bool)}, "every cell is solid"),
}


@pytest.mark.parametrize("name", BAD)
def test_bad_input_is_refused_in_one_sentence(name):
    fields, words = BAD[name]
    refused(words, lambda: sb.Diffusion(GRID, **fields))


@pytest.mark.parametrize("shape", [(10**9,) * 3, (10**7,) * 2])
def test_a_grid_that_no_memory_holds_is_refused(shape):
    cells = "x".join(map(str, shape))
    refused(f"field grid {cells} cells GiB", lambda: sb.Diffusion(sb.Grid(shape), 1.0, 1.0))


@pytest.mark.parametrize("dtype", [torch.float16, torch.int64])
def test_a_problem_is_in_single_or_double_precision(dtype):
    refused(f"{dtype!r} torch.float32 torch.float64", lambda: sb.Diffusion(GRID).to(dtype))


def test_corner_data_may_differ_by_round_off_and_where_sides_do_not_meet():
    third = 1 / 3
    sb.Diffusion(GRID, boundary=ALL | {s: sb.Dirichlet(third) for s in ("x0", "x1")} | {
        s: sb.Dirichlet(third * (1 + 1e-15)) for s in ("y0", "y1")})  # fmt: skip
    neumann = {"y0": sb.Neumann(), "y1": sb.Neumann()}
    sb.Diffusion(GRID, boundary={"x0": sb.Dirichlet(1.0), "x1": sb.Dirichlet(0.0)} | neumann)


def test_the_slack_of_corners_is_round_off_and_no_more():
    """1e3 round-offs are 2.2e-13 of the data."""
    for gap in (1e-9, 1e-12):
        refused(
            "sides",
            sb.Diffusion,
            GRID,
            boundary=dict.fromkeys(GRID.sides, sb.Dirichlet(1.0)) | {"x1": sb.Dirichlet(1.0 + gap)},
        )
    sb.Diffusion(GRID, boundary=dict.fromkeys(GRID.sides, sb.Dirichlet(1.0)) | {"x1": sb.Dirichlet(1.0 + 1e-13)})


def test_corners_are_compared_along_whole_edges_in_three_dimensions():
    grid = sb.Grid((2, 3, 4))
    sides = dict.fromkeys(grid.sides, sb.Dirichlet(lambda x, y, z: x + 2 * y - z))
    sb.Diffusion(grid, boundary=sides)
    value = sb.Diffusion(grid, boundary=sides).boundary["y1"].value.clone()
    value[1, 0] += 0.25  # on the edge with z0, away from the corners
    refused("y1 z0 0.25", lambda: sb.Diffusion(grid, boundary=sides | {"y1": sb.Dirichlet(value)}))


def test_coefficients_in_solids_may_be_anything_finite():
    solid = np.zeros((4, 3), dtype=bool)
    solid[1, 2] = True
    sb.Diffusion(GRID, _with(-1.0), solid=solid)
    refused("NaN", lambda: sb.Diffusion(GRID, _with(np.nan), solid=solid))


@pytest.mark.parametrize("shape", [(8, 8), [8, 8], 8])
def test_a_shape_in_place_of_the_grid_is_refused_with_the_grid_to_give(shape):
    refused(f"{type(shape).__name__} sb.Grid({shape!r})", sb.Diffusion, shape, 1.0, 1.0)
    refused("grid ndarray Grid", lambda: sb.Diffusion(np.ones((8, 8)), 1.0))
