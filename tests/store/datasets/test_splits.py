"""Splits depend on the index alone."""

from __future__ import annotations

import numpy as np

from sciml_bounds.store.datasets.splits import SPLITS, split_of


def test_every_ten_samples_hold_all_splits_in_fixed_places():
    splits = split_of(np.arange(1000)).reshape(100, 10)
    assert (splits == [0] * 8 + [1, 2]).all()
    assert splits.max() == len(SPLITS) - 1


def test_a_shard_agrees_with_the_whole():
    np.testing.assert_array_equal(split_of(np.arange(300, 400)), split_of(np.arange(1000))[300:400])
