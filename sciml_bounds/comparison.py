"""Methods side by side on one linear system: ours, scipy's, PyAMG's and PETSc's, with set-up counted.

Every method is asked for the same relative residual, in float64 and from a zero guess, and judged by one rule: the
residual of what it returns is computed anew here, from the assembled matrix. The clock starts with the set-up, from the
assembled equations, in the form that the method takes (`LatticeSystem` for ours, CSR for the others).
"""

from __future__ import annotations

import statistics
import time
import warnings
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field, replace
from functools import cached_property, partial
from typing import Any

import numpy as np
import scipy.sparse
import scipy.sparse.linalg
import torch

from sciml_bounds._linear import _NAMES, LinearSolver, Stop, as_method
from sciml_bounds.bounds.energy import EnergyForm
from sciml_bounds.errors import ConvergenceWarning, InputError, MissingExtraError
from sciml_bounds.fem import require_dolfinx
from sciml_bounds.krylov.cg import cg
from sciml_bounds.krylov.loop import check_tolerances
from sciml_bounds.multigrid.algebraic import algebraic_cycle
from sciml_bounds.operators.lattice import LatticeSystem
from sciml_bounds.operators.linear_operator import Diagonal, LinearOperator
from sciml_bounds.problems.diffusion import Diffusion
from sciml_bounds.problems.discretization import node_system
from sciml_bounds.problems.transfers import with_periodic_copies

__all__ = ["METHODS", "Comparison", "Equations", "Result", "from_matrix", "from_problem"]

type Array = np.ndarray[Any, np.dtype[np.float64]]

#: Told every iterate.
Watch = Callable[[Array], None]
#: Solves from zero, to a relative residual or for so many iterations; gives x, and how many it did (0: it is direct).
Solve = Callable[[float, int, Watch | None], tuple[Array, int]]


# --- the system -------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Equations:
    """A linear system, and what it comes from.

    Attributes
    ----------
    matrix, rhs
        A and b in float64.
    system
        The lattice system, which geometric methods need; None for a matrix from elsewhere.
    energy_error
        Gives the relative energy error of a solution; None where no reference is known.
    """

    matrix: scipy.sparse.csr_array
    rhs: Array
    system: LatticeSystem | None = None
    energy_error: Callable[[Array], float] | None = None

    @cached_property
    def _norms(self) -> tuple[float, float]:
        return float(abs(self.matrix).sum(axis=1).max()), float(np.linalg.norm(self.rhs))

    def relative_residual(self, x: Array) -> float:
        """Compute ||b - A x|| / ||b|| anew."""
        return float(np.linalg.norm(self.rhs - self.matrix @ x) / self._norms[1])

    def round_off(self, x: Array) -> float:
        """Relative residual below which it means nothing: 10 eps ||A|| ||x|| / ||b||, at most 1."""
        size, start = self._norms
        return float(min(1.0, 10 * np.finfo(float).eps * size * np.linalg.norm(x) / start))


def from_problem(problem: Diffusion, reference: Any = None) -> Equations:
    """Take the equations of a problem without batch.

    Parameters
    ----------
    problem
        The problem; it is solved in float64.
    reference
        A nodal field that the energy error of solutions is measured against; None leaves that out.

    Raises
    ------
    InputError
        If the problem is a batch, nothing drives it, or the reference does not fit.
    """
    if problem.batch_shape:
        raise InputError(f"this is a batch of {tuple(problem.batch_shape)} problems; choose one of them (--sample I).")
    exact = problem.to(torch.float64)
    system = node_system(exact)
    rhs = system.into_range(system.rhs).reshape(-1).numpy()
    _require_drive(rhs)
    error = None if reference is None else _energy_error(exact, reference)
    return Equations(system.operator.to_csr(), rhs, system, error)


def from_matrix(matrix: Any, rhs: Any = None) -> Equations:
    """Take a square real matrix from elsewhere.

    Parameters
    ----------
    matrix
        Any scipy sparse matrix.
    rhs
        Right-hand side, shape (n,) or (n, 1); ones by default.

    Raises
    ------
    InputError
        If shapes do not fit, or an entry is not finite.
    """
    csr = scipy.sparse.csr_array(matrix, dtype=np.float64)
    n = csr.shape[0]
    if csr.shape != (n, n):
        raise InputError(f"the matrix has shape {csr.shape}; a square one is needed.")
    b = np.ones(n) if rhs is None else np.asarray(rhs, dtype=np.float64)
    if b.shape not in ((n,), (n, 1)):
        raise InputError(f"the matrix has {n} rows, but the right-hand side has shape {b.shape}.")
    if not (np.isfinite(csr.data).all() and np.isfinite(b).all()):
        raise InputError("the matrix or the right-hand side has entries that are NaN or infinite.")
    _require_drive(b)
    return Equations(csr, b.reshape(-1))


def _require_drive(rhs: Array) -> None:
    if not rhs.any():
        raise InputError("the right-hand side is zero, and so is the solution; there is nothing to compare.")


def _energy_error(problem: Diffusion, reference: Any) -> Callable[[Array], float]:
    nodes = torch.as_tensor(reference, dtype=torch.float64)
    if tuple(nodes.shape) != problem.node_shape:
        raise InputError(f"the reference has shape {tuple(nodes.shape)}, but nodal values are {problem.node_shape}.")
    form, free = EnergyForm(problem), problem.active_nodes & ~problem.dirichlet_nodes

    def norm(field: torch.Tensor) -> float:
        return float(form.norm(with_periodic_copies(field.view(1, *problem.node_shape), problem.periodic)))

    def error(x: Array) -> float:
        unknowns = torch.from_numpy(x).view(1, *problem.node_shape)
        return norm(torch.where(free, unknowns, problem.dirichlet_values) - nodes) / norm(nodes)

    return error


# --- methods ----------------------------------------------------------------------------------------------------------


def _ours(name: str, equations: Equations) -> Solve:
    if equations.system is None:
        return _ours_on_matrices(name, equations)
    solver = LinearSolver(equations.system, as_method(name))

    def solve(rtol: float, maxiter: int, watch: Watch | None) -> tuple[Array, int]:
        monitor = None if watch is None else lambda _, x, __: watch(x[0].numpy())
        solution = solver.solve(stop=Stop(rtol=rtol, maxiter=maxiter, monitor=monitor))
        return solution.x[0].numpy(), int(solution.iterations[0])

    return solve


def _ours_on_matrices(name: str, equations: Equations) -> Solve:
    A, b = equations.matrix, equations.rhs
    if name == "direct":
        factors = scipy.sparse.linalg.splu(A.tocsc())
        return lambda rtol, maxiter, watch: (factors.solve(b), 0)
    if name == "cg":
        M: LinearOperator = Diagonal(torch.from_numpy(1 / _positive_diagonal(A)).unsqueeze(0))
    elif name == "algebraic":
        M = algebraic_cycle(A)
    else:
        raise InputError(f"{name} needs a problem on a grid; for a matrix there are cg, algebraic and direct.")

    def solve(rtol: float, maxiter: int, watch: Watch | None) -> tuple[Array, int]:
        callback = None if watch is None else lambda x: watch(x.numpy())
        solution = cg(A, b, M=M, rtol=rtol, maxiter=maxiter, callback=callback)
        return solution.x.numpy(), int(solution.iterations)

    return solve


def _positive_diagonal(A: scipy.sparse.csr_array) -> Array:
    diagonal: Array = A.diagonal()
    if not (diagonal > 0).all():
        raise InputError("the diagonal of the matrix is not positive, so that the matrix is not positive definite.")
    return diagonal


def _scipy_cg(equations: Equations) -> Solve:
    A, b = equations.matrix, equations.rhs
    M = scipy.sparse.diags_array(1 / _positive_diagonal(A))

    def solve(rtol: float, maxiter: int, watch: Watch | None) -> tuple[Array, int]:
        count = 0

        def callback(x: Array) -> None:
            nonlocal count
            count += 1
            if watch is not None:
                watch(x)

        x, _ = scipy.sparse.linalg.cg(A, b, rtol=rtol, maxiter=maxiter, M=M, callback=callback)
        return x, count

    return solve


def _scipy_spsolve(equations: Equations) -> Solve:
    A = equations.matrix.tocsc()
    return lambda rtol, maxiter, watch: (scipy.sparse.linalg.spsolve(A, equations.rhs), 0)


def _pyamg(builder: str, equations: Equations) -> Solve:
    import pyamg

    A = scipy.sparse.csr_matrix(equations.matrix)
    A.indptr, A.indices = A.indptr.astype(np.int32), A.indices.astype(np.int32)  # PyAMG takes nothing else
    hierarchy = getattr(pyamg, builder)(A)

    def solve(rtol: float, maxiter: int, watch: Watch | None) -> tuple[Array, int]:
        norms: list[float] = []
        x = hierarchy.solve(
            equations.rhs, tol=rtol, maxiter=maxiter, accel="cg", residuals=norms, callback=watch
        )  # fmt: skip
        return x, len(norms) - 1

    return solve


def _petsc(preconditioner: str, equations: Equations) -> Solve:
    PETSc = _load_petsc()
    A, b = equations.matrix, equations.rhs
    index = PETSc.IntType
    structure = (A.indptr.astype(index), A.indices.astype(index), A.data)
    matrix = PETSc.Mat().createAIJ(size=A.shape, csr=structure, comm=PETSc.COMM_SELF)
    matrix.setOption(PETSc.Mat.Option.SPD, True)
    ksp = PETSc.KSP().create(PETSc.COMM_SELF)
    ksp.setOperators(matrix)
    ksp.setType(PETSc.KSP.Type.CG)
    ksp.setNormType(PETSc.KSP.NormType.UNPRECONDITIONED)
    ksp.getPC().setType(preconditioner)
    ksp.setUp()

    def solve(rtol: float, maxiter: int, watch: Watch | None) -> tuple[Array, int]:
        ksp.setTolerances(rtol=rtol, atol=0.0, max_it=maxiter)
        if watch is not None:
            ksp.setMonitor(lambda ksp, count, norm: watch(ksp.buildSolution().getArray()) if count else None)
        right, x = PETSc.Vec().createWithArray(b, comm=PETSc.COMM_SELF), matrix.createVecRight()
        ksp.solve(right, x)
        ksp.cancelMonitor()
        return x.getArray().copy(), ksp.getIterationNumber()

    return solve


def _load_petsc() -> Any:
    try:
        require_dolfinx()
        from petsc4py import PETSc
    except (MissingExtraError, ModuleNotFoundError):
        raise MissingExtraError(
            "the methods of PETSc need petsc4py, which is not installed: pip install 'sciml-bounds[fem]' on Linux "
            "x86-64, elsewhere conda install -c conda-forge petsc4py."
        ) from None
    return PETSc


#: Every method by its name: what sets it up.
METHODS: dict[str, Callable[[Equations], Solve]] = {
    **{name: partial(_ours, name) for name in _NAMES},
    "scipy:cg": _scipy_cg,
    "scipy:spsolve": _scipy_spsolve,
    "pyamg:ruge-stuben": partial(_pyamg, "ruge_stuben_solver"),
    "pyamg:smoothed-aggregation": partial(_pyamg, "smoothed_aggregation_solver"),
    "petsc:gamg": partial(_petsc, "gamg"),
    "petsc:cg-jacobi": partial(_petsc, "jacobi"),
}
_DIRECT = ("direct", "scipy:spsolve")


# --- measuring --------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Result:
    """What one method did.

    Attributes
    ----------
    method
        Its name.
    setup_seconds, solve_seconds
        Medians of the wall-clock times.
    iterations
        How many; 0 for a direct method.
    residual
        ||b - A x|| / ||b||, computed anew; NaN if it failed.
    converged
        Whether that is at most rtol, but for round-off.
    reason
        Why not; or "converged", "converged to round-off".
    energy_error
        |||x - reference||| / |||reference|||; None without a reference.
    history
        Seconds since the start of the set-up and relative residual, before the first iteration and after each; of a
        direct method at its end only.
    """

    method: str
    setup_seconds: float
    solve_seconds: float
    iterations: int
    residual: float
    converged: bool
    reason: str
    energy_error: float | None = None
    history: tuple[tuple[float, float], ...] = ()

    @property
    def total_seconds(self) -> float:
        """Set-up and solve."""
        return self.setup_seconds + self.solve_seconds


@dataclass
class _Record:
    """What is known about one method so far."""

    runs: list[Result] = field(default_factory=list)
    history: tuple[tuple[float, float], ...] = ()


class Comparison:
    """Methods on one system, measured in rounds so that a busy machine is busy for all of them.

    Parameters
    ----------
    equations
        The system.
    methods
        Names from `METHODS`.
    rtol, maxiter
        The stop rule for all: ||b - A x|| <= rtol ||b||, or so many iterations.

    Raises
    ------
    InputError
        If a name is unknown or given twice, or the stop rule means nothing.
    MissingExtraError
        If a method needs a package that is not installed.
    """

    def __init__(
        self, equations: Equations, methods: Iterable[str], *, rtol: float = 1e-8, maxiter: int = 1000
    ) -> None:
        names = list(methods)
        for name in names:
            if name not in METHODS:
                raise InputError(f"unknown method {name!r}; the choices are {', '.join(METHODS)}.")
        if len(set(names)) < len(names) or not names:
            raise InputError("name at least one method, and each of them once.")
        if any(name.startswith("petsc:") for name in names):
            _load_petsc()
        self.equations = equations
        self.rtol, self.maxiter = check_tolerances(rtol, 0.0, maxiter, torch.float64), maxiter
        self._records = {name: _Record() for name in names}

    @property
    def results(self) -> list[Result]:
        """The medians of what is done, in the order of the names; methods that were not run yet are left out."""
        return [_median(record) for record in self._records.values() if record.runs]

    def run(self, repeat: int = 3, *, histories: bool = False, notify: Callable[[str], None] | None = None) -> None:
        """Measure; what is done before an interruption stays in `results`.

        Parameters
        ----------
        repeat
            Number of rounds.
        histories
            Run each method once more to record its residuals; computing them does not count.
        notify
            Told what is being done, in a few words.
        """
        tell = notify or (lambda words: None)
        for name in self._records:
            if name not in _DIRECT:
                tell(f"{name}: compiling and loading, before any clock runs")
                self._measure(name, maxiter=1)
        for count in range(1, repeat + 1):
            for name, record in self._records.items():
                if not record.runs or np.isfinite(record.runs[-1].residual):
                    tell(f"{name}: round {count} of {repeat}")
                    record.runs.append(self._measure(name, self.maxiter))
        for name, record in self._records.items():
            if histories and np.isfinite(record.runs[-1].residual):
                tell(f"{name}: recording its residuals")
                record.history = self._measure(name, self.maxiter, watched=True).history

    def _measure(self, name: str, maxiter: int, *, watched: bool = False) -> Result:
        watch = _Stopwatch(self.equations)
        failed = Result(name, np.nan, np.nan, 0, np.nan, False, "")
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore", ConvergenceWarning)  # it is judged below, as the others are
                solve = METHODS[name](self.equations)
                setup = watch.start_solving()
                x, iterations = solve(self.rtol, maxiter, watch.note if watched else None)
                total = watch.seconds()
        except (InputError, ArithmeticError, RuntimeError, ValueError, TypeError, MemoryError) as error:
            return replace(
                failed, reason=f"failed: {str(error).splitlines()[0] if str(error) else type(error).__name__}"
            )
        residual = self.equations.relative_residual(x)
        if not np.isfinite(residual):
            return replace(failed, reason="failed: not finite")
        level = self.equations.round_off(x)
        reason = (
            "converged" if residual <= self.rtol * (1 + 1e-6)
            else "converged to round-off" if residual <= self.rtol + level
            else "maxiter reached" if iterations >= maxiter
            else "ended above the tolerance"
        )  # fmt: skip
        energy = self.equations.energy_error
        return Result(
            name, setup, total - setup, iterations, residual, reason.startswith("converged"), reason,
            None if energy is None else energy(x), ((total, residual),) if name in _DIRECT else tuple(watch.history),
        )  # fmt: skip


class _Stopwatch:
    """A clock that stands still while residuals are computed for the history."""

    def __init__(self, equations: Equations) -> None:
        self._equations = equations
        self.history: list[tuple[float, float]] = []
        self._start = time.perf_counter()

    def seconds(self) -> float:
        return time.perf_counter() - self._start

    def start_solving(self) -> float:
        """Note the end of the set-up."""
        setup = self.seconds()
        self.history.append((setup, 1.0))
        return setup

    def note(self, x: Array) -> None:
        """Note the residual of an iterate."""
        now = self.seconds()
        self.history.append((now, self._equations.relative_residual(x)))
        self._start += self.seconds() - now


def _median(record: _Record) -> Result:
    setup, solve = ([getattr(run, name) for run in record.runs] for name in ("setup_seconds", "solve_seconds"))
    return replace(
        record.runs[-1],
        setup_seconds=statistics.median(setup),
        solve_seconds=statistics.median(solve),
        history=record.history,
    )
