"""Products that vanish on sides: formulas by hand, automatic derivatives, bad sides."""

from __future__ import annotations

import pytest
import torch
from refusals import refused

import sciml_bounds as sb
from sciml_bounds.barron._box_distance import BoxDistance, checked_sides


def test_values_by_hand():
    distance = BoxDistance((1.0, 0.0, 5.0), (2.0, 4.0, 1.0), ((0, 0), (0, 1), (1, 1)))
    x = torch.tensor([1.5, 1.0, 5.3], dtype=torch.float64)
    value, slope, bend = distance.jet(x)
    assert float(value) == pytest.approx(4 * 0.25 * 0.75 * 0.75)
    assert slope.tolist() == pytest.approx([4 * (0.5 / 2) * 0.75, 4 * 0.25 * 0.75 * -0.25, 0.0])
    assert float(bend) == pytest.approx(-8 / 4 * 0.75)


def test_derivatives_against_automatic_ones_also_on_sides():
    distance = BoxDistance((0.0,) * 4, (1.0, 2.0, 0.5, 1.0), checked_sides("all", 4))
    generator = torch.Generator().manual_seed(0)
    x = torch.rand((20, 4), generator=generator, dtype=torch.float64)
    x[0, 0] = x[1, 1] = x[2, :] = 0.0
    x.requires_grad_()
    value, slope, bend = distance.jet(x)
    (gradient,) = torch.autograd.grad(value.sum(), x, create_graph=True)
    torch.testing.assert_close(slope, gradient, rtol=0, atol=1e-13)
    laplacian = sum(torch.autograd.grad(gradient[:, i].sum(), x, retain_graph=True)[0][:, i] for i in range(4))
    torch.testing.assert_close(bend, laplacian, rtol=0, atol=1e-12)


def test_one_side_by_itself_is_told_how_to_be_given():
    words = "dirichlet_sides (0, 1) single side list [(0, 1)]"
    refused(words, checked_sides, (0, 1), 2)
    assert checked_sides([(1, 0), [0, 1], (1, 0)], 2) == ((0, 1), (1, 0))


@pytest.mark.parametrize("held", ["some", [(0, 2)], [(3, 0)], [0], 1])
def test_bad_sides_are_one_sentence(held):
    with pytest.raises(sb.InputError, match="dirichlet_sides"):
        checked_sides(held, 3)
