"""Nonlinear programs for tests: made of functions, and those of the literature with the published counts.

HS: Hock and Schittkowski, Test examples for nonlinear programming codes (1981). BT: Boggs and Tolle (1989). NE: systems
of nonlinear equations, with an objective of zero. Each formula is held to the published norm of the first-order
conditions at x0.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from sciml_bounds.optimize._constraints import as_constraints
from sciml_bounds.optimize._nonlinear_program import Point, Program
from sciml_bounds.optimize._user_functions import Function, Given


def double(*numbers: float) -> Tensor:
    return torch.tensor(numbers, dtype=torch.float64)


def program_of(fun: Callable[[Tensor], Tensor], x: Tensor, constraints: object = ()) -> Program:
    """Program of an objective and constraints of torch, whose kind is found out at x."""
    objective = Function(Given(fun, None, None, "fun", scalar=True), x, tensors_first=True)
    return Program(objective, as_constraints(constraints, x, tensors_first=True))


def program_at(
    fun: Callable[[Tensor], Tensor], x: Tensor, constraints: object = (), multipliers: Tensor | None = None
) -> tuple[Program, Point]:
    """Program and its point at x, with multipliers of zero unless given."""
    program = program_of(fun, x, constraints)
    return program, program.at(x, x.new_zeros(program.m) if multipliers is None else multipliers)


@dataclass(frozen=True)
class Problem:
    """A problem, and what is published of it.

    Attributes
    ----------
    start_residual
        The KKT residual at x0 with all multipliers `multipliers`, to four digits.
    counts
        Iterations and evaluations of the published method, where the two published runs agree or as its second run has
        them; None where it gave up.
    minimum
        The objective that IPOPT finds.
    """

    fun: Callable[[Tensor], Tensor]
    constraints: Callable[[Tensor], Tensor]
    x0: tuple[float, ...]
    start_residual: float
    counts: tuple[int, int] | None
    minimum: float
    multipliers: float = 0.0

    @property
    def start(self) -> Tensor:
        return torch.tensor(self.x0, dtype=torch.float64)


ROOT2, ROOT18 = math.sqrt(2), math.sqrt(18)


def nothing(x: Tensor) -> Tensor:
    return 0 * x.sum()


def helix(x: Tensor) -> Tensor:
    turn = torch.atan(x[1] / x[0]) / (2 * math.pi) + (0.5 if x[0] < 0 else 0.0)
    return torch.stack([10 * (x[2] - 10 * turn), 10 * (torch.hypot(x[0], x[1]) - 1), x[2]])


def hs56(x: Tensor) -> Tensor:
    sines = torch.sin(x[3:]) ** 2
    return torch.cat([x[:3] - 4.2 * sines[:3], (x[0] + 2 * x[1] + 2 * x[2] - 7.2 * sines[3]).view(1)])


def hs77(x: Tensor) -> Tensor:
    return (x[0] - 1) ** 2 + (x[0] - x[1]) ** 2 + (x[2] - 1) ** 2 + (x[3] - 1) ** 4 + (x[4] - 1) ** 6


def hs79(x: Tensor) -> Tensor:
    quartic = (x[2] - x[3]) ** 4 + (x[3] - x[4]) ** 4
    return (x[0] - 1) ** 2 + (x[0] - x[1]) ** 2 + (x[1] - x[2]) ** 2 + quartic


def hs100(x: Tensor) -> Tensor:
    first = (x[0] - 10) ** 2 + 5 * (x[1] - 12) ** 2 + x[2] ** 4 + 3 * (x[3] - 11) ** 2 + 10 * x[4] ** 6
    return first + 7 * x[5] ** 2 + x[6] ** 4 - 4 * x[5] * x[6] - 10 * x[5] - 8 * x[6]


def hs100_constraints(x: Tensor) -> Tensor:
    first = 127 - 2 * x[0] ** 2 - 3 * x[1] ** 4 - x[2] - 4 * x[3] ** 2 - 5 * x[4]
    second = -4 * x[0] ** 2 - x[1] ** 2 + 3 * x[0] * x[1] - 2 * x[2] ** 2 - 5 * x[5] + 11 * x[6]
    return torch.stack([first, second])


def linear(x: Tensor, first: float) -> Tensor:
    """The constraints of HS51, HS52 and BT3, the first of them to be `first`."""
    return torch.stack([x[0] + 3 * x[1] - first, x[2] + x[3] - 2 * x[4], x[1] - x[4]])


def least_squares(x: Tensor, scale: float) -> Tensor:
    """The objectives of HS51, HS52 and BT3."""
    return (scale * x[0] - x[1]) ** 2 + (x[1] + x[2] - 2) ** 2 + (x[3] - 1) ** 2 + (x[4] - 1) ** 2


#: The lines of the affine plane of nine points, each of which is a triangle of MSS1 whose corners hang on its points.
LINES = ("012", "345", "678", "048", "037", "056", "138", "146", "157", "258", "247", "236")


def stable_set(x: Tensor) -> Tensor:
    """MSS1 (N. Gould, 2002): vectors at the ends of an edge are orthogonal, and all together of length one."""
    u = x.view(45, 2)
    corners = u[9:].view(12, 3, 2)
    points = u[[int(point) for line in LINES for point in line]].view(12, 3, 2)
    beside = corners.roll(1, 1)
    edges = [(corners * points).sum(-1).view(-1), (corners * beside).sum(-1).view(-1)]
    return torch.cat([u.square().sum().view(1) - 1, *edges])


ANGLES = (*[math.asin(math.sqrt(1 / 4.2))] * 3, math.asin(math.sqrt(5 / 7.2)))

PROBLEMS = {
    "HS6": Problem(
        lambda x: (1 - x[0]) ** 2, lambda x: 10 * (x[1] - x[0] ** 2), (-1.2, 1.0), 6.223, (9, 72), 0.0
    ),
    "HS7": Problem(
        lambda x: torch.log(1 + x[0] ** 2) - x[1], lambda x: (1 + x[0] ** 2) ** 2 + x[1] ** 2 - 4,
        (2.0, 2.0), 25.03, (10, 66), -math.sqrt(3),
    ),
    "HS28": Problem(
        lambda x: (x[0] + x[1]) ** 2 + (x[1] + x[2]) ** 2, lambda x: x[0] + 2 * x[1] + 3 * x[2] - 1,
        (-4.0, 1.0, 1.0), 7.483, (1, 6), 0.0,
    ),
    "HS40": Problem(
        lambda x: -x.prod(),
        lambda x: torch.stack([x[0] ** 3 + x[1] ** 2 - 1, x[0] ** 2 * x[3] - x[2], x[3] ** 2 - x[1]]),
        (0.8, 0.8, 0.8, 0.8), 1.086, (3, 14), -0.25,
    ),
    "HS42": Problem(
        lambda x: (x - torch.arange(1.0, 5.0)).square().sum(),
        lambda x: torch.stack([x[0] - 2, x[2] ** 2 + x[3] ** 2 - 2]),
        (1.0, 1.0, 1.0, 1.0), 7.55, (4, 18), 28 - 10 * ROOT2,
    ),
    "HS47": Problem(
        lambda x: (x[0] - x[1]) ** 2 + (x[1] - x[2]) ** 3 + (x[2] - x[3]) ** 4 + (x[3] - x[4]) ** 4,
        lambda x: torch.stack([x[0] + x[1] ** 2 + x[2] ** 3 - 3, x[1] - x[2] ** 2 + x[3] - 1, x[0] * x[4] - 1]),
        (2.0, ROOT2, -1.0, 2 - ROOT2, 0.5), 40.5, (14, 62), 0.0,
    ),
    "HS48": Problem(
        lambda x: (x[0] - 1) ** 2 + (x[1] - x[2]) ** 2 + (x[3] - x[4]) ** 2,
        lambda x: torch.stack([x.sum() - 5, x[2] - 2 * (x[3] + x[4]) + 3]),
        (3.0, 5.0, -3.0, 2.0, -2.0), 25.61, (1, 6), 0.0,
    ),
    "HS50": Problem(
        lambda x: (x[0] - x[1]) ** 2 + (x[1] - x[2]) ** 2 + (x[2] - x[3]) ** 4 + (x[3] - x[4]) ** 2,
        lambda x: x[:3] + 2 * x[1:4] + 3 * x[2:] - 6,
        (35.0, -31.0, 11.0, 5.0, -5.0), 1294, (8, 34), 0.0,
    ),
    "HS51": Problem(
        lambda x: least_squares(x, 1.0), lambda x: linear(x, 4.0), (2.5, 0.5, 2.0, -1.0, 0.5), 6.557, (1, 6), 0.0
    ),
    "HS52": Problem(
        lambda x: least_squares(x, 4.0), lambda x: linear(x, 0.0), (2.0,) * 5, 49.56, (1, 6), 1859 / 349
    ),
    "HS56": Problem(lambda x: -x[:3].prod(), hs56, (1.0, 1.0, 1.0, *ANGLES), 1.732, (5, 22), -3.456),
    "HS77": Problem(
        hs77,
        lambda x: torch.stack([
            x[0] ** 2 * x[3] + torch.sin(x[3] - x[4]) - 2 * ROOT2, x[1] + x[2] ** 4 * x[3] ** 2 - 8 - ROOT2,
        ]),
        (2.0,) * 5, 57.35, (8, 36), 0.24150513,
    ),
    "HS78": Problem(
        lambda x: x.prod(),
        lambda x: torch.stack([x.square().sum() - 10, x[1] * x[2] - 5 * x[3] * x[4], x[0] ** 3 + x[1] ** 3 + 1]),
        (-2.0, 1.5, 2.0, -1.0, -1.0), 11.32, (4, 18), -2.91970041,
    ),
    "HS79": Problem(
        hs79,
        lambda x: torch.stack([
            x[0] + x[1] ** 2 + x[2] ** 3 - 2 - ROOT18, x[1] - x[2] ** 2 + x[3] + 2 - 2 * ROOT2, x[0] * x[4] - 2,
        ]),
        (2.0,) * 5, 8.298, (4, 18), 0.0787768209,
    ),
    "HS100LNP": Problem(
        hs100, hs100_constraints, (1.0, 2.0, 0.0, 4.0, 0.0, 1.0, 1.0), 111.1, (8, 44), 680.6300574
    ),
    "GENHS28": Problem(
        lambda x: (x[1:] + x[:-1]).square().sum(), lambda x: x[:-2] + 2 * x[1:-1] + 3 * x[2:] - 1,
        (-4.0, *[1.0] * 9), 39.94, (1, 6), 0.92717369, multipliers=1.0,
    ),
    "BT2": Problem(
        lambda x: (x[0] - 1) ** 2 + (x[0] - x[1]) ** 2 + (x[1] - x[2]) ** 4,
        lambda x: x[0] * (1 + x[1] ** 2) + x[2] ** 4 - 4 - 3 * ROOT2,
        (10.0, 10.0, 10.0), 1.1e4, (11, 46), 0.0325682,
    ),
    "BT3": Problem(
        lambda x: least_squares(x, 1.0), lambda x: linear(x, 0.0), (20.0,) * 5, 144.4, (1, 6), 176 / 43
    ),
    "BT5": Problem(
        lambda x: 1000 - x[0] ** 2 - 2 * x[1] ** 2 - x[2] ** 2 - x[0] * x[1] - x[0] * x[2],
        lambda x: torch.stack([x.square().sum() - 25, 8 * x[0] + 14 * x[1] + 7 * x[2] - 56]),
        (2.0, 2.0, 2.0), 19.31, (5, 24), 961.7151721,
    ),
    "BT10": Problem(
        lambda x: -x[0], lambda x: torch.stack([x[1] - x[0] ** 3, x[0] ** 2 - x[1]]), (2.0, 2.0), 6.403, (7, 34), -1.0
    ),
    "BOOTH": Problem(
        nothing, lambda x: torch.stack([x[0] + 2 * x[1] - 7, 2 * x[0] + x[1] - 5]), (0.0, 0.0), 8.602, (1, 6), 0.0
    ),
    "CUBENE": Problem(
        nothing, lambda x: torch.stack([x[0] - 1, 10 * (x[1] - x[0] ** 3)]), (-1.2, 1.0), 27.37, (4, 28), 0.0
    ),
    "RSNBRNE": Problem(
        nothing, lambda x: torch.stack([10 * (x[1] - x[0] ** 2), x[0] - 1]), (-1.2, 1.0), 4.919, (11, 98), 0.0
    ),
    "HELIXNE": Problem(nothing, helix, (-1.0, 0.0, 0.0), 50, (8, 36), 0.0),
    "HIMMELBC": Problem(
        nothing, lambda x: torch.stack([x[0] ** 2 + x[1] - 11, x[0] + x[1] ** 2 - 7]), (1.0, 1.0), 10.3, (5, 24), 0.0
    ),
    "DENSCHNCNE": Problem(
        nothing, lambda x: torch.stack([x[0] ** 2 + x[1] ** 2 - 2, torch.exp(x[0] - 1) + x[1] ** 3 - 2]),
        (2.0, 3.0), 29.82, (7, 32), 0.0,
    ),
    "DENSCHNFNE": Problem(
        nothing,
        lambda x: torch.stack([
            2 * (x[0] + x[1]) ** 2 + (x[0] - x[1]) ** 2 - 8, 5 * x[0] ** 2 + (x[1] - 3) ** 2 - 9,
        ]),
        (2.0, 0.0), 20.4, (4, 18), 0.0,
    ),
    "ZANGWIL3": Problem(
        nothing, lambda x: torch.stack([x[0] - x[1] + x[2], -x[0] + x[1] + x[2], x[0] + x[1] - x[2]]),
        (100.0, -1.0, 2.5), 172.4, (1, 6), 0.0,
    ),
    "GOTTFR": Problem(
        nothing,
        lambda x: torch.stack([
            x[0] - 0.1136 * (x[0] + 3 * x[1]) * (1 - x[0]), x[1] + 7.5 * (2 * x[0] - x[1]) * (1 - x[1]),
        ]),
        (0.5, 0.5), 2.406, None, 0.0,
    ),
    "PRICE4NE": Problem(
        nothing, lambda x: torch.stack([2 * x[0] ** 3 * x[1] - x[1] ** 3, 6 * x[0] - x[1] ** 2 + x[1]]),
        (1.0, 5.0), 115.8, None, 0.0,
    ),
}  # fmt: skip

#: Problems of CUTEst that "auto" failed on once.
HARD = {
    # Newton's steps from x0 end where the constraints are stationary, and not met; IPOPT takes 161 iterations.
    "MSS1": Problem(
        lambda x: -x.view(45, 2).sum(0).square().sum(), stable_set, (1.0,) * 90, 858.6, None, -15.0
    ),
}  # fmt: skip
