from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch

from sciml_bounds.kernels import _backend, interpolation, smoothing, transfer, use_backend, wavefront

SHAPES = [(1, 1, 9), (1, 9, 8), (1, 8, 9), (7, 6, 9), (8, 9, 5), (6, 1, 7)]
STEPS = [(), (0.9,), (0.6, 1.1), (1.2, 0.7, 0.5)]


def _stage(oracle, shape, stencil, periodic):
    """A random level, all of whose axes with an extent are coarsened; two samples."""
    offsets = getattr(oracle, stencil)(shape)
    T, c = oracle.random_operator(shape, offsets, (periodic,) * 3)
    axes = tuple(n > 1 for n in shape)
    weights, _ = interpolation.interpolation_weights(offsets, T, c, axes)
    return smoothing.Stage(offsets, T, c, torch.rand_like(c) / 10, axes, weights)


def _run(stage, steps, b, x, e):
    """Down from b and up from x."""
    smoothed, restricted = torch.zeros_like(b), torch.full_like(e, torch.nan)
    smoothing.descend(stage, steps, b, smoothed, restricted)
    start = x.clone()
    out = torch.full_like(x, torch.nan) if steps else start
    smoothing.ascend(stage, steps, e, b, start, out)
    return smoothed, restricted, out


@pytest.mark.parametrize("backend", ["torch", "compiled"])
@pytest.mark.parametrize("periodic", [False, True], ids=["ends", "periodic"])
@pytest.mark.parametrize("stencil", ["cross", "box"])
@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_both_halves_against_dense_matrices(oracle, shape, stencil, periodic, backend):
    stage = _stage(oracle, shape, stencil, periodic)
    coarse = tuple(stage.weights.shape[2:])
    b, x = torch.randn(2, 2, *shape, dtype=torch.float64)
    e = torch.randn(2, *coarse, dtype=torch.float64)
    for steps in STEPS:
        with use_backend(backend):
            results = _run(stage, steps, b, x, e)
        for sample in range(2):
            A = oracle.dense(stage.offsets, stage.T[:, sample], stage.c[sample])
            P = oracle.dense_interpolation(stage.offsets, stage.T[:, sample], stage.c[sample], stage.axes)
            s, right, start, correction = (v[sample].reshape(-1).numpy() for v in (stage.s, b, x, e))
            smooth, up = np.zeros_like(right), start + P @ correction
            for step in steps:
                smooth = smooth + step * s * (right - A @ smooth)
                up = up + step * s * (right - A @ up)
            expected = smooth, P.T @ (right - A @ smooth), up
            for found, wanted in zip(results, expected, strict=True):
                # some hundred operations on numbers of order one to ten
                np.testing.assert_allclose(found[sample].reshape(-1), wanted, rtol=0, atol=1e-12)


@pytest.mark.parametrize("shape", [(1, 1, 40), (1, 1, 9), (1, 6, 7), (6, 1, 7), (6, 7, 1)], ids=str)
def test_neighbours_along_an_axis_of_one_point_are_zeros_whatever_memory_held_before(shape):
    """They are coupled by nothing, but nothing times NaN is NaN."""
    offsets = (1, 0, 0), (0, 1, 0), (0, 0, 1)
    T, c = torch.rand(3, 1, *shape, dtype=torch.float64), torch.ones(1, *shape, dtype=torch.float64)
    for axis in range(3):
        T[axis].select(1 + axis, -1).fill_(0.0)
    axes = tuple(n > 4 for n in shape)
    weights, _ = interpolation.interpolation_weights(offsets, T, c, axes)
    b, x = torch.randn(2, 1, *shape, dtype=torch.float64)
    e = torch.randn(1, *weights.shape[2:], dtype=torch.float64)
    for steps in STEPS:
        found = []
        for backend in ("compiled", "torch"):
            held = [torch.full((n,), torch.nan, dtype=torch.float64) for n in range(20, 8000, 20)]
            del held
            with use_backend(backend):
                found.append(_run(smoothing.Stage(offsets, T, c, c / 10, axes, weights), steps, b, x, e))
        for ours, reference in zip(*found, strict=True):
            torch.testing.assert_close(ours, reference, rtol=0, atol=1e-12)  # as above


@pytest.mark.parametrize("stencil", ["cross", "box"])
@pytest.mark.parametrize("shape", [(1, 1, 9), (1, 9, 8), (13, 12, 9), (12, 40, 5), (1, 70, 9), (51, 4, 3)], ids=str)
def test_results_do_not_depend_on_tiles_and_threads(monkeypatch, oracle, shape, stencil):
    stage = _stage(oracle, shape, stencil, periodic=False)
    b, x = torch.randn(2, 2, *shape, dtype=torch.float64)
    e = torch.randn(2, *stage.weights.shape[2:], dtype=torch.float64)
    monkeypatch.setattr(_backend, "SERIAL_BELOW", 0)
    found = torch.get_num_threads()
    try:
        for steps in STEPS:
            whole = _run(stage, steps, b, x, e)
            for height, threads in [(2, 1), (6, 2), (2, 3), (100, 5)]:
                torch.set_num_threads(threads)
                monkeypatch.setattr(wavefront, "_tile_height", lambda *_, height=height: height)
                for one, other in zip(whole, _run(replace(stage, work={}), steps, b, x, e), strict=True):
                    assert torch.equal(one, other)
    finally:
        torch.set_num_threads(found)


def test_tiles_have_an_even_number_of_rows_and_fit_into_the_cache():
    for steps in range(4):
        for Y, Z in [(1, 1024), (128, 128), (256, 256), (4096, 64)]:
            height = wavefront._tile_height(steps, 3, Y, Z, 4)
            assert height % 2 == 0  # so that no coarse point lies between two tiles
            rows = (steps + 1) * 9 * Z * 4  # bytes of all rows of one number that are in use at once
            assert height * rows <= 2 * wavefront.CACHE_BYTES or height <= wavefront.MIN_TILE_HEIGHT + 1


def test_fields_of_another_batch_are_refused(oracle):
    stage = _stage(oracle, (1, 8, 9), "box", periodic=False)
    b = torch.randn(3, 1, 8, 9, dtype=torch.float64)
    coarse = torch.empty(3, *transfer.coarse_shape((1, 8, 9), stage.axes), dtype=torch.float64)
    with pytest.raises(ValueError, match="do not fit"):
        smoothing.descend(stage, (0.5,), b, torch.empty_like(b), coarse)
    with pytest.raises(ValueError, match="do not fit"):
        smoothing.ascend(stage, (0.5,), coarse, b, b.clone(), torch.empty_like(b))
