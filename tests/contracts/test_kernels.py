"""The contract that every kernel keeps: its compiled form does what its plain torch form does, the reference.

What the reference does is compared with definitions in tests/kernels. Whether triton does it too is found out there, in
a process of its own, with the table of this file. A new kernel is entered in KERNELS: random input in, a list of
results out.
"""

from __future__ import annotations

import importlib
import pkgutil
import re
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import pytest
import torch
from torch import Tensor

import sciml_bounds.kernels as kernels
from sciml_bounds.kernels import (
    _backend,
    bubbles,
    coarsen,
    interpolation,
    lattice,
    smoothing,
    transfer,
    use_backend,
    vectors,
)
from sciml_bounds.kernels.assembly import cell_sums
from sciml_bounds.kernels.majorant import majorant_terms
from sciml_bounds.kernels.q1 import energy, stiffness
from sciml_bounds.kernels.survey import survey

#: One to three dimensions, odd and even, and lattices that are long along one axis: rows of many vectors and a rest.
SHAPES = [(1, 1, 9), (1, 6, 7), (1, 40, 3), (4, 5, 6), (1, 4, 75), (3, 4, 40)]
#: What the compiled loops divide: rows of several chunks, two and three blocks of planes and of rows, strips of a row.
LARGE_SHAPES = [(3, 2, 600), (10, 48, 3), (17, 20, 3), (1, 3, 33_000)]
#: Samples of the coefficients and of the fields.
BATCHES = [(1, 1), (1, 3), (2, 2)]


@dataclass(frozen=True)
class Case:
    """What random input is made for."""

    shape: tuple[int, int, int]
    data: int
    fields: int
    dtype: torch.dtype
    device: str = "cpu"

    def positive(self, *shape: int) -> Tensor:
        """Draw numbers between 0.1 and 1.1."""
        return 0.1 + torch.rand(shape, dtype=self.dtype, device=self.device)

    def normal(self, *shape: int) -> Tensor:
        """Draw normal numbers."""
        return torch.randn(shape, dtype=self.dtype, device=self.device)

    def some(self, part: float, *shape: int) -> Tensor:
        """Draw booleans of which so many are true."""
        return torch.rand(shape, device=self.device) < part

    @property
    def axes(self) -> tuple[bool, bool, bool]:
        """The axes with an extent."""
        return tuple(n > 1 for n in self.shape)

    @property
    def cells(self) -> tuple[int, ...]:
        """The shape without the axes that are not there."""
        return tuple(n for n in self.shape if n > 1)


Run = Callable[[], list[Tensor]]  # may be called again and again


def _operator(case: Case) -> tuple[lattice.Offsets, Tensor, Tensor]:
    offsets = coarsen.half_stencil(case.axes)
    T = case.positive(len(offsets), case.data, *case.shape)
    for k, offset in enumerate(offsets):  # no pair across an end
        for axis, step in enumerate(offset):
            if step:
                T[k].select(1 + axis, -1 if step > 0 else 0).zero_()
    return offsets, T, case.positive(case.data, *case.shape)


def _sweeps(case: Case) -> Run:
    """The fine lattices and the coarse ones, with pairs across the ends, as if all axes were periodic."""
    crosses = tuple(tuple(int(i == a) for i in range(3)) for a in range(3) if case.axes[a])
    stencils = (crosses, coarsen.half_stencil(case.axes))
    T = [case.positive(len(offsets), case.data, *case.shape) for offsets in stencils]
    c, s = case.positive(case.data, *case.shape), case.positive(case.data, *case.shape)
    u, b = case.normal(2, case.fields, *case.shape)
    nan = torch.full_like(u, torch.nan)  # whatever stands in a buffer must not matter
    return lambda: [
        result
        for offsets, t in zip(stencils, T)
        for result in (
            lattice.apply(offsets, t, c, u, nan.clone()),
            lattice.energy(offsets, t, c, u, nan.clone()),
            lattice.residual(offsets, t, c, u, b, nan.clone()),
            lattice.relax(offsets, t, c, s, u, b, 0.7, nan.clone()),
        )
    ]


def _transfers(case: Case) -> Run:
    """All axes are coarsened."""
    return _transfers_along(case, case.axes)


def _transfers_of_one_axis(case: Case) -> Run:
    """The last axis is coarsened only."""
    return _transfers_along(case, (False, False, True))


def _transfers_along(case: Case, axes: tuple[bool, bool, bool]) -> Run:
    coarse = transfer.coarse_shape(case.shape, axes)
    weights = case.positive(len(transfer.pairs(axes)), case.data, *coarse)
    e, r = case.normal(case.fields, *coarse), case.normal(case.fields, *case.shape)
    return lambda: [
        transfer.prolong_add(axes, weights, e, r.clone()),
        transfer.restrict(axes, weights, r, torch.full_like(e, torch.nan)),
    ]


def _coarsening(case: Case) -> Run:
    offsets, T, c = _operator(case)

    def run() -> list[Tensor]:
        with_negative = interpolation.interpolation_weights(offsets, T, c - 0.5, case.axes)
        weights, defect = interpolation.interpolation_weights(offsets, T, c, case.axes)
        diagonal = survey(offsets, T, c).diagonal
        _, *coarse, told = coarsen.galerkin(offsets, T, c, case.axes, weights, defect, diagonal)
        return [weights, defect, *coarse, *told, *with_negative]

    return run


def _cell_data(case: Case):
    cells = case.cells
    a = tuple(case.positive(case.data, *cells) for _ in cells)
    c = case.positive(case.data, *cells) * case.some(0.6, case.data, *cells)
    return a, c, case.normal(case.fields, *(n + 1 for n in cells)), (0.3, 0.2, 0.5)[: len(cells)]


def _stiffness(case: Case) -> Run:
    a, c, v, spacing = _cell_data(case)
    return lambda: [stiffness(a, c, v, spacing), energy(a, c, v, spacing)]


def _bubbles(case: Case) -> Run:
    a, c, v, spacing = _cell_data(case)
    e, level = torch.randn_like(v), v.abs().flatten(1).amax(1)
    data = a, c, case.normal(1, *case.cells)
    wraps = tuple(axis % 2 == 0 for axis in range(len(a)))

    def run() -> list[Tensor]:
        residual = bubbles.bubble_residual(data, v, spacing)
        weights = bubbles.relax_bubbles(data, tuple(part.clone() for part in residual), spacing, wraps)
        sums = bubbles.nodal_products(data, v, e, level, spacing)
        return [*residual, *weights, sums, bubbles.bubble_products(data, v, e, weights, level, spacing)]

    return run


def _majorant(case: Case) -> Run:
    a, c, v, spacing = _cell_data(case)
    f, fluid = case.normal(1, *case.cells), case.some(0.8, 1, *case.cells)
    y = tuple(case.normal(case.data, *(n + (i == j) for j, n in enumerate(case.cells))) for i in range(len(a)))
    return lambda: list(majorant_terms(a, c, f, fluid, v, y, spacing))


def _sums(case: Case) -> Run:
    cells = case.normal(case.fields, *case.cells)
    dim = len(case.cells)
    every, last = (True,) * dim, tuple(axis == dim - 1 for axis in range(dim))
    return lambda: [cell_sums(cells, along, wraps, 0.7) for along in (every, last) for wraps in (every, (False,) * dim)]


def _survey(case: Case) -> Run:
    offsets, T, c = _operator(case)
    T[:, :, :, :, 2:5] = 0.0  # a point without neighbours, at least
    seam = case.positive(*T.shape)  # pairs across the ends
    seam[..., -1] *= 100
    return lambda: [told for flow in (T, T - 0.3, seam) for told in survey(offsets, flow, c)]


def _smoothing(case: Case) -> Run:
    """On lattices of both stencils, no step, one, and three."""
    crosses = tuple(tuple(int(i == a) for i in range(3)) for a in range(3) if case.axes[a])
    coarse = transfer.coarse_shape(case.shape, case.axes)
    weights = case.positive(len(transfer.pairs(case.axes)), case.data, *coarse)
    c, s = case.positive(case.data, *case.shape), case.positive(case.data, *case.shape) / 10
    stages = []
    for offsets in (crosses, coarsen.half_stencil(case.axes)):
        T = case.positive(len(offsets), case.data, *case.shape)
        stages.append(smoothing.Stage(offsets, T, c, s, case.axes, weights))
    b, x = case.normal(2, case.fields, *case.shape)
    e = case.normal(case.fields, *coarse)

    def run() -> list[Tensor]:
        results = []
        for stage in stages:
            for steps in ((), (0.7,), (1.0, 0.8, 0.9)):
                smoothed, restricted = torch.zeros_like(b), torch.full_like(e, torch.nan)
                smoothing.descend(stage, steps, b, smoothed, restricted)
                start = x.clone()
                out = torch.full_like(b, torch.nan) if steps else start
                smoothing.ascend(stage, steps, e, b, start, out)
                results += [smoothed, restricted, out]
        return results

    return run


def _scaled_copy(case: Case) -> Run:
    u, scale = case.normal(case.fields, *case.shape), case.positive(case.fields)
    return lambda: [vectors.scaled_copy(u, scale, torch.full_like(u, torch.nan))]


def _combine(case: Case) -> Run:
    alpha, beta = case.positive(2, case.fields)
    u, out = case.normal(2, case.fields, *case.shape).flatten(2)

    def run() -> list[Tensor]:
        result = out.clone()
        return [vectors.combine(alpha, u, beta, result), result]

    return run


def _advance(case: Case) -> Run:
    alpha = case.positive(case.fields)
    d, product, x, r = case.normal(4, case.fields, *case.shape).flatten(2)

    def run() -> list[Tensor]:
        results = [x.clone(), r.clone()]
        return [*vectors.advance(alpha, d, product, *results), *results]

    return run


KERNELS: dict[str, Callable[[Case], Run]] = {
    "sweeps": _sweeps,
    "transfers": _transfers,
    "transfers of one axis": _transfers_of_one_axis,
    "coarsening": _coarsening,
    "stiffness": _stiffness,
    "bubbles": _bubbles,
    "majorant": _majorant,
    "cell sums": _sums,
    "survey": _survey,
    "smoothing": _smoothing,
    "scaled copy": _scaled_copy,
    "combine": _combine,
    "advance": _advance,
}


@pytest.fixture(params=KERNELS)
def kernel(request) -> Callable[[Case], Run]:
    """One kernel of the table."""
    return KERNELS[request.param]


MODULES = [importlib.import_module(f"{kernels.__name__}.{m.name}") for m in pkgutil.iter_modules(kernels.__path__)]


def _run_table(backend: str) -> None:
    for make in KERNELS.values():
        with use_backend(backend):
            make(Case((4, 5, 6), 1, 1, torch.float64))()


def test_every_compiled_loop_is_reached_from_the_table(monkeypatch):
    reached: set[str] = set()
    for module in MODULES:
        monkeypatch.setattr(module, "run_compiled", lambda name, *_: reached.add(name), raising=False)
    _run_table("compiled")
    (functions, *_) = _backend.instruction_sets().values()
    # the loops on spanning trees are tested in tests/kernels/test_spanning_tree.py
    assert {name for name in dir(functions) if not name.startswith("_")} - {
        "add_to_parents",
        "add_to_children",
    } == reached


def test_every_loop_of_triton_is_reached_from_the_table(monkeypatch):
    """None of them runs here, where there may be no device for it."""
    reached: set[str] = set()
    for module in MODULES:
        monkeypatch.setattr(module, "launch", lambda loop, *_, **__: reached.add(loop.__name__), raising=False)
    _run_table("triton")
    sources = [path.read_text(encoding="utf-8") for path in Path(kernels.__path__[0]).glob("*.py")]
    loops = {name for source in sources for name in re.findall(r"@triton_jit\ndef (\w+)", source)}
    assert len(loops) >= 5  # they are found at all
    assert loops == reached


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32], ids=["double", "single"])
@pytest.mark.parametrize("shape", SHAPES + LARGE_SHAPES, ids=str)
def test_the_compiled_form_does_what_the_reference_does(kernel, shape, dtype, monkeypatch):
    # Sums of at most some hundred products of numbers of order one, in another order. The contrast is the largest of
    # many quotients, which lose up to two digits where a coarse conductance is small.
    tolerance = 1e-11 if dtype == torch.float64 else 1e-3
    for data, fields in BATCHES:
        run = kernel(Case(shape, data, fields, dtype))
        with use_backend("torch"):
            expected = run()
        for functions in _backend.instruction_sets().values():
            monkeypatch.setattr(_backend, "_functions", functions)
            for reference, compiled in zip(expected, run(), strict=True):
                assert (compiled.dtype, compiled.shape) == (dtype, reference.shape)
                torch.testing.assert_close(compiled, reference, rtol=tolerance, atol=tolerance)


def test_samples_do_not_notice_each_other(kernel):
    """With NaN in one of them, the others are as they were."""
    for backend in ("torch", "compiled"):
        with use_backend(backend):
            torch.manual_seed(0)
            clean = kernel(Case((1, 6, 7), 3, 3, torch.float64))()
            torch.manual_seed(0)
            case = _Spoilt((1, 6, 7), 3, 3, torch.float64)
            spoilt = kernel(case)()
        for one, other in zip(clean, spoilt, strict=True):
            batch = one.ndim - 4 if one.ndim > 3 else 0  # the axis that counts samples: b x y z, or b and cells
            assert torch.equal(one.select(batch, 0), other.select(batch, 0))
        assert any(bool(other.isnan().any()) for other in spoilt)


class _Spoilt(Case):
    """Input whose last sample is not a number, wherever samples are counted."""

    def positive(self, *shape: int) -> Tensor:
        return self._spoil(super().positive(*shape))

    def normal(self, *shape: int) -> Tensor:
        return self._spoil(super().normal(*shape))

    def _spoil(self, t: Tensor) -> Tensor:
        axis = t.ndim - 4 if t.ndim > 3 else 0
        if t.shape[axis] == 3:
            t.select(axis, 2).fill_(torch.nan)
        return t


@pytest.mark.parametrize("backend", ["torch", "compiled"])
def test_it_repeats_bit_for_bit_and_does_not_write_to_its_input(kernel, backend):
    run = kernel(Case((4, 5, 6), 1, 2, torch.float64))
    with use_backend(backend):
        first, again = run(), run()  # another input would give another result
    assert all(torch.equal(one, other) for one, other in zip(first, again, strict=True))


@pytest.mark.parametrize("shape", [(1, 40, 3), (5, 6, 40), (51, 4, 3)], ids=str)
def test_neither_threads_nor_instruction_sets_change_a_bit(kernel, monkeypatch, shape):
    run = kernel(Case(shape, 1, 2, torch.float64))
    expected = run()
    found = torch.get_num_threads()
    monkeypatch.setattr(_backend, "SERIAL_BELOW", 0)
    try:
        for functions in _backend.instruction_sets().values():
            monkeypatch.setattr(_backend, "_functions", functions)
            for threads in (1, 3):
                torch.set_num_threads(threads)
                assert all(torch.equal(one, other) for one, other in zip(expected, run(), strict=True))
    finally:
        torch.set_num_threads(found)


def test_an_empty_batch_of_fields_is_no_error(kernel):
    for backend in ("torch", "compiled"):
        with use_backend(backend):
            for result in kernel(Case((1, 6, 7), 1, 0, torch.float64))():
                assert result.numel() == 0 or result.isfinite().all()
