"""Two-layer networks: derivatives against automatic ones, norms against series, exact values on sides."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from refusals import refusals, refused

import sciml_bounds as sb

B, N = sb.barron.BarronFunction, sb.BarronNetwork
KINDS = [("cosine", 1), ("tanh", 1), ("sigmoid", 1), ("relu", 2), ("relu", 3)]


def points(count, dim, seed=0):
    return torch.rand((count, dim), generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def lifted(activation, power, dim=3):
    """A network with some Dirichlet sides, an affine part and a lifting."""
    affine = N.of(np.zeros((0, dim)), [], [], slope=np.arange(1.0, dim + 1), offset=0.5)
    network = N(
        dim,
        7,
        activation,
        power=power,
        lengths=1.5,
        origin=-0.25,
        dirichlet_sides=[(0, 0), (0, 1), (1, 1)],
        lifting=affine,
    )
    with torch.no_grad():
        network.slope += 0.3
        network.offset += 0.2
    return network


@pytest.mark.parametrize(("activation", "power"), KINDS)
@pytest.mark.parametrize("plain", [True, False])
def test_derivatives_against_automatic_ones(activation, power, plain):
    network = N(3, 7, activation, power=power) if plain else lifted(activation, power)
    x = points(20, 3).requires_grad_()
    (gradient,) = torch.autograd.grad(network(x).sum(), x, create_graph=True)
    laplacian = sum(torch.autograd.grad(gradient[:, i].sum(), x, retain_graph=True)[0][:, i] for i in range(3))
    torch.testing.assert_close(network.gradient(x), gradient, rtol=1e-12, atol=1e-13)
    torch.testing.assert_close(network.laplacian(x), laplacian, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize(("activation", "power"), KINDS)
def test_features_are_what_outer_weights_multiply(activation, power):
    network, other = lifted(activation, power), lifted(activation, power)
    with torch.no_grad():
        other.outer.zero_()
    x = points(11, 3)
    for whole, features in (
        (lambda n: n(x), network.features(x)),
        (lambda n: n.laplacian(x), network.feature_laplacians(x)),
        (lambda n: n.gradient(x), network.feature_gradients(x).mT),
    ):
        torch.testing.assert_close(whole(network) - whole(other), features @ network.outer, rtol=1e-12, atol=1e-12)


def test_parameters_learn_and_the_lifting_does_not():
    network = lifted("tanh", 1)
    loss = network(points(9, 3)).square().sum() + network.laplacian(points(9, 3)).square().sum()
    loss.backward()
    assert {name for name, p in network.named_parameters() if p.grad is not None and bool(p.grad.any())} == {
        "weights", "biases", "outer", "slope", "offset",
    }  # fmt: skip


def test_held_sides_have_the_values_of_the_lifting():
    network = lifted("cosine", 1)
    x = points(50, 3) * 1.5 - 0.25
    for axis, end in network.dirichlet_sides:
        y = x.clone()
        y[:, axis] = -0.25 + 1.5 * end
        torch.testing.assert_close(network(y), network.lifting(y), rtol=0, atol=1e-15)
    assert not torch.allclose(network(x), network.lifting(x))


def test_series_become_networks():
    """A sine series is 2^(d-1) cosines a term; value, Laplacian and norm are those of the series."""
    f = B.sine([[1, 2, 1], [2, 2, 3]], [1.0, -0.5], lengths=(1.0, 2.0, 0.7))
    network = N.of_series(f)
    assert network.width == 8
    x = points(30, 3)
    torch.testing.assert_close(network(x), f(x), rtol=0, atol=1e-14)
    squares = (np.pi * np.array([[1, 2, 1], [2, 2, 3]]) / [1, 2, 0.7]) ** 2
    laplacian = B.sine([[1, 2, 1], [2, 2, 3]], [-1.0, 0.5] * squares.sum(1), lengths=(1.0, 2.0, 0.7))
    torch.testing.assert_close(network.laplacian(x), laplacian(x), rtol=0, atol=1e-11)
    assert network.barron_norm == pytest.approx(f.norm)
    g = B.fourier([[0, 0], [1, -2]], [3.0, 1j], periods=2.0)
    torch.testing.assert_close(N.of_series(g)(x[:, :2]), g(x[:, :2]), rtol=0, atol=1e-14)


@pytest.mark.parametrize(("activation", "power"), [*KINDS, ("relu", 1), ("step", 1)])
@pytest.mark.parametrize("seed", range(3))
def test_the_path_norm_bounds_values(activation, power, seed):
    network = N(2, 6, activation, power=power, lengths=(2.0, 0.5), origin=(-3.0, 1.0), scale=5.0, seed=seed)
    x = points(4000, 2) * torch.tensor([2.0, 0.5]) + torch.tensor([-3.0, 1.0])
    assert float(network(x).detach().abs().max()) <= network.path_norm


def test_the_path_norm_of_one_relu_is_attained():
    one = N.of([[1.0, -2.0]], [0.5], [-3.0], activation="relu", power=2, lengths=2.0, origin=-1.0)
    assert one.path_norm == 3 * 3.5**2 == -one([1.0, -1.0]).item()


@pytest.mark.parametrize("activation", ["cosine", "tanh", "sigmoid"])
@pytest.mark.parametrize("held", [(), "all", [(1, 0)]])
def test_the_spectral_norm_bounds_values_and_slopes(activation, held):
    """max |u| <= m_0 and max |grad u| <= m_1 for every function, so that their sum is below the norm."""
    for seed in range(5):
        network = N(2, 4, activation, dirichlet_sides=held, seed=seed, lengths=(1.0, 3.0))
        with torch.no_grad():
            network.slope += 0.5
        x = points(2000, 2) * torch.tensor([1.0, 3.0])
        largest = network(x).abs().max() + network.gradient(x).square().sum(-1).sqrt().max()
        assert float(largest.detach()) <= network.barron_norm


@pytest.mark.parametrize("activation", ["cosine", "tanh", "relu"])
def test_norms_count_the_lifting(activation):
    """That of g is most of it here: without it values and slopes would be above the norms."""
    held = () if activation == "relu" else "all"
    g = N.of([[2.0, 1.0]], [0.5], [5.0], activation=activation, slope=[3.0, -1.0], offset=2.0)
    network = N(2, 4, activation, dirichlet_sides=held, lifting=g, lengths=(1.0, 3.0), origin=-1.0)
    x = points(2000, 2) * torch.tensor([1.0, 3.0]) - 1.0
    largest = float(network(x).detach().abs().max())
    assert largest <= network.path_norm
    if activation != "relu":  # affine parts are free in the variation norm
        slope = float(network.gradient(x).detach().square().sum(-1).sqrt().max())
        assert largest + slope <= network.barron_norm
    alone = N.of([[2.0, 1.0]], [0.5], [5.0], activation=activation, slope=[3.0, -1.0], offset=2.0, lengths=(1.0, 3.0),
                 origin=-1.0)  # fmt: skip
    bound = alone.barron_norm + 0.1
    assert network.project_(bound).barron_norm == pytest.approx(bound)
    refused("affine part lifting", network.project_, alone.barron_norm - 0.1)


def test_the_norm_of_relus_is_the_variation_norm():
    network = N.of([[3.0, 4.0], [0.0, 2.0]], [0.0, 1.0], [1.0, -2.0], activation="relu", power=2)
    assert network.barron_norm == 25 + 2 * 4


@pytest.mark.parametrize(("activation", "held"), [("cosine", ()), ("tanh", "all"), ("relu", ())])
def test_projection_makes_the_norm_what_was_asked(activation, held):
    network = N(3, 20, activation, dirichlet_sides=held)
    before = network.outer.detach().clone()
    assert network.project_(2 * network.barron_norm) is network
    torch.testing.assert_close(network.outer.detach(), before)
    bound = 0.3 * network.barron_norm
    network.project_(bound)
    assert network.barron_norm == pytest.approx(bound)


@pytest.mark.parametrize(("activation", "power"), KINDS)
def test_files_bring_networks_back(activation, power, tmp_path):
    network = N(
        3, 5, activation, power=power, lengths=(1.0, 2.0, 3.0), origin=-1.0, dirichlet_sides=[(0, 1), (2, 0)], seed=4
    )
    with torch.no_grad():
        network.slope += 0.3
    sb.save_model(network, tmp_path / "network.safetensors")
    again = sb.load_model(tmp_path / "network.safetensors")
    assert torch.equal(again(points(9, 3)), network(points(9, 3)))
    assert repr(again) == repr(network)
    refused("Networks lifting", lambda: sb.save_model(lifted(activation, power), tmp_path / "lifted.safetensors"))


def test_sides_origins_and_seeds_of_numpy_and_torch_are_numbers():
    network = N(2, 3, lengths=torch.tensor(2.0), origin=np.int64(-1), seed=np.int64(5))
    assert (network.lengths, network.origin) == ((2.0, 2.0), (-1.0, -1.0))
    assert torch.equal(network.weights, N(2, 3, lengths=(2.0, 2.0), origin=[-1, -1], seed=5).weights)


def test_dtypes_follow_and_numbers_are_taken():
    network = N(2, 3, "tanh")
    assert network([[0.1, 0.2]]).dtype == torch.float64
    single = N(2, 3, "tanh").float()
    assert single(np.zeros((4, 2))).dtype == torch.float32
    torch.testing.assert_close(single(points(5, 2)).double(), network(points(5, 2)), rtol=0, atol=1e-5)


def test_a_short_table():
    assert repr(N.of([[1.0, 0.0]], [0.0], [1.0], activation="relu", power=2, dirichlet_sides="all")).splitlines() == [
        "BarronNetwork",
        "  dimension            2",
        "  width                1",
        "  activation           relu^2",
        "  path norm            1",
        "  Barron norm (bound)  infinite, since relu networks with Dirichlet sides have no variation norm",
        "  Dirichlet sides      all",
    ]
    mixed = N(1, 2, "relu", lifting=N(1, 2))
    assert (
        repr(mixed).splitlines()[5]
        == "  Barron norm (bound)  infinite, since the neurons of the lifting have a different kind of norm"
    )
    huge = N.of([[1e200, 1e200]], [0.0], [1e200])
    assert repr(huge).splitlines()[5] == "  Barron norm (bound)  infinite, since it overflows in double precision"


def with_nan(name):
    network = N(2, 3)
    with torch.no_grad():
        getattr(network, name).view(-1)[0] = float("nan")
    return network


test_bad_input = refusals(
    ("points 2 coordinates", lambda: N(2, 3)([1.0, 2.0, 3.0])),
    ("step power 1 order", lambda: N(2, 3, "step").gradient([0.0, 0.0])),
    ("relu power 1 order 2", lambda: N(2, 3, "relu").laplacian([0.0, 0.0])),
    ("weights 1 NaN", lambda: N.of([[float("nan")]], [0.0], [1.0])),
    ("biases shape (2,) weights (1, 1) (1,)", lambda: N.of([[1.0]], [0.0, 1.0], [1.0])),
    ("weights shape (2,) row", lambda: N.of([1.0, 2.0], [0.0], [1.0])),
    ("dimension 0", lambda: N(0, 3)),
    ("width -1", lambda: N(2, -1)),
    ("scale 0", lambda: N(2, 3, scale=0)),
    ("origin 1 2 axes", lambda: N(2, 3, origin=[1.0])),
    ("lifting float BarronNetwork", lambda: N(2, 3, lifting=1.0)),
    ("lifting 3 variables 2", lambda: N(2, 3, lifting=N(3, 3))),
    ("lifting", lambda: N(2, 3, lifting=N(2, 3, lifting=N(2, 3)))),  # the box of the network would not reach it
    ("lifting sides", lambda: N(2, 3, lifting=N(2, 3, dirichlet_sides="all"))),
    ("norm 2", lambda: N.of(np.zeros((0, 1)), [], [], offset=2.0).project_(1.0)),
    ("relu Dirichlet variation norm", lambda: N(2, 3, "relu", dirichlet_sides="all").project_(1.0)),
    ("lifting norm", lambda: N(2, 3, "relu", lifting=N(2, 3)).project_(1.0)),
    ("double precision", lambda: N.of([[1e200] * 2], [0.0], [1e200]).project_(1.0)),
    ("weights network 1 NaN", lambda: with_nan("weights").project_(1.0)),
    ("network 1 NaN", lambda: with_nan("biases").project_(1.0)),
    ("network 1", lambda: N(2, 3, lifting=with_nan("outer")).project_(1.0)),
    ("seed 'a'", lambda: N(2, 3, seed="a")),
    ("seed -1", lambda: N(2, 3, seed=-1)),
    ("seed 1.5", lambda: N(2, 3, seed=1.5)),
    ("2**64", lambda: N(2, 3, seed=2**64)),
    ("lengths number axis 'ab'", lambda: N(2, 3, lengths="ab")),
    ("lengths number axis None", lambda: N(2, 3, lengths=None)),
    ("lengths -1.0 positive", lambda: N(2, 3, lengths=-1.0)),
    ("origin finite", lambda: N(2, 3, origin=float("nan"))),
    ("origin number axis", lambda: N(2, 3, origin=object())),
    ("activation 3 'cosine'", lambda: N(2, 3, 3)),
    ("float series sb.barron.BarronFunction", lambda: N.of_series(1.0)),
    ("series", lambda: N.of_series(B.gaussian([0.0], 1.0))),
)


@pytest.mark.parametrize(("own", "other", "finite"), [
    ("tanh", ("relu", 1), False), ("cosine", ("tanh", 1), True), ("relu", ("relu", 1), True),
    ("relu", ("relu", 2), False), ("relu", ("cosine", 1), False),
])  # fmt: skip
def test_norms_of_different_kinds_are_not_added(own, other, finite):
    name, power = other
    lifting = sb.BarronNetwork.of([[1.0]], [-0.5], [5.0], activation=name, power=power)
    network = sb.BarronNetwork.of([[2.0]], [0.5], [1.0], activation=own, lifting=lifting)
    assert np.isfinite(network.barron_norm) == finite
