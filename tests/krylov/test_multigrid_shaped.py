"""The multigrid-shaped network: linear, and its kernels those of the geometry around each point."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
import torch

from sciml_bounds.krylov._multigrid_shaped import AIR, FLUID, SOLID, MultigridShapedNetwork, geometry_image

SPACES = {2: (8, 12), 3: (8, 4, 8)}


def _network(dim, levels=2, seed=0):
    torch.manual_seed(seed)
    return MultigridShapedNetwork(dim, levels=levels).double()


def _geometry(space, seed=0):
    return torch.randint(0, 3, (1, *space), generator=torch.Generator().manual_seed(seed))


def test_the_image_has_a_channel_for_each_kind():
    image = geometry_image(torch.tensor([[SOLID, FLUID, AIR, FLUID]]))
    assert image.int().tolist() == [[[0, 0, 1, 0], [0, 1, 0, 1], [1, 0, 0, 0]]]


@pytest.mark.parametrize("dim", [2, 3])
def test_it_is_linear_in_the_residual_for_any_geometry(dim):
    net, image = _network(dim), geometry_image(_geometry(SPACES[dim])).double()
    u, v = torch.randn(2, 1, 1, *SPACES[dim], dtype=torch.float64)
    torch.testing.assert_close(net(2 * u - 3 * v, image), 2 * net(u, image) - 3 * net(v, image), rtol=0, atol=1e-13)


@pytest.mark.parametrize("dim", [2, 3])
def test_kernels_are_weights_of_neighbours(dim):
    """With one level whose coarse part is switched off, the map is the sum over neighbours, written out."""
    net, space = _network(dim, levels=1), SPACES[dim]
    image = geometry_image(_geometry(space)).double()
    kernels = net.kernels(image)
    off = type(kernels)(kernels.pre, kernels.post, [torch.ones(())], [torch.zeros(())], kernels.last)
    r = torch.randn(1, 1, *space, dtype=torch.float64)
    found = net.along(off, r)[0, 0].detach().numpy()
    weights, u = kernels.pre[0][0].detach().numpy(), r[0, 0].numpy()
    expected = np.zeros(space)
    for point in itertools.product(*map(range, space)):
        for k, step in enumerate(itertools.product((-1, 0, 1), repeat=dim)):
            place = tuple(p + s for p, s in zip(point, step))
            if all(0 <= p < n for p, n in zip(place, space)):
                expected[point] += weights[k][point] * u[place]
    np.testing.assert_allclose(found, expected, rtol=0, atol=1e-13)


def test_a_level_adds_what_comes_from_below():
    """With kernels that see a point alone, the two levels are averages over blocks and bilinear values."""
    net = _network(2, levels=1)
    with torch.no_grad():
        for parameter in net.parameters():
            parameter.zero_()
        for convolution in (net.pre[0], net.post[0], net.last):
            convolution.bias[4] = 1.0  # of the point itself
        net.own[0].bias.fill_(2.0)
        net.below[0].bias.fill_(3.0)
    r = torch.randn(1, 1, 8, 12, dtype=torch.float64)
    image = geometry_image(_geometry((8, 12))).double()
    coarse = r.view(1, 1, 4, 2, 6, 2).mean((3, 5))
    raised = torch.nn.functional.interpolate(coarse, scale_factor=2, mode="bilinear", align_corners=False)
    torch.testing.assert_close(net(r, image), 2 * r + 3 * raised, rtol=0, atol=1e-14)


@pytest.mark.parametrize("dim", [2, 3])
def test_the_factors_are_means_over_space(dim):
    net, image = _network(dim), geometry_image(_geometry(SPACES[dim])).double()
    kernels = net.kernels(image)
    assert [tuple(factor.shape) for factor in kernels.own] == [(1, 1, *(1,) * dim)] * 2
    torch.testing.assert_close(kernels.own[0].view(()), net.own[0](image).mean())


def test_another_geometry_is_another_map():
    net, r = _network(2), torch.randn(1, 1, 8, 12, dtype=torch.float64)
    first, second = (net(r, geometry_image(_geometry((8, 12), seed)).double()) for seed in (0, 1))
    assert float((first - second).detach().abs().max()) > 1e-2
