"""What certificates of energies say of relative errors: by hand, and of a minimiser that is known."""

from __future__ import annotations

import math

import pytest
import torch

import sciml_bounds as sb
from sciml_bounds.bounds._energy_certificate import EnergyCertificate
from sciml_bounds.results import Interval


def number(value: float) -> torch.Tensor:
    return torch.tensor(value, dtype=torch.float64)


def made(minimum=(2.0, 3.0), upper=1.0, gradient_upper=math.inf, gradient_norm=5.0, **more) -> EnergyCertificate:
    grid = sb.Grid(2)
    given = {
        "upper": number(upper), "lower": number(0.25), "kind": "bound", "energy": Interval(number(3.0), number(3.0)),
        "minimum": Interval(*map(number, minimum)), "gradient_upper": number(gradient_upper), "gradient_kind": "bound",
        "gradient_norm": number(gradient_norm), "indicators": torch.ones(2).double() / 2,
        "flux": (torch.zeros(3).double(),), "values": torch.zeros(3).double(), "layout": "nodes",
        "subdivisions": 1, "grid": grid, "seconds": 0.0,
    }  # fmt: skip
    return EnergyCertificate(**(given | more))


@pytest.mark.parametrize("minimum", [(2.0, 3.0), (-3.0, -2.0), (2.0, math.inf), (-math.inf, -2.0), (2.0, 2.0)])
def test_relative_to_the_least_size_that_the_minimum_can_have(minimum):
    assert float(made(minimum).relative_upper) == 0.5


@pytest.mark.parametrize("minimum", [(-1.0, 3.0), (0.0, 3.0), (-3.0, 0.0), (-math.inf, math.inf), (0.0, 0.0)])
def test_a_minimum_that_may_be_zero_makes_no_relative_bound(minimum):
    assert float(made(minimum).relative_upper) == math.inf


def test_an_infinite_bound_is_relative_to_nothing():
    assert float(made((-math.inf, -2.0), upper=math.inf).relative_upper) == math.inf


@pytest.mark.parametrize(("bound", "expected"), [(1.0, 0.25), (2.5, 1.0), (5.0, math.inf), (7.0, math.inf), (0.0, 0.0)])
def test_gradient_errors_are_relative_to_the_norm_of_the_exact_gradient(bound, expected):
    """It is 5 - bound at least, and no more is known."""
    assert float(made(gradient_upper=bound).relative_gradient_upper) == expected


def test_of_a_parabola_all_that_is_said_is_true():
    """-u'' = 8 with u = 0 at both ends: u = 4 x (1 - x), int u'^2 = 16 / 3 and J(u) = -8 / 3; v = t u at nodes."""
    density = sb.variational.IsotropicEnergy(lambda r: r.square() / 2, convex=True, lower=1.0)
    n = 7
    problem = sb.variational.VariationalProblem(sb.Grid(n), density, 8.0)
    x = torch.linspace(0, 1, n + 1, dtype=torch.float64)
    for t in (1.0, 0.8, -0.5):
        certificate = sb.variational.certify_energy(problem, t * 4 * x * (1 - x))
        # grad v: t times the means of u' = 4 - 8 x over cells, which lack the variance 64 h^2 / 12
        squares = 16 / 3 - 64 / (12 * n**2)
        error = math.sqrt((1 - t) ** 2 * squares + 64 / (12 * n**2))
        excess, least = error**2 / 2, -8 / 3
        assert float(certificate.gradient_norm) == pytest.approx(abs(t) * math.sqrt(squares), rel=1e-12)
        assert float(certificate.lower) <= excess <= float(certificate.upper) <= 1.03 * excess
        assert error <= float(certificate.gradient_upper) <= 1.02 * error
        assert float(certificate.minimum.lower) <= least <= float(certificate.minimum.upper)
        assert excess / -least <= float(certificate.relative_upper)
        assert float(certificate.relative_gradient_upper) >= error / math.sqrt(16 / 3)
        assert float(certificate.energy.lower) <= least + excess <= float(certificate.energy.upper)
    assert float(certificate.relative_gradient_upper) == math.inf  # v of -0.5 u is farther from u than from 0


def test_a_short_table_rounds_to_the_safe_side():
    certificate = made((-3.00004, -2.00004), upper=0.70003, gradient_upper=1.00003, gradient_kind="assumes lambda")
    text = repr(certificate)
    assert [line.split("  ")[1] for line in text.splitlines()[1:]] == [
        "values", "J(v) - J(u)", "J(u)", "relative", "gradient error",
    ]  # fmt: skip
    assert "gradient error  <= 1.001, relative <= 0.2501  (assumes lambda)" in text
    assert "<= 0.3501" in text  # 0.70003 / 2.00004 = 0.350008
    assert "gradient error" not in repr(made())


@pytest.mark.parametrize("shape", [(5,), (4, 3), (3, 2, 2)])
def test_it_draws_itself(shape):
    problem = sb.variational.VariationalProblem(sb.Grid(shape), sb.variational.ShearThinning(3.0), 1.0)
    certificate = sb.variational.certify_energy(problem, sb.variational.minimize_energy(problem))
    figure = certificate.plot()
    assert [axes.get_title().split(" (")[0] for axes in figure.axes[:2]] == ["certified field", "error indicator"]
    low, high = (float(part) for part in figure.get_suptitle().removesuffix(" (bound)").split(" <= J(v) - J(u) <= "))
    assert 0.99 * float(certificate.lower) <= low <= float(certificate.lower)
    assert float(certificate.upper) <= high <= 1.01 * float(certificate.upper)
