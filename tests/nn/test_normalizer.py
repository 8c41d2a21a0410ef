"""Statistics of training data."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from refusals import refused

from sciml_bounds.nn.normalizer import Normalizer


@pytest.mark.parametrize(("kind", "axes"), [("scalar", (0, 2, 3)), ("pointwise", (0,))])
def test_mean_and_deviation_are_numpys(kind, axes):
    fields = 1e-3 * torch.randn(150, 2, 4, 5) + torch.tensor([5.0, -2.0])[:, None, None]
    normalizer = Normalizer(2, (4, 5), kind)
    normalizer.fit(fields)
    exact = fields.double().numpy()
    np.testing.assert_allclose(normalizer.mean.numpy(), exact.mean(axes, keepdims=True), rtol=1e-6)
    np.testing.assert_allclose(normalizer.scale.numpy(), exact.std(axes, keepdims=True), rtol=1e-6)
    encoded = normalizer.encode(fields)
    np.testing.assert_allclose(encoded.double().numpy().std(axes), 1, rtol=1e-3)
    torch.testing.assert_close(normalizer.decode(encoded), fields, rtol=1e-6, atol=1e-6)


def test_constant_fields_stay_finite_and_come_back():
    for kind in ("scalar", "pointwise"):
        normalizer = Normalizer(1, (4,), kind)
        fields = torch.full((3, 1, 4), 7.0)
        normalizer.fit(fields)
        assert bool((normalizer.encode(fields) == 0).all())
        assert bool((normalizer.decode(normalizer.encode(fields)) == fields).all())


def test_points_that_hardly_vary_are_not_blown_up():
    fields = torch.randn(50, 1, 4)
    fields[..., 0] = 3.0
    normalizer = Normalizer(1, (4,), "pointwise")
    normalizer.fit(fields)
    assert float(normalizer.scale[0, 0, 0]) == pytest.approx(1e-5 * float(normalizer.scale.max()))


def test_none_is_the_identity():
    normalizer, fields = Normalizer(1, (4,), "none"), torch.randn(3, 1, 4)
    normalizer.fit(fields)
    assert normalizer.encode(fields) is fields
    assert normalizer.decode(fields) is fields
    assert not normalizer.state_dict()


def test_bad_input_is_one_sentence():
    refused("sample", lambda: Normalizer(1, (4,)).fit(torch.zeros(0, 1, 4)))
    refused("NaN training", lambda: Normalizer(1, (4,)).fit(torch.full((1, 1, 4), float("nan"))))
    refused("lattice 4 5", lambda: Normalizer(1, (4,), "pointwise").encode(torch.zeros(1, 1, 5)))
    refused("lattice 4 5", lambda: Normalizer(1, (4,), "pointwise").fit(torch.zeros(1, 1, 5)))
