"""Results in words: bounds that stay bounds when they are printed, reasons, and failures that are reported."""

import decimal
import functools
import math
import pickle
import warnings
from decimal import Decimal
from pathlib import Path

import pytest
import torch
from hypothesis import example, given
from hypothesis import strategies as st

import sciml_bounds as sb
from sciml_bounds.reports import (
    Reason,
    describe,
    describe_interval,
    describe_reason,
    describe_upper,
    report_failure,
    summary_table,
)

#: The numbers next to which rounding is most likely to go wrong.
EXTREMES = [0.0, 5e-324, 1.5e-323, 1e-310, 2.2250738585072014e-308, 9.9995e-5, 0.99995, 9999.5, 99999.5, 1e16]
EXTREMES += [1.7976931348623157e308, math.inf]
NUMBERS = st.one_of(
    st.floats(allow_nan=False),
    st.floats(allow_nan=False, width=32),
    st.floats(-1e-300, 1e-300),
    st.sampled_from(EXTREMES + [-number for number in EXTREMES]),
)


def double(*numbers: float) -> torch.Tensor:
    return torch.tensor(numbers, dtype=torch.float64)


def lower_text(value: torch.Tensor, digits: int) -> str:
    return describe(value, digits, decimal.ROUND_FLOOR)


# --- rounding ---------------------------------------------------------------------------------------------------------


@given(NUMBERS, st.sampled_from([4, 6]))
@example(5e-324, 4)
@example(1.7976931348623157e308, 4)
def test_printed_bounds_enclose_the_number_and_are_close(number, digits):
    """Decimal arithmetic is exact here: every float is a decimal number."""
    lower, upper = lower_text(double(number), digits), describe_upper(double(number), digits)
    exact = Decimal(number)
    assert Decimal(lower) <= exact <= Decimal(upper)
    if math.isfinite(number) and math.isfinite(float(upper)) and math.isfinite(float(lower)):
        unit = Decimal(max(abs(number), 1e-307)) * Decimal(10) ** (1 - digits)
        assert exact - Decimal(lower) <= unit
        assert Decimal(upper) - exact <= unit
    assert all(len(text.split("e")[0].strip("-").replace(".", "").lstrip("0")) <= digits for text in (lower, upper))


@given(st.lists(NUMBERS, min_size=1, max_size=5))
def test_ranges_of_a_batch_are_rounded_outwards(numbers):
    lows = [Decimal(text) for text in lower_text(double(*numbers), 4).split(" ... ")]
    highs = [Decimal(text) for text in describe_upper(double(*numbers)).split(" ... ")]
    assert lows[0] <= Decimal(min(numbers)) <= highs[0]
    assert lows[-1] <= Decimal(max(numbers)) <= highs[-1]


@given(st.floats(allow_nan=False, allow_infinity=False, width=32))
def test_single_precision_is_rounded_from_its_exact_value(number):
    value = torch.tensor(number, dtype=torch.float32)
    assert value.item() == number
    assert Decimal(lower_text(value, 4)) <= Decimal(number) <= Decimal(describe_upper(value))


@given(st.floats(1e-300, 1e300), st.booleans())
def test_other_numbers_are_rounded_to_the_nearest(number, negative):
    """As Python prints them: both round the exact binary value to four digits."""
    signed = -number if negative else number
    assert describe(double(signed)) == f"{signed:.4g}"


@pytest.mark.parametrize(
    ("numbers", "text", "upper"),
    [
        ([0.5], "0.5", "0.5"),
        ([1 / 3], "0.3333", "0.3334"),
        ([2 / 3], "0.6667", "0.6667"),
        ([0.0], "0", "0"),
        ([-0.0], "0", "0"),
        ([-1e-320], "0", "0"),
        ([99999.0], "1e+05", "1e+05"),
        ([0.1, 0.2], "0.1 ... 0.2", "0.1001 ... 0.2001"),  # as binary numbers both are a little above
        ([0.2, 0.1, 0.15], "0.1 ... 0.2", "0.1001 ... 0.2001"),
        ([3.00001, 3.00002], "3", "3.001"),  # a range that cannot be told apart is one number
        ([1.0, math.inf], "1 ... inf", "1 ... inf"),
        ([-math.inf], "-inf", "-inf"),
        ([1.0, math.nan], "nan", "nan"),  # never hidden behind the numbers beside it
        ([], "empty", "empty"),
    ],
)
def test_words_for_numbers(numbers, text, upper):
    assert (describe(double(*numbers)), describe_upper(double(*numbers))) == (text, upper)


def test_counts_are_exact():
    assert describe(torch.tensor(123456)) == "123456"
    assert describe(torch.tensor([[7, 12345], [9, 10]])) == "7 ... 12345"


def test_any_shape_and_gradients_are_taken():
    value = torch.tensor([[1.0, 2.0], [3.0, 4.0]], requires_grad=True)
    assert describe(value) == "1 ... 4"
    assert describe(value.sum()) == "10"


def test_an_interval_is_rounded_outwards_at_both_ends():
    third = double(1 / 3)
    assert describe_interval(third, third, "error") == "0.3333 <= error <= 0.3334"
    assert describe_interval(double(-1 / 3), double(-1 / 3), "J(u)") == "-0.3334 <= J(u) <= -0.3333"
    assert describe_interval(double(0.0, 1 / 3), double(1.0, math.inf), "e") == "0 ... 0.3333 <= e <= 1 ... inf"


def test_a_table_has_two_columns():
    assert summary_table("Title", {"a": "1", "longer": "2"}) == "Title\n  a       1\n  longer  2"


# --- reasons ----------------------------------------------------------------------------------------------------------


def test_every_failure_has_advice_and_nothing_else_has():
    fine = {Reason.CONVERGED, Reason.ROUND_OFF, Reason.STOPPED, Reason.ERROR_REACHED}
    for reason in Reason:
        assert bool(reason.advice) == (reason not in fine)
        assert reason.advice == "" or reason.advice.endswith(".")
        assert str(reason) == reason.value == reason


def test_a_reason_is_written_as_a_word():
    assert repr((Reason.CONVERGED, Reason.MAXITER)) == "('converged', 'maxiter reached')"


def test_a_reason_survives_pickling_as_itself():
    assert all(pickle.loads(pickle.dumps(reason)) is reason for reason in Reason)


def test_reasons_of_a_batch_are_counted_in_the_order_of_their_first():
    a, b = Reason.MAXITER, Reason.CONVERGED
    assert describe_reason(a) == "maxiter reached"
    assert describe_reason((a,)) == "1 x maxiter reached"
    assert describe_reason((a, b, b, a, b)) == "2 x maxiter reached, 3 x converged"
    assert describe_reason((b, b)) == "2 x converged"


# --- failures ---------------------------------------------------------------------------------------------------------

BATCH = (Reason.CONVERGED, Reason.MAXITER, Reason.MAXITER, Reason.STAGNATED)
MESSAGE = (
    "the solve did not converge: 1 x converged, 2 x maxiter reached, 1 x stagnated above the tolerance; the residual "
    f"is 0.5. {Reason.MAXITER.advice} {Reason.STAGNATED.advice}"
)


def test_a_failure_is_an_error_on_request_and_a_warning_otherwise():
    with pytest.raises(sb.ConvergenceError) as error:
        report_failure("the solve", BATCH, "the residual is 0.5", throw=True)
    with pytest.warns(sb.ConvergenceWarning) as seen:
        assert report_failure("the solve", BATCH, "the residual is 0.5", throw=False) is None
    assert str(error.value) == str(seen[0].message) == MESSAGE  # each advice once
    assert len(seen) == 1


def test_a_failure_without_advice_ends_with_its_detail():
    with pytest.raises(sb.ConvergenceError, match="callback"):
        report_failure("it", Reason.STOPPED, "at once", throw=True)


@pytest.mark.parametrize(
    ("file", "is_users"),
    [("krylov/_cg.py", False), ("../study.py", True), ("../sciml_bounds_study/run.py", True)],
)
def test_a_warning_points_at_the_users_line(file, is_users):
    """A file next to the package belongs to the user, even if its folder's name begins with that of the package."""
    filename = str((Path(sb.__file__).parent / file).resolve())
    report = functools.partial(report_failure, "it", Reason.MAXITER, "late", throw=False)
    with warnings.catch_warnings(record=True) as seen:
        warnings.simplefilter("always")
        exec(compile("\n\nreport()", filename, "exec"), {"report": report})
    assert (seen[0].filename, seen[0].lineno == 3) == ((filename, True) if is_users else (__file__, False))
