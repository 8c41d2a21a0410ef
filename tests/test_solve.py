"""`solve` and `prepare` against matrices assembled here node by node, and against what they promise on the way."""

from __future__ import annotations

import functools
import itertools

import numpy as np
import pytest
import scipy.sparse
import scipy.sparse.csgraph
import scipy.sparse.linalg
import torch
from refusals import refusals

import sciml_bounds as sb
from sciml_bounds._linear import LinearSolver
from sciml_bounds.bounds._energy import EnergyForm
from sciml_bounds.errors import ConvergenceError, ConvergenceWarning
from sciml_bounds.results import Reason

METHODS = {
    "auto": "auto",
    "multigrid": "multigrid",
    "cg": "cg",
    "algebraic": "algebraic",
    "direct": "direct",
    "V-cycles": sb.Multigrid(cycle="V"),
    "cycles": sb.Multigrid(accelerate=False),
    "aggregation": sb.Algebraic(kind="smoothed-aggregation"),
}
ITERATIVE = [name for name in METHODS if name not in ("auto", "direct")]  # "auto" need not iterate

EPS = np.finfo(np.float64).eps


@pytest.fixture(params=METHODS)
def method(request):
    """One method of the table."""
    return METHODS[request.param]


# --- problems ---------------------------------------------------------------------------------------------------------


def _value(*x):
    """Dirichlet values that are continuous over the corners."""
    return 0.3 + sum((k + 1) * q for k, q in enumerate(x)) + x[0] * x[-1]


def _condition(kind, faces, rng):
    return {
        "D": lambda: sb.Dirichlet(_value),
        "N": lambda: sb.Neumann(rng.standard_normal(faces)),
        "R": lambda: sb.Robin(rng.random(faces), rng.standard_normal(faces)),
        "P": sb.Periodic,
    }[kind]()


def _problem(shape, kinds, *, diagonal=False, reaction=False, solid=None):
    """Random data in every field; where nothing fixes the level, source and fluxes sum to zero."""
    rng = np.random.default_rng(0)
    dim = len(shape)
    grid = sb.Grid(shape, lengths=(1.0, 0.7, 1.2)[:dim], origin=(0.0, -0.4, 0.1)[:dim])
    boundary = {}
    for side, kind in zip(grid.sides, kinds):
        axis = "xyz".index(side[0])
        boundary[side] = _condition(kind, shape[:axis] + shape[axis + 1 :], rng)
    a = tuple(rng.lognormal(sigma=0.7, size=shape) for _ in range(dim))
    f = rng.standard_normal(shape)
    if set(kinds) <= {"N", "P"}:
        supplied = sum(
            condition.flux.sum() * grid.face_area("xyz".index(side[0]))
            for side, condition in boundary.items()
            if isinstance(condition, sb.Neumann)
        )
        f -= f.mean() + supplied / (f.size * grid.cell_volume)
    c = rng.random(shape) * (rng.random(shape) < 0.5) if reaction else 0.0
    if solid is not None:
        f[3:5, 3:5] -= f[3:5, 3:5].mean()  # see _chamber
    return sb.Diffusion(grid, a if diagonal else a[0], f, boundary=boundary, reaction=c, solid=solid)


def _chamber():
    """Walls at the sides and around a chamber of 2 x 2 cells that nothing holds."""
    solid = np.zeros((17, 11), dtype=bool)
    solid[2:6, 2:6] = True
    solid[3:5, 3:5] = False
    solid[0, :3] = solid[-1, 4:] = solid[8:10, -1] = True
    return solid


def _islands():
    rng = np.random.default_rng(1)
    solid = rng.random((6, 5, 4)) < 0.25
    solid[0, 0, 0] = False
    return solid


#: So many points each that there is a coarse level.
CASES = {
    "line, held": lambda: _problem((200,), "DR", reaction=True),
    "line, free": lambda: _problem((200,), "NN"),
    "ring": lambda: _problem((200,), "PP"),
    "plane, held": lambda: _problem((17, 11), "DDDD"),
    "plane, mixed": lambda: _problem((17, 11), "DNRD", diagonal=True, reaction=True),
    "plane, exchange": lambda: _problem((17, 11), "RRRR", diagonal=True),
    "plane, free": lambda: _problem((17, 11), "NNNN", diagonal=True),
    "cylinder": lambda: _problem((17, 11), "PPDN"),
    "torus": lambda: _problem((17, 11), "PPPP"),
    "plane, walls": lambda: _problem((17, 11), "DNRN", diagonal=True, solid=_chamber()),
    "box, mixed": lambda: _problem((6, 5, 4), "DNRDPP", diagonal=True, reaction=True),
    "box, free": lambda: _problem((6, 5, 4), "NNNNNN"),
    "box, walls": lambda: _problem((6, 5, 4), "RNDNNN").replace(reaction=0.5, solid=_islands()),
}


# --- the reference ----------------------------------------------------------------------------------------------------


def _balance(problem):
    """Matrix, right-hand side and volumes of all nodes, each row the balance over the box around its node."""
    grid, dim, h = problem.grid, problem.grid.dim, problem.grid.spacing
    cells, wraps, nodes = grid.shape, problem.periodic, problem.node_shape
    a = [part.numpy() for part in problem.coefficient]
    solid = np.zeros(cells, dtype=bool) if problem.solid is None else problem.solid.numpy()
    number = np.arange(np.prod(nodes)).reshape(nodes)
    share = np.prod(h) / 2**dim  # of a cell, for each of its corners
    A, b, volume = np.zeros((number.size, number.size)), np.zeros(number.size), np.zeros(number.size)
    for node, corner in itertools.product(np.ndindex(*nodes), itertools.product((0, 1), repeat=dim)):
        cell = tuple((q - 1 + k) % m if w else q - 1 + k for q, k, m, w in zip(node, corner, cells, wraps))
        if any(not 0 <= q < m for q, m in zip(cell, cells)) or solid[cell]:
            continue
        i = number[node]
        volume[i] += share
        A[i, i] += float(problem.reaction[cell]) * share
        b[i] += float(problem.source[cell]) * share
        for axis in range(dim):
            other = list(node)
            other[axis] += 2 * corner[axis] - 1
            j = number[tuple(q % m if w else q for q, m, w in zip(other, cells, wraps))]
            through = a[axis][cell] * 2 * share / h[axis] / h[axis]  # face of the box times 1 / h
            A[i, i] += through
            A[i, j] -= through
            side = f"{'xyz'[axis]}{1 - corner[axis]}"  # the cell lies behind that side, if the node is on it
            condition = problem.boundary[side]
            if node[axis] == (1 - corner[axis]) * cells[axis] and isinstance(condition, sb.Neumann | sb.Robin):
                face, area = cell[:axis] + cell[axis + 1 :], 2 * share / h[axis]
                if isinstance(condition, sb.Neumann):
                    b[i] += float(condition.flux[face]) * area
                else:
                    A[i, i] += float(condition.alpha[face]) * area
                    b[i] += float(condition.g[face]) * area
    return A, b, volume


def _prescribed(problem):
    """Mask and values of the nodes that are held."""
    mask, values = np.zeros(problem.node_shape, dtype=bool), np.zeros(problem.node_shape)
    for side, condition in problem.boundary.items():
        if isinstance(condition, sb.Dirichlet):
            index = [slice(None)] * problem.grid.dim
            index["xyz".index(side[0])] = -int(side[1])
            mask[tuple(index)] = True
            values[tuple(index)] = condition.value.numpy()
    return mask.reshape(-1), values.reshape(-1)


class Reference:
    """The solution by a sparse factorisation, and how far a given residual may be from it."""

    def __init__(self, problem):
        A, b, volume = _balance(problem)
        held, values = _prescribed(problem)
        self.active = volume > 0
        held &= self.active
        self.free = self.active & ~held
        self.matrix = A[np.ix_(self.free, self.free)]
        self.rhs = b[self.free] - A[np.ix_(self.free, held)] @ values[held]
        means = self._means(volume[self.free])
        parts = means.shape[1]
        bordered = scipy.sparse.csc_array(np.block([[self.matrix, means], [means.T, np.zeros((parts, parts))]]))
        solution = scipy.sparse.linalg.spsolve(bordered, np.concatenate([self.rhs, np.zeros(parts)]))
        self.values = np.where(held, values, 0.0)
        self.values[self.free] = solution[: self.rhs.size]
        self.smallest = np.linalg.eigvalsh(self.matrix)[parts]  # beside the null space
        self.norm = np.abs(self.matrix).sum(1).max()
        self.dim = problem.grid.dim

    def _means(self, volume):
        """One column for each part that nothing holds: the volumes of its nodes."""
        count, labels = scipy.sparse.csgraph.connected_components(scipy.sparse.csr_array(self.matrix))
        level = np.abs(self.matrix.sum(1))
        floats = [k for k in range(count) if level[labels == k].max() <= 1e3 * EPS * np.abs(self.matrix).max()]
        return np.where(labels[:, None] == np.array(floats, dtype=int), volume[:, None], 0.0)

    def error(self, rtol):
        """Largest error of a solution whose residual is below rtol ||b||, or at round-off.

        ||x - x*|| <= ||r|| / lambda_min; taking the weighted mean away from that costs a factor of 2^d at most, the
        ratio of the largest node volume to the smallest.
        """
        residual = max(rtol * np.linalg.norm(self.rhs), 20 * EPS * self.norm * np.linalg.norm(self.values))
        return 2**self.dim * residual / self.smallest


@functools.cache
def _reference(name):
    problem = CASES[name]()
    return problem, Reference(problem)


@pytest.mark.parametrize("case", CASES)
def test_no_case_is_so_small_that_the_hierarchy_is_one_factorisation(case):
    assert len(sb.prepare(_reference(case)[0], method="multigrid").as_preconditioner().levels) >= 1


@pytest.mark.parametrize("method", ["auto", "direct"])
def test_a_solve_by_factors_calls_back_once_with_the_solution(method):
    seen: list[sb.results.Progress] = []
    problem = sb.Diffusion(sb.Grid((9, 9)), coefficient=lambda x, y: 1 + x, source=1.0)
    solution = sb.prepare(problem, method=method).solve(callback=seen.append)
    assert len(seen) == 1
    assert torch.equal(seen[0].values, solution.values)


def test_a_prepared_solver_factorises_small_matrices_and_a_single_solve_does_not():
    def solver(n: int, **fields: object) -> str:
        problem = sb.Diffusion(sb.Grid((n, n)), coefficient=1.0 + torch.rand(n, n, dtype=torch.float64), **fields)
        return sb.prepare(problem).solve(source=1.0).linear.method

    assert solver(64) == "sparse LU"
    assert "multigrid" in solver(72)  # 5,329 nodes
    small = sb.Diffusion(sb.Grid((16, 16)), coefficient=1.0 + torch.rand(16, 16, dtype=torch.float64), source=1.0)
    assert "multigrid" in sb.solve(small).linear.method
    assert "multigrid" in sb.prepare(small.to(torch.float32)).solve().linear.method
    assert sb.prepare(small).update(coefficient=2.0 + small.coefficient[0]).solve().linear.method == "sparse LU"


@pytest.mark.parametrize("case", CASES)
def test_every_method_solves_the_equations_assembled_node_by_node(case, method):
    problem, expected = _reference(case)
    solution = sb.solve(problem, method=method, rtol=1e-11)
    assert bool(solution.converged)
    assert solution.values.shape == problem.node_shape
    values = solution.values.numpy().reshape(-1)
    residual = np.linalg.norm(expected.rhs - expected.matrix @ values[expected.free])
    # the residual that is reported is that of these equations: the two differ by round-off
    assert abs(float(solution.residual_norm) - residual) <= 20 * EPS * expected.norm * np.linalg.norm(values)
    assert residual <= max(1.01e-11 * np.linalg.norm(expected.rhs), 20 * EPS * expected.norm * np.linalg.norm(values))
    np.testing.assert_allclose(values, expected.values, rtol=0, atol=expected.error(1e-11))
    held = ~expected.free
    np.testing.assert_array_equal(values[held], expected.values[held])  # prescribed ones, and zero inside walls


@pytest.mark.parametrize("case", ["plane, mixed", "plane, walls", "torus", "box, mixed"])
def test_the_operator_and_right_hand_side_of_a_solver_are_those_equations(case):
    problem, expected = _reference(case)
    solver = sb.prepare(problem)
    A, free = solver.operator.to_csr().toarray(), expected.free
    np.testing.assert_allclose(A[np.ix_(free, free)], expected.matrix, rtol=0, atol=10 * EPS * expected.norm)
    assert not A[np.ix_(free, ~free)].any()
    np.testing.assert_allclose(solver.rhs[0][free], expected.rhs, rtol=0, atol=1e-13)
    assert not solver.rhs[0][~free].any()


def test_errors_at_nodes_are_of_second_order_in_the_energy_norm_too():
    """Superconvergence: the energy error of u itself is of first order."""

    def u(x, y):
        return torch.exp(x) * torch.cos(2 * y)

    def a(x, y):
        return 1 + x * y

    def source(x, y):  # -div(a grad u) + u
        return (3 * a(x, y) - y + 1) * u(x, y) + 2 * x * torch.exp(x) * torch.sin(2 * y)

    sides = {
        "x0": sb.Dirichlet(u),
        "x1": sb.Neumann(lambda x, y: a(x, y) * u(x, y)),
        "y0": sb.Robin(2.0, lambda x, y: 2 * u(x, y)),  # du/dy = 0 there
        "y1": sb.Dirichlet(u),
    }
    errors = []
    for shape in ((12, 14), (24, 28)):
        problem = sb.Diffusion(sb.Grid(shape), a, source, boundary=sides, reaction=1.0)
        x, y = torch.meshgrid(problem.grid.nodes(0), problem.grid.nodes(1), indexing="ij")
        error = sb.solve(problem, rtol=1e-11).values - u(x, y)
        errors.append(float(EnergyForm(problem).norm(error.unsqueeze(0))))
    assert errors[0] >= 3.6 * errors[1]
    assert errors[1] <= 1e-2


# --- precision --------------------------------------------------------------------------------------------------------


def test_single_precision_in_and_out(method):
    problem, expected = _reference("plane, mixed")
    solution = sb.solve(problem.to(torch.float32), method=method)
    assert bool(solution.converged)
    assert solution.values.dtype == solution.residual_norm.dtype == torch.float32
    # residuals of 1e-5, and data rounded to 6e-8: beside the former that is nothing, whatever the condition
    error = np.abs(solution.values.numpy().reshape(-1) - expected.values).max()
    assert error <= 1.1 * expected.error(1e-5)
    assert error >= 1e-9  # nobody worked in double precision on the way


# --- batches ----------------------------------------------------------------------------------------------------------


def _batch(rng, *batch):
    return rng.lognormal(sigma=0.5, size=(*batch, 13, 11))


def test_each_sample_of_a_batch_is_its_own_problem(method):
    """Coefficients along one axis of the batch, sources along the other, and one of the sources zero."""
    rng = np.random.default_rng(0)
    a, f = _batch(rng, 3, 1), np.stack([rng.standard_normal((13, 11)), np.zeros((13, 11))])
    sides = {"x0": sb.Dirichlet(0.0), "x1": sb.Robin(1.0, 0.0), "y0": sb.Neumann(), "y1": sb.Dirichlet(0.0)}
    problem = sb.Diffusion(sb.Grid((13, 11)), a, f, boundary=sides)
    together = sb.solve(problem, method=method, rtol=1e-11, certify=True)
    assert together.values.shape == (3, 2, 14, 12)
    for name in ("converged", "iterations", "residual_norm", "tolerance"):
        assert getattr(together, name).shape == (3, 2)
        assert getattr(together.linear, name).shape == (3, 2)
    assert together.residual_norms.shape[1:] == (3, 2)
    assert together.linear.x.shape == (3, 2, 168)
    assert len(together.reason) == len(together.linear.reason) == 6
    assert together.certificate.upper.shape == (3, 2)
    assert not together.values[:, 1].any()
    for i, j in np.ndindex(3, 2):
        one = sb.Diffusion(sb.Grid((13, 11)), a[i, 0], f[j], boundary=sides)
        alone = sb.solve(one, method=method, rtol=1e-11, certify=True)
        assert alone.reason is together.reason[2 * i + j]
        # the smallest eigenvalue of these matrices is above 1e-2, and ||b|| below 0.2
        torch.testing.assert_close(together.values[i, j], alone.values, rtol=0, atol=1e-9)
        # both solve for the flux to 1e-6, and the hierarchy chooses its axes for all samples at once
        torch.testing.assert_close(together.certificate.upper[i, j], alone.certificate.upper, rtol=1e-5, atol=1e-12)


def test_a_batch_may_be_in_the_boundary_data_only():
    line = sb.Grid(5)
    solution = sb.solve(sb.Diffusion(line, boundary={"x0": sb.Dirichlet(torch.arange(3.0)), "x1": sb.Dirichlet(0.0)}))
    expected = torch.arange(3.0)[:, None] * (1 - line.nodes(0, torch.float32))
    torch.testing.assert_close(solution.values, expected, rtol=0, atol=1e-5)
    exchange = {"x0": sb.Robin(torch.tensor([1.0, 3.0]), 2.0), "x1": sb.Dirichlet(0.0)}  # u(0) = 2 / (1 + alpha)
    solution = sb.solve(sb.Diffusion(line, boundary=exchange))
    torch.testing.assert_close(solution.values[:, 0], torch.tensor([1.0, 0.5]), rtol=0, atol=1e-5)


def test_a_batch_of_one_keeps_its_axis():
    solution = sb.solve(sb.Diffusion(sb.Grid((4, 4)), np.ones((1, 4, 4)), 1.0), certify=True)
    assert solution.values.shape == (1, 5, 5)
    assert solution.reason == (Reason.CONVERGED,)
    assert solution.iterations.shape == solution.certificate.upper.shape == (1,)


# --- the stop rule ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ITERATIVE)
def test_no_iteration_leaves_the_guess(name):
    problem, _ = _reference("plane, mixed")
    guess = torch.randn(problem.node_shape, dtype=torch.float64)
    with pytest.warns(ConvergenceWarning, match="maxiter"):
        solution = sb.solve(problem, method=METHODS[name], x0=guess, maxiter=0)
    torch.testing.assert_close(solution.values, problem.impose_boundary(guess), rtol=0, atol=0)
    assert (int(solution.iterations), len(solution.residual_norms)) == (0, 1)


@pytest.mark.parametrize("name", ["multigrid", "cg", "algebraic", "cycles", "aggregation"])
def test_maxiter_is_reached_and_said_of_each_sample(name):
    f = np.stack([np.random.default_rng(0).standard_normal((17, 11)), np.zeros((17, 11))])
    problem = sb.Diffusion(sb.Grid((17, 11)), source=f)
    with pytest.warns(ConvergenceWarning, match="1 x maxiter"):
        solution = sb.solve(problem, method=METHODS[name], maxiter=1, rtol=1e-12)
    assert solution.reason == (Reason.MAXITER, Reason.CONVERGED)
    assert solution.converged.tolist() == [False, True]
    assert solution.iterations.tolist() == [1, 0]
    with pytest.raises(ConvergenceError, match="maxiter") as error:
        sb.solve(problem, method=METHODS[name], maxiter=1, rtol=1e-12, throw=True)
    assert ("method 'multigrid'" in str(error.value)) == (name not in ("multigrid", "cycles"))


def test_an_absolute_tolerance_takes_over_where_it_is_larger():
    problem, expected = _reference("plane, mixed")
    solution = sb.solve(problem, method="cg", atol=1e-3)
    assert float(solution.tolerance) == 1e-3 > 1e-8 * np.linalg.norm(expected.rhs)
    residual = expected.rhs - expected.matrix @ solution.values.numpy().reshape(-1)[expected.free]
    assert 1e-8 < np.linalg.norm(residual) <= 1e-3


def test_full_multigrid_starts_from_a_better_guess_and_leaves_a_given_one():
    problem, _ = _reference("plane, held")
    plain, full = (sb.solve(problem, method=sb.Multigrid(cycle=cycle)) for cycle in ("V", "full"))
    assert float(full.residual_norms[0]) <= 0.2 * float(plain.residual_norms[0])
    assert "full" in full.method
    assert "full" not in plain.method
    assert int(sb.solve(problem, method=sb.Multigrid(cycle="full"), x0=plain).iterations) == 0


# --- the initial guess ------------------------------------------------------------------------------------------------


def test_an_exact_guess_is_the_solution(method):
    """Also one whose values are off where they are prescribed, and inside walls: there it says nothing."""
    problem, _ = _reference("plane, walls")
    exact = sb.solve(problem, rtol=1e-12)
    free = problem.active_nodes[0] & ~problem.dirichlet_nodes[0]
    spoilt = torch.where(free, exact.values, 7.0)
    for guess in (exact, exact.values, exact.values.numpy(), spoilt):
        solution = sb.solve(problem, method=method, x0=guess)
        assert int(solution.iterations) == 0
        # the mean is taken off once more, and the direct method takes no guess
        torch.testing.assert_close(solution.values, exact.values, rtol=0, atol=1e-8)
    assert spoilt[0, 0] == 7.0


def test_a_guess_may_serve_a_whole_batch_or_be_one_a_sample():
    problem = sb.Diffusion(sb.Grid((13, 11)), source=np.random.default_rng(0).random((2, 3, 13, 11)))
    exact = sb.solve(problem)
    iterations = sb.solve(problem, x0=exact.values[0, 0]).iterations
    assert iterations[0, 0] == 0
    assert iterations.sum() > 0
    assert not sb.solve(problem, x0=exact.values).iterations.any()
    assert not sb.solve(problem, x0=exact.values[0]).iterations[0].any()


@pytest.mark.parametrize("name", ["multigrid", "cycles"])
def test_full_multigrid_corrects_a_guess_so_that_giving_one_never_costs_iterations(name):
    """It is linear: an error that is a tenth of the solution is left with a tenth of the error."""
    a = np.exp(2 * np.random.default_rng(0).standard_normal((8, 8))).repeat(8, 0).repeat(8, 1)
    problem = sb.Diffusion(sb.Grid((64, 64)), a, 1.0)
    exact, plain = sb.solve(problem, rtol=1e-12).values, sb.solve(problem, method=METHODS[name], rtol=1e-6)
    counts = [
        int(sb.solve(problem, method=METHODS[name], x0=(1 - share) * exact, rtol=1e-6).iterations)
        for share in (0.0, 1e-3, 0.1, 1.0)
    ]
    assert counts[0] == 0
    assert counts == sorted(counts)
    assert counts[1] < counts[-1] == int(plain.iterations)


# --- models as initial guesses ----------------------------------------------------------------------------------------


class Model:
    """Predicts what it is told to."""

    def __init__(self, answer):
        self.answer, self.asked = answer, []

    def predict(self, problem):
        self.asked.append(problem)
        return self.answer(problem) if callable(self.answer) else self.answer


def _two_phase(batch=(3,), n=48):
    rng = np.random.default_rng(0)
    a = np.where(rng.random((*batch, n // 8, n // 8)) < 0.5, 12.0, 3.0).repeat(8, -1).repeat(8, -2)
    return sb.Diffusion(sb.Grid((n, n)), a, 1.0, boundary={"x0": sb.Dirichlet(0.3), "x1": sb.Neumann(0.1),
        "y0": sb.Neumann(), "y1": sb.Robin(2.0, 0.5)})  # fmt: skip


def test_a_model_that_is_right_saves_iterations(method):
    problem = _two_phase(n=16)
    exact = sb.solve(problem, rtol=1e-12).values
    model = Model(exact + 1e-4 * torch.randn_like(exact))
    plain, guessed = (sb.solve(problem, method=method, x0=x0, rtol=1e-6) for x0 in (None, model))
    assert bool(guessed.converged.all())
    assert bool((guessed.iterations <= plain.iterations).all())
    assert len(model.asked) == 1
    torch.testing.assert_close(guessed.values, exact, rtol=0, atol=1e-4)


@pytest.mark.parametrize(
    "answer",
    [
        lambda p: torch.zeros(p.batch_shape + p.node_shape),
        lambda p: 1e6 * torch.randn(p.batch_shape + p.node_shape, dtype=torch.float64),
        lambda p: -1e3 * torch.ones(p.batch_shape + p.node_shape, dtype=torch.float64),
        lambda p: 1e-300 * torch.rand(p.node_shape, dtype=torch.float64),
        lambda p: np.full(p.node_shape, 1e150),
        lambda p: 1e35 * torch.randn(p.node_shape),
    ],
    ids=["zero", "noise", "negative", "tiny", "huge", "huge, float32"],
)
def test_a_model_that_is_wrong_costs_iterations_but_not_the_tolerance(answer):
    problem = _two_phase()
    plain, guessed = (sb.solve(problem, method="multigrid", x0=x0) for x0 in (None, Model(answer)))
    assert bool(guessed.converged.all())
    assert bool((guessed.residual_norm <= guessed.tolerance).all())
    assert int(guessed.iterations.max()) <= int(plain.iterations.max()) + 3
    scale = float(plain.values.abs().max())
    torch.testing.assert_close(guessed.values, plain.values, rtol=0, atol=1e-5 * scale)


@pytest.mark.parametrize("side", [sb.Neumann(), sb.Periodic()], ids=["neumann", "periodic"])
@pytest.mark.parametrize("method", ["multigrid", "cg"])
@pytest.mark.parametrize("wrap", [Model, lambda field: field], ids=["model", "field"])
def test_the_level_of_a_guess_does_not_matter_where_nothing_holds_the_solution(side, method, wrap):
    """A large constant would hide every error below the round-off of ||A|| ||x||, at which iterations end."""
    a = torch.rand(16, 16, dtype=torch.float64) + 0.1
    f = torch.randn(16, 16, dtype=torch.float64)
    problem = sb.Diffusion(sb.Grid((16, 16)), a, f - f.mean(), boundary=dict.fromkeys(("x0", "x1", "y0", "y1"), side))
    plain = sb.solve(problem, method=method)
    level = 1e10 + 1e-3 * torch.randn(problem.node_shape, dtype=torch.float64)
    guessed = sb.solve(problem, method=method, x0=wrap(level))
    assert bool(guessed.converged)
    torch.testing.assert_close(guessed.values, plain.values, rtol=0, atol=1e-6 * float(plain.values.abs().max()))


def test_what_a_model_says_of_prescribed_values_does_not_matter():
    problem = _two_phase(())
    exact = sb.solve(problem, rtol=1e-12).values
    spoilt = torch.where(problem.dirichlet_nodes[0], 7.0, exact)
    assert int(sb.solve(problem, x0=Model(spoilt)).iterations) == 0


def test_a_model_scaled_wrongly_is_scaled_back():
    """The guess that is searched along: any multiple of the solution is as good as the solution (without data g)."""
    problem = sb.Diffusion(sb.Grid((32, 32)), np.where(np.arange(32) < 16, 1.0, 9.0) * np.ones((32, 1)), 1.0)
    exact = sb.solve(problem, rtol=1e-12).values
    for factor in (0.01, -3.0, 1e5):
        assert int(sb.solve(problem, x0=Model(factor * exact)).iterations) == 0


def test_gradients_do_not_flow_through_the_guess_of_a_network():
    class Network(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.weight = torch.nn.Parameter(torch.ones(()))

        def predict(self, problem):
            return self.weight * torch.ones(problem.node_shape)

    a = torch.full((8, 8), 2.0, dtype=torch.float64, requires_grad=True)
    network = Network()
    sb.solve(sb.Diffusion(sb.Grid((8, 8)), a, 1.0), method="multigrid", x0=network).values.sum().backward()
    assert bool(a.grad.any())
    assert network.weight.grad is None


# --- callbacks --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["multigrid", "cg", "algebraic", "V-cycles"])
def test_the_callback_sees_every_iterate(name):
    problem = sb.Diffusion(sb.Grid((17, 11)), source=np.random.default_rng(0).random((2, 3, 17, 11)))
    seen = []
    solution = sb.solve(problem, method=METHODS[name], rtol=1e-6, callback=seen.append)
    assert [p.iteration for p in seen] == list(range(1, len(solution.residual_norms)))
    assert all(p.values.shape == (2, 3, *problem.node_shape) and p.relative_upper is None for p in seen)
    for progress, norm in zip(seen, solution.residual_norms[1:]):
        torch.testing.assert_close(progress.residual_norm, norm, rtol=0, atol=0)
    assert torch.equal(seen[-1].values, solution.values)
    assert not torch.equal(seen[0].values, solution.values)  # each is a copy


@pytest.mark.parametrize("name", ["auto", "cg", "algebraic", "cycles"])
def test_the_callback_stops_without_a_warning(name):
    problem, _ = _reference("plane, mixed")
    solution = sb.solve(problem, method=METHODS[name], callback=lambda progress: True)
    assert solution.reason is solution.linear.reason is Reason.STOPPED
    assert (int(solution.iterations), bool(solution.converged)) == (1, False)


def test_a_missed_error_speaks_of_the_bound_which_a_flux_of_a_finer_grid_can_lower():
    """On a coarse grid whose solution has an error below what is asked, the bound may be above it."""
    problem = sb.Diffusion(sb.Grid((8, 8)), 1.0, 1.0)
    certificate = sb.solve(problem, certify=True).certificate
    fine = problem.refine(8)
    flux = sb.certify(fine, sb.solve(fine)).flux
    better = sb.certify(problem, certificate.values, flux=flux).relative_upper
    assert better < 0.95 * certificate.relative_upper
    asked = float(better + certificate.relative_upper) / 2
    with pytest.warns(ConvergenceWarning, match=r"grid.*flux"):
        sb.solve(problem, error=asked)
    assert sb.solve(problem, error=asked, flux=flux).reason == Reason.ERROR_REACHED


def test_a_solve_to_an_error_ends_early_and_says_what_was_reached():
    """Of two samples one is resolved by the grid and the other is not."""
    rough = np.where(np.indices((24, 24)).sum(0) % 2, 50.0, 1.0)
    problem = sb.Diffusion(sb.Grid((24, 24)), np.stack([np.ones((24, 24)), rough]), 1.0)
    best = sb.solve(problem, certify=True).certificate.relative_upper
    asked = 1.2 * float(best[0])
    assert asked < best[1]
    seen = []
    with pytest.warns(ConvergenceWarning, match="mesh"):
        solution = sb.solve(problem, method="cg", error=asked, callback=seen.append)
    assert solution.reason == (Reason.ERROR_REACHED, Reason.MESH_LIMITED)
    assert solution.converged.tolist() == [True, False]
    assert set(solution.linear.reason) <= {Reason.CONVERGED, Reason.ROUND_OFF}
    assert all(p.relative_upper.shape == (2,) for p in seen)
    one = sb.Diffusion(sb.Grid((24, 24)), 1.0, 1.0)
    for name in ITERATIVE:
        early, late = (sb.solve(one, method=METHODS[name], **stop) for stop in ({"error": asked}, {"rtol": 1e-8}))
        assert early.reason is Reason.ERROR_REACHED
        assert early.linear.reason is Reason.STOPPED
        assert float(early.certificate.relative_upper) <= asked
        assert 1 <= int(early.iterations) < int(late.iterations)
    with pytest.raises(ConvergenceError, match="error"):
        sb.solve(one, error=0.5 * float(best[0]), throw=True)


def test_an_error_that_the_guess_has_already_needs_no_iteration():
    problem = sb.Diffusion(sb.Grid((16, 16)), 1.0, 1.0)
    first = sb.solve(problem)
    again = sb.solve(problem, x0=first, error=0.2)
    assert (int(again.iterations), again.reason) == (0, Reason.ERROR_REACHED)
    direct = sb.solve(problem, method="direct", error=0.2)
    assert direct.reason is Reason.ERROR_REACHED


def test_an_error_not_reached_for_other_reasons_is_not_blamed_on_the_mesh():
    problem = sb.Diffusion(sb.Grid((16, 16)), 1.0, 1.0)
    with pytest.warns(ConvergenceWarning, match="maxiter"):
        solution = sb.solve(problem, method="cg", error=0.2, maxiter=1)
    assert solution.reason is Reason.MAXITER
    assert sb.solve(problem, method="cg", error=0.2, callback=lambda p: p.iteration == 2).reason is Reason.STOPPED


def test_a_certificate_comes_with_the_solution_and_its_flux_serves_again():
    problem, _ = _reference("plane, mixed")
    assert sb.solve(problem).certificate is None
    first = sb.solve(problem, certify=True)
    direct = sb.certify(problem, first.values)
    torch.testing.assert_close(first.certificate.upper, direct.upper, rtol=1e-12, atol=0)
    assert float(first.certificate.lower) <= float(first.certificate.upper)
    again = sb.solve(problem, certify=True, flux=first.certificate.flux)
    torch.testing.assert_close(again.certificate.upper, first.certificate.upper, rtol=1e-9, atol=0)
    poor = tuple(torch.zeros_like(face) for face in first.certificate.flux)
    assert float(sb.solve(problem, certify=True, flux=poor).certificate.upper) > 1.2 * float(first.certificate.upper)


def test_a_flux_from_a_finer_grid_reaches_what_its_own_does_not():
    problem = sb.Diffusion(sb.Grid((12, 12)), 1.0, 1.0)
    own = float(sb.solve(problem, certify=True).certificate.relative_upper)
    fine = sb.solve(problem.refine(4), certify=True).certificate.flux
    solution = sb.solve(problem, error=0.95 * own, flux=fine)
    assert bool(solution.converged)
    torch.testing.assert_close(solution.certificate.flux, fine, rtol=1e-9, atol=1e-9)


def test_solving_to_an_error_in_single_precision():
    solution = sb.solve(sb.Diffusion(sb.Grid((16, 16)), np.ones((16, 16), dtype=np.float32), 1.0), error=0.2)
    assert solution.values.dtype == torch.float32
    assert solution.certificate.upper.dtype == torch.float64
    assert bool(solution.converged)


# --- prepared solvers -------------------------------------------------------------------------------------------------


@pytest.fixture
def set_ups(monkeypatch):
    """Count how often a hierarchy or factors are built."""
    calls, build = [], LinearSolver._set_up
    monkeypatch.setattr(LinearSolver, "_set_up", lambda self: (calls.append(self), build(self))[1])
    return calls


def test_a_solver_is_set_up_once_for_many_sources(method, set_ups):
    problem, _ = _reference("plane, mixed")
    solver = sb.prepare(problem, method=method)
    rng = np.random.default_rng(5)
    sources = [None, 2.0, rng.standard_normal((17, 11)), rng.standard_normal((2, 2, 17, 11)), lambda x, y: x * y]
    solutions = [solver.solve(source=source, rtol=1e-11) for source in sources]
    assert len(set_ups) == 1
    for source, solution in zip(sources, solutions):
        expected = sb.solve(problem if source is None else problem.replace(source=source), rtol=1e-11)
        assert solution.values.shape == expected.values.shape
        torch.testing.assert_close(solution.values, expected.values, rtol=0, atol=1e-8)
    assert solver.problem is problem


def test_sources_may_widen_the_batch_of_the_coefficients(method):
    rng = np.random.default_rng(6)
    a = _batch(rng, 3)
    f = rng.standard_normal((2, 3, 13, 11))
    solution = sb.prepare(sb.Diffusion(sb.Grid((13, 11)), a), method=method).solve(source=f, rtol=1e-11)
    expected = sb.solve(sb.Diffusion(sb.Grid((13, 11)), a, f), rtol=1e-11)
    torch.testing.assert_close(solution.values, expected.values, rtol=0, atol=1e-8)


def test_a_solver_keeps_its_precision_whatever_the_source_comes_in():
    solver = sb.prepare(sb.Diffusion(sb.Grid((13, 11)), np.ones((13, 11), dtype=np.float32)))
    assert solver.solve(source=np.ones((13, 11))).values.dtype == torch.float32


def test_an_update_changes_the_coefficient_and_nothing_else(set_ups):
    problem, _ = _reference("plane, mixed")
    solver = sb.prepare(problem, method="cg")
    before = solver.operator.to_csr()
    a = tuple(2 * part for part in problem.coefficient)
    other = solver.update(coefficient=a)
    assert len(set_ups) == 2
    assert other.method is solver.method
    assert abs(solver.operator.to_csr() - before).max() == 0
    expected = sb.solve(problem.replace(coefficient=a), rtol=1e-11)
    torch.testing.assert_close(other.solve(rtol=1e-11).values, expected.values, rtol=0, atol=1e-8)
    assert not torch.allclose(expected.values, solver.solve().values, rtol=0, atol=1e-3)


@pytest.mark.parametrize("name", ["V-cycles", "cg", "algebraic", "aggregation"])
def test_the_preconditioner_of_a_solver_drives_our_loop_as_it_does_inside(name):
    problem, expected = _reference("plane, mixed")
    solver = sb.prepare(problem, method=METHODS[name])
    s = sb.cg(solver.operator, solver.rhs, M=solver.as_preconditioner(), rtol=1e-11)
    inside = solver.solve(rtol=1e-11)
    assert not s.flexible
    assert s.iterations.tolist() == [int(inside.iterations)]
    free = expected.free
    np.testing.assert_allclose(s.x[0].numpy()[free], inside.values.numpy().reshape(-1)[free], rtol=0, atol=1e-13)


def test_solutions_of_the_equations_become_nodal_values_by_imposing_the_boundary():
    sides = {"x0": sb.Dirichlet(2.0), "x1": sb.Dirichlet(-1.0), "y0": sb.Neumann(0.0), "y1": sb.Neumann(1.0)}
    problem = sb.Diffusion(sb.Grid((13, 11)), _batch(np.random.default_rng(0), 3), 1.0, boundary=sides)
    solver = sb.prepare(problem)
    s = sb.cg(solver.operator, solver.rhs, M=solver.as_preconditioner(), rtol=1e-11)
    x = s.x.view(-1, *problem.node_shape)
    assert not x[:, 0].any()
    # condition numbers of a few thousand, and values of order one, times the tolerance
    torch.testing.assert_close(problem.impose_boundary(x), solver.solve(rtol=1e-11).values, rtol=0, atol=1e-7)


def test_a_cycle_per_sample_drives_a_batch():
    problem = sb.Diffusion(sb.Grid((13, 11)), _batch(np.random.default_rng(0), 3), 1.0)
    solver = sb.prepare(problem)
    s = sb.cg(solver.operator, solver.rhs, M=solver.as_preconditioner(), rtol=1e-11)
    assert int(s.iterations.max()) <= 12
    torch.testing.assert_close(
        s.x.view(3, 14, 12)[:, 1:-1, 1:-1], sb.solve(problem).values[:, 1:-1, 1:-1], rtol=0, atol=1e-8
    )


@pytest.mark.parametrize("case", ["plane, free", "torus"])
def test_the_cycle_of_a_singular_problem_preconditions_scipy(case):
    problem, expected = _reference(case)
    solver = sb.prepare(problem)
    steps = []
    x, failed = scipy.sparse.linalg.cg(
        solver.operator.to_csr(), solver.rhs[0].numpy(), M=solver.as_preconditioner().to_scipy(), rtol=1e-10,
        maxiter=30, callback=steps.append,
    )  # fmt: skip
    assert failed == 0
    assert len(steps) <= 12
    shift = x - expected.values
    np.testing.assert_allclose(shift, shift.mean(), rtol=0, atol=expected.error(1e-10))


# --- what is refused --------------------------------------------------------------------------------------------------

SMALL = sb.Diffusion(sb.Grid((4, 4)))
SINGLE = sb.Diffusion(sb.Grid(4), np.ones(4, dtype=np.float32))
BAD = [
    ("'mutligrid' 'auto' 'transform' 'multigrid' 'cg'", {"method": "mutligrid"}),
    ("round-off float64", {"rtol": 1e-16}),
    ("rtol finite negative", {"rtol": -1.0}),
    ("rtol nan finite", {"rtol": float("nan")}),
    ("atol finite negative", {"atol": -1.0}),
    ("atol nan finite", {"atol": float("nan")}),
    ("maxiter -1", {"maxiter": -1}),
    ("maxiter 1.5 integer", {"maxiter": 1.5}),
    ("callback 3 function", {"callback": 3, "method": "direct"}),
    ("error rtol", {"error": 0.1, "rtol": 1e-3}),
    ("error atol", {"error": 0.1, "atol": 1e3}),
    ("error 0.0 positive", {"error": 0.0}),
    ("error nan positive", {"error": float("nan")}),
    ("certify error=", {"flux": ()}),
    ("flux tuple axis", {"flux": (np.zeros((5, 4)),), "certify": True}),
    ("x0 (4, 4) (5, 5)", {"x0": np.zeros((4, 4))}),
    ("x0 () (5, 5)", {"x0": 0.0}),
    ("x0 (3, 5, 5) (5, 5)", {"x0": np.zeros((3, 5, 5))}),
    ("x0 int64", {"x0": np.zeros((5, 5), dtype=int)}),
    ("x0 25 NaN", {"x0": np.full((5, 5), np.nan)}),
    ("prediction Model x0 25 NaN", {"x0": Model(np.full((5, 5), np.nan))}),
    ("prediction Model x0 (4, 4)", {"x0": Model(np.zeros((4, 4)))}),
    ("prediction Model x0 (2, 5, 5)", {"x0": Model(np.zeros((2, 5, 5)))}),
    ("prediction Model x0", {"x0": Model(None)}),
    ("prediction Model x0 int64", {"x0": Model(torch.zeros(5, 5, dtype=torch.int64))}),
    ("Linear input (1, 1, 4, 4) fields", {"x0": torch.nn.Linear(2, 2)}),
]

test_bad_arguments = refusals(
    *[(words, lambda options=options: sb.solve(SMALL, **options)) for words, options in BAD],
    ("round-off float32", lambda: sb.solve(SINGLE, rtol=1e-7)),
    ("x0 (2, 5) (3, 5)", lambda: sb.solve(sb.Diffusion(sb.Grid(4), np.ones((3, 4))), x0=np.zeros((2, 5)))),
    ("source int64", lambda: sb.prepare(sb.Diffusion(sb.Grid(4))).solve(source=np.ones(4, dtype=int))),
    ("Diffusion Grid", lambda: sb.solve(sb.Grid(4))),
    ("Diffusion Grid", lambda: sb.prepare(sb.Grid(4))),
    ("positional", lambda: sb.solve(SMALL, "cg"), TypeError),
    *[
        ("sum zero mean", lambda side=side: sb.prepare(sb.Diffusion(sb.Grid((6, 5)), boundary=side)).solve(source=1.0))
        for side in (sb.Neumann(), sb.Periodic())
    ],
)


def test_a_level_of_the_boundary_values_does_not_stop_the_search_for_a_bound():
    """The residual that is asked for is relative to data of size 1e6; the bound is relative to what varies."""
    a = np.exp(np.random.default_rng(0).standard_normal((32, 32)))
    problem = sb.Diffusion(sb.Grid((32, 32)), a, 1.0, boundary=sb.Dirichlet(1e6))
    certified = sb.certify(problem, sb.solve(problem, method="direct"))
    asked = 1.01 * float(certified.relative_upper)
    assert bool(sb.solve(problem, error=asked).converged)
