"""The orthogonal greedy algorithm with cosines on boxes, whose integrals are exact in any dimension.

The neurons are cos(w . (x - o)) with w_i = pi k_i / l_i and integers k_i. Single ones have slopes on the sides; the
projection finds combinations that have none. Candidates are the neighbours and mirror images of the modes that carry
most of the energy so far, and some that are drawn; and the waves of a source that is a series, where they show that the
search has missed something: the solution for a source of many waves has better ones.

Legend: n modes of the network, m candidates, q samples, d axes; a mode is a row of d integers, its first nonzero one
positive.
"""

from __future__ import annotations

import math
from collections.abc import Iterator

import torch
from torch import Tensor

from sciml_bounds.barron._barron_function import BarronFunction
from sciml_bounds.barron._barron_network import BarronNetwork
from sciml_bounds.barron._series import FourierSeries, ProductSeries
from sciml_bounds.errors import InputError
from sciml_bounds.grid import Neumann
from sciml_bounds.network_solvers._cosine_integrals import cosine_products, cosine_squares, frequencies, series_load
from sciml_bounds.network_solvers._network_solution import NetworkStep
from sciml_bounds.network_solvers._quadrature import sobol
from sciml_bounds.problems.variational_problem import VariationalProblem

__all__ = ["CosineRun"]

#: A step adds this part of the neurons that are there, one at least: the best ones are almost orthogonal.
GROWTH = 0.1
#: Neighbours and mirror images are tried of so many modes, those with most energy; so many more are drawn in each step.
PARENTS, DRAWN = 256, 256
#: So many waves of the source are tried, the largest; they count where they are seen so much better than all others.
OWN, MISSED = 4096, 2.0
#: The largest entry of modes that are drawn or tried at the start.
LARGEST = 8
#: Samples of a source that is no series, and those of them that choose neurons.
SAMPLES, CHOOSING = 2**16, 2**13
#: Eigenvalues of the scaled Gram matrix below this part of the largest are round-off.
ROUND_OFF = 1e-12
#: Entries of a block of samples times neurons.
BLOCK = 2**22


class CosineRun:
    """One run: the modes so far, and the projection onto their span.

    Parameters
    ----------
    problem
        -div(a grad u) + c u = f with numbers a and c on an `sb.barron.Box` with free sides.
    seed
        Of the modes that are drawn, and of samples.
    """

    def __init__(self, problem: VariationalProblem, seed: int) -> None:
        weights = [problem.density.fields[name] for name in ("coefficient", "reaction")]
        if problem.grid is not None or not all(isinstance(weight, int | float) for weight in weights):
            raise InputError(
                "activation='cosine' needs numbers as coefficient and reaction, on a barron.Box; "
                "take activation='relu'."
            )
        if not isinstance(problem.boundary, Neumann):
            raise InputError("activation='cosine' needs sides with sb.Neumann(0.0); take activation='relu'.")
        self._a, self._c = (float(weight) for weight in weights)  # type: ignore[arg-type]  # numbers, as was seen
        self._problem, self._box, self._seed = problem, problem.box, seed
        self._generator = torch.Generator().manual_seed(seed)
        self._series = _as_series(problem)
        self._samples = None if self._series is not None else self._sampled(seed)
        self._gram = torch.zeros((0, 0), dtype=torch.float64)
        self._own = self._modes_of_source()
        self._known: dict[tuple[int, ...], float] = {}
        self._first = 0.0
        self.modes = torch.zeros((0, problem.dim), dtype=torch.int64)
        self.outer = torch.zeros(0, dtype=torch.float64)
        self.energy = 0.0

    @property
    def integrals(self) -> str:
        """How integrals are computed."""
        if self._samples is None:
            return "exact"
        return f"exact but those of the source: {SAMPLES} scrambled Sobol points"

    def steps(self, width: int) -> Iterator[NetworkStep]:
        """Add neurons until there are so many, or the residual sees no other."""
        while len(self.modes) < width:
            count = min(max(1, int(GROWTH * len(self.modes))), width - len(self.modes))
            new = self._best(count)
            if len(new) == 0:
                return
            before = self.energy
            self._extend(new)
            size = math.sqrt(max(2 * (before - self.energy), 0.0))
            yield NetworkStep(len(self.modes), self.energy, self.network().barron_norm, size)

    def network(self) -> BarronNetwork:
        """Make the network of the projection."""
        w = frequencies(self.modes, self._box)
        corner = torch.tensor(self._box.origin, dtype=torch.float64)
        return BarronNetwork.of(w, -(w @ corner), self.outer, lengths=self._box.lengths, origin=self._box.origin)

    def energy_elsewhere(self) -> float:
        """Compute J with other samples of the source; that of a series is exact already."""
        if self._samples is None:
            return self.energy
        kept, self._samples = self._samples, self._sampled(self._seed + 1)
        energy, self._samples = self._energy(), kept
        return energy

    # --- choosing -----------------------------------------------------------------------------------------------------

    def _best(self, count: int) -> Tensor:
        """Return the modes that the residual sees best, up to a count."""
        searched = self._without_known(self._candidates())
        candidates = torch.cat([searched, self._without_known(self._own)])
        norms = self._form(*cosine_squares(candidates, self._box)).sqrt()
        seen = torch.where(norms > 0, self._seen(candidates, CHOOSING).abs() / norms, 0.0)
        found = float(seen[: len(searched)].max()) if len(searched) else 0.0
        seen[len(searched) :] *= seen[len(searched) :] > MISSED * found
        self._first = self._first or float(seen.max())
        best = seen.topk(min(count, len(seen)))
        return candidates[best.indices[best.values > ROUND_OFF * self._first]]

    def _candidates(self) -> Tensor:
        """Return relatives of the modes with most energy, and drawn ones."""
        dim = self._problem.dim
        if len(self.modes) == 0:
            tried = torch.cat([torch.arange(LARGEST + 1)[:, None] * row for row in torch.eye(dim, dtype=torch.int64)])
        else:
            shares = self.outer.abs() * self._gram.diagonal().sqrt()
            parents = self.modes[shares.topk(min(PARENTS, len(shares))).indices]
            one = torch.eye(dim, dtype=torch.int64)
            relatives = [parents[:, None] + one, parents[:, None] - one, parents[:, None] * (1 - 2 * one)]
            tried = torch.cat([*(part.flatten(0, 1) for part in relatives), self._drawn()])
        return tried

    def _without_known(self, modes: Tensor) -> Tensor:
        """Return each mode once, and none that is there."""
        modes = torch.unique(_canonical(modes), dim=0)
        _, place, counts = torch.unique(torch.cat([self.modes, modes]), dim=0, return_inverse=True, return_counts=True)
        new: Tensor = modes[counts[place[len(self.modes) :]] == 1]
        return new

    def _modes_of_source(self) -> Tensor:
        """Return the modes closest to the waves of a series; of a product one, whose mirror images are the others."""
        if self._series is None:
            return torch.zeros((0, self._problem.dim), dtype=torch.int64)
        series = self._series.value
        assert isinstance(series, FourierSeries | ProductSeries)
        largest = series.magnitudes.topk(min(OWN, len(series.modes))).indices
        lengths = torch.tensor(self._box.lengths, dtype=torch.float64)
        return (series.frequencies[largest] * lengths / math.pi).round().to(torch.int64)

    def _drawn(self) -> Tensor:
        """Draw modes with one to three entries that are not zero."""
        dim = self._problem.dim
        entries = torch.randint(-LARGEST, LARGEST + 1, (DRAWN, dim), generator=self._generator)
        order = torch.rand((DRAWN, dim), generator=self._generator).argsort(-1)
        size = torch.randint(1, 4, (DRAWN, 1), generator=self._generator)
        return torch.where(order < size, entries, 0)

    # --- projecting ---------------------------------------------------------------------------------------------------

    def _form(self, mass: Tensor, stiffness: Tensor) -> Tensor:
        return self._a * stiffness + self._c * mass

    def _seen(self, modes: Tensor, samples: int) -> Tensor:
        """Return int f g - a(u_n, g) for the cosines g of some modes.

        With samples, int f g is int L u_n g, which is exact, and the mean of (f - L u_n) g, L u = -a Laplace u + c u:
        the closer the network is, the less is sampled.
        """
        mass, stiffness = cosine_products(modes, self.modes, self._box)
        applied = self._form(mass, stiffness) @ self.outer
        if self._samples is None:
            return self._loads(modes) - applied
        places, source = (part[:samples] for part in self._samples)
        strong = (self._a * frequencies(self.modes, self._box).square().sum(-1) + self._c) * self.outer
        left = source - _values(places, frequencies(self.modes, self._box), strong)
        sampled = _sums(places, frequencies(modes, self._box), left) * (self._box.volume / samples)
        return mass @ strong - applied + sampled

    def _loads(self, modes: Tensor) -> Tensor:
        """Integrate a series with cosines, each of which is asked for again and again."""
        assert self._series is not None
        keys = [tuple(row) for row in modes.tolist()]
        new = [i for i, key in enumerate(keys) if key not in self._known]
        if new:
            self._known.update(zip([keys[i] for i in new], series_load(self._series, modes[new], self._box).tolist()))
        return torch.tensor([self._known[key] for key in keys], dtype=torch.float64)

    def _extend(self, new: Tensor) -> None:
        """Add modes, and project."""
        old, self.modes = len(self.modes), torch.cat([self.modes, new])
        rows = self._form(*cosine_products(new, self.modes, self._box))
        gram = torch.empty((len(self.modes), len(self.modes)), dtype=torch.float64)
        gram[:old, :old], gram[old:], gram[:old, old:] = self._gram, rows, rows[:, :old].T
        self._gram, self.outer = gram, torch.cat([self.outer, torch.zeros(len(new), dtype=torch.float64)])
        for _ in range(1 if self._samples is None else 2):  # the second time less is sampled
            self.outer = self.outer + _solved(gram, self._seen(self.modes, SAMPLES))
        self.energy = self._energy()

    def _energy(self) -> float:
        """J: with l = A c + seen, c.A c / 2 - l.c."""
        seen = self._seen(self.modes, SAMPLES)
        return float(-self.outer @ (self._gram @ self.outer) / 2 - self.outer @ seen)

    def _sampled(self, seed: int) -> tuple[Tensor, Tensor]:
        rule = sobol(self._box, SAMPLES, seed)
        corner = torch.tensor(self._box.origin, dtype=torch.float64)
        return rule.points - corner, self._problem.source_at(rule.points)


def _as_series(problem: VariationalProblem) -> BarronFunction | None:
    """Return a source whose integrals are known."""
    source = problem.source
    if isinstance(source, int | float):
        return BarronFunction.cosine([[0] * problem.dim], [float(source)], problem.box.lengths)
    known = isinstance(source, BarronFunction) and isinstance(source.value, FourierSeries | ProductSeries)
    return source if known else None


def _values(places: Tensor, w: Tensor, coefficients: Tensor) -> Tensor:
    """Evaluate sum_j c_j cos(w_j . s), (q,)."""
    rows = max(1, BLOCK // max(len(w), 1))
    return torch.cat([(block @ w.T).cos() @ coefficients for block in places.split(rows)])


def _sums(places: Tensor, w: Tensor, values: Tensor) -> Tensor:
    """Sum values times cos(w_j . s) over the places, (m,)."""
    rows = max(1, BLOCK // max(len(w), 1))
    total = torch.zeros(len(w), dtype=torch.float64)
    for block, part in zip(places.split(rows), values.split(rows)):
        total += part @ (block @ w.T).cos()
    return total


def _canonical(modes: Tensor) -> Tensor:
    """Turn signs so that the first entry that is not zero is positive."""
    first = (modes != 0).to(torch.int64).argmax(-1, keepdim=True)
    return torch.where(modes.gather(1, first) < 0, -modes, modes)


def _solved(gram: Tensor, right: Tensor) -> Tensor:
    """Solve with a Gram matrix, in the span of its eigenvectors above round-off where it is singular."""
    scale = gram.diagonal().rsqrt()
    scaled, right = scale[:, None] * gram * scale, scale * right
    factor, failed = torch.linalg.cholesky_ex(scaled)
    if int(failed) == 0 and float(factor.diagonal().min()) ** 2 > ROUND_OFF:
        solution: Tensor = torch.cholesky_solve(right[:, None], factor)
        return scale * solution[:, 0]
    values, vectors = torch.linalg.eigh(scaled)
    kept = values > ROUND_OFF * values[-1]
    found: Tensor = vectors[:, kept] @ ((vectors[:, kept].T @ right) / values[kept])
    return scale * found
