"""Methods of solution: their names, and which ones are refused."""

from __future__ import annotations

import dataclasses

import pytest
from refusals import refusals

import sciml_bounds as sb
from sciml_bounds._linear_methods import (
    NAMED_METHODS,
    Algebraic,
    Automatic,
    ConjugateGradients,
    Direct,
    Multigrid,
    Transform,
    as_method,
)


def test_methods_have_names_and_stand_for_themselves():
    expected = {
        "auto": Automatic(), "transform": Transform(),
        "multigrid": Multigrid(cycle="full", sweeps=3, accelerate=True), "cg": ConjugateGradients(),
        "algebraic": Algebraic(kind="ruge-stuben", sweeps=2), "direct": Direct(),
    }  # fmt: skip
    assert {name: as_method(name) for name in expected} == expected
    assert expected == NAMED_METHODS
    assert all(as_method(method) is method for method in expected.values())


NETWORK = sb.LearnedDirections("multigrid", dim=2, levels=1)
PROBLEM = sb.Diffusion(sb.Grid((4, 4)), source=1.0)

test_bad_methods = refusals(
    *[
        ("method 'auto'", lambda method=method: as_method(method))
        for method in ("", "Multigrid", "lu", None, 2, Multigrid, ["cg"])
    ],
    ("LearnedDirections as_preconditioner sb.cg M", lambda: as_method(NETWORK)),
    ("DirectionPreconditioner sb.cg", lambda: sb.solve(PROBLEM, method=NETWORK.as_preconditioner(PROBLEM))),
    ("cycle 'W' 'full' 'V'", lambda: Multigrid(cycle="W")),
    ("sweeps 0 positive", lambda: Multigrid(sweeps=0)),
    ("sweeps 1.5 integer", lambda: Multigrid(sweeps=1.5)),
    ("sweeps -1 positive", lambda: Algebraic(sweeps=-1)),
    ("kind 'geometric' 'ruge-stuben'", lambda: Algebraic(kind="geometric")),
)  # fmt: skip


def test_methods_are_values():
    with pytest.raises(dataclasses.FrozenInstanceError):
        Multigrid().sweeps = 3
    assert len({*NAMED_METHODS.values(), Multigrid(), Direct()}) == len(NAMED_METHODS)
