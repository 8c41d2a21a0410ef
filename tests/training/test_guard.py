"""The first bad step is the one that is named."""

import pytest
import torch

from sciml_bounds.errors import ConvergenceError, TrainingError
from sciml_bounds.training._guard import Guard


@pytest.mark.parametrize(("loss", "norm"), [(float("nan"), 1.0), (1.0, float("inf")), (float("inf"), float("nan"))])
def test_on_the_cpu_a_bad_step_raises_at_once(loss, norm):
    guard = Guard(torch.device("cpu"), "It is kept.")
    guard.watch(0, 0, torch.tensor(1.0), torch.tensor(1.0))
    with pytest.raises(TrainingError, match=r"epoch.*2"):
        guard.watch(1, 3, torch.tensor(loss), torch.tensor(norm))


def test_elsewhere_the_first_of_several_is_named_when_asked():
    guard = Guard(torch.device("cpu"), "")
    guard._at_once = False  # as on a device, which must not wait
    for step, loss in enumerate((1.0, float("nan"), 1.0, float("nan"))):
        guard.watch(0, step, torch.tensor(loss), torch.tensor(1.0))
    with pytest.raises(ConvergenceError, match="epoch 1, step 2"):
        guard.check(0)
