"""A training learns, ends for a stated reason, and goes on as if it had never been interrupted."""

import json
import os
import signal
from pathlib import Path

import pytest
import torch
from refusals import refused
from torch import nn
from torch.utils.data import Dataset, Subset, TensorDataset

from sciml_bounds.errors import TrainingError
from sciml_bounds.krylov._direction_loss import line_search_loss
from sciml_bounds.krylov._learned_directions import LearnedDirections
from sciml_bounds.multigrid._flux_head import BoundLoss, CertifiedMgNO
from sciml_bounds.multigrid._mgno import MgNO
from sciml_bounds.multigrid._published_mgno import PublishedMgNO
from sciml_bounds.nn.losses import LOSSES
from sciml_bounds.store.datasets.weights import load_model, read_weights
from sciml_bounds.training._optimizers import learning_rate
from sciml_bounds.training._settings import TrainingSettings
from sciml_bounds.training._trainer import train

OPTIONS = {"loss": "l2", "epochs": 6, "batch_size": 4, "lr": 1e-2}


def tensors(folder):
    """Everything a checkpoint holds, but the seconds."""
    state, card = read_weights(folder / "last.safetensors")
    numbers = card["state"]
    for row in numbers["history"]:
        del row["seconds"]
    return state, numbers


def assert_same(folder, other):
    (state, numbers), (expected, wanted) = tensors(folder), tensors(other)
    assert numbers == wanted
    assert state.keys() == expected.keys()
    assert [name for name in state if not torch.equal(state[name], expected[name])] == []
    ours, theirs = (read_weights(path / "best.safetensors")[0] for path in (folder, other))
    assert all(torch.equal(ours[name], theirs[name]) for name in theirs)


def test_the_running_mean_is_learnt(make, data):
    before = TrainingSettings(**OPTIONS)
    result = train(make(), *data, settings=before)
    assert result.history[-1]["loss"] < result.history[0]["loss"]
    longer = train(make(width=8), *data, **OPTIONS | {"epochs": 150, "lr": 3e-2, "weight_decay": 0.0})
    assert longer.best < 0.1
    assert longer.reason == "all epochs done"


def test_a_linear_model_reaches_the_least_squares_solution():
    """Whatever the order of batches, full batches of a quadratic loss lead to the normal equations."""
    x = torch.randn(30, 4, dtype=torch.float64)
    y = x @ torch.randn(4, 2, dtype=torch.float64) + 0.1 * torch.randn(30, 2, dtype=torch.float64)
    model = nn.Linear(4, 2, bias=False).double()

    def square(prediction, target, inputs):
        return (prediction - target).square().sum(1)

    train(
        model,
        TensorDataset(x, y),
        None,
        loss=square,
        select=square,
        epochs=400,
        batch_size=30,
        lr=0.1,
        weight_decay=0.0,
    )
    exact = torch.linalg.lstsq(x, y).solution.T
    torch.testing.assert_close(model.weight.detach(), exact, rtol=1e-4, atol=1e-4)


def test_loss_and_validation_in_the_history_are_means_over_samples(make, data):
    """With a rate of almost zero the weights stay, and the means can be computed beside."""
    model = make()
    result = train(model, *data, **OPTIONS | {"epochs": 1, "lr": 1e-12})
    with torch.no_grad():
        for samples, name in zip(data, ("loss", "validation")):
            x, y = samples.tensors
            expected = float(LOSSES["l2"](model(x), y, x).mean())
            assert result.history[0][name] == pytest.approx(expected, rel=1e-5)


def test_a_step_is_that_of_the_mean_over_the_batch(make, data):
    """A batch that is not full too: its gradient is divided by its own count, which the norm shows (Adam hides it)."""
    model, same = make(), make()
    result = train(model, data[0], None, **OPTIONS | {"epochs": 1, "batch_size": 16, "schedule": "constant"})
    same.fit_normalizer(*data[0].tensors)
    optimizer = torch.optim.Adam(same.parameters(), lr=1e-2, weight_decay=1e-4)
    x, y = data[0].tensors
    LOSSES["l2"](same(x), y, x).mean().backward()
    norm = float(torch.nn.utils.get_total_norm([parameter.grad for parameter in same.parameters()]))
    assert result.history[0]["gradient_norm"] == pytest.approx(norm, rel=1e-5)
    optimizer.step()
    for ours, theirs in zip(model.parameters(), same.parameters()):
        torch.testing.assert_close(ours, theirs, rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("options", [{}, {"schedule_step": "step"}, {"optimizer": "adamw", "cycle_momentum": True}])
@pytest.mark.parametrize("after", [1, 3, 5])
def test_a_training_that_goes_on_after_an_epoch_is_the_same_bit_by_bit(tmp_path, make, data, after, options):
    arguments = {"dropout": 0.3}
    train(make(**arguments), *data, folder=tmp_path / "whole", **OPTIONS, **options)

    def enough(row):
        return row["epoch"] == after

    parts = tmp_path / "parts"
    first = train(make(**arguments), *data, folder=parts, callback=enough, **OPTIONS, **options)
    assert first.reason == "stopped by the callback"
    assert len(first.history) == after
    torch.rand(7)  # what happens between does not matter, nor does what the network was
    model = make(seed=5, **arguments)
    rest = train(model, *data, folder=parts, resume=True, **OPTIONS, **options)
    assert rest.reason == "all epochs done"
    assert model.fits == 0
    assert_same(parts, tmp_path / "whole")


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
@pytest.mark.parametrize("calls", [1, 3, 4, 11])
def test_a_signal_ends_after_the_step_at_hand_and_nothing_is_lost(tmp_path, make, data, number, calls):
    """Three steps an epoch: calls 3 is the last one of an epoch, 4 and 11 are within one."""
    options = {**OPTIONS, "epochs": 4}
    train(make(dropout=0.2), *data, folder=tmp_path / "whole", **options)
    model, seen, count = make(dropout=0.2), [], [0]
    forward = model.forward

    def interrupted(x):
        count[0] += model.training
        if count[0] == calls and model.training:
            signal.raise_signal(number)
        return forward(x)

    model.forward = interrupted
    previous = signal.signal(number, lambda got, frame: seen.append(got))
    try:
        train(model, *data, folder=tmp_path / "parts", **options)
        assert seen == [number]  # as it would have come, after the checkpoint
        assert count[0] == calls
    finally:
        signal.signal(number, previous)
    train(make(dropout=0.2), *data, folder=tmp_path / "parts", resume=True, **options)
    assert_same(tmp_path / "parts", tmp_path / "whole")


def test_resuming_what_is_done_or_not_begun_works(tmp_path, make, data):
    first = train(make(), *data, folder=tmp_path, resume=True, **OPTIONS)
    content = (tmp_path / "last.safetensors").read_bytes()
    again = train(make(seed=4), *data, folder=tmp_path, resume=True, **OPTIONS)
    assert (again.best, again.best_epoch, len(again.history)) == (first.best, first.best_epoch, 6)
    assert (tmp_path / "last.safetensors").read_bytes() == content
    for ours, theirs in zip(again.model.parameters(), first.model.parameters()):
        assert torch.equal(ours, theirs)


def test_a_network_with_weights_that_nothing_depends_on_goes_on_too(tmp_path, data):
    """The published network for Helmholtz has them."""

    def network():
        torch.manual_seed(0)
        options = {"dim": 1, "boundary": "neumann", "channels": 2, "layers": 1, "levels": 2, "local": False}
        return PublishedMgNO(idle_operator=True, **options)

    train(network(), *data, **OPTIONS, folder=tmp_path / "whole")
    train(network(), *data, **OPTIONS, folder=tmp_path / "parts", callback=lambda row: row["epoch"] == 2)
    train(network(), *data, **OPTIONS, folder=tmp_path / "parts", resume=True)
    assert_same(tmp_path / "parts", tmp_path / "whole")


def test_a_constant_rate_can_go_on_for_longer(tmp_path, make, data):
    options = OPTIONS | {"schedule": "constant"}
    train(make(), *data, folder=tmp_path / "whole", **options)
    train(make(), *data, folder=tmp_path / "parts", **options | {"epochs": 2})
    train(make(), *data, folder=tmp_path / "parts", resume=True, **options)
    assert_same(tmp_path / "parts", tmp_path / "whole")


def test_more_epochs_lengthen_a_complete_training(tmp_path, make, data):
    """The rate of the cycle continues on the longer one; the log has all epochs."""
    train(make(), *data, folder=tmp_path, **OPTIONS | {"epochs": 2})
    longer = train(make(), *data, folder=tmp_path, resume=True, **OPTIONS | {"epochs": 5})
    assert [row["epoch"] for row in longer.history] == [1, 2, 3, 4, 5]
    assert longer.reason == "all epochs done"
    expected = TrainingSettings.of(OPTIONS | {"epochs": 5})
    assert [row["lr"] for row in longer.history[2:]] == [learning_rate(expected, epoch, 5) for epoch in (2, 3, 4)]


def test_the_best_epoch_on_validation_data_is_kept(tmp_path, make, data):
    """A rate that is far too large makes later epochs worse."""
    result = train(make(), *data, folder=tmp_path, **OPTIONS | {"lr": 0.5, "schedule": "constant", "epochs": 12})
    validation = [row["validation"] for row in result.history]
    assert result.best == min(validation)
    assert result.best_epoch == 1 + validation.index(min(validation))
    model = load_model(tmp_path / "best.safetensors")
    x, y = data[1].tensors
    with torch.no_grad():
        assert float(LOSSES["l2"](model(x), y, x).mean()) == pytest.approx(result.best, rel=1e-5)
        assert torch.equal(model(x), result.model(x))
    _, card = read_weights(tmp_path / "best.safetensors")
    assert card["epoch"] == result.best_epoch
    assert card["metrics"] == {"validation l2": result.best}
    assert card["settings"]["lr"] == 0.5
    assert card["data"]["train"] == {"samples": 10}


def test_patience_ends_a_training_that_gets_no_better(make, data):
    result = train(make(), *data, **OPTIONS | {"lr": 1e-30, "weight_decay": 0.0, "epochs": 50, "patience": 3})
    assert result.reason == "no better epoch in the last 3"
    assert len(result.history) == result.best_epoch + 3


def test_without_validation_data_the_last_epoch_counts(tmp_path, make, data):
    result = train(make(), data[0], None, folder=tmp_path, **OPTIONS)
    assert result.best is None
    assert result.best_epoch == 6
    assert [row["validation"] for row in result.history] == [None] * 6


def test_the_normaliser_is_fitted_once_on_training_data(make, data):
    model = make()
    train(model, *data, **OPTIONS)
    assert model.fits == 1
    assert float(model.mean) == pytest.approx(float(data[0].tensors[0].mean()), rel=1e-6)


def test_the_random_numbers_of_the_caller_stay_their_own(make, data):
    model = make(dropout=0.5)
    torch.manual_seed(3)
    expected = torch.rand(4)
    torch.manual_seed(3)
    train(model, *data, **OPTIONS)
    assert torch.equal(torch.rand(4), expected)


CHANGES = {
    "loss": "h1", "epochs": 5, "batch_size": 3, "lr": 2e-2, "weight_decay": 1e-1, "optimizer": "adamw",
    "schedule": "constant", "schedule_step": "step", "pct_start": 0.5, "div": 4.0, "final_div": 3.0,
    "cycle_momentum": True, "clip": 1e-3, "precision": "bf16", "seed": 1,
}  # fmt: skip


@pytest.mark.parametrize("name", CHANGES)
def test_every_option_does_something(make, data, name):
    """Those that are not here have tests of their own."""
    options = OPTIONS | {"weight_decay": 1e-2}
    usual, changed = make(), make()
    train(usual, data[0], None, **options)
    train(changed, data[0], None, **options | {name: CHANGES[name]})
    assert not torch.equal(usual.first.weight, changed.first.weight)


@pytest.mark.parametrize("precision", ["full", "bf16"])
def test_a_flux_head_learns_from_its_own_bound(tmp_path, precision):
    """The bound is the only loss and the only metric; what was trained can be loaded and bounds its error."""
    torch.manual_seed(0)
    a = 2.0 + 10.0 * (torch.rand(12, 1, 8, 8) > 0.5)
    u = torch.nn.functional.pad(torch.full((12, 1, 7, 7), 0.01), (1, 1, 1, 1))
    model = CertifiedMgNO(channels=3, layers=1, levels=2)
    sets = TensorDataset(a[:8], u[:8]), TensorDataset(a[8:], u[8:])
    options = {"loss": "bound", "epochs": 8, "batch_size": 4, "lr": 1e-2, "precision": precision}
    result = train(model, *sets, folder=tmp_path, **options)
    assert result.card["settings"]["select"] == "bound"
    assert result.best < result.history[0]["validation"]
    same = load_model(tmp_path / "best.safetensors")
    assert torch.equal(same(a), result.model(a))


def test_the_bound_as_a_loss_knows_what_the_channels_are():
    """With a rate of almost zero the weights stay: both means are those of the bounds, of problems with sources."""
    torch.manual_seed(0)
    f, u = torch.randn(6, 1, 8, 8), torch.nn.functional.pad(torch.randn(6, 1, 7, 7), (1, 1, 1, 1))
    model = CertifiedMgNO(fields=("source",), channels=2, layers=1, levels=2)
    sets = TensorDataset(f[:4], u[:4]), TensorDataset(f[4:], u[4:])
    (row,) = train(model, *sets, loss="bound", epochs=1, lr=1e-12).history
    for samples, name in zip(sets, ("loss", "validation")):
        bound = BoundLoss(("source",))(model(samples.tensors[0]), samples.tensors[1], samples.tensors[0])
        assert row[name] == pytest.approx(float(bound.detach().mean()), rel=1e-5)


def test_a_metric_that_is_not_for_the_network_is_said_before_the_first_step(make, data):
    def loss(prediction, target, inputs):
        raise AssertionError("a step was done")

    refused("train CertifiedMgNO", lambda: train(make(), *data, **OPTIONS | {"loss": loss, "select": "bound"}))


def test_losses_of_fields_are_refused_for_a_network_of_directions():
    b = torch.randn(4, 1, 6, 6)
    data = TensorDataset(b, torch.cat([b, torch.ones_like(b)], 1))
    network = LearnedDirections(dim=2, channels=2)
    options = {name: value for name, value in OPTIONS.items() if name != "loss"}
    refused("loss='h1' direction network 'line-search' 'contraction'", lambda: train(network, data, None, **options))
    refused(
        "select='l2' network direction",
        train,
        network,
        data,
        data,
        **OPTIONS | {"loss": "line-search", "select": "l2"},
    )

    def own(prediction, target, inputs):
        return line_search_loss(prediction, target)

    assert train(network, data, None, **OPTIONS | {"loss": own}).history  # select, "l2" by itself, is not looked at


def test_nan_before_the_first_checkpoint_promises_none(tmp_path, make, data):
    def breaks(prediction, target, inputs):
        return LOSSES["l2"](prediction, target, inputs) * float("nan")

    with pytest.raises(TrainingError, match=r"epoch.*1"):
        train(make(), *data, folder=tmp_path, **OPTIONS | {"loss": breaks})
    assert not (tmp_path / "last.safetensors").exists()


def test_bfloat16_trains_nearly_as_well_and_keeps_full_weights(make, data):
    options = OPTIONS | {"epochs": 40, "lr": 2e-2}
    full, low = make(), make()
    in_full = train(full, *data, **options)
    in_low = train(low, *data, precision="bf16", **options)
    assert low.first.weight.dtype == torch.float32
    # bfloat16 has 8 bits: each product is off by up to 2^-9, far below the errors of these networks.
    assert in_low.best == pytest.approx(in_full.best, rel=0.15)


def test_the_gradient_is_clipped(make, data):
    """With one step of plain size, Adam hides the norm; its first moment shows it."""
    steps = {}
    for clip in (None, 1e-2):
        model = make()
        result = train(model, data[0], None, clip=clip, folder=None, **OPTIONS | {"epochs": 1, "batch_size": 10})
        steps[clip] = result.history[0]["gradient_norm"]
    assert steps[None] == steps[1e-2] > 1e-2  # the log shows the norm before


def test_loading_in_processes_changes_nothing(tmp_path, make, data):
    train(make(dropout=0.2), *data, folder=tmp_path / "without", **OPTIONS | {"epochs": 2})
    train(make(dropout=0.2), *data, folder=tmp_path / "with", workers=2, **OPTIONS | {"epochs": 2})
    assert_same(tmp_path / "with", tmp_path / "without")


def test_checkpoints_come_as_often_as_asked(tmp_path, make, data):
    seen = []

    def look(row):
        path = tmp_path / "last.safetensors"
        seen.append(read_weights(path)[1]["state"]["epoch"] if path.exists() else 0)

    train(make(), *data, folder=tmp_path, checkpoint_every=4, callback=look, **OPTIONS)
    assert seen == [0, 0, 0, 0, 4, 4]
    assert read_weights(tmp_path / "last.safetensors")[1]["state"]["epoch"] == 6


# --- what goes wrong --------------------------------------------------------------------------------------------------


def test_nan_ends_the_training_and_keeps_the_last_good_checkpoint(tmp_path, make, data):
    def breaks(prediction, target, inputs):
        losses = LOSSES["l2"](prediction, target, inputs)
        count[0] += 1
        return losses * float("nan") if count[0] == 8 else losses

    count = [0]
    with pytest.raises(TrainingError, match=r"epoch.*3"):
        train(make(), *data, folder=tmp_path, **OPTIONS | {"loss": breaks})
    state, card = read_weights(tmp_path / "last.safetensors")
    assert card["state"]["epoch"] == 2
    assert all(bool(torch.isfinite(tensor).all()) for tensor in state.values())
    rest = train(make(), *data, folder=tmp_path, resume=True, **OPTIONS | {"loss": breaks})
    assert rest.reason == "all epochs done"


def test_an_infinite_gradient_of_a_finite_loss_ends_it_too(make, data):
    def root(prediction, target, inputs):
        return ((prediction - prediction.detach()).flatten(1).sum(1)).abs().sqrt() + 1.0

    with pytest.raises(TrainingError, match="epoch 1, step 1"):
        train(make(), *data, **OPTIONS | {"loss": root})


def test_a_metric_that_is_not_finite_ends_it(make, data):
    def never(prediction, target, inputs):
        return torch.full((len(target),), float("inf"))

    with pytest.raises(TrainingError, match=r"epoch.*1"):
        train(make(), *data, **OPTIONS | {"select": never})


@pytest.mark.parametrize("which", [0, 1], ids=["training", "validation"])
@pytest.mark.parametrize("part", ["input", "target"])
@pytest.mark.parametrize("value", [float("nan"), float("-inf")])
def test_a_sample_that_is_not_finite_is_named(make, data, which, part, value):
    samples = [list(one.tensors) for one in data]
    samples[which][part == "target"][2, 0, 5] = value
    sets = [TensorDataset(*one) for one in samples]
    kind = ("training", "validation")[which]
    refused(f"{part} sample 2 {kind} data NaN", lambda: train(make(), *sets, **OPTIONS))


def test_what_is_no_json_cannot_stand_on_the_card(make, data):
    refused("card JSON", lambda: train(make(), *data, card={"note": object()}, **OPTIONS))


def test_tuples_among_the_arguments_do_not_hinder_a_resume(tmp_path, make, data):
    for resume in (False, True):
        model = make()
        model.arguments["sizes"] = (1, 2)
        train(model, *data, folder=tmp_path, resume=resume, **OPTIONS | {"epochs": 1})


def test_a_folder_is_never_overwritten(tmp_path, make, data):
    train(make(), *data, folder=tmp_path, **OPTIONS)
    before = (tmp_path / "last.safetensors").read_bytes()
    refused("training resume=True", lambda: train(make(), *data, folder=tmp_path, **OPTIONS))
    assert (tmp_path / "last.safetensors").read_bytes() == before


class Split(Dataset):
    def __init__(self, split, count=4):
        self.split, self.count = split, count

    def __len__(self):
        return self.count

    def __getitem__(self, index):
        return torch.ones(1, 16), torch.ones(1, 16)


@pytest.mark.parametrize(
    ("sets", "options", "words"),
    [
        ((Split("test"), Split("validation")), {}, "training data split 'test' split='train'"),
        ((Split("all"), Split("validation")), {}, "training data split 'all'"),
        ((Split("train"), Split("test")), {}, "validation data split 'test'"),
        ((Split("train"), Subset(Split("test"), [0, 1])), {}, "validation data split 'test'"),
        ((Split("train"), Split("train")), {}, "validation data split 'train'"),
        ((Split("train", 0), Split("validation")), {}, "training data samples"),
        ((Split("train"), None), {"patience": 2}, "patience validation data"),
        ((Split("train"), None), {"resume": True}, "resume=True folder"),
        ((Split("train"), None), {"tensorboard": True}, "tensorboard=True folder"),
        ((Split("train"), None), {"epoch": 3}, "'epoch' choices 'epochs'"),
        ((Split("train"), None), {"settings": TrainingSettings()}, "settings= loss="),
        (("d.nc", Split("validation")), {}, "sb.TorchDataset('d.nc' 'train')"),
        ((Split("train"), Path("v.nc")), {}, "sb.TorchDataset('v.nc' 'validation')"),
        (([torch.ones(2)], None), {}, "pair"),
        (([(torch.ones(1, 4), torch.ones(1, 4, dtype=torch.int64))], None), {}, "pair"),
    ],
)
def test_bad_input_is_one_sentence(make, sets, options, words):
    refused(words, lambda: train(make(), *sets, **OPTIONS | options))


@pytest.mark.parametrize(
    ("inputs", "model", "given"),
    [
        (("source",), MgNO(channels=2, layers=1, levels=2), "source MgNO.predict network coefficient"),
        (("source",), CertifiedMgNO(channels=2, layers=1, levels=2), "source CertifiedMgNO.predict"),
        (("coefficient", "source"), MgNO(2, channels=2, layers=1, levels=2), "coefficient source"),
    ],
    ids=["source", "flux head", "more"],
)
def test_data_with_other_fields_than_a_prediction_are_one_sentence(inputs, model, given):
    samples = Split("train")
    samples.inputs = inputs
    refused(f"inputs training data {given} fields=", train, model, samples, None, **OPTIONS)


@pytest.mark.parametrize("inputs", [("source",), ("wave_speed",)], ids=["same", "of another problem"])
def test_fields_that_fit_and_those_of_other_problems_are_trained_on(inputs):
    class Fields(Split):
        def __getitem__(self, index):
            return torch.rand(1, 8, 8), torch.rand(1, 9, 9)

    samples = Fields("train")
    samples.inputs = inputs
    model = MgNO(fields=("source",), channels=2, layers=1, levels=2)
    assert len(train(model, samples, None, **OPTIONS | {"epochs": 1}).history) == 1


def test_a_network_for_other_data_is_one_sentence(make):
    class Half(nn.Module):
        def __init__(self):
            super().__init__()
            self.layer = nn.Conv1d(1, 1, 1, stride=2)

        def forward(self, x):
            return self.layer(x)

    refused("shape", lambda: train(Half(), Split("train"), None, **OPTIONS))

    def scalar(prediction, target, inputs):
        return prediction.mean()

    refused("loss scalar shape 4", lambda: train(make(), Split("train"), None, **OPTIONS | {"loss": scalar}))
    refused("Identity weights train", lambda: train(nn.Identity(), Split("train"), None, **OPTIONS))


def test_samples_of_different_shapes_are_one_sentence(make):
    class Ragged(Split):
        def __getitem__(self, index):
            return torch.ones(1, 16 + index), torch.ones(1, 16 + index)

    refused("training data samples", lambda: train(make(), Ragged("train"), None, **OPTIONS))


def test_a_disk_that_takes_no_more_leaves_the_checkpoint_before(tmp_path, make, data, monkeypatch):
    train(make(), *data, folder=tmp_path, callback=lambda row: row["epoch"] == 2, **OPTIONS)
    files = {name: (tmp_path / name).read_bytes() for name in os.listdir(tmp_path)}

    def full(descriptor):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    refused("device", lambda: train(make(), *data, folder=tmp_path, resume=True, **OPTIONS))
    assert {name: (tmp_path / name).read_bytes() for name in os.listdir(tmp_path)} == files
    monkeypatch.undo()


def test_the_log_is_one_table_after_a_resume(tmp_path, make, data):
    train(make(), *data, folder=tmp_path, callback=lambda row: row["epoch"] == 2, **OPTIONS)
    result = train(make(), *data, folder=tmp_path, resume=True, **OPTIONS)
    rows = [json.loads(line) for line in (tmp_path / "log.jsonl").read_text().splitlines()]
    assert rows == list(result.history)
    assert [row["epoch"] for row in rows] == [1, 2, 3, 4, 5, 6]
