"""The published network of directions against its parts written out."""

from __future__ import annotations

import pytest
import torch
from torch.nn import functional

from sciml_bounds.krylov._dcdm import DirectionNetwork

CONVOLVE = {2: functional.conv2d, 3: functional.conv3d}


def _written_out(net, r):
    """The 64 network as its authors' code wires it, on the weights of ours in the order of their layers."""
    dim = r.ndim - 2
    weights = [(w, b) for (_, w), (_, b) in zip(*[iter(net.named_parameters())] * 2)]
    convolve = CONVOLVE[dim]
    layers = iter(weights)

    def C(u, padding=1):
        w, b = next(layers)
        return convolve(u, w, b, padding=padding)

    relu = torch.relu
    x = C(r)
    a = relu(C(x))
    b = relu(C(a))
    a = relu(C(b)) + a
    b = relu(C(a))
    pool = {2: functional.avg_pool2d, 3: functional.avg_pool3d}[dim]
    u = pool(b, 2)
    for _ in range(3):
        u = relu(C(relu(C(u)))) + u
    for axis in range(2, r.ndim):
        u = u.repeat_interleave(2, axis)
    u = u + b
    for _ in range(2):
        u = relu(C(relu(C(u)))) + u
    u = C(u, padding=0)
    assert next(layers, None) is None
    return u


@pytest.mark.parametrize("dim", [2, 3])
def test_the_wiring_is_the_published_one(dim):
    torch.manual_seed(0)
    net = DirectionNetwork(dim).double()
    for parameter in net.parameters():  # biases too
        torch.nn.init.normal_(parameter, std=0.2)
    r = torch.randn(2, 1, *(8, 6, 10)[:dim], dtype=torch.float64)
    torch.testing.assert_close(net(r), _written_out(net, r), rtol=1e-12, atol=1e-12)


def test_it_starts_without_biases_and_so_from_a_map_in_proportion_to_the_residual():
    net = DirectionNetwork(2).double()
    r = torch.randn(1, 1, 8, 8, dtype=torch.float64)
    torch.testing.assert_close(net(4 * r), 4 * net(r), rtol=1e-12, atol=1e-14)


@pytest.mark.parametrize("dim", [2, 3])
def test_it_sees_as_far_as_published(dim):
    """A point influences 22 points to each side, and no further (one more or less by its place in a pair)."""
    torch.manual_seed(0)
    net = DirectionNetwork(dim, channels=2).double()
    for parameter in net.parameters():  # positive weights let everything through
        torch.nn.init.uniform_(parameter, 0.1, 0.5)
    space = (64, *(8,) * (dim - 1))
    r = torch.zeros(1, 1, *space, dtype=torch.float64)
    r[(0, 0, 32, *(4,) * (dim - 1))] = 1.0
    changed = (net(r) - net(torch.zeros_like(r))).abs().flatten(3).amax(3)[0, 0] > 0
    where = changed.nonzero().view(-1) - 32
    assert abs(int(where.min()) + 22) <= 1
    assert abs(int(where.max()) - 22) <= 1
