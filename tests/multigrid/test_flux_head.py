"""A bound that holds for any weights: fluxes in equilibrium, the bound as a loss, predictions without a solve."""

from __future__ import annotations

import runpy
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from refusals import refused
from torch import nn
from torch.nn.functional import avg_pool2d, pad

import sciml_bounds as sb
import sciml_bounds._linear as linear
from sciml_bounds.bounds._flux import divergence
from sciml_bounds.bounds._majorant import majorant
from sciml_bounds.errors import InputError
from sciml_bounds.multigrid._flux_head import (
    BoundLoss,
    CertifiedMgNO,
    CertifiedNetwork,
    bound_loss,
    flux_of,
    flux_term,
    particular_flux,
)
from sciml_bounds.multigrid._mgno import MgNO
from sciml_bounds.problems.transfers import interpolate_nodes

ref = SimpleNamespace(**runpy.run_path(str(Path(__file__).parents[1] / "bounds" / "reference.py")))


class Values(nn.Module):
    """Cells to nodes, zero on the boundary."""

    def __init__(self, fields: int = 1) -> None:
        super().__init__()
        self.convolution = nn.Conv2d(fields, 1, 3, padding=1)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return pad(self.convolution(avg_pool2d(x, 2, 1)), (1, 1, 1, 1))


class Potential(nn.Module):
    """Nodes to nodes."""

    def __init__(self) -> None:
        super().__init__()
        self.convolution = nn.Conv2d(5, 1, 3, padding=1)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.convolution(x)


def network(fields=("coefficient",), seed=0, **options):
    torch.manual_seed(seed)
    return CertifiedNetwork(Values(len(fields)), Potential(), fields=fields, **options)


def bound(problem, model):
    return sb.certify(problem, model, lower=False).upper


def darcy(rng, batch, shape, source=None, lengths=(1.0, 1.0)):
    coefficient = np.where(rng.random((*batch, *shape)) < 0.5, 12.0, 3.0)
    source = np.ones(shape) if source is None else source
    return sb.Diffusion(sb.Grid(shape, lengths=lengths), coefficient, source)


# --- fluxes -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("shape", [(8, 8), (5, 12), (1, 3)], ids=str)
def test_the_particular_flux_balances_any_source_and_lets_as_much_out_at_both_ends(shape):
    f = torch.randn(3, *shape, dtype=torch.float64)
    spacing = (0.3, 0.7)
    x, y = particular_flux(f, spacing)
    torch.testing.assert_close(divergence((x, y), spacing), -f, rtol=0, atol=1e-13)
    torch.testing.assert_close(x[:, 0], -x[:, -1], rtol=0, atol=1e-14)
    torch.testing.assert_close(y[..., 0], -y[..., -1], rtol=0, atol=1e-14)


def test_the_particular_flux_of_a_symmetric_problem_has_its_symmetry():
    x, y = particular_flux(torch.ones(1, 6, 6, dtype=torch.float64), (1 / 6, 1 / 6))
    torch.testing.assert_close(x[0], y[0].T)
    torch.testing.assert_close(x[0], -x[0].flip(0))
    torch.testing.assert_close(x[0, :, 0], -(torch.arange(7) / 6 - 0.5).double() / 2)


def test_a_stream_function_changes_no_divergence_even_when_it_is_rounded_noise():
    f = torch.randn(2, 9, 7, dtype=torch.float64)
    psi = (1e3 * torch.randn(2, 10, 8)).double()  # from float32
    spacing = (1 / 9, 1 / 7)
    found = divergence(flux_of(psi, f, spacing), spacing)
    torch.testing.assert_close(found, -f, rtol=0, atol=1e-16 * 1e3 * 9 * 7 * 64)


@pytest.mark.parametrize("seed", range(3))
def test_the_flux_term_is_the_majorant_to_round_off(seed):
    rng = np.random.default_rng(seed)
    shape, lengths = tuple(int(n) for n in rng.integers(1, 9, 2)), (0.7, 1.9)
    problem = sb.Diffusion(sb.Grid(shape, lengths=lengths), np.exp(rng.standard_normal((4, *shape))), 2.0)
    v = torch.as_tensor(rng.standard_normal((4, *problem.node_shape)))
    psi = torch.as_tensor(rng.standard_normal((4, *problem.node_shape)))
    f = problem.source.expand(4, *shape)
    flux = flux_of(psi, f, problem.grid.spacing)
    bound = majorant(problem, v, flux)
    assert not bool((bound.excess > 0).any())
    own = flux_term(problem.coefficient[0], v, flux, problem.grid.spacing)
    torch.testing.assert_close(own, bound.flux, rtol=1e-13, atol=0)
    torch.testing.assert_close(own.flatten(1).sum(1).sqrt(), bound.total, rtol=1e-13, atol=0)


# --- the loss ---------------------------------------------------------------------------------------------------------


def loss_case(dtype=torch.float64, fields=("coefficient",)):
    rng = np.random.default_rng(1)
    problem = darcy(rng, (3,), (8, 8), source=rng.standard_normal((3, 8, 8)) if "source" in fields else None)
    target = sb.solve(problem).values.unsqueeze(1)
    channels = {"coefficient": problem.coefficient[0], "source": problem.source.expand(3, 8, 8)}
    inputs = torch.stack([channels[name] for name in fields], 1)
    return problem, inputs.to(dtype), target.to(dtype)


@pytest.mark.parametrize(
    "fields",
    [("coefficient",), ("coefficient", "source"), ("source", "coefficient")],
    ids=["Darcy", "both", "reversed"],
)
def test_the_loss_is_the_relative_bound_that_a_prediction_is_given(fields):
    problem, inputs, target = loss_case(fields=fields)
    model = network(fields).double()
    loss = BoundLoss(fields)(model(inputs), target, inputs)
    energy = sb.certify(problem, target[:, 0], lower=False).energy
    torch.testing.assert_close(loss * energy, bound(problem, model), rtol=1e-12, atol=0)


def test_the_loss_in_single_precision_is_that_in_double():
    _, inputs, target = loss_case()
    model = network()
    single = bound_loss(model(inputs.float()), target.float(), inputs.float())
    assert single.dtype == torch.float32
    double = bound_loss(model.double()(inputs), target, inputs)
    torch.testing.assert_close(single.double(), double, rtol=1e-5, atol=0)


def test_half_precision_of_a_network_does_not_spoil_the_loss():
    _, inputs, target = loss_case(torch.float32)
    prediction = (0.01 * torch.randn(3, 2, 9, 9)).bfloat16()
    with torch.autocast("cpu", torch.bfloat16):
        found = bound_loss(prediction, target, inputs)
    assert found.dtype == torch.float32
    assert torch.equal(found, bound_loss(prediction.float(), target, inputs))


def test_both_heads_learn_from_the_bound():
    _, inputs, target = loss_case()
    model = network().double()
    bound_loss(model(inputs), target, inputs).sum().backward()
    assert all(bool(p.grad.any()) for p in model.parameters())


def test_the_gradient_of_the_loss_is_that_of_its_differences():
    _, inputs, target = loss_case()
    prediction = torch.randn(3, 2, 9, 9, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(lambda p: bound_loss(p, target, inputs), prediction, fast_mode=True)


def test_the_exact_prediction_has_a_loss_of_zero_and_a_finite_gradient():
    """a = 1, f = 0 inside a linear field: v = x has the constant flux, whose stream function is y."""
    x = torch.arange(5, dtype=torch.float64)[:, None].expand(5, 5) / 4
    prediction = torch.stack([x, x.T])[None].requires_grad_()
    loss = BoundLoss(("source",))(prediction, x[None, None], torch.zeros(1, 1, 4, 4, dtype=torch.float64))
    assert float(loss.detach()) < 1e-15
    loss.sum().backward()
    assert bool(torch.isfinite(prediction.grad).all())


def test_training_with_the_bound_lowers_the_bound_and_the_error():
    problem, inputs, target = loss_case()
    prediction = torch.zeros(3, 2, 9, 9, dtype=torch.float64, requires_grad=True)
    inside = torch.zeros(9, 9, dtype=torch.float64)
    inside[1:-1, 1:-1] = 1
    mask = torch.stack([inside, torch.ones_like(inside)])
    optimizer = torch.optim.LBFGS([prediction], max_iter=60, line_search_fn="strong_wolfe")

    def closure():
        optimizer.zero_grad()
        loss = (bound_loss(prediction * mask, target, inputs) ** 2).sum()
        loss.backward()
        return loss

    optimizer.step(closure)
    found = bound_loss(prediction * mask, target, inputs).detach()
    certificate = sb.certify(problem, target[:, 0], lower=False)
    assert bool((found <= 1.01 * certificate.upper / certificate.energy).all())  # as sharp as a computed flux
    discrete = target[:, 0]
    distance = (prediction[:, 0].detach() * inside - discrete).abs().amax()
    assert float(distance) < 0.1 * float(discrete.abs().max())


# --- predictions ------------------------------------------------------------------------------------------------------


def test_a_prediction_is_certified_without_any_solve(monkeypatch):
    def refuse(*_, **__):
        raise AssertionError("something was solved")

    problem = darcy(np.random.default_rng(0), (2, 3), (16, 16))
    model = network()
    expected = sb.certify(problem, model, lower=False)
    for name in ("__init__", "solve"):
        monkeypatch.setattr(linear.LinearSolver, name, refuse)
    for improve in (0, 2):
        certificate = sb.certify(problem, model, lower=False, improve=improve)
        assert certificate.upper.shape == (2, 3)
        assert certificate.kind == "bound"
        assert not bool(certificate.lower.any())
        assert bool((certificate.boundary_part == 0).all())
    assert torch.equal(bound(problem, model), expected.upper)
    assert bool((certificate.upper <= expected.upper).all())  # improved


def test_a_prediction_has_the_prescribed_values_the_shape_of_the_batch_and_a_flux_in_equilibrium():
    for batch in ((), (1,), (2, 2)):
        problem = darcy(np.random.default_rng(0), batch, (8, 6))
        values, flux = network().predict(problem), network().predict_flux(problem)
        assert values.dtype == torch.float64
        assert values.shape == (*batch, 9, 7)
        assert torch.equal(problem.impose_boundary(values), values)
        assert [tuple(face.shape) for face in flux] == [(*batch, 9, 6), (*batch, 8, 7)]
        faces = tuple(face.reshape(-1, *face.shape[len(batch) :]) for face in flux)
        torch.testing.assert_close(
            divergence(faces, problem.grid.spacing), -torch.ones_like(faces[0][:, 1:]), rtol=0, atol=1e-12
        )


@pytest.mark.parametrize("lengths", [(2.0, 2.0), (0.1, 0.1)], ids=str)
def test_a_constant_source_and_the_size_of_the_box_scale_the_prediction_as_the_solution(lengths):
    unit = darcy(np.random.default_rng(0), (2,), (8, 8))
    other = darcy(np.random.default_rng(0), (2,), (8, 8), source=np.full((8, 8), 5.0), lengths=lengths)
    model, scale = network(), 5 * lengths[0] ** 2
    torch.testing.assert_close(model.predict(other), scale * model.predict(unit), rtol=1e-12, atol=0)
    torch.testing.assert_close(bound(other, model), scale * bound(unit, model), rtol=1e-12, atol=0)


@pytest.mark.parametrize("size", [8, pytest.param(16, marks=pytest.mark.slow)])
def test_the_bound_holds_for_any_weights_in_thousands_of_cases(size):
    """The energy of any function bounds the error from below: |||u - v|||^2 >= 2 (J(v) - J(w)) for every w."""
    rng = np.random.default_rng(size)
    samples, weights, violations, least = 250, 8, 0, np.inf
    shape = (size, size)
    source = rng.standard_normal((samples, *shape)) * rng.choice([0.0, 1.0], (samples, 1, 1)) + 1.0
    coefficient = np.exp(rng.uniform(0, 2, (samples, 1, 1)) * rng.standard_normal((samples, *shape)))
    problem = sb.Diffusion(sb.Grid(shape), coefficient, source)
    fine = problem.refine(2)
    w = sb.solve(fine, rtol=1e-6).values  # any function would do
    zero = ref.Side("dirichlet", np.zeros((samples, 2 * size + 1)))
    a = fine.coefficient[0].numpy()
    data = ref.Data(
        a.shape[1:], (1.0, 1.0), np.stack([a, a]), fine.source.numpy(), np.zeros_like(a),
        np.ones(a.shape, dtype=bool), ((zero, zero), (zero, zero)),
    )  # fmt: skip
    form, loads = ref.energy_form(data), ref.loads(data)

    def functional(nodes):
        corners = ref.at_corners(data, nodes.numpy())
        return ref.energy(form, corners) ** 2 / 2 - (loads * corners).sum((-2, -1))

    solved = functional(w)
    for seed in range(weights):
        model = network(("coefficient", "source"), seed)
        with torch.no_grad():  # from tiny to far too large
            for parameter in model.parameters():
                parameter.mul_(10.0 ** rng.uniform(-2, 1))
        certificate = sb.certify(problem, model, lower=False)
        nodes = interpolate_nodes(certificate.values, 2, (False, False))
        squared = 2 * (functional(nodes) - solved)
        slack = 1e-12 * (certificate.energy**2).numpy()
        violations += int((squared > certificate.upper.numpy() ** 2 + slack).sum())
        least = min(least, float((certificate.upper.numpy() ** 2 / squared.clip(1e-300)).min()))
    assert violations == 0
    assert least >= 1 - 1e-9
    assert samples * weights == 2000


# --- two MgNO ---------------------------------------------------------------------------------------------------------


def small(**options):
    torch.manual_seed(0)
    return CertifiedMgNO(channels=4, layers=2, levels=2, **options)


def test_two_mgno_make_a_certified_one_on_grids_of_any_shape():
    for shape in ((8, 8), (16, 9)):
        problem = darcy(np.random.default_rng(0), (2,), shape)
        certificate = sb.certify(problem, small(), lower=False)
        assert torch.equal(certificate.values, small().predict(problem))
        assert bool((sb.certify(problem, certificate.values).lower <= certificate.upper).all())


def test_a_certified_mgno_is_kept_in_one_file(tmp_path):
    problem = darcy(np.random.default_rng(0), (), (8, 8))
    model = small(fields=("coefficient", "source"), source=2.0)
    model.save(tmp_path / "model.safetensors", recipe="none")
    again = CertifiedMgNO.load(tmp_path / "model.safetensors")
    assert again.arguments == model.arguments
    assert torch.equal(bound(problem, again), bound(problem, model))


def test_a_file_with_another_network_is_refused(tmp_path):
    MgNO(channels=2, layers=1, levels=2).save(tmp_path / "model.safetensors")
    refused("MgNO CertifiedMgNO", CertifiedMgNO.load, tmp_path / "model.safetensors")


def test_predictions_do_not_depend_on_the_batch_nor_on_the_mode():
    problem = darcy(np.random.default_rng(0), (70,), (8, 8))
    model = small().train()
    bounds = bound(problem, model)
    assert model.training
    one = sb.Diffusion(problem.grid, problem.coefficient[0][69], 1.0)
    torch.testing.assert_close(bound(one, model), bounds[69], rtol=1e-5, atol=0)


def test_normalisers_of_both_heads_are_fitted():
    _, inputs, target = loss_case(torch.float32)
    model = small()
    model.fit_normalizer(inputs, target)
    assert float(model.values.input_normalizer.mean) == pytest.approx(float(inputs.mean()))
    assert float(model.potential.input_normalizer.mean.flatten()[0]) == pytest.approx(float(inputs.mean()), rel=0.1)
    seen = model.potential_inputs(inputs, target)
    assert seen.shape == (3, 5, 9, 9)
    assert bool((seen.std((0, 2, 3)) > 0).all())


def test_a_few_steps_of_training_make_the_bound_smaller():
    problem, inputs, target = loss_case(torch.float32)
    model = small()
    model.fit_normalizer(inputs, target)
    before = bound(problem, model)
    optimizer = torch.optim.Adam(model.parameters(), lr=1e-2)
    for _ in range(30):
        optimizer.zero_grad()
        bound_loss(model(inputs), target, inputs).mean().backward()
        optimizer.step()
    assert bool((bound(problem, model) < 0.8 * before).all())


# --- bad input --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("problem", "words"),
    [
        (lambda: 3, "Diffusion problem type int"),
        (lambda: sb.Diffusion(sb.Grid((4, 4, 4))), "dimensions problem 3"),
        (lambda: sb.Diffusion(sb.Grid((4, 4)), reaction=1.0), "reaction"),
        (lambda: sb.Diffusion(sb.Grid((4, 4)), (1.0, 2.0)), "scalar coefficient"),
        (lambda: sb.Diffusion(sb.Grid((4, 4)), solid=np.eye(4, dtype=bool)), "solid cells"),
        (lambda: sb.Diffusion(sb.Grid((4, 4)), boundary=sb.Robin(1.0, 0.0)), "Dirichlet values sides"),
    ],
)
def test_what_the_flux_head_is_not_for_is_refused(problem, words):
    refused(words, lambda: bound(problem(), network()))


def test_weights_that_are_not_numbers_are_said():
    model = network()
    with torch.no_grad():
        model.values.convolution.weight[:] = torch.nan
    refused("NaN", lambda: bound(darcy(np.random.default_rng(0), (), (8, 8)), model))


@pytest.mark.parametrize("fields", [(), ("speed",), ("source", "source")], ids=str)
def test_unknown_fields_are_refused(fields):
    with pytest.raises(InputError, match="fields="):
        BoundLoss(fields)
    with pytest.raises(InputError, match="fields="):
        network(fields or ("none",)) if fields else CertifiedNetwork(Values(), Potential(), fields=())


def test_one_name_in_place_of_a_list_is_told():
    refused("fields='source' list ['source']", CertifiedMgNO, fields="source")


def test_options_that_the_two_networks_have_of_their_own_are_refused():
    refused("dim", CertifiedMgNO, dim=3)


@pytest.mark.parametrize("source", [0.0, float("nan")])
def test_a_source_that_scales_nothing_is_refused(source):
    refused("finite zero", CertifiedMgNO, source=source, channels=2, layers=1, levels=2)


def test_wrong_shapes_are_refused():
    refused("b 1 n_x n_y) coefficient shape", lambda: network()(torch.ones(1, 2, 8, 8)))
    refused(
        "shape (1, 1, 9, 9) train CertifiedMgNO",
        lambda: bound_loss(torch.ones(1, 1, 9, 9), torch.ones(1, 1, 9, 9), torch.ones(1, 1, 8, 8)),
    )
    refused(
        "inputs shape (1, 2, 8, 8)",
        lambda: bound_loss(torch.ones(1, 2, 9, 9), torch.ones(1, 1, 9, 9), torch.ones(1, 2, 8, 8)),
    )
