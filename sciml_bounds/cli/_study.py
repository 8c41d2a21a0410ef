"""Computations of the demo: certificates of four answers to the same problems, and their true errors."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

import sciml_bounds as sb
from sciml_bounds.bounds._energy import EnergyForm
from sciml_bounds.problems.batch_axes import known_batch
from sciml_bounds.problems.transfers import interpolate_nodes, repeat_cells
from sciml_bounds.results import Interval

__all__ = ["Answer", "Study", "darcy_problem", "reference_intervals", "run_study"]

#: The two conductivities of the published Darcy fields.
LOW, HIGH = 3.0, 12.0
#: The shipped network, and the number of cells per axis in its training data.
NETWORK, TRAINED_CELLS = "darcy-rough", 64
#: Refinement factor of the grid of the reference solution.
REFINEMENT = 4
#: Centre, radius and height (relative to the largest value) of the added error.
SPOT = ((0.7, 0.3), 0.08, 0.1)
_SIDES = {f"{axis}{end}": (number, end) for number, axis in enumerate("xy") for end in (0, 1)}


@dataclass(frozen=True)
class Answer:
    """Approximate solutions of all problems from one source.

    Attributes
    ----------
    name : str
        Name in the table.
    certificate : Certificate
        Guaranteed bounds of the errors.
    error : Interval
        Guaranteed interval of |||u - values||| from the finer solve, shape (samples,).
    """

    name: str
    certificate: sb.Certificate
    error: Interval

    @property
    def bounds(self) -> Interval:
        """The guaranteed interval of the certificate."""
        return Interval(self.certificate.lower, self.certificate.upper)


@dataclass(frozen=True)
class Study:
    """Problems, energy norms |||u||| of their exact solutions as intervals (samples,), and answers."""

    problem: sb.Diffusion
    energy: Interval
    answers: list[Answer]

    def relative(self, interval: Interval) -> Interval:
        """Return guaranteed bounds relative to |||u|||."""
        return Interval(interval.lower / self.energy.upper, interval.upper / self.energy.lower)


def run_study(phases: Tensor, stored: Tensor, split: int, refinement: int = REFINEMENT) -> Study:
    """Solve the two-phase problems and certify four answers to them.

    Parameters
    ----------
    phases : bool Tensor (samples, n, n)
        The two-phase fields; n divides TRAINED_CELLS.
    stored : Tensor (samples, n, n)
        Answers distributed with the fields, up to a factor.
    split : int
        Divide every cell of the fields into split x split cells; n split is a multiple of TRAINED_CELLS.
    refinement : int, default REFINEMENT
        Refinement factor of the grid of the reference solution.
    """
    problem = darcy_problem(phases, split)
    solution = sb.solve(problem)
    certificates = {"our solution": sb.certify(problem, solution)}
    flux = certificates["our solution"].flux
    prediction = sb.MgNO.load(NETWORK).predict(darcy_problem(phases, TRAINED_CELLS // phases.shape[-1]))
    certificates["network prediction"] = sb.certify(problem, prediction, layout="coarse", flux=flux)
    certificates["spoilt solution"] = sb.certify(problem, _spoil(problem.grid, solution.values), flux=flux)
    certificates["stored answer"] = sb.certify(problem, _at_nodes(stored, solution.values, split), flux=flux)
    fields = torch.stack([torch.zeros_like(solution.values), *(c.values for c in certificates.values())])
    energy, *errors = reference_intervals(problem, fields, refinement)
    return Study(problem, energy, [Answer(*pair, error) for pair, error in zip(certificates.items(), errors)])


def darcy_problem(phases: Tensor, split: int) -> sb.Diffusion:
    """Return the problem -div(a grad u) = 1 on the unit square, u = 0 on its boundary, with a = 12 and 3."""
    coefficient = repeat_cells(torch.where(phases, HIGH, LOW).double(), split, 2)
    with known_batch():
        return sb.Diffusion(sb.Grid(tuple(coefficient.shape[-2:])), coefficient, source=1.0)


def _spoil(grid: sb.Grid, values: Tensor) -> Tensor:
    """Add a smooth error in a small disc."""
    (x0, y0), radius, height = SPOT
    x, y = torch.meshgrid(grid.nodes(0), grid.nodes(1), indexing="ij")
    bump = (1 - ((x - x0) ** 2 + (y - y0) ** 2) / radius**2).clamp_min(0) ** 2
    return values + height * values.amax((-2, -1), keepdim=True) * bump


def _at_nodes(stored: Tensor, values: Tensor, split: int) -> Tensor:
    """Interpolate stored answers from cell centres to our nodes, and scale them to ours by least squares."""
    ours = values[..., split // 2 :: split, split // 2 :: split]  # the nodes at those centres
    scale = (stored * ours).sum((-2, -1), keepdim=True) / (stored**2).sum((-2, -1), keepdim=True)
    n = stored.shape[-1]
    place = (torch.arange(n * split + 1, dtype=stored.dtype) / split - 0.5).clamp(0, n - 1)  # constant beyond the ends
    weights = (1 - (place.unsqueeze(1) - torch.arange(n)).abs()).clamp_min(0)
    return scale * (weights @ stored @ weights.T)


def reference_intervals(problem: sb.Diffusion, fields: Tensor, refinement: int) -> list[Interval]:
    """Bound the energy errors of fields from below and above by solving on a finer grid.

    Parameters
    ----------
    problem : Diffusion
        A problem from `darcy_problem`.
    fields : Tensor (fields, samples, nodes)
        Nodal values.
    refinement : int
        Refinement factor of the grid.

    Returns
    -------
    list of Interval
        One interval of shape (samples,) per field.
    """
    liftings = torch.stack([_lifting(problem, field) for field in fields])
    columns = []
    for i, coefficient in enumerate(problem.coefficient[0]):  # one sample at a time, because the fine grid is large
        fine = problem.replace(coefficient=coefficient).refine(refinement)
        finer = (interpolate_nodes(part[:, i], refinement, fine.periodic) for part in (fields, liftings))
        columns.append(_distance_to_exact(fine, *finer))
    lower, upper = (torch.stack(ends, 1) for ends in zip(*columns))
    return [Interval(*ends) for ends in zip(lower, upper)]


def _lifting(problem: sb.Diffusion, field: Tensor) -> Tensor:
    """Return a field of small energy whose boundary values are minus those of a field (samples, nodes)."""
    if not bool((problem.dirichlet_nodes & (field != 0)).any()):
        return torch.zeros_like(field)
    ends = {side: field.select(field.ndim - 2 + axis, -end) for side, (axis, end) in _SIDES.items()}
    boundary = {side: sb.Dirichlet(-values) for side, values in ends.items()}
    return sb.solve(problem.replace(source=0.0, boundary=boundary)).values


def _distance_to_exact(fine: sb.Diffusion, fields: Tensor, liftings: Tensor) -> Interval:
    """Bound |||u - v|||, shape (fields,), for v on the fine grid, given liftings w_b: v + w_b vanishes at the sides.

    With any u_f and u_f - v = w_0 + w_b, |||u - v|||^2 = |||u - u_f|||^2 + 2 a(u - u_f, w_0 + w_b) + |||w_0 + w_b|||^2.
    The certificate of u_f bounds |||u - u_f|||, a(u - u_f, w_0) is the residual of u_f at w_0, which vanishes at the
    sides, and |a(u - u_f, w_b)| <= |||u - u_f||| |||w_b|||.
    """
    solution = sb.solve(fine)
    certificate = sb.certify(fine, solution, lower=False)  # a lower bound would hardly narrow the interval
    form = EnergyForm(fine)
    w = solution.values - fields
    residual = form.residual(solution.values.unsqueeze(0))
    known = form.norm(w) ** 2 + 2 * form.pair(residual, w - liftings)
    slack = 2 * certificate.upper * form.norm(liftings)
    return Interval((known - slack).clamp_min(0).sqrt(), (known + certificate.upper**2 + slack).sqrt())
