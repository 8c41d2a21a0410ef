"""A graph replays what the steps compute."""

import pytest
import torch

from sciml_bounds.training.trainer import train


@pytest.mark.gpu
def test_graphs_change_nothing(make, data):
    """Ten samples in batches of four: the last batch has another shape and goes without the graph."""
    options = {"loss": "l2", "epochs": 4, "batch_size": 4, "lr": 1e-2, "device": "cuda"}
    plain, graphed = make(), make()
    first = train(plain, *data, **options)
    second = train(graphed, *data, graphs=True, **options)
    for ours, theirs in zip(graphed.parameters(), plain.parameters()):
        torch.testing.assert_close(ours, theirs, rtol=1e-4, atol=1e-5)
    assert second.best == pytest.approx(first.best, rel=1e-4)
