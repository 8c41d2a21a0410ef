"""MgNO: layouts, statistics, predictions that can be certified, files, and that it learns."""

from __future__ import annotations

import re

import pytest
import torch
from refusals import refused

import sciml_bounds as sb
from sciml_bounds.errors import InputError
from sciml_bounds.multigrid._mgno import MgNO
from sciml_bounds.multigrid._published_mgno import PUBLISHED, PublishedMgNO
from sciml_bounds.nn.losses import relative_h1

SMALL = {"channels": 6, "layers": 2, "levels": 3}


@pytest.mark.parametrize("dim", [1, 2, 3])
@pytest.mark.parametrize("boundary", ["dirichlet", "neumann", "periodic"])
def test_layouts(dim, boundary):
    model = MgNO(2, 3, dim=dim, boundary=boundary, **SMALL)
    cells = (9, 12, 8)[:dim]
    u = model(torch.randn(2, 2, *cells)).detach()
    nodes = tuple(n + 1 for n in cells) if boundary == "dirichlet" else cells
    assert u.shape == (2, 3, *nodes)


@pytest.mark.parametrize("dim", [1, 2, 3])
def test_boundary_values_are_exactly_zero_after_normalisation(dim):
    model = MgNO(dim=dim, **SMALL)
    x = torch.rand(4, 1, *(8,) * dim)
    y = torch.nn.functional.pad(1 + torch.rand(4, 1, *(7,) * dim), (1, 1) * dim)
    model.fit_normalizer(x, y)
    u = model(x).detach()
    for axis in range(2, dim + 2):
        for end in (0, -1):
            assert bool((u.select(axis, end) == 0).all())
    inner = y[(..., *(slice(1, -1),) * dim)].double()  # zeros on the boundary are no data
    assert float(model.target_normalizer.mean) == pytest.approx(float(inner.mean()), rel=1e-6)
    assert float(model.target_normalizer.scale) == pytest.approx(float(inner.std(correction=0)), rel=1e-6)


def test_layers_are_what_their_definition_says():
    """GELU(norm(W u) + K u + b) for each layer and a last matrix, with the GELU written out by the error function."""
    model = PublishedMgNO(2, 3, boundary="neumann", norm="layers", size=(8, 9), **SMALL).double().eval()
    x = torch.randn(2, 2, 8, 9, dtype=torch.float64)
    u = x
    for layer in model.layers:
        K, b = layer.local.weight[..., 0, 0], layer.local.bias
        u = layer.norm(layer.cycle(u)) + torch.einsum("oc,bcxy->boxy", K, u) + b[:, None, None]
        u = u * (1 + torch.erf(u / 2**0.5)) / 2
    u = torch.einsum("oc,bcxy->boxy", model.head.weight[..., 0, 0], u)
    torch.testing.assert_close(model(x), u, rtol=0, atol=1e-13)
    assert [name for name, _ in model.head.named_parameters()] == ["weight"]


def test_large_batches_are_predicted_in_parts():
    problem = sb.Diffusion(sb.Grid((8,)), coefficient=1 + torch.rand(70, 8))
    model = MgNO(dim=1, **SMALL).eval()
    expected = model(problem.coefficient[0].float().unsqueeze(1)).detach()[:, 0]
    torch.testing.assert_close(model.predict(problem).float(), expected, rtol=1e-5, atol=1e-7)


def test_weights_belong_to_no_lattice():
    """The default runs on other lattices with the same weights, and a finer view of a field gives a close answer."""
    model = MgNO(**SMALL).eval()
    shapes = {name: value.shape for name, value in model.state_dict().items()}
    for n in (16, 32, 64, 37):
        assert model(torch.rand(1, 1, n, n)).shape == (1, 1, n + 1, n + 1)
    assert {name: value.shape for name, value in model.state_dict().items()} == shapes


def test_periodic_networks_commute_with_shifts():
    model = MgNO(2, 2, boundary="periodic", increment=True, **SMALL).double().eval()
    x = torch.randn(1, 2, 16, 24, dtype=torch.float64)
    torch.testing.assert_close(model(x.roll((4, 8), (2, 3))), model(x).roll((4, 8), (2, 3)), rtol=0, atol=1e-12)


def test_increments_are_added_to_the_last_channels():
    model = MgNO(3, 2, boundary="periodic", increment=True, **SMALL)
    torch.nn.init.zeros_(model.head.weight)
    x = torch.randn(2, 3, 8, 8)
    assert torch.equal(model(x), x[:, 1:])
    model.fit_normalizer(x, x[:, 1:] + 2.0)  # the change is 2 everywhere
    torch.testing.assert_close(model(x), x[:, 1:] + 2.0)


@pytest.mark.parametrize("batch", [(), (1,), (3,), (2, 2)], ids=str)
def test_predictions_can_be_certified(batch):
    problem = sb.Diffusion(sb.Grid((8, 8)), coefficient=1 + torch.rand(*batch, 8, 8), source=1.0)
    model = MgNO(**SMALL)
    v = model.predict(problem)
    assert v.dtype == torch.float64
    assert v.shape == (*batch, 9, 9)
    assert model.training  # as it was
    x = problem.coefficient[0].expand(*batch, 8, 8).reshape(-1, 1, 8, 8)
    torch.testing.assert_close(v.reshape(-1, 1, 9, 9).float(), model(x.float()).detach(), rtol=0, atol=0)
    upper = sb.certify(problem, v).upper
    # the distance to the discrete solution is at most the sum of both errors
    u = sb.solve(problem).values.double()
    e = u - v
    dx, dy = e.diff(dim=-2), e.diff(dim=-1)
    squares = sum(
        (a * a + a * b + b * b) / 3 for a, b in ((dx[..., 1:], dx[..., :-1]), (dy[..., 1:, :], dy[..., :-1, :]))
    )
    distance = (problem.coefficient[0] * squares).sum((-2, -1)).sqrt()
    assert upper.shape == batch
    assert bool((upper + sb.certify(problem, u).upper >= distance).all())
    assert bool((upper <= 2 * distance).all())  # an untrained network is far away, so that the distance is most of it


def test_predictions_take_the_fields_that_were_named_and_the_prescribed_values():
    edge = sb.Dirichlet(lambda x, y: x + y)
    problem = sb.Diffusion(sb.Grid((8, 8)), 2.0, lambda x, y: x * y, boundary=edge)
    model = MgNO(2, fields=("source", "coefficient"), **SMALL)
    v = model.predict(problem)
    x = torch.linspace(0, 1, 9, dtype=torch.float64)
    torch.testing.assert_close(v[0], x)
    torch.testing.assert_close(v[:, -1], 1 + x)
    channels = torch.stack([problem.source.expand(8, 8), problem.coefficient[0].expand(8, 8)])[None]
    inner = model(channels.float()).detach()[0, 0]
    torch.testing.assert_close(v[1:-1, 1:-1].float(), inner[1:-1, 1:-1])
    # around a torus nodes are as many as cells
    torus = sb.Diffusion(sb.Grid((8, 8)), source=lambda x, y: torch.sin(6.283185307179586 * x), boundary=sb.Periodic())
    assert MgNO(boundary="periodic", fields=("source",), **SMALL).predict(torus).shape == (8, 8)


@pytest.mark.parametrize("alignment", ["first", "interior"])
@pytest.mark.parametrize("cells", [1, 2, 3, 8, 16, 17])
def test_cells_too_few_for_the_levels_are_told_what_would_do(cells, alignment):
    options = {"channels": 2, "layers": 1, "alignment": alignment}
    caught = refused("5 levels", lambda: MgNO(levels=5, **options)(torch.ones(1, 1, 40, cells)))
    numbers = dict(re.findall(r"(levels=|least )(\d+)", caught))
    least, levels = int(numbers["least "]), int(numbers.get("levels=", 0))
    assert MgNO(levels=5, **options)(torch.ones(1, 1, 40, least)).shape == (1, 1, 41, least + 1)
    if levels:
        assert MgNO(levels=levels, **options)(torch.ones(1, 1, 40, cells)).shape == (1, 1, 41, cells + 1)
    for level, size in ((5, least - 1), (levels + 1, cells)):
        with pytest.raises(InputError, match="too few for"):
            MgNO(levels=level, **options)(torch.ones(1, 1, 40, size))


def test_predictions_refuse_what_does_not_fit():
    grid = sb.Grid((8, 8))
    refused("problem 2 axes network 1", lambda: MgNO(dim=1, **SMALL).predict(sb.Diffusion(grid)))
    refused("1 2 input channels", lambda: MgNO(2, **SMALL).predict(sb.Diffusion(grid)))
    refused("coefficient axes", lambda: MgNO(**SMALL).predict(sb.Diffusion(grid, (1.0, 2.0))))
    refused("nodal values problem", lambda: MgNO(layout="same", **SMALL).predict(sb.Diffusion(grid)))
    refused("nodal values problem", lambda: MgNO(1, 2, **SMALL).predict(sb.Diffusion(grid)))
    refused("8 cells axis 5 levels levels=3", lambda: MgNO().predict(sb.Diffusion(grid)))
    refused("Diffusion problem type Tensor", lambda: MgNO(**SMALL).predict(torch.ones(8, 8)))
    refused("infinity sample 0 precision", lambda: MgNO(**SMALL).predict(sb.Diffusion(grid, 1e40)))


@pytest.mark.parametrize("kind", ["scalar", "pointwise", "none"])
def test_files_bring_the_same_network_back(tmp_path, kind):
    chosen = {"normalization": (kind, kind)} | SMALL
    model = (PublishedMgNO(size=(8, 8), **chosen) if kind == "pointwise" else MgNO(**chosen)).eval()
    x = torch.rand(5, 1, 8, 8)
    model.fit_normalizer(x, torch.rand(5, 1, 9, 9))
    model.save(tmp_path / "model.safetensors", recipe="poisson", seed=3)
    loaded = MgNO.load(tmp_path / "model.safetensors")
    assert type(loaded) is type(model)
    assert loaded.arguments == model.arguments
    assert not loaded.training
    assert torch.equal(loaded(x), model(x))


def test_it_learns():
    """A few steps on four samples of Poisson's equation with varying coefficients more than halve the H1 loss."""
    problem = sb.Diffusion(sb.Grid((16, 16)), 1 + 5 * torch.rand(4, 16, 16), 1.0)
    x = problem.coefficient[0].unsqueeze(1).float()
    y = sb.solve(problem).values.unsqueeze(1).float()
    model = MgNO(**SMALL)
    model.fit_normalizer(x, y)
    optimizer = torch.optim.Adam(model.parameters(), lr=5e-3)
    values = []
    for _ in range(40):
        loss = relative_h1(model(x), y).mean()
        values.append(float(loss.detach()))
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    assert values[-1] < 0.5 * values[0]


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"in_channels": 0}, "in_channels=0 positive integer"),
        ({"layers": 0}, "layers=0 positive integer"),
        ({"layout": "nodes"}, "layout 'nodes'"),
        ({"boundary": "periodic", "layout": "cells->nodes"}, "'periodic' 'same'"),
        ({"increment": True}, "layout='same'"),
        ({"increment": True, "layout": "same", "out_channels": 2}, "<= in_channels"),
        ({"normalization": ("scalar", "pointwise")}, "normalization 'pointwise'"),
        ({"normalization": ("scalar",)}, "kinds"),
        ({"normalization": ("scalar", "minmax")}, "'minmax'"),
        ({"fields": ("pressure",)}, "fields 'pressure'"),
        ({"fields": "source"}, "fields='source' list ['source']"),
        ({"dim": 4}, "dim=4 1 2 3"),
        ({"dim": 2.0}, "dim=2.0 1 2 3"),
        ({"levels": 0}, "levels=0 positive integer"),
        ({"levels": 1.5}, "levels=1.5 positive integer"),
        ({"channels": 2.5}, "channels=2.5 integer 5"),
    ],
)
def test_bad_options_are_one_sentence(options, words):
    refused(words, MgNO, **options)


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"norm": "levels"}, "size"),
        ({"normalization": ("scalar", "pointwise")}, "size"),
        ({"normalization": ("scalar",)}, "normalization input target"),
        ({"norm": "batch", "size": (8, 8)}, "norm 'batch'"),
        ({"head": "mlp"}, "head 'mlp'"),
        ({"size": (8,)}, "size 2"),
        ({"size": 8}, "size=8 2 points"),
    ],
)
def test_bad_options_of_published_networks_are_one_sentence(options, words):
    refused(words, PublishedMgNO, **options)


def test_unknown_options_are_named():
    with pytest.raises(TypeError, match="norm_shape"):
        MgNO(norm_shape=(8, 8))


def test_fitting_refuses_fields_that_do_not_fit():
    refused("inputs shape", lambda: MgNO(2, **SMALL).fit_normalizer(torch.rand(3, 1, 8, 8), torch.rand(3, 1, 9, 9)))
    refused("targets shape", lambda: MgNO(**SMALL).fit_normalizer(torch.rand(3, 1, 8, 8), torch.rand(3, 9, 9)))


def share_of_the_coarsest_level(gain, seed):
    """Norm of the contribution of the coarsest level to a new layer's cycle, relative to the whole output."""
    torch.manual_seed(seed)
    cycle = MgNO(boundary="periodic", gain=gain).layers[1].cycle
    f = torch.nn.functional.interpolate(torch.randn(1, 24, 8, 8), (64, 64), mode="bicubic")  # what far points share
    whole = cycle(f).norm()
    for level in cycle.hierarchy[:-1]:
        for smoother in level.smoothers:
            smoother.weight.data.zero_()
    return float((cycle(f).norm() / whole).detach())


def test_new_weights_let_far_points_depend_on_each_other():
    shares = torch.tensor([[share_of_the_coarsest_level(gain, seed) for seed in range(5)] for gain in (0.8, "torch")])
    assert float(shares[0].min()) > 0.03
    assert float(shares[1].max()) < 0.003  # four times 0.58 down and 0.29 up


def test_weights_are_drawn_with_the_gain_or_as_torch_draws_them():
    torch.manual_seed(0)
    for gain, of_convolutions, of_prolongations in ((0.5, 0.5, 0.5), ("torch", 3**-0.5, 12**-0.5)):
        level = MgNO(gain=gain).layers[1].cycle.hierarchy[0]
        smoother, prolongation = level.smoothers[0].weight, level.prolongation.kernel.weight
        # 24 * 9 and, of 4 x 4 in four classes of places, 24 * 4 numbers are summed up; of 5,184 weights: 1 % off
        assert float(smoother.detach().std() * (24 * 9) ** 0.5) == pytest.approx(of_convolutions, rel=0.05)
        assert float(prolongation.detach().std() * (24 * 4) ** 0.5) == pytest.approx(of_prolongations, rel=0.05)


@pytest.mark.parametrize("norm", ["levels", "layers"])
def test_norms_start_from_ones_whatever_the_gain(norm):
    model = PublishedMgNO(boundary="periodic", norm=norm, size=(16, 16), channels=4, layers=2, levels=3)
    norms = [module.weight for module in model.modules() if isinstance(module, torch.nn.LayerNorm)]
    assert norms
    assert all(bool((weight == 1).all()) for weight in norms)


def test_published_networks_are_drawn_as_torch_does():
    assert all(PublishedMgNO.named(name).arguments["gain"] == "torch" for name in PUBLISHED)


@pytest.mark.parametrize("gain", [0.0, -1.0, float("nan"), float("inf"), None, "numpy", True])
def test_a_gain_must_be_positive(gain):
    with pytest.raises(InputError, match="gain"):
        MgNO(gain=gain)
