"""A grid that is not that of the training is spoken of, once."""

import logging

import pytest

from sciml_bounds.cli._trained_at import warn_about_resolution


@pytest.mark.parametrize(
    ("train", "shape", "told"),
    [
        ({"resolution": 64, "subsample": 1}, (64, 64), False),
        ({"resolution": 128, "subsample": 2}, (64, 64), False),
        ({"resolution": 64, "subsample": 1}, (64, 128), True),
        ({"resolution": 64}, (32,), True),
        ({}, (32,), False),  # a network whose card does not say
    ],
)
def test_another_grid_is_told(train, shape, told, caplog):
    with caplog.at_level(logging.WARNING, logger="sciml_bounds"):
        warn_about_resolution("net", {"data": {"train": train}}, shape)
    assert bool(caplog.messages) == told
    if told:
        assert caplog.messages[0].startswith("net was trained with 64 cells per axis, but this grid has ")


def test_a_card_without_data_says_nothing(caplog):
    warn_about_resolution("net", {}, (32, 32))
    assert not caplog.messages
