"""Conversion of user input to tensors: accepted types, dtype and device, and invalid input."""

import math
import warnings

import numpy as np
import pytest
import torch
import xarray
from refusals import refusals, refused

import sciml_bounds as sb
from sciml_bounds.arrays import (
    check_device,
    common_dtype_and_device,
    convert,
    require_choice,
    require_finite,
    require_fraction,
    require_instance,
    require_number,
    require_seed,
    to_tensor,
)

CPU, META = torch.device("cpu"), torch.device("meta")
TABLE = np.arange(6.0).reshape(2, 3)


def frozen(array: np.ndarray) -> np.ndarray:
    array = array.copy()
    array.flags.writeable = False
    return array


# --- conversion -------------------------------------------------------------------------------------------------------

SAME = {
    "tensor": torch.tensor(TABLE),
    "array": TABLE,
    "nested lists": TABLE.tolist(),
    "lists of integers": [[0, 1, 2], [3, 4, 5]],
    "integers and floats": [[0, 1.0, 2], [3, 4, 5]],
    "tuple of arrays": tuple(TABLE),
    "list of tensors": [torch.tensor(row) for row in TABLE],
    "list of single-precision arrays": list(TABLE.astype(np.float32)),
    "data array": xarray.DataArray(TABLE, dims=("x", "y")),
    "read-only": frozen(TABLE),
    "read-only view": np.broadcast_to(TABLE, (2, 3)),
    "big-endian": TABLE.astype(">f8"),
    "little-endian": TABLE.astype("<f8"),
    "columns first": np.asfortranarray(TABLE),
    "every second": np.repeat(TABLE, 2, axis=1)[:, ::2],
    "backwards": TABLE[::-1, ::-1].copy()[::-1, ::-1],
    "masked without gaps": np.ma.array(TABLE, mask=False),
    "with __array__": type("Held", (), {"__array__": lambda self, dtype=None, copy=None: TABLE})(),
}


@pytest.mark.parametrize("name", SAME)
def test_arrays_of_all_kinds_become_the_same_tensor(name):
    with warnings.catch_warnings():
        warnings.simplefilter("error")  # torch warns about memory that is read-only
        tensor = to_tensor(SAME[name], "a")
    assert (tensor.dtype, tensor.device) == (torch.float64, CPU)
    np.testing.assert_array_equal(tensor.numpy(), TABLE)
    assert torch.equal(tensor + 0, torch.tensor(TABLE))  # the memory is sound, too


@pytest.mark.parametrize(
    "number", [2, 2.0, np.float64(2), np.float32(2), np.array(2.0), np.array(2.0, dtype=">f4"), torch.tensor(2.0)]
)
def test_a_single_number_has_no_axes(number):
    tensor = to_tensor(number, "a")
    assert (tensor.shape, tensor.item()) == ((), 2.0)
    problem = sb.Diffusion(sb.Grid((3, 2)), coefficient=number)
    assert torch.equal(problem.coefficient[0], torch.full((3, 2), 2.0, dtype=problem.dtype))


@pytest.mark.parametrize("dtype", ["f4", "f8"])
@pytest.mark.parametrize("order", ["<", ">"])
def test_dtypes_of_arrays_are_kept(dtype, order):
    array = TABLE.astype(order + dtype)
    expected = {"f4": torch.float32, "f8": torch.float64}[dtype]
    assert to_tensor(array, "a").dtype == to_tensor(xarray.DataArray(array), "a").dtype == expected


def test_a_tensor_is_taken_as_it_is():
    tensor = torch.ones(2, 3, requires_grad=True)
    assert to_tensor(tensor, "a") is tensor
    assert convert(tensor, "a", torch.float32, CPU) is tensor


def test_input_is_never_written_to():
    array = frozen(TABLE)
    to_tensor(array, "a").zero_()
    np.testing.assert_array_equal(array, TABLE)


def test_gradients_flow_through_a_change_of_dtype():
    tensor = torch.ones(3, requires_grad=True)
    (2 * convert(tensor, "a", torch.float64, CPU)).sum().backward()
    assert torch.equal(tensor.grad, torch.full((3,), 2.0))


def test_convert_moves_to_the_device():
    converted = convert(TABLE, "a", torch.float32, META)
    assert (converted.dtype, converted.device, converted.shape) == (torch.float32, META, (2, 3))


# --- devices by name --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("given", ["cpu", CPU], ids=["name", "device"])
def test_a_device_is_made_of_its_name(given):
    assert check_device(given) == CPU


# --- the common dtype and device --------------------------------------------------------------------------------------

SINGLE, DOUBLE = np.float32(1), np.ones(2)


class CallableArray(np.ndarray):
    """An array that can be called, as interpolants of some packages can."""

    def __call__(self) -> None:
        raise AssertionError


@pytest.mark.parametrize(
    ("values", "expected"),
    [
        ([], torch.float64),
        ([1, 2.0, None, [1.0], (2, 3)], torch.float64),
        ([SINGLE], torch.float32),
        ([SINGLE, 1, 2.0, None, [1.0], (1.0,), lambda x: x, [np.ones(2)]], torch.float32),
        ([SINGLE, np.float64(1)], torch.float32),  # numpy's double is a Python float
        ([SINGLE, DOUBLE], torch.float64),
        ([DOUBLE, SINGLE], torch.float64),
        ([torch.ones(2), SINGLE], torch.float32),
        ([torch.ones(2), torch.ones(2, dtype=torch.float64)], torch.float64),
        ([xarray.DataArray(DOUBLE.astype(np.float32))], torch.float32),
        ([torch.nn.Parameter(torch.ones(2))], torch.float32),
        ([np.ones(2, dtype=">f4")], torch.float32),
        ([np.ones(2, dtype=np.float32).view(CallableArray)], torch.float32),  # no function of coordinates
    ],
)
def test_the_widest_array_decides_and_plain_numbers_follow(values, expected):
    assert common_dtype_and_device((str(i), value) for i, value in enumerate(values)) == (expected, CPU)


def test_tensors_decide_the_device():
    there = torch.ones(2, device="meta")
    assert common_dtype_and_device([("a", 1.0), ("b", there), ("c", DOUBLE)]) == (torch.float64, META)
    assert common_dtype_and_device([("a", SINGLE), ("b", DOUBLE)])[1] == CPU


# --- what is refused --------------------------------------------------------------------------------------------------


def test_matrices_may_be_sparse():
    assert to_tensor(SPARSE, "the matrix") is SPARSE


# --- finite numbers ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_what_is_not_finite_is_counted_and_found(bad):
    field = torch.zeros(3, 4, 5, requires_grad=True)
    with torch.no_grad():
        field[1, 2, 3] = field[1, 3, 0] = field[2, 0, 0] = bad
    refused("a 3 (1, 2, 3)", lambda: require_finite(field, "a"))
    refused(f"a {bad}", lambda: require_finite(torch.tensor(bad), "a"))


def test_large_small_and_no_numbers_are_finite():
    largest = torch.finfo(torch.float64).max
    require_finite(torch.tensor([largest, -largest, 5e-324, 0.0, -0.0], dtype=torch.float64), "a")
    require_finite(torch.empty(0, 3), "a")


@pytest.mark.parametrize("good", [0, 2**64 - 1, np.int64(3), np.uint8(7)], ids=str)
def test_seeds_of_any_kind_are_taken_by_generators(good):
    seed = require_seed(good)
    assert type(seed) is int
    assert torch.Generator().manual_seed(seed).initial_seed() == good


@pytest.mark.parametrize("good", [0, -3, 1.5, np.float32(0.5), np.int64(4), 1e308], ids=str)
def test_one_number_is_read_whatever_its_kind(good):
    found = require_number(good, "a")
    assert type(found) is float
    assert found == good


# --- what is refused --------------------------------------------------------------------------------------------------

SPARSE = torch.eye(3, dtype=torch.float64).to_sparse()
RAGGED = [[1.0], [1.0, 2.0]]
BAD = [
    ("a", np.True_),
    ("int64 .astype", np.arange(3)),
    ("int64 .astype", np.arange(3)[::-1]),
    ("int32 .astype", np.arange(3, dtype=">i4")),
    ("int64 .astype", np.int64(3)),
    ("int64 .astype", xarray.DataArray([1, 2])),
    ("int64 .to(torch.float64)", torch.ones(3, dtype=torch.int64)),
    ("bool .astype", np.ones(3, dtype=bool)),
    ("bool .astype", [True, False]),
    ("float16 .astype", np.ones(3, dtype=np.float16)),
    ("bfloat16 .to(torch.float64)", torch.ones(3, dtype=torch.bfloat16)),
    ("complex128 real", 1j),
    ("complex64 real", np.ones(3, dtype=np.complex64)),
    ("complex64 real", torch.ones(3, dtype=torch.complex64)),
    ("NoneType object", None),
    ("str file", "abc"),
    ("list object", [1.0, None]),
    ("datetime64", np.array(["2020-01-01"], dtype="M8[D]")),
    ("ndarray", np.zeros(2, dtype=[("x", "f8")])),
    ("dict object", {"x": 1.0}),
    ("function object", lambda x: x),
    ("list", RAGGED),
    ("Dataset", xarray.Dataset({"u": ("x", [1.0])})),
    ("2 masked .filled", np.ma.array([[1.0, 2.0], [3.0, 4.0]], mask=[[0, 1], [1, 0]])),
    ("gradients torch.stack", [torch.tensor(1.0), torch.tensor(2.0, requires_grad=True)]),
]
if np.dtype(np.longdouble).itemsize > 8:
    BAD.append((f"{np.dtype(np.longdouble).name} .astype", np.ones(2, np.longdouble)))

test_values_that_are_not_real_arrays = refusals(
    *[(words, lambda value=value: to_tensor(value, "a")) for words, value in BAD]
)
test_bad_numbers_and_names = refusals(
    ("a sparse .to_dense", lambda: convert(SPARSE, "a", torch.float64, CPU)),
    *[("device", lambda bad=bad: check_device(bad)) for bad in ("gpu", "", None, 1.5, "meta")],
    ("second int64", lambda: common_dtype_and_device([("first", 1.0), ("second", np.ones(2, dtype=int))])),
    *[("seed", lambda bad=bad: require_seed(bad)) for bad in ("a", -1, 1.5, True, None, 2**64, 10**400, [1])],
    *[
        ("letter 'a' 'b'", lambda bad=bad: require_choice(bad, "letter", ("a", "b")))
        for bad in ("cat", 1, None, [], {}, np.zeros(2))
    ],
    *[
        (f"a {bad!r} finite", lambda bad=bad: require_number(bad, "a"))
        for bad in (True, "1", None, np.nan, -np.inf, 10**400, [1.0], 1j)
    ],
    ("a 0.0 positive", lambda: require_number(0.0, "a", positive=True)),
    ("a -1.0 negative", lambda: require_number(-1.0, "a", least=0)),
    ("a 1.5 at least 2", lambda: require_number(1.5, "a", least=2)),
    *[(f"a {bad!r} between 0 1", lambda bad=bad: require_fraction(bad, "a")) for bad in (0.0, 1.0, -0.5, 2)],
    ("a nan finite", lambda: require_fraction(math.nan, "a")),
    ("a type str give a grid", lambda: require_instance("x", "a", sb.Grid, "a grid")),
)


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a device")
@pytest.mark.parametrize("device", ["cuda", "cuda:1", torch.device("cuda")], ids=str)
def test_a_device_that_is_not_there_is_refused(device):
    refused("cuda 'cpu'", lambda: check_device(device))


@pytest.mark.parametrize(("first", "second"), [("cpu", "meta"), ("meta", "cpu")])
def test_tensors_apart_are_named_with_their_devices(first, second):
    values = [("a", torch.ones(2, device=first)), ("number", 1.0), ("b", torch.ones(2, device=second))]
    refused(f"a b {first} {second} .to('{first}')", lambda: common_dtype_and_device(values))
