"""Sweeping out a defect: exact equilibrium on every shape of domain, whatever flux is given."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
import pytest
import scipy.ndimage
import torch

import sciml_bounds as sb
from sciml_bounds.bounds._defect_sweep import sweep_out
from sciml_bounds.bounds._flux import divergence, equilibrate


@dataclass(frozen=True)
class Case:
    """A domain as a picture (# is solid, 1 reacts; x runs down, y right) or a shape; sides not named are walls."""

    picture: str | tuple[int, ...]
    sides: dict[str, sb.Boundary] = field(default_factory=dict)
    keeping: int = 0  # how many cells have to keep what their component cannot let out

    def problem(self) -> sb.Diffusion:
        if isinstance(self.picture, str):
            letters = np.array([list(line) for line in self.picture.split()])
            solid, reaction = letters == "#", (letters == "1") * 2.5
        else:
            solid, reaction = np.zeros(self.picture, dtype=bool), np.zeros(self.picture)
        grid = sb.Grid(solid.shape, lengths=(1.0, 0.7, 2.0)[: solid.ndim])
        sides = {side: self.sides.get(side, sb.Neumann(0.0)) for side in grid.sides}
        rng = np.random.default_rng(1)
        source = balanced(rng.standard_normal(solid.shape), ~solid)
        a = np.exp(rng.standard_normal(solid.shape))
        return sb.Diffusion(grid, a, source, boundary=sides, reaction=reaction, solid=solid if solid.any() else None)


def balanced(amount: np.ndarray, fluid: np.ndarray) -> np.ndarray:
    """Make an amount per cell sum to zero over each face-connected component (of a box without periodic sides)."""
    labels, count = scipy.ndimage.label(fluid)
    result = np.where(fluid, amount, 0.0)
    for number in range(1, count + 1):
        result[labels == number] -= result[labels == number].mean()
    return result


CORRIDOR = """
    ..........
    .########.
    .#......#.
    .#.####.#.
    .#.#..#.#.
    .#...##.#.
    .######.#.
    ........#.
"""
OPEN, SEAM = sb.Dirichlet(0.0), sb.Periodic()
AROUND = {"y0": SEAM, "y1": SEAM}
PARTLY = sb.Robin(np.array([0.0, 0.0, 1.5, 0.0]), 0.4)  # open on one of its faces only
CASES = {
    "dead-end corridor": Case(CORRIDOR, {"x0": OPEN}),
    "one-cell opening": Case("...#... ...#... ....... ...#... ...#...", {"y0": OPEN}),
    "room behind a small opening": Case("...... ...... ##.### ...... #####. ......", {"x0": OPEN}),
    "vertex-only contacts": Case("..## ..## ##.. ##..", {"x0": OPEN, "x1": OPEN}),
    "vertex-only, one part floats": Case("..## ..## ##.. ##..", {"x0": OPEN}),
    "several components": Case("..#..#.. ..#..#.. ..#..#..", {"y0": OPEN, "y1": sb.Robin(1.0)}),
    "floating chamber": Case("...... .####. .#..#. .####. ......", {"x1": OPEN}),
    "everything floats": Case(".... .##. .... ...."),
    "box that floats": Case((4, 5)),
    "out through the seam": Case("..#... ..#... ..#...", {"x0": OPEN, **AROUND}),
    "ring around the seam": Case("##... ##### ..... #####", {"x0": OPEN, **AROUND}),
    "two cells around a seam": Case((2, 2), {"x0": SEAM, "x1": SEAM, **AROUND}),
    "periodic box": Case((3, 4), {"x0": SEAM, "x1": SEAM, **AROUND}),
    "a reacting cell keeps": Case("..#.. .1#1. ..#1.", keeping=2),
    "reaction next to an exit": Case("..1.#1 11..#.", {"y0": OPEN}, keeping=1),
    "Robin, partly closed": Case((3, 4), {"x1": PARTLY}),
    "Robin, partly closed, solids": Case(".#.. .#.# ....", {"x1": PARTLY}),
    "Dirichlet before Robin": Case("... .#. ...", {"x0": sb.Robin(1.0), "y1": OPEN}),
    "line": Case((7,), {"x1": OPEN}),
    "line between Robin ends": Case((7,), {"x0": sb.Robin(0.0), "x1": sb.Robin(1.0)}),
    "three dimensions": Case((3, 2, 4), {"z0": SEAM, "z1": SEAM, "y0": OPEN}),
    "three dimensions, floating": Case((3, 2, 2)),
}
ALL = pytest.mark.parametrize("name", CASES)


def random_faces(problem: sb.Diffusion, seed: int) -> tuple[torch.Tensor, ...]:
    """Random fluxes, of several sizes, that know nothing of walls or sources."""
    rng = np.random.default_rng(seed)
    shape = problem.grid.shape
    sizes = [tuple(n + (k == axis) for k, n in enumerate(shape)) for axis in range(len(shape))]
    return tuple(torch.as_tensor(10.0 ** rng.uniform(-2, 2, s) * rng.standard_normal(s)).unsqueeze(0) for s in sizes)


def closed_faces(problem: sb.Diffusion, axis: int) -> np.ndarray:
    """Faces that nothing may cross: they touch a solid, or lie on a wall or on a closed face of a Robin side."""
    fluid = np.moveaxis(problem.fluid[0].numpy(), axis, 0)
    closed = np.zeros((len(fluid) + 1, *fluid.shape[1:]), dtype=bool)
    closed[1:] |= ~fluid
    closed[:-1] |= ~fluid
    for end in (0, 1):
        condition = problem.boundary[f"{'xyz'[axis]}{end}"]
        if isinstance(condition, sb.Periodic):
            closed[-end] |= ~fluid[end - 1]
        elif isinstance(condition, sb.Neumann):
            closed[-end] = True
        elif isinstance(condition, sb.Robin):
            closed[-end] |= condition.alpha.numpy() == 0
    return np.moveaxis(closed, 0, axis)


@ALL
def test_sweep_gives_every_cell_what_it_needs(name):
    """Starting from no flux at all, so that the sweep does all of it; the faces it may not touch stay exactly zero.

    Round-off: a face carries the sum of at most N amounts, so a cell is out by at most N eps times the sum of them all.
    """
    case = CASES[name]
    problem = case.problem()
    fluid = problem.fluid[0].numpy()
    amounts = np.random.default_rng(2).standard_normal(fluid.shape)
    holds = case.keeping > 0 or any(isinstance(c, sb.Dirichlet | sb.Robin) for c in case.sides.values())
    floating = problem.components.floating[problem.components.labels[0].clamp_min(0)].numpy()
    needed = np.where(fluid, np.where(floating, balanced(amounts, fluid), amounts), 0.0)
    assert holds or abs(needed.sum()) < 1e-13
    nothing = tuple(torch.zeros_like(face) for face in random_faces(problem, 0))
    faces = sweep_out(problem, nothing, torch.as_tensor(needed).unsqueeze(0))
    given = divergence(faces, problem.grid.spacing)[0].numpy() * problem.grid.cell_volume
    slack = fluid.sum() * np.finfo(float).eps * np.abs(needed).sum()
    short = np.abs(given - needed)[fluid] > slack
    assert short.sum() == case.keeping
    assert (problem.reaction.numpy()[fluid][short] > 0).all()
    for axis, face in enumerate(faces):
        assert (face[0].numpy()[closed_faces(problem, axis)] == 0).all()
        if problem.periodic[axis]:
            assert torch.equal(face[0].select(axis, 0), face[0].select(axis, -1))


@ALL
def test_any_flux_becomes_equilibrated(name):
    """div y = -f on every cell without reaction, to round-off of the given flux; known faces carry exact data."""
    problem = CASES[name].problem()
    given = random_faces(problem, 3)
    faces = equilibrate(problem, given)
    defect = (divergence(faces, problem.grid.spacing)[0] + problem.source).numpy()
    must = problem.fluid[0].numpy() & (problem.reaction.numpy() == 0)
    largest = max(float(face.abs().max()) / h for face, h in zip(given, problem.grid.spacing))
    assert np.abs(defect[must]).max(initial=0.0) <= 4 * must.sum() * np.finfo(float).eps * largest
    for axis, face in enumerate(faces):
        expected = np.zeros(closed_faces(problem, axis).shape)
        for end in (0, 1):
            condition = problem.boundary[f"{'xyz'[axis]}{end}"]
            if isinstance(condition, sb.Robin):
                fluid = problem.fluid[0].select(axis, -end).numpy()
                np.moveaxis(expected, axis, 0)[-end] = (1 if end else -1) * condition.g.numpy() * fluid
        closed = closed_faces(problem, axis)
        np.testing.assert_array_equal(face[0].numpy()[closed], expected[closed])
        if problem.periodic[axis]:
            assert torch.equal(face[0].select(axis, 0), face[0].select(axis, -1))


def test_neumann_data_are_taken_over_exactly():
    rng = np.random.default_rng(5)
    flux = {"x0": rng.standard_normal(4), "y1": rng.standard_normal(3)}
    sides = {
        "x0": sb.Neumann(flux["x0"]),
        "x1": sb.Dirichlet(0.0),
        "y0": sb.Dirichlet(0.0),
        "y1": sb.Neumann(flux["y1"]),
    }
    solid = np.zeros((3, 4), dtype=bool)
    solid[0, 1] = solid[2, 3] = True
    problem = sb.Diffusion(sb.Grid((3, 4)), 1.0, 2.0, boundary=sides, solid=solid)
    x, y = (face[0].numpy() for face in equilibrate(problem, random_faces(problem, 0)))
    np.testing.assert_array_equal(x[0], np.where(solid[0], 0.0, -flux["x0"]))  # outward is against the axis at x0
    np.testing.assert_array_equal(y[:, -1], np.where(solid[:, -1], 0.0, flux["y1"]))


def test_each_sample_is_swept_along_its_own_tree():
    rng = np.random.default_rng(0)
    solid = np.zeros((2, 4, 5), dtype=bool)
    solid[0, 1, :4] = True
    solid[1, 2, 1:] = True
    sides = {"x0": sb.Dirichlet(0.0), "x1": sb.Neumann(), "y0": sb.Neumann(), "y1": sb.Neumann()}
    problem = sb.Diffusion(sb.Grid((4, 5)), 1.0, rng.standard_normal((2, 4, 5)), boundary=sides, solid=solid)
    needed = torch.as_tensor(np.where(solid, 0.0, rng.standard_normal((2, 4, 5))))
    nothing = (torch.zeros(2, 5, 5, dtype=torch.float64), torch.zeros(2, 4, 6, dtype=torch.float64))
    faces = sweep_out(problem, nothing, needed)
    given = divergence(faces, problem.grid.spacing) * problem.grid.cell_volume
    np.testing.assert_allclose(given[~torch.as_tensor(solid)], needed[~torch.as_tensor(solid)], rtol=0, atol=1e-13)
    for sample in range(2):
        one = sb.Diffusion(sb.Grid((4, 5)), 1.0, 0.0, boundary=sides, solid=solid[sample])
        alone = sweep_out(one, tuple(q[:1] for q in nothing), needed[sample : sample + 1])
        assert all(torch.equal(q[0], r[sample]) for q, r in zip(alone, faces))


@pytest.mark.parametrize(
    "name",
    ["one-cell opening", "out through the seam", "a reacting cell keeps", "Robin, partly closed, solids", "line"],
)
def test_gradients_flow_through_the_sweep(name):
    problem = CASES[name].problem()
    faces = tuple(face.requires_grad_() for face in random_faces(problem, 0))
    amounts = torch.as_tensor(np.random.default_rng(2).standard_normal((1, *problem.grid.shape)))
    needed = (amounts * problem.fluid).requires_grad_()

    def swept(needed: torch.Tensor, *faces: torch.Tensor) -> tuple[torch.Tensor, ...]:
        return sweep_out(problem, faces, needed)

    assert torch.autograd.gradcheck(swept, (needed, *faces))
