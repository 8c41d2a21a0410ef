from __future__ import annotations

import pytest
import torch

from sciml_bounds.nn.evaluation_mode import evaluating, weights_like


@pytest.mark.parametrize("training", [False, True])
def test_mode_and_gradients_are_restored(training):
    model = torch.nn.Dropout().train(training)
    with evaluating(model):
        assert not model.training
        assert not torch.is_grad_enabled()
    assert model.training is training
    assert torch.is_grad_enabled()


def test_dtype_of_the_weights():
    default = torch.zeros((), dtype=torch.float32)
    assert weights_like(torch.nn.Linear(1, 1).double(), default).dtype == torch.float64
    assert weights_like(torch.nn.Tanh(), default) is default
