"""What may stand for a tensor at the public face, which dtype and device it gets, and what is refused."""

import re
import warnings

import numpy as np
import pytest
import torch
import xarray

import sciml_bounds as sb
from sciml_bounds.arrays import (
    check_device,
    common_dtype_and_device,
    convert,
    require_choice,
    require_finite,
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


@pytest.mark.parametrize(
    ("given", "sentence"),
    [
        ("gpu", "device='gpu' is no device; use 'cpu' or 'cuda'"),
        ("", "device='' is no device"),
        (None, "device=None is no device"),
        (1.5, "device=1.5 is no device"),
        ("meta", "device='meta' is of a kind that is not supported; use 'cpu' or 'cuda'"),
    ],
    ids=str,
)
def test_what_is_no_device_is_refused(given, sentence):
    with pytest.raises(sb.InputError, match=re.escape(sentence)):
        check_device(given)


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a device")
def test_a_device_that_is_not_there_is_refused():
    for name in ("cuda", "cuda:1", torch.device("cuda")):
        with pytest.raises(sb.InputError, match="is not there: torch finds no CUDA device; use device='cpu'"):
            check_device(name)


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


@pytest.mark.parametrize("first", ["cpu", "meta"])
def test_tensors_apart_are_named_with_their_devices(first):
    second = "meta" if first == "cpu" else "cpu"
    values = [("a", torch.ones(2, device=first)), ("number", 1.0), ("b", torch.ones(2, device=second))]
    message = f"a is on device {first} and b on {second}; move one of them, for example with .to('{first}')."
    with pytest.raises(sb.InputError, match=f"^{re.escape(message)}$"):
        common_dtype_and_device(values)


def test_bad_values_are_named():
    with pytest.raises(sb.InputError, match=r"^second has dtype int64"):
        common_dtype_and_device([("first", 1.0), ("second", np.ones(2, dtype=int))])


# --- what is refused --------------------------------------------------------------------------------------------------

NUMPY = "convert it to float32 or float64 first, for example with .astype('float64')."
TORCH = "convert it to float32 or float64 first, for example with .to(torch.float64)."
REAL = "and must be real; give its parts one by one, in float32 or float64."
UNREAD = "a cannot be read as an array of numbers"
FLOATS = "give a number or an array."
BAD = {
    "truth value": (True, "a is a truth value; give a floating-point number or array."),
    "numpy truth value": (np.True_, "a is a truth value; give a floating-point number or array."),
    "integers": (np.arange(3), f"a has dtype int64; {NUMPY}"),
    "integers backwards": (np.arange(3)[::-1], f"a has dtype int64; {NUMPY}"),
    "big-endian integers": (np.arange(3, dtype=">i4"), f"a has dtype int32; {NUMPY}"),
    "bytes in an array": (np.zeros(3, dtype=np.uint8), f"a has dtype uint8; {NUMPY}"),
    "integer of numpy": (np.int64(3), f"a has dtype int64; {NUMPY}"),
    "integers of xarray": (xarray.DataArray([1, 2]), f"a has dtype int64; {NUMPY}"),
    "integers of torch": (torch.ones(3, dtype=torch.int64), f"a has dtype int64; {TORCH}"),
    "truth values": (np.ones(3, dtype=bool), f"a has dtype bool; {NUMPY}"),
    "list of truth values": ([True, False], f"a has dtype bool; {NUMPY}"),
    "truth values of torch": (torch.ones(3, dtype=torch.bool), f"a has dtype bool; {TORCH}"),
    "half precision": (np.ones(3, dtype=np.float16), f"a has dtype float16; {NUMPY}"),
    "half precision of torch": (torch.ones(3, dtype=torch.bfloat16), f"a has dtype bfloat16; {TORCH}"),
    "complex number": (1j, f"a has dtype complex128 {REAL}"),
    "complex numbers": (np.ones(3, dtype=np.complex64), f"a has dtype complex64 {REAL}"),
    "complex numbers of torch": (torch.ones(3, dtype=torch.complex64), f"a has dtype complex64 {REAL}"),
    "nothing": (None, f"{UNREAD} (NoneType, dtype object); {FLOATS}"),
    "word": ("abc", f"{UNREAD} (str, dtype <U3); load the file first."),
    "list of words": (["1.0"], f"{UNREAD} (list, dtype <U3); {FLOATS}"),
    "gap": ([1.0, None], f"{UNREAD} (list, dtype object); {FLOATS}"),
    "objects": (np.array([1.0], dtype=object), f"{UNREAD} (ndarray, dtype object); {FLOATS}"),
    "dates": (np.array(["2020-01-01"], dtype="M8[D]"), f"{UNREAD} (ndarray, dtype datetime64[D])"),
    "records": (np.zeros(2, dtype=[("x", "f8")]), f"{UNREAD} (ndarray, dtype [("),
    "by name": ({"x": 1.0}, f"{UNREAD} (dict, dtype object); {FLOATS}"),
    "function": (lambda x: x, f"{UNREAD} (function, dtype object); {FLOATS}"),
    "ragged": ([[1.0], [1.0, 2.0]], f"{UNREAD} (list): setting an array element"),
    "data set": (xarray.Dataset({"u": ("x", [1.0])}), f"{UNREAD} (Dataset): "),
    "masked": (
        np.ma.array([[1.0, 2.0], [3.0, 4.0]], mask=[[0, 1], [1, 0]]),
        "a has 2 masked entries; fill them with .filled(number) first.",
    ),
    "tensors with gradients in a list": (
        [torch.tensor(1.0), torch.tensor(2.0, requires_grad=True)],
        "a is a list of tensors that require gradients; join them by torch.stack.",
    ),
}
if np.dtype(np.longdouble).itemsize > 8:
    BAD["extended precision"] = (np.ones(2, np.longdouble), f"a has dtype {np.dtype(np.longdouble).name}; {NUMPY}")


@pytest.mark.parametrize("name", BAD)
def test_what_is_no_real_array_is_refused_in_one_sentence(name):
    value, words = BAD[name]
    with pytest.raises(sb.InputError, match=f"^{re.escape(words)}") as caught:
        to_tensor(value, "a")
    message = str(caught.value)
    assert "\n" not in message
    assert message.endswith(".")
    assert not message.endswith("..")


def test_fields_are_dense():
    sparse = torch.eye(3, dtype=torch.float64).to_sparse()
    assert to_tensor(sparse, "the matrix") is sparse  # matrices may be sparse
    with pytest.raises(sb.InputError, match=r"^a is a sparse tensor; give a dense one, for example with \.to_dense"):
        convert(sparse, "a", torch.float64, CPU)


# --- finite numbers ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_what_is_not_finite_is_counted_and_found(bad):
    field = torch.zeros(3, 4, 5, requires_grad=True)
    with torch.no_grad():
        field[1, 2, 3] = field[1, 3, 0] = field[2, 0, 0] = bad
    message = "a has 3 entries that are NaN or infinite, the first at index (1, 2, 3); remove or replace them."
    with pytest.raises(sb.InputError, match=f"^{re.escape(message)}$"):
        require_finite(field, "a")
    with pytest.raises(sb.InputError, match=rf"^a is {bad}; give a finite number\.$"):
        require_finite(torch.tensor(bad), "a")


def test_large_small_and_no_numbers_are_finite():
    largest = torch.finfo(torch.float64).max
    require_finite(torch.tensor([largest, -largest, 5e-324, 0.0, -0.0], dtype=torch.float64), "a")
    require_finite(torch.empty(0, 3), "a")


@pytest.mark.parametrize("good", [0, 2**64 - 1, np.int64(3), np.uint8(7)], ids=str)
def test_seeds_of_any_kind_are_taken_by_generators(good):
    seed = require_seed(good)
    assert type(seed) is int
    assert torch.Generator().manual_seed(seed).initial_seed() == good


@pytest.mark.parametrize("bad", ["a", -1, 1.5, True, None, 2**64, 10**400, [1]], ids=lambda bad: str(bad)[:5])
def test_what_is_no_seed_is_refused(bad):
    with pytest.raises(sb.InputError, match=r"^seed is .*; it must be .*\.$"):
        require_seed(bad)


@pytest.mark.parametrize("bad", ["cat", 1, None, [], {}, np.zeros(2)], ids=lambda bad: type(bad).__name__)
def test_what_is_no_choice_is_told_the_choices(bad):
    require_choice("a", "letter", ("a", "b"))
    with pytest.raises(sb.InputError, match=r"^letter is .*; the choices are 'a', 'b'\.$"):
        require_choice(bad, "letter", ("a", "b"))


@pytest.mark.parametrize("good", [0, -3, 1.5, np.float32(0.5), np.int64(4), 1e308], ids=str)
def test_one_number_is_read_whatever_its_kind(good):
    found = require_number(good, "a")
    assert type(found) is float
    assert found == good


@pytest.mark.parametrize("bad", [True, "1", None, np.nan, -np.inf, 10**400, [1.0], 1j], ids=lambda bad: str(bad)[:5])
def test_what_is_no_finite_number_is_refused(bad):
    with pytest.raises(sb.InputError, match=rf"^a is {re.escape(repr(bad))}; it must be a finite number\.$"):
        require_number(bad, "a")
    with pytest.raises(sb.InputError, match=r"^a is 0\.0; it must be a positive number\.$"):
        require_number(0.0, "a", positive=True)
