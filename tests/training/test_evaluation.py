"""Metrics per sample, and rollouts of maps with known errors."""

from pathlib import Path

import pytest
import torch
from refusals import refused
from torch import nn
from torch.utils.data import TensorDataset

import sciml_bounds as sb
from sciml_bounds.errors import InputError
from sciml_bounds.krylov._learned_directions import LearnedDirections
from sciml_bounds.multigrid._flux_head import CertifiedMgNO
from sciml_bounds.multigrid._mgno import MgNO
from sciml_bounds.training._evaluation import evaluate, evaluate_rollout, roll_out


class Scale(nn.Module):
    def __init__(self, factor):
        super().__init__()
        self.factor = nn.Parameter(torch.tensor(factor))

    def forward(self, x):
        return self.factor * x


@pytest.mark.parametrize("batch_size", [1, 3, 7, 100])
def test_metrics_are_those_of_each_sample_whatever_the_batches(batch_size):
    """|c x - (1 + i / 10) x| / |(1 + i / 10) x| in any norm."""
    x = torch.randn(7, 1, 9)
    y = x * (1 + torch.arange(7) / 10)[:, None, None]
    found = evaluate(Scale(1.5), TensorDataset(x, y), ("l2", "h1"), batch_size=batch_size)
    exact = [abs(1.5 - (1 + i / 10)) / (1 + i / 10) for i in range(7)]
    for name in ("l2", "h1"):
        assert found.values[name].tolist() == pytest.approx(exact, abs=1e-6)
        assert found.mean(name) == pytest.approx(sum(exact) / 7, abs=1e-6)
    assert found.summary()["l2"]["max"] == pytest.approx(max(exact), abs=1e-6)
    assert "samples" in repr(found)


def test_without_metrics_directions_are_measured_by_the_step_along_them():
    network = LearnedDirections(dim=2, channels=2)
    b = torch.randn(3, 1, 6, 6)
    found = evaluate(network, TensorDataset(b, torch.cat([b, torch.ones_like(b)], 1)))
    assert found.values.keys() == {"line-search"}
    assert bool((found.values["line-search"] <= b.square().flatten(1).sum(1)).all())


def test_metrics_of_fields_are_refused_for_directions():
    b = torch.randn(3, 1, 6, 6)
    data = TensorDataset(b, torch.cat([b, torch.ones_like(b)], 1))
    refused(
        "metric='h1' network direction 'line-search' 'cont",
        lambda: evaluate(LearnedDirections(dim=2, channels=2), data, ["contraction", "h1"]),
    )


def test_without_metrics_a_flux_head_is_measured_by_its_bound():
    x = 1.0 + torch.rand(2, 1, 8, 8)
    y = torch.nn.functional.pad(torch.full((2, 1, 7, 7), 0.01), (1, 1, 1, 1))
    network = CertifiedMgNO(channels=2, layers=1, levels=2)
    found = evaluate(network, TensorDataset(x, y))
    assert found.values.keys() == {"bound"}
    assert torch.equal(found.values["bound"], evaluate(network, TensorDataset(x, y), ("bound",)).values["bound"])
    network = CertifiedMgNO(fields=("coefficient", "source"), channels=2, layers=1, levels=2)
    assert evaluate(network, TensorDataset(torch.cat([x, x], 1), y)).values.keys() == {"bound"}
    assert evaluate(Scale(1.0), TensorDataset(x, x)).values.keys() == {"l2", "h1"}


@pytest.mark.parametrize("fields", [("source",), ("coefficient", "source")], ids="-".join)
def test_the_bound_by_its_name_is_that_of_the_fields_of_the_network(fields):
    """Of a prediction, over the energy norm of the label; sources have both signs, which no coefficient has."""
    torch.manual_seed(0)
    channels = {"coefficient": 1.0 + torch.rand(2, 8, 8).double(), "source": torch.randn(2, 8, 8).double()}
    problem = sb.Diffusion(sb.Grid((8, 8)), channels["coefficient"] if len(fields) > 1 else 1.0, channels["source"])
    x, y = torch.stack([channels[name] for name in fields], 1), sb.solve(problem).values
    network = CertifiedMgNO(fields=fields, channels=2, layers=1, levels=2).double()
    found = evaluate(network, TensorDataset(x, y.unsqueeze(1)), ["bound"]).values["bound"]
    energy = sb.certify(problem, y, lower=False).energy
    upper = sb.certify(problem, network, lower=False).upper
    torch.testing.assert_close(found * energy, upper, rtol=1e-10, atol=0)


def test_evaluating_leaves_the_mode_and_takes_no_gradients():
    model = Scale(1.0).train()
    seen = []
    model.register_forward_hook(lambda module, inputs, output: seen.append((module.training, output.requires_grad)))
    x = torch.randn(2, 1, 4)
    evaluate(model, TensorDataset(x, x), ("l2",))
    assert seen == [(False, False)]
    assert model.training


def test_a_callable_is_a_metric():
    def largest(prediction, target, inputs):
        return (prediction - target).abs().flatten(1).amax(1)

    x = torch.ones(2, 1, 4)
    assert evaluate(Scale(3.0), TensorDataset(x, x), (largest,)).values["largest"].tolist() == [2.0, 2.0]


@pytest.mark.parametrize(
    ("y", "metrics", "words"),
    [
        (torch.ones(2, 1, 5), ("l2",), ""),
        (torch.ones(2, 1, 4), ("l3",), "metric 'l3'"),
        (torch.ones(2, 1, 4), (), "metric"),
        (torch.full((2, 1, 4), float("nan")), ("l2",), "target sample 0 data NaN"),
    ],
)
def test_bad_input_is_one_sentence(y, metrics, words):
    refused(words, lambda: evaluate(Scale(1.0), TensorDataset(torch.ones(2, 1, 4), y), metrics))


@pytest.mark.parametrize("path", ["d.nc", Path("d.nc")], ids=["text", "path"])
def test_the_path_of_a_data_set_is_told_from_its_samples(path):
    refused("path sb.TorchDataset('d.nc' 'test')", lambda: evaluate(Scale(1.0), path))


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"batch_size": 0}, "batch_size 0"),
        ({"workers": -1}, "workers -1"),
        ({"device": "gpu"}, "device='gpu' device"),
        ({"metrics": "l2"}, "metrics='l2' name"),
    ],
)
def test_options_that_cannot_be_are_one_sentence(options, words):
    refused(words, lambda: evaluate(Scale(1.0), TensorDataset(torch.ones(2, 1, 4), torch.ones(2, 1, 4)), **options))


def test_no_samples_are_one_sentence():
    refused("samples", lambda: evaluate(Scale(1.0), TensorDataset(torch.ones(0, 1, 4), torch.ones(0, 1, 4))))


@pytest.mark.parametrize("batch_size", [1, 2, 16])
def test_errors_of_a_rollout_grow_as_the_powers(batch_size):
    """The truth grows by a factor 2 per step and the network by 2.2, so step k is off by 1.1^k - 1."""
    start = torch.randn(5, 1, 1, 6, dtype=torch.float64)
    frames = torch.cat([start * 2.0**k for k in range(5)], dim=1)
    found = evaluate_rollout(Scale(2.2).double(), frames, batch_size=batch_size)
    exact = torch.tensor([1.1**k - 1 for k in range(1, 5)], dtype=torch.float64)
    torch.testing.assert_close(found.steps, exact.expand(5, 4), rtol=1e-6, atol=0)
    size = torch.tensor([4.0**k for k in range(1, 5)], dtype=torch.float64)
    whole = ((size * exact**2).sum() / size.sum()).sqrt()
    torch.testing.assert_close(found.whole, whole.expand(5), rtol=1e-6, atol=0)
    assert "first step" in repr(found)


def test_a_rollout_that_blows_up_is_infinitely_wrong_from_there_on_and_others_go_on():
    """Factors of 1e20 leave single precision after one step, or from 1e-30 after three."""

    class Strict(Scale):
        def forward(self, x):
            if not bool(x.isfinite().all()):  # as the networks of this package
                raise InputError("the input has NaN or infinity.")
            return super().forward(x)

    start = torch.tensor([1.0, 1e-30])[:, None, None, None].expand(2, 1, 1, 4)
    found = evaluate_rollout(Strict(1e20), start.expand(2, 5, 1, 4))
    blown = [[False, True, True, True], [False, False, False, True]]
    assert found.steps.isinf().tolist() == blown
    assert not bool(found.steps.isnan().any())
    assert found.whole.tolist() == [float("inf")] * 2
    assert float(found.steps[1, 0]) == pytest.approx(1e20, rel=1e-5)
    trained = MgNO(boundary="periodic", layout="same", channels=2, layers=1, levels=2)
    torch.nn.init.constant_(trained.head.weight, 1e30)
    assert bool(evaluate_rollout(trained, torch.ones(1, 4, 1, 8, 8)).steps[0, -1].isinf())


def test_a_rollout_needs_a_network_that_keeps_the_shape():
    refused("input", lambda: list(roll_out(nn.Conv1d(1, 2, 1), torch.ones(2, 1, 5), 3)))
    refused("frames", lambda: evaluate_rollout(Scale(1.0), torch.ones(3, 1, 1, 5)))
    refused("trajectories NaN infinity", lambda: evaluate_rollout(Scale(1.0), torch.full((3, 2, 1, 5), torch.nan)))
