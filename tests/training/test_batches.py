"""The order of samples depends on seed and epoch alone."""

import pytest
import torch
from refusals import refused
from torch.utils.data import Dataset, Subset, TensorDataset

from sciml_bounds.errors import InputError
from sciml_bounds.training._batches import batches, check_samples, describe_samples, load, shuffled, stack_all


def test_each_epoch_sees_every_sample_once_in_an_order_of_its_own():
    orders = [shuffled(50, seed, epoch) for seed in (0, 1) for epoch in (0, 1)]
    assert all(sorted(order) == list(range(50)) for order in orders)
    assert len({tuple(order) for order in orders}) == 4
    torch.rand(3)
    assert shuffled(50, 1, 0) == orders[2]


def test_batches_hold_everything_in_order():
    parts = batches(list(range(10, 21)), 4)
    assert parts == [[10, 11, 12, 13], [14, 15, 16, 17], [18, 19, 20]]


def test_loading_draws_no_random_numbers():
    data = TensorDataset(torch.arange(5.0)[:, None], torch.arange(5.0)[:, None])
    torch.manual_seed(0)
    expected = torch.rand(1)
    torch.manual_seed(0)
    loaded = list(load(data, [[3, 1], [4]], "data", workers=0, pinned=False))
    assert torch.equal(torch.rand(1), expected)
    assert [x.flatten().tolist() for x, _ in loaded] == [[3.0, 1.0], [4.0]]


def test_the_sample_that_is_not_finite_is_named_by_its_own_number():
    x = torch.zeros(6, 1)
    x[4] = float("nan")
    refused(
        "input sample 4 data NaN",
        lambda: list(load(TensorDataset(x, x), [[0, 5], [2, 4]], "data", workers=0, pinned=False)),
    )


class Damaged(Dataset):
    """Its second sample cannot be read."""

    def __len__(self):
        return 3

    def __getitem__(self, index):
        if index == 1:
            raise InputError("sample 1 of d.nc is damaged; get it again.")
        return torch.zeros(1), torch.zeros(1)


@pytest.mark.parametrize("workers", [0, pytest.param(1, marks=pytest.mark.slow)])
def test_an_error_of_the_data_is_its_own_sentence_wherever_it_happens(workers):
    refused("sample 1", lambda: list(load(Damaged(), [[0], [1]], "data", workers=workers, pinned=False)))


def test_large_numbers_whose_sum_overflows_are_finite():
    x = torch.full((2, 4), 3e38)
    assert len(list(load(TensorDataset(x, x), [[0, 1]], "data", workers=0, pinned=False))) == 1


def test_all_samples_are_stacked_in_their_order():
    data = TensorDataset(torch.arange(150.0)[:, None], -torch.arange(150.0)[:, None])
    x, y = stack_all(data, "data")
    assert torch.equal(x, data.tensors[0])
    assert torch.equal(y, data.tensors[1])


@pytest.mark.parametrize("split", ["train", "all"])
def test_a_part_of_any_split_but_the_test_split_may_validate(split):
    whole = TensorDataset(torch.zeros(4, 1), torch.zeros(4, 1))
    whole.split = split
    check_samples(Subset(whole, [1, 2]), "validation data", "validation")


def test_what_a_data_set_knows_is_described():
    data = TensorDataset(torch.zeros(3, 1))
    data.recipe, data.inputs = "darcy-rough", ("coefficient",)
    assert describe_samples(data) == {"recipe": "darcy-rough", "inputs": ["coefficient"], "samples": 3}
