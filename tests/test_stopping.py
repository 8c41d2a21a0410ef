"""Stopping criteria of iterations."""

from __future__ import annotations

import math

import pytest
from refusals import refusals

from sciml_bounds.stopping import StoppingCriteria

test_bad_criteria = refusals(
    ("rtol -1.0 negative", StoppingCriteria(rtol=-1.0, maxiter=1).check),
    ("atol -1.0 negative", StoppingCriteria(rtol=1.0, atol=-1.0, maxiter=1).check),
    ("rtol atol positive", StoppingCriteria(maxiter=1).check),
    ("rtol nan finite", StoppingCriteria(rtol=math.nan, maxiter=1).check),
    ("rtol False finite", StoppingCriteria(rtol=False, atol=1.0, maxiter=1).check),
    ("atol '1' finite", StoppingCriteria(atol="1", maxiter=1).check),
    ("maxiter -1 integer", StoppingCriteria(rtol=1.0, maxiter=-1).check),
    ("maxiter None integer", StoppingCriteria(rtol=1.0).check),
    ("callback 3 function", StoppingCriteria(rtol=1.0, maxiter=1, callback=3).check),
)


@pytest.mark.parametrize(("rtol", "atol", "tolerance"), [(None, 0.5, 0.5), (0.1, 0.5, 0.5), (0.1, 0.0, 0.2)])
def test_the_tolerance_is_the_larger_of_the_relative_and_the_absolute_one(rtol, atol, tolerance):
    criteria = StoppingCriteria(rtol, atol, maxiter=0)
    criteria.check()
    assert criteria.tolerance(2.0) == tolerance


def test_iterations_are_limited_by_maxiter():
    assert not StoppingCriteria().maxiter_reached(10**9)
    assert [StoppingCriteria(maxiter=2).maxiter_reached(count) for count in range(4)] == [False, False, True, True]
