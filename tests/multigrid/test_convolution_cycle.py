"""The cycle of convolutions: what it computes, on which lattices, and which symmetries it keeps."""

from __future__ import annotations

import itertools
import math

import pytest
import torch
from refusals import refused
from torch.nn import functional

import sciml_bounds as sb
from sciml_bounds.multigrid._convolution_cycle import ConvolutionCycle

SIZES = {1: [(16,), (17,), (23,), (32,)], 2: [(16, 16), (17, 9), (12, 19), (31, 8)], 3: [(8, 8, 8), (9, 7, 12)]}
CASES = [(dim, size) for dim, sizes in SIZES.items() for size in sizes]


def ident(value):
    return "x".join(map(str, value)) if isinstance(value, tuple) else str(value)


@pytest.mark.parametrize("alignment", ["first", "interior"])
@pytest.mark.parametrize("boundary", ["dirichlet", "neumann", "periodic"])
@pytest.mark.parametrize(("dim", "size"), CASES, ids=ident)
@pytest.mark.parametrize("kernel", [3, 4])
def test_any_lattice_is_given_back(dim, size, boundary, alignment, kernel):
    levels = 3 if alignment == "first" else 2
    cycle = ConvolutionCycle(2, 3, dim=dim, boundary=boundary, levels=levels, alignment=alignment, kernel=kernel)
    u = cycle(torch.randn(2, 2, *size))
    assert u.shape == (2, 3, *size)
    assert bool(u.isfinite().all())


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"coarse_start": "restricted"},
        {"residual": True, "post": 1},
        {"residual": True, "coarse_start": "restricted", "shared": True, "post": 2},
        {"pre": (0, 1, 2), "post": (1, 0), "residual": True},
        {"channels": (2, 4, 6), "in_channels": (1, 2, 3)},
    ],
    ids=["default", "restricted", "residual", "shared", "uneven", "widening"],
)
@pytest.mark.parametrize("boundary", ["dirichlet", "neumann", "periodic"])
def test_it_is_linear_and_every_weight_has_a_gradient(options, boundary):
    cycle = ConvolutionCycle(**{"in_channels": 2, "channels": 3, "levels": 3, "boundary": boundary} | options).double()
    width = cycle.widths_f[0]
    x, y = torch.randn(2, 2, width, 13, 16, dtype=torch.float64)
    torch.testing.assert_close(cycle(2 * x - y), 2 * cycle(x) - cycle(y), rtol=0, atol=1e-12)
    cycle(x).square().sum().backward()
    assert all(p.grad is not None and bool(p.grad.abs().sum() > 0) for p in cycle.parameters())


def test_the_cycle_is_what_its_definition_says():
    """Two levels, every option that adds a term, written out with plain convolutions."""
    cycle = ConvolutionCycle(
        2, 3, levels=2, pre=(2, 2), post=1, residual=True, coarse_start="restricted", kernel=3, bias=True
    ).double()
    f = torch.randn(1, 2, 9, 9, dtype=torch.float64)
    fine, coarse = cycle.levels
    conv = [(m.weight, m.bias) for m in fine.operators]
    smooth = [(m.weight, m.bias) for m in fine.smoothers]

    def A(k, u):
        return functional.conv2d(u, *conv[k], padding=1)

    def S(k, r):
        return functional.conv2d(r, *smooth[k], padding=1)

    u = S(0, f)
    u = u + S(1, f - A(0, u))
    g = functional.conv2d(f - A(1, u), fine.restriction.weight, stride=2, padding=1)
    v = functional.conv2d(u, fine.start.weight, stride=2, padding=1)
    for k in range(2):
        r = g - functional.conv2d(v, coarse.operators[k].weight, coarse.operators[k].bias, padding=1)
        v = v + functional.conv2d(r, coarse.smoothers[k].weight, coarse.smoothers[k].bias, padding=1)
    u = u + functional.conv_transpose2d(v, fine.prolongation.kernel.weight, stride=2, padding=1)
    u = u + S(2, f - A(2, u))
    torch.testing.assert_close(cycle(f), u, rtol=0, atol=1e-13)


@pytest.mark.parametrize("kernel", [3, 4])
@pytest.mark.parametrize("dim", [1, 2, 3])
def test_periodic_cycles_commute_with_shifts_of_the_coarsest_lattice(dim, kernel):
    cycle = ConvolutionCycle(1, 2, dim=dim, boundary="periodic", levels=3, kernel=kernel, post=1).double()
    f = torch.randn(1, 1, *(16,) * dim, dtype=torch.float64)
    axes, shift = tuple(range(2, dim + 2)), (4, 8, 12)[:dim]
    shifted = cycle(f.roll(shift, axes))
    torch.testing.assert_close(shifted, cycle(f).roll(shift, axes), rtol=0, atol=1e-13)


def test_the_published_prolongation_has_a_seam():
    """Without wrapping, the field near the seam misses what comes from beyond it, and nothing else changes."""
    wrapped = ConvolutionCycle(1, 2, boundary="periodic", levels=2).double()
    seamed = ConvolutionCycle(1, 2, boundary="periodic", levels=2, wrapped=False).double()
    seamed.load_state_dict(wrapped.state_dict())
    f = torch.randn(1, 1, 16, 16, dtype=torch.float64)
    difference = (wrapped(f) - seamed(f)).detach().abs().amax((0, 1))
    assert float(difference[1:-1, 1:-1].max()) < 1e-15
    assert float(difference[[0, -1]].max()) > 1e-3


@pytest.mark.parametrize("dim", [1, 2, 3])
def test_neumann_cycles_commute_with_the_even_extension(dim):
    """Reflection at the boundary is a torus of twice the size with an even field, on 2^k + 1 nodes."""
    reflected = ConvolutionCycle(1, 2, dim=dim, boundary="neumann", levels=3, post=1, kernel=3).double()
    periodic = ConvolutionCycle(1, 2, dim=dim, boundary="periodic", levels=3, post=1, kernel=3).double()
    with torch.no_grad():  # even kernels keep even fields even
        for p in reflected.parameters():
            for axis in range(2, p.ndim):
                p.copy_((p + p.flip(axis)) / 2)
    periodic.load_state_dict(reflected.state_dict())
    f = torch.randn(1, 1, *(9,) * dim, dtype=torch.float64)
    whole = f
    for axis in range(2, dim + 2):
        whole = torch.cat([whole, whole.narrow(axis, 1, 7).flip(axis)], axis)
    found = periodic(whole)
    for axis in range(2, dim + 2):
        found = found.narrow(axis, 0, 9)
    torch.testing.assert_close(found, reflected(f), rtol=0, atol=1e-13)


def test_dirichlet_cycles_commute_with_the_odd_extension():
    """Zeros beyond the boundary are those of an odd field on a torus, on 2^k - 1 interior nodes."""
    inner = ConvolutionCycle(1, 2, levels=3, post=1, alignment="interior", kernel=3).double()
    outer = ConvolutionCycle(1, 2, boundary="periodic", levels=3, post=1, kernel=3).double()
    with torch.no_grad():
        for p in inner.parameters():
            for axis in range(2, p.ndim):
                p.copy_((p + p.flip(axis)) / 2)
    outer.load_state_dict(inner.state_dict())
    f = torch.randn(1, 1, 15, 15, dtype=torch.float64)
    whole = f
    for axis in (2, 3):  # node 0 of the torus is the boundary
        zero = torch.zeros_like(whole.narrow(axis, 0, 1))
        whole = torch.cat([zero, whole, zero, -whole.flip(axis)], axis)
    torch.testing.assert_close(outer(whole)[..., 1:16, 1:16], inner(f), rtol=0, atol=1e-13)


def test_channels_last_changes_nothing():
    cycle, f = ConvolutionCycle(2, 4, levels=3), torch.randn(2, 2, 16, 16)
    expected = cycle(f)
    found = cycle.to(memory_format=torch.channels_last)(f.to(memory_format=torch.channels_last))
    torch.testing.assert_close(found, expected, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize(("shared", "residual"), list(itertools.product([False, True], repeat=2)))
def test_weights_are_held_once(shared, residual):
    cycle = ConvolutionCycle(1, 1, levels=2, pre=2, post=2, shared=shared, residual=residual)
    smoothers, operators = len(cycle.levels[0].smoothers), len(cycle.levels[0].operators)
    assert (smoothers, operators) == ((1, 1) if shared else (4, 3 + residual))


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"dim": 4}, "1 2 3"),
        ({"boundary": "robin"}, "'robin' 'dirichlet'"),
        ({"levels": 0}, "positive integer"),
        ({"levels": 3, "pre": (1, 2)}, "pre 2 entries 3"),
        ({"levels": 3, "post": (1, 0, 0)}, "post 3 entries 2"),
        ({"pre": (1, 1, 0)}, "coarsest"),
        ({"pre": (1, -1, 1)}, "0"),
        ({"kernel": 5}, "3 4"),
        ({"coarse_start": "warm"}, "choices"),
        ({"alignment": "last"}, "choices"),
        ({"channels": (4, 0), "levels": 2}, "1"),
    ],
    ids=lambda value: "-".join(value) if isinstance(value, dict) else "",
)
def test_bad_options_are_one_sentence(options, words):
    refused(words, ConvolutionCycle, **{"in_channels": 1, "channels": 2} | options)


@pytest.mark.parametrize("boundary", ["dirichlet", "neumann", "periodic"])
@pytest.mark.parametrize("alignment", ["first", "interior"])
def test_the_smallest_lattice_is_the_one_that_the_message_names(boundary, alignment):
    cycle = ConvolutionCycle(1, 2, levels=4, boundary=boundary, alignment=alignment)
    caught = refused("4 levels", lambda: cycle(torch.randn(1, 1, 40, 5)))
    least = int(caught.split("at least ")[1].split()[0])
    assert cycle(torch.randn(1, 1, least, least)).shape == (1, 2, least, least)
    refused("small", lambda: cycle(torch.randn(1, 1, least - 1, 40)))


def test_norms_follow_the_coarse_correction():
    normed = ConvolutionCycle(1, 2, levels=2, pre=1)
    normed.add_norms((8, 8))
    normed.double()
    plain = ConvolutionCycle(1, 2, levels=2, pre=1).double()
    plain.load_state_dict({name: p for name, p in normed.state_dict().items() if ".norm." not in name})
    f = torch.randn(3, 1, 8, 8, dtype=torch.float64)
    u = plain(f)
    deviation = u.var((1, 2, 3), correction=0, keepdim=True).add(1e-5).sqrt()  # torch's epsilon
    torch.testing.assert_close(normed(f), (u - u.mean((1, 2, 3), keepdim=True)) / deviation, rtol=0, atol=1e-12)


def test_norms_need_a_lattice_that_is_large_enough():
    refused("5 levels", ConvolutionCycle(1, 2).add_norms, (2, 2))


def test_gradients_in_bfloat16_do_not_read_memory_that_was_never_written():
    """Memory that is handed out again is full of NaN here, which torch's own convolution of 2 x 2 x 2 nodes reads."""
    x = torch.randn(2, 1, 8, 7, 9, generator=torch.Generator().manual_seed(0))
    for _ in range(200):  # without a mend it is about three in a hundred that fail
        junk = [
            torch.full((n,), math.nan, dtype=dtype)
            for dtype in (torch.float32, torch.bfloat16)
            for n in (50, 500, 700, 3000, 20_000, 100_000)
            for _ in range(6)
        ]
        del junk
        model = sb.MgNO(in_channels=1, out_channels=1, channels=6, layers=2, levels=3, dim=3, boundary="dirichlet")
        with torch.autocast("cpu", dtype=torch.bfloat16):
            y = model(x)
        y.float().square().sum().backward()
        assert all(bool(p.grad.isfinite().all()) for p in model.parameters() if p.grad is not None)
