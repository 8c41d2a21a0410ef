"""Settings are checked when they are made, with one sentence each."""

import dataclasses
import json

import pytest
import torch
from refusals import refused

from sciml_bounds.krylov._direction_loss import LineSearchLoss
from sciml_bounds.multigrid._flux_head import BoundLoss
from sciml_bounds.operators._linear_operator import MatrixOperator
from sciml_bounds.training._settings import TrainingSettings, find_loss

WRONG = [
    ({"epochs": 0}, "epochs=0 number 1"),
    ({"epochs": 2.5}, "epochs=2.5 number"),
    ({"batch_size": True}, "batch_size=True number"),
    ({"seed": 2**70}, "seed 2**63"),
    ({"device": "meta"}, "device='meta'"),
    ({"seed": -1}, "seed=-1 number 0"),
    ({"workers": "2"}, "workers='2' number"),
    ({"patience": 0}, "patience=0"),
    ({"checkpoint_every": 0}, "checkpoint_every=0"),
    ({"lr": 0.0}, "lr=0.0 finite number 0"),
    ({"lr": float("nan")}, "lr=nan finite number"),
    ({"lr": "fast"}, "lr='fast' finite number"),
    ({"weight_decay": -1e-4}, "weight_decay=-0.0001 finite number 0"),
    ({"div": 0}, "div=0"),
    ({"final_div": float("inf")}, "final_div=inf"),
    ({"clip": 0.0}, "clip=0.0 finite number 0"),
    ({"pct_start": 1.0}, "pct_start=1.0"),
    ({"pct_start": 0}, "pct_start=0"),
    ({"optimizer": "adamww"}, "optimizer 'adamww' 'adamw'"),
    ({"optimizer": 3}, "optimizer 3 'adam' 'adamw'"),
    ({"schedule": "cosine"}, "schedule 'cosine'"),
    ({"schedule_step": "batch"}, "schedule_step 'batch'"),
    ({"precision": "fp16"}, "precision 'fp16'"),
    ({"loss": "h2"}, "loss 'h2'"),
    ({"select": "h1-spectra"}, "select 'h1-spectra' 'h1-spectral'"),
    ({"graphs": 1}, "graphs=1 True False"),
    ({"graphs": True}, "graphs=True device='cuda' device 'cpu'"),
    ({"device": "gpu"}, "device='gpu' device"),
    ({"schedule": "constant", "cycle_momentum": True}, "cycle_momentum schedule='onecycle'"),
    ({"schedule": "constant", "pct_start": 0.3}, "pct_start schedule='onecycle'"),
    ({"schedule": "constant", "schedule_step": "step"}, "schedule_step schedule='onecycle'"),
]


@pytest.mark.parametrize(("options", "words"), WRONG, ids=[f"{words}"[:40] for _, words in WRONG])
def test_a_value_that_cannot_be_is_one_sentence(options, words):
    refused(words, TrainingSettings, **options)


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a device")
def test_a_device_that_is_not_there_is_one_sentence():
    refused("CUDA device", TrainingSettings, device="cuda")


def test_an_unknown_name_leads_to_the_closest():
    refused("train 'weight_decy' choices 'weight_decay'", TrainingSettings.of, {"weight_decy": 0.0})
    refused("'zzz' loss epochs", TrainingSettings.of, {"zzz": 0.0})


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
