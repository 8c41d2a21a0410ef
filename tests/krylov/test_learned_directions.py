"""Networks of directions: the published ones, any lattice, files; what every network keeps is in tests/contracts."""

from __future__ import annotations

import json

import pytest
import torch
from refusals import refusals

import sciml_bounds as sb
from sciml_bounds.problems.discretization import cell_fluxes
from sciml_bounds.store.datasets.weights import find_weights, read_weights
from sciml_bounds.training._training_recipes import read_training_recipe


def _size(net):
    return sum(p.numel() for p in net.parameters())


@pytest.mark.parametrize(
    ("name", "count", "flat"),
    [
        # 3-D as published. 2-D by hand: 10 c weights of the lift, 9 c^2 + c of each of 14 or 22 convolutions, c + 1 of
        # the head with c = 16; 252 of a kernel and 28 of a factor, 4 and 5 levels of two of each and one kernel more
        ("dcdm-64", 97_457, 160 + 14 * 2320 + 17),
        ("dcdm-128", 152_881, 160 + 22 * 2320 + 17),
        ("multigrid-4", 20_582, 4 * 2 * (252 + 28) + 252),
        ("multigrid-5", 25_174, 5 * 2 * (252 + 28) + 252),
    ],
)
def test_published_networks_have_as_many_weights(name, count, flat):
    assert _size(sb.LearnedDirections.published(name)) == count
    assert _size(sb.LearnedDirections.published(name, dim=2)) == flat


@pytest.mark.parametrize(("name", "count"), [("poisson3d-64", 97_457)])
def test_weights_ship_that_the_recipe_beside_them_made(name, count):
    """Reading holds tensors and card against their digests."""
    net = sb.LearnedDirections.load(name)
    assert not net.training
    assert _size(net) == count
    state, card = read_weights(find_weights(name))
    assert {tensor.dtype for tensor in state.values()} == {torch.float32}
    assert card["training_recipe"] == json.loads(json.dumps(read_training_recipe(name).card()))
    # a step along the residual itself leaves 0.43 on these data
    assert card["metrics"]["test line-search"] < 1e-3


@pytest.mark.slow
@pytest.mark.parametrize("open_side", [None, "z1"])
def test_weights_that_ship_need_a_fifth_of_the_iterations_and_less(open_side):
    """Measured: 12 in place of 116 with walls all around, 12 in place of 139 below an open top."""
    grid = sb.Grid((24, 24, 24))
    sides = {side: sb.Dirichlet(0.0) if side == open_side else sb.Neumann() for side in grid.sides}
    operator = cell_fluxes(sb.Diffusion(grid, 1.0, 0.0, boundary=sides)).system.operator
    b = torch.randn(24**3, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    b = b if open_side else b - b.mean()
    plain = sb.cg(operator, b, rtol=1e-6)
    learned = sb.cg(operator, b, M=sb.LearnedDirections.load("poisson3d-64").as_preconditioner(operator), rtol=1e-6)
    assert bool(learned.converged)
    assert 5 * int(learned.iterations) < int(plain.iterations)


@pytest.mark.parametrize("name", ["dcdm-64", "multigrid-4"])
@pytest.mark.parametrize("space", [(1, 1), (5, 7), (16, 16), (17, 16)], ids=str)
def test_any_lattice_will_do(name, space):
    net = sb.LearnedDirections.published(name, dim=2)
    x = torch.rand(2, net.in_channels, *space).round()
    assert net(x).shape == (2, 1, *space)


def test_odd_lattices_are_continued_by_zeros_and_cut():
    torch.manual_seed(0)
    net = sb.LearnedDirections("dcdm", dim=2, channels=4)
    x = torch.rand(1, 1, 7, 8)
    wide = torch.cat([x, torch.zeros(1, 1, 1, 8)], 2)
    assert torch.equal(net(x), net(wide)[:, :, :7])


def test_the_geometry_is_the_second_channel():
    torch.manual_seed(0)
    net = sb.LearnedDirections("multigrid", dim=2, levels=2)
    r, geometry = torch.rand(3, 1, 8, 8), torch.randint(0, 3, (3, 1, 8, 8))
    found = net(torch.cat([r, geometry.float()], 1))
    torch.testing.assert_close(found, net.along(r, net.kernels(geometry[:, 0])))


def test_files_bring_it_back_as_a_preconditioner(tmp_path):
    net = sb.LearnedDirections("multigrid", dim=2, levels=2)
    net.save(tmp_path / "net.safetensors", recipe="none")
    again = sb.LearnedDirections.load(tmp_path / "net.safetensors")
    assert again.arguments == {"network": "multigrid", "dim": 2, "levels": 2}
    solver = sb.prepare(sb.Diffusion(sb.Grid((8, 8)), source=1.0))
    r = torch.randn(2, 81, dtype=torch.float64)
    assert torch.equal(net.as_preconditioner(solver).matvec(r), again.as_preconditioner(solver).matvec(r))


def of_geometry(network, value, training):
    """Apply a network where the geometry of sample 1 has another number; nothing else would ever tell."""
    x = torch.ones(3, 2, 17, 17)
    x[1, 1, 4, 5] = value
    return sb.LearnedDirections(network, dim=2).train(training)(x)


def of_other_file(tmp_path):
    sb.MgNO(channels=2, layers=1, levels=2).save(tmp_path / "mgno.safetensors")
    sb.LearnedDirections.load(tmp_path / "mgno.safetensors")


test_bad_input = refusals(
    *[
        (words, lambda arguments=arguments: sb.LearnedDirections(**arguments))
        for words, arguments in [
            ("network 'dcmd'", {"network": "dcmd"}),
            ("dim 4 2 3", {"dim": 4}),
            ("dim 2.0 2 3", {"dim": 2.0}),
            ("'dcdm' 'levels' channels before coarse after", {"levels": 3}),
            ("'multigrid' 'channels' levels", {"network": "multigrid", "channels": 3}),
            ("levels 11 10", {"network": "multigrid", "levels": 11}),
            ("channels 0 positive", {"channels": 0}),
            ("coarse True integer", {"coarse": True}),
            ("before 1.5 integer", {"before": 1.5}),
        ]
    ],
    *[
        (
            f"geometry {value:g} 1 0 2",
            lambda value=value, network=network, training=training: of_geometry(network, value, training),
        )
        for value, training in ((0.6, True), (3.0, False), (-1.0, True), (255.0, False))
        for network in ("multigrid", "cycle")
    ],
    ("dcdm-64", lambda: sb.LearnedDirections.published("dcdm-46")),
    ("MgNO LearnedDirections", of_other_file),
)
