"""The published networks: their exact sizes, and what makes up one of them."""

from __future__ import annotations

import pytest
import torch
from refusals import refused
from torch.nn import functional

from sciml_bounds.multigrid._published_mgno import PUBLISHED, PublishedMgNO

#: Parameters of the authors' classes, counted by making them; the length of a side; channels in.
COUNTS = {
    "darcy-rough": (572_661, 256, 1),
    "darcy-multiscale": (572_661, 256, 1),
    "darcy-smooth": (678_093, 211, 1),
    "pipe": (783_876, 128, 2),
    "navier-stokes": (2_885_194, 64, 1),
    "helmholtz": (5_351_806, 101, 1),
}


def count(model):
    return sum(p.numel() for p in model.parameters())


@pytest.mark.parametrize("name", PUBLISHED)
def test_parameters_are_as_many_as_published(name):
    assert count(PublishedMgNO.named(name)) == COUNTS[name][0]


@pytest.mark.parametrize("name", PUBLISHED)
def test_it_runs_at_its_size_and_refuses_others(name):
    _, n, channels = COUNTS[name]
    model = PublishedMgNO.named(name).eval()
    with torch.no_grad():
        u = model(torch.rand(1, channels, n, n))
    assert u.shape == (1, 1, n, n)
    assert bool(u.isfinite().all())
    refused(f"lattice {n}x{n} input 32x32", lambda: model(torch.rand(1, channels, 32, 32)))


def test_a_further_layer_of_the_darcy_network_costs_what_the_sum_by_hand_says():
    rough = PUBLISHED["darcy-rough"]
    more = PublishedMgNO(**rough | {"layers": 5})
    S, hidden = 24 * 24 * 9, 24 * 24 + 24  # one convolution; K and b
    transfers = 5 * (2 * S + 24 * 24 * 16)
    assert count(more) - count(PublishedMgNO(**rough)) == S + 4 * 2 * S + 4 * S + transfers + hidden == 165_912


def test_norms_are_the_larger_part_of_the_navier_stokes_network():
    named = PublishedMgNO.named("navier-stokes").named_parameters()
    assert sum(p.numel() for name, p in named if ".norm." in name) == 1_740_800


def test_the_navier_stokes_network_gives_an_increment():
    model = PublishedMgNO.named("navier-stokes").eval()
    torch.nn.init.zeros_(model.head.weight)
    x = torch.randn(1, 1, 64, 64)
    assert torch.equal(model(x), x)


def test_only_the_idle_operators_of_helmholtz_have_no_gradient():
    model = PublishedMgNO.named("helmholtz")
    model(torch.randn(1, 1, 101, 101)).sum().backward()
    idle = [name for name, p in model.named_parameters() if p.grad is None]
    assert idle
    assert all("idle_operator" in name for name in idle)
    assert sum(dict(model.named_parameters())[name].numel() for name in idle) == 11_241


def test_unknown_names_are_one_sentence():
    refused("network 'darcy'", PublishedMgNO.named, "darcy")


# --- the same networks, written out as the reference describes them ----------------------------------------------


def convolve(x, module, mode, stride=1, padding=1):
    if padding:
        x = functional.pad(x, (padding,) * 4, mode=mode)
    return functional.conv2d(x, module.weight, module.bias, stride)


def cycle_by_hand(cycle, f, mode, pre, post, padding):
    """Smooth from u = S f, restrict f itself and u, smooth; prolong with zeros beyond the boundary, norm, smooth."""
    u, kept = convolve(f, cycle.levels[0].smoothers[0], mode), []
    for l, level in enumerate(cycle.levels):
        first, operators = int(l == 0), iter(level.operators)
        for smoother in list(level.smoothers)[first : pre[l]]:
            u = u + convolve(f - convolve(u, next(operators), mode), smoother, mode)
        if l < len(pre) - 1:
            kept.append((u, f, operators))
            f, u = (convolve(x, way, mode, 2, padding) for x, way in ((f, level.restriction), (u, level.start)))
    for l in reversed(range(len(pre) - 1)):
        level, (fine, f, operators) = cycle.levels[l], kept[l]
        u = fine + functional.conv_transpose2d(u, level.prolongation.kernel.weight, None, 2, padding)
        u = u if level.norm is None else level.norm(u)
        for smoother in list(level.smoothers)[pre[l] : pre[l] + post[l]]:
            u = u + convolve(f - convolve(u, next(operators), mode), smoother, mode)
    return u


HANDWRITTEN = {
    "darcy-rough": ("constant", (1, 1, 1, 1, 1, 2), (0, 0, 0, 0, 0), 1),
    "darcy-smooth": ("constant", (1, 1, 1, 1, 1, 2), (0, 0, 0, 0, 0), 1),
    "pipe": ("constant", (1, 1, 1, 1, 1, 2), (0, 0, 0, 0, 1), 1),
    "navier-stokes": ("circular", (1, 1, 1, 2, 2), (0, 0, 0, 0), 1),
    "helmholtz": ("reflect", (1, 1, 1, 1, 2), (0, 0, 0, 0), 0),
}


@pytest.mark.parametrize("name", HANDWRITTEN)
@torch.no_grad()
def test_it_computes_what_the_reference_describes(name):
    model, options = PublishedMgNO.named(name).eval(), HANDWRITTEN[name]
    for parameter in model.parameters():
        if parameter.ndim != 4:  # biases and norms, which start as nothing
            parameter.add_(0.1 * torch.randn_like(parameter))
    x = torch.randn(2, model.in_channels, *model.size)
    model.fit_normalizer(x, torch.randn(2, 1, *model.size))
    u = model.input_normalizer.encode(x)
    for layer in model.layers:
        w = cycle_by_hand(layer.cycle, u, *options)
        w = w if layer.norm is None else layer.norm(w)
        u = functional.gelu(w if layer.local is None else w + convolve(u, layer.local, "constant", padding=0))
    last = cycle_by_hand(model.head, u, *options) if name == "helmholtz" else convolve(u, model.head, "", padding=0)
    last = model.target_normalizer.decode(last)
    torch.testing.assert_close(model(x), last + x if name == "navier-stokes" else last, rtol=1e-5, atol=1e-5)
