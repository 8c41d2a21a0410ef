"""Orthogonal greedy algorithm with cosine neurons on boxes, with exact integrals in any dimension.

The neurons are cos(w . (x - o)) with w_i = pi k_i / l_i and integers k_i. A single neuron has nonzero normal
derivatives on the sides; the projection finds combinations without them. Candidates are the neighbours and mirror
images of the modes with most energy, and random modes. If the source is a series, its waves are candidates too, but
only if they are much better than all others, that is if the search has missed important modes; for a source with many
waves, other modes are usually better.

Legend: n modes of the network, m candidates, q samples, d axes; a mode is a row of d integers whose first nonzero entry
is positive.
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

__all__ = ["CosineGreedy"]

#: A step adds this fraction of the present number of neurons, at least one; the best neurons are almost orthogonal.
GROWTH = 0.1
#: Number of modes with most energy whose neighbours and mirror images are candidates.
N_PARENTS = 256
#: Number of random candidates per step.
N_RANDOM = 256
#: Number of largest waves of the source that are candidates.
N_SOURCE_WAVES = 4096
#: Waves of the source are used if their scaled residual exceeds that of all other candidates by this factor.
SOURCE_ADVANTAGE = 2.0
#: Largest entry of the first candidates and of random modes.
MAX_MODE = 8
#: Number of samples of a source that is not a series.
N_SAMPLES = 2**16
#: Number of these samples that are used to choose neurons.
N_CHOICE_SAMPLES = 2**13
#: Eigenvalues of the scaled Gram matrix below this fraction of the largest one are round-off.
ROUND_OFF = 1e-12
#: Number of entries of a block of samples times neurons.
BLOCK_SIZE = 2**22


class CosineGreedy:
    """State of the greedy algorithm: the selected modes, and the projection onto their span.

    Parameters
    ----------
    problem : VariationalProblem
        -div(a grad u) + c u = f with constants a and c on an `sb.barron.Box` with zero Neumann conditions.
    seed : int
        Seed of random modes and samples.
    """

    def __init__(self, problem: VariationalProblem, seed: int) -> None:
        weights = [problem.density.fields[name] for name in ("coefficient", "reaction")]
        if problem.grid is not None or not all(isinstance(weight, int | float) for weight in weights):
            raise InputError(
                "activation='cosine' needs constant coefficient and reaction, given as numbers, on an sb.barron.Box; "
                "use activation='relu'."
            )
        if not isinstance(problem.boundary, Neumann):
            raise InputError("activation='cosine' needs sb.Neumann(0.0) on all sides; use activation='relu'.")
        self._a, self._c = (float(weight) for weight in weights)  # type: ignore[arg-type]  # numbers, checked above
        self._problem, self._box, self._seed = problem, problem.box, seed
        self._generator = torch.Generator().manual_seed(seed)
        self._series = _as_series(problem)
        self._samples = None if self._series is not None else self._sample_source(seed)
        self._gram = torch.zeros((0, 0), dtype=torch.float64)
        self._source_modes = self._modes_of_source()
        self._load_cache: dict[tuple[int, ...], float] = {}
        self._first = 0.0
        self.modes = torch.zeros((0, problem.dim), dtype=torch.int64)
        self.outer = torch.zeros(0, dtype=torch.float64)
        self.energy = 0.0

    @property
    def integrals(self) -> str:
        """Description of how integrals are computed."""
        if self._samples is None:
            return "exact"
        return f"exact, except {N_SAMPLES} scrambled Sobol points for the source"

    def steps(self, width: int) -> Iterator[NetworkStep]:
        """Add neurons up to the given width, or until no candidate has a residual above round-off."""
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
        """Return the network of the projection."""
        w = frequencies(self.modes, self._box)
        corner = torch.tensor(self._box.origin, dtype=torch.float64)
        return BarronNetwork.of(w, -(w @ corner), self.outer, lengths=self._box.lengths, origin=self._box.origin)

    def energy_by_other_samples(self) -> float:
        """Compute J with other samples of the source; for a series J is exact."""
        if self._samples is None:
            return self.energy
        kept, self._samples = self._samples, self._sample_source(self._seed + 1)
        energy, self._samples = self._energy(), kept
        return energy

    # --- choosing -----------------------------------------------------------------------------------------------------

    def _best(self, count: int) -> Tensor:
        """Return up to `count` candidate modes with the largest scaled residual."""
        searched = self._new_modes(self._candidates())
        candidates = torch.cat([searched, self._new_modes(self._source_modes)])
        norms = self._form(*cosine_squares(candidates, self._box)).sqrt()
        seen = torch.where(norms > 0, self._residual(candidates, N_CHOICE_SAMPLES).abs() / norms, 0.0)
        found = float(seen[: len(searched)].max()) if len(searched) else 0.0
        seen[len(searched) :] *= seen[len(searched) :] > SOURCE_ADVANTAGE * found
        self._first = self._first or float(seen.max())
        best = seen.topk(min(count, len(seen)))
        return candidates[best.indices[best.values > ROUND_OFF * self._first]]

    def _candidates(self) -> Tensor:
        """Return neighbours and mirror images of the modes with most energy, and random modes."""
        dim = self._problem.dim
        if len(self.modes) == 0:
            tried = torch.cat([torch.arange(MAX_MODE + 1)[:, None] * row for row in torch.eye(dim, dtype=torch.int64)])
        else:
            shares = self.outer.abs() * self._gram.diagonal().sqrt()
            parents = self.modes[shares.topk(min(N_PARENTS, len(shares))).indices]
            one = torch.eye(dim, dtype=torch.int64)
            relatives = [parents[:, None] + one, parents[:, None] - one, parents[:, None] * (1 - 2 * one)]
            tried = torch.cat([*(part.flatten(0, 1) for part in relatives), self._random_modes()])
        return tried

    def _new_modes(self, modes: Tensor) -> Tensor:
        """Return the distinct modes that are not in the network."""
        modes = torch.unique(_canonical(modes), dim=0)
        _, place, counts = torch.unique(torch.cat([self.modes, modes]), dim=0, return_inverse=True, return_counts=True)
        new: Tensor = modes[counts[place[len(self.modes) :]] == 1]
        return new

    def _modes_of_source(self) -> Tensor:
        """Return the modes closest to the waves of the source; for a product, one mode without its mirror images."""
        if self._series is None:
            return torch.zeros((0, self._problem.dim), dtype=torch.int64)
        series = self._series.value
        assert isinstance(series, FourierSeries | ProductSeries)
        largest = series.magnitudes.topk(min(N_SOURCE_WAVES, len(series.modes))).indices
        lengths = torch.tensor(self._box.lengths, dtype=torch.float64)
        return (series.frequencies[largest] * lengths / math.pi).round().to(torch.int64)

    def _random_modes(self) -> Tensor:
        """Draw modes with one to three entries that are not zero."""
        dim = self._problem.dim
        entries = torch.randint(-MAX_MODE, MAX_MODE + 1, (N_RANDOM, dim), generator=self._generator)
        order = torch.rand((N_RANDOM, dim), generator=self._generator).argsort(-1)
        size = torch.randint(1, 4, (N_RANDOM, 1), generator=self._generator)
        return torch.where(order < size, entries, 0)

    # --- projecting ---------------------------------------------------------------------------------------------------

    def _form(self, mass: Tensor, stiffness: Tensor) -> Tensor:
        return self._a * stiffness + self._c * mass

    def _residual(self, modes: Tensor, samples: int) -> Tensor:
        """Return the residual int f g - a(u_n, g) for the cosines g of the given modes.

        With samples, int f g is the sum of the exact int L u_n g and the sample mean of (f - L u_n) g, where
        L u = -a Laplace u + c u. The sampling error therefore decreases as the network approaches the solution.
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
        """Integrate the source series times cosines; integrals are cached, because modes recur in many steps."""
        assert self._series is not None
        keys = [tuple(row) for row in modes.tolist()]
        new = [i for i, key in enumerate(keys) if key not in self._load_cache]
        if new:
            self._load_cache.update(
                zip([keys[i] for i in new], series_load(self._series, modes[new], self._box).tolist())
            )
        return torch.tensor([self._load_cache[key] for key in keys], dtype=torch.float64)

    def _extend(self, new: Tensor) -> None:
        """Add modes, and project onto the larger span."""
        old, self.modes = len(self.modes), torch.cat([self.modes, new])
        rows = self._form(*cosine_products(new, self.modes, self._box))
        gram = torch.empty((len(self.modes), len(self.modes)), dtype=torch.float64)
        gram[:old, :old], gram[old:], gram[:old, old:] = self._gram, rows, rows[:, :old].T
        self._gram, self.outer = gram, torch.cat([self.outer, torch.zeros(len(new), dtype=torch.float64)])
        for _ in range(1 if self._samples is None else 2):  # the second solve has a smaller sampling error
            self.outer = self.outer + _solve_gram(gram, self._residual(self.modes, N_SAMPLES))
        self.energy = self._energy()

    def _energy(self) -> float:
        """Return J = c.A c / 2 - l.c, where the load is l = A c + residual."""
        seen = self._residual(self.modes, N_SAMPLES)
        return float(-self.outer @ (self._gram @ self.outer) / 2 - self.outer @ seen)

    def _sample_source(self, seed: int) -> tuple[Tensor, Tensor]:
        rule = sobol(self._box, N_SAMPLES, seed)
        corner = torch.tensor(self._box.origin, dtype=torch.float64)
        return rule.points - corner, self._problem.source_at(rule.points)


def _as_series(problem: VariationalProblem) -> BarronFunction | None:
    """Return the source as a series, or None if it is not a number or a series."""
    source = problem.source
    if isinstance(source, int | float):
        return BarronFunction.cosine([[0] * problem.dim], [float(source)], problem.box.lengths)
    known = isinstance(source, BarronFunction) and isinstance(source.value, FourierSeries | ProductSeries)
    return source if known else None


def _values(places: Tensor, w: Tensor, coefficients: Tensor) -> Tensor:
    """Evaluate sum_j c_j cos(w_j . s), shape (q,)."""
    rows = max(1, BLOCK_SIZE // max(len(w), 1))
    return torch.cat([(block @ w.T).cos() @ coefficients for block in places.split(rows)])


def _sums(places: Tensor, w: Tensor, values: Tensor) -> Tensor:
    """Sum values times cos(w_j . s) over the places, shape (m,)."""
    rows = max(1, BLOCK_SIZE // max(len(w), 1))
    total = torch.zeros(len(w), dtype=torch.float64)
    for block, part in zip(places.split(rows), values.split(rows)):
        total += part @ (block @ w.T).cos()
    return total


def _canonical(modes: Tensor) -> Tensor:
    """Flip the signs of modes so that the first nonzero entry is positive."""
    first = (modes != 0).to(torch.int64).argmax(-1, keepdim=True)
    return torch.where(modes.gather(1, first) < 0, -modes, modes)


def _solve_gram(gram: Tensor, right: Tensor) -> Tensor:
    """Solve a system with a Gram matrix; if it is singular, in the span of its eigenvectors above round-off."""
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
