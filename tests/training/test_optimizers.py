"""Rates are those of torch's own schedule, and of the published trainings at their ends."""

import math

import pytest
import torch

from sciml_bounds.training._optimizers import learning_rate, make_optimizer, onecycle, set_rates
from sciml_bounds.training._settings import TrainingSettings


@pytest.mark.parametrize("steps", [2, 3, 7, 60, 500])
@pytest.mark.parametrize(("pct_start", "div", "final_div"), [(0.2, 2.0, 100.0), (0.1, 2.0, 50.0), (0.7, 25.0, 1e4)])
def test_onecycle_is_that_of_torch(steps, pct_start, div, final_div):
    """Independent code; its rise over no steps at all divides by zero, so that is left out."""
    if pct_start * steps == 1.0:
        return
    weight = torch.nn.Parameter(torch.zeros(1))
    theirs = torch.optim.Adam([weight], lr=1.0)
    schedule = torch.optim.lr_scheduler.OneCycleLR(
        theirs, max_lr=3e-3, total_steps=steps, pct_start=pct_start, div_factor=div, final_div_factor=final_div
    )
    settings = TrainingSettings(lr=3e-3, pct_start=pct_start, div=div, final_div=final_div, cycle_momentum=True)
    ours = make_optimizer(settings, [weight])
    for step in range(steps):
        set_rates(ours, settings, step, steps)
        for name in ("lr", "betas"):
            assert ours.param_groups[0][name] == pytest.approx(theirs.param_groups[0][name], rel=1e-12)
        theirs.step()
        if step < steps - 1:
            schedule.step()


def test_the_published_cycle_begins_and_ends_where_the_paper_says():
    settings = TrainingSettings(lr=5e-4, epochs=500)
    rates = [learning_rate(settings, step, 500) for step in range(500)]
    assert rates[0] == pytest.approx(2.5e-4)
    assert max(rates) == rates[99] == pytest.approx(5e-4)
    assert rates[-1] == pytest.approx(2.5e-6)


def test_one_step_takes_the_largest_rate_or_less_but_never_nan():
    for steps in (1, 2):
        for step in range(steps):
            assert math.isfinite(onecycle(step, steps, 0.2, 1.0, 2.0, 0.1))


def test_a_constant_rate_is_constant():
    settings = TrainingSettings(lr=0.3, schedule="constant")
    assert {learning_rate(settings, step, 9) for step in range(9)} == {0.3}


def test_decay_is_in_the_gradient_of_adam_and_outside_of_adamw():
    """The first step of Adam is the sign of the gradient: coupled decay turns it, decoupled decay adds to it."""
    for name, expected in (("adam", 2.0 - 0.1), ("adamw", 2.0 * (1 - 0.1 * 0.5) + 0.1)):
        weight = torch.nn.Parameter(torch.tensor([2.0], dtype=torch.float64))
        optimizer = make_optimizer(TrainingSettings(optimizer=name, weight_decay=0.5, lr=0.1), [weight])
        weight.grad = torch.tensor([-0.9], dtype=torch.float64)  # with decay: -0.9 + 0.5 * 2 > 0
        optimizer.step()
        assert weight.item() == pytest.approx(expected, abs=1e-6)
