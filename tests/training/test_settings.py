"""Settings are checked when they are made, with one sentence each."""

import dataclasses
import json

import pytest
import torch

from sciml_bounds.errors import InputError
from sciml_bounds.krylov.losses import LineSearchLoss
from sciml_bounds.multigrid.flux_head import BoundLoss
from sciml_bounds.operators.linear_operator import MatrixOperator
from sciml_bounds.training.settings import TrainingSettings, find_loss

WRONG = [
    ({"epochs": 0}, "epochs=0 is not a whole number of at least 1"),
    ({"epochs": 2.5}, "epochs=2.5 is not a whole number"),
    ({"batch_size": True}, "batch_size=True is not a whole number"),
    ({"seed": 2**70}, "is more than random numbers take; use less than 2"),
    ({"device": "meta"}, "device='meta' is of a kind that is not supported"),
    ({"seed": -1}, "seed=-1 is not a whole number of at least 0"),
    ({"workers": "2"}, "workers='2' is not a whole number"),
    ({"patience": 0}, "patience=0 is not"),
    ({"checkpoint_every": 0}, "checkpoint_every=0 is not"),
    ({"lr": 0.0}, r"lr=0.0 is not a finite number above 0"),
    ({"lr": float("nan")}, "lr=nan is not a finite number"),
    ({"lr": "fast"}, "lr='fast' is not a finite number"),
    ({"weight_decay": -1e-4}, "weight_decay=-0.0001 is not a finite number of at least 0"),
    ({"div": 0}, "div=0 is not"),
    ({"final_div": float("inf")}, "final_div=inf is not"),
    ({"clip": 0.0}, r"clip=0.0 is not a finite number above 0"),
    ({"pct_start": 1.0}, r"pct_start=1.0 leaves nothing of the cycle"),
    ({"pct_start": 0}, "pct_start=0 is not"),
    ({"optimizer": "adamww"}, r"optimizer='adamww' is not known; did you mean 'adamw'\?"),
    ({"optimizer": 3}, "optimizer=3 is not known; the choices are 'adam', 'adamw'"),
    ({"schedule": "cosine"}, "schedule='cosine' is not known"),
    ({"schedule_step": "batch"}, "schedule_step='batch' is not known"),
    ({"precision": "fp16"}, "precision='fp16' is not known"),
    ({"loss": "h2"}, "loss='h2' is not known"),
    ({"select": "h1-spectra"}, r"select='h1-spectra' is not known; did you mean 'h1-spectral'\?"),
    ({"graphs": 1}, "graphs=1 is neither True nor False"),
    ({"graphs": True}, "graphs=True needs device='cuda', and the device is 'cpu'"),
    ({"device": "gpu"}, "device='gpu' is no device"),
    ({"schedule": "constant", "cycle_momentum": True}, "cycle_momentum needs schedule='onecycle'"),
    ({"schedule": "constant", "pct_start": 0.3}, "pct_start needs schedule='onecycle'"),
    ({"schedule": "constant", "schedule_step": "step"}, "schedule_step needs schedule='onecycle'"),
]


@pytest.mark.parametrize(("options", "words"), WRONG, ids=[f"{words}"[:40] for _, words in WRONG])
def test_a_value_that_cannot_be_is_one_sentence(options, words):
    with pytest.raises(InputError, match=words):
        TrainingSettings(**options)


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a device")
def test_a_device_that_is_not_there_is_one_sentence():
    with pytest.raises(InputError, match="torch finds no CUDA device"):
        TrainingSettings(device="cuda")


def test_an_unknown_name_leads_to_the_closest():
    with pytest.raises(InputError, match=r"train\(\) has no option 'weight_decy'; did you mean weight_decay\?"):
        TrainingSettings.of({"weight_decy": 0.0})
    with pytest.raises(InputError, match="has no option 'zzz'; there are loss, epochs"):
        TrainingSettings.of({"zzz": 0.0})


def test_a_card_makes_the_same_settings_again():
    settings = TrainingSettings(lr=1e-3, clip=1.0, loss="h1-spectral")
    assert TrainingSettings.of(json.loads(json.dumps(settings.card()))) == settings
    assert settings.card().keys() == {field.name for field in dataclasses.fields(TrainingSettings)}


@pytest.mark.parametrize(
    ("options", "select"),
    [
        ({}, "l2"),
        ({"loss": "bound"}, "bound"),
        ({"loss": BoundLoss(source=2.0)}, "BoundLoss"),
        ({"loss": "bound", "select": "l2"}, "l2"),
        ({"loss": "h1-spectral", "select": None}, "l2"),
        ({"loss": "line-search"}, "line-search"),
        ({"loss": LineSearchLoss(MatrixOperator(torch.eye(4)))}, "LineSearchLoss"),
        ({"loss": "line-search", "select": "l2"}, "l2"),
    ],
    ids=["default", "bound", "bound of other data", "both", "none", "directions", "one operator", "directions, l2"],
)
def test_without_a_metric_the_loss_selects_where_no_other_is_for_the_network(options, select):
    assert TrainingSettings(**options).card()["select"] == select


def test_callables_are_losses_and_named_on_the_card():
    def mine(prediction, target, inputs):
        return prediction

    assert find_loss(mine) is mine
    assert TrainingSettings(loss=mine).card()["loss"] == "mine"
