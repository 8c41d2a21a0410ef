"""Conformal calibration: ranks, coverage on held-out units inside its binomial interval, and what is refused."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
import scipy.stats
import torch
from refusals import refused

import sciml_bounds as sb
from sciml_bounds.bounds._calibration import calibrate, calibrate_bound, min_units
from sciml_bounds.results import Interval

HELD_OUT = 2000


def draw(rng, kind, shape):
    """Scores of several distributions: light and heavy tails, ties, and a discrete part."""
    return {
        "normal": lambda: np.abs(rng.standard_normal(shape)),
        "heavy": lambda: np.abs(rng.standard_cauchy(shape)),
        "uniform": lambda: rng.random(shape),
        "log-normal": lambda: np.exp(3 * rng.standard_normal(shape)),
    }[kind]()


def binomial_interval(n, units, coverage):
    """99.9 % interval of the count covered: given the calibration set, the coverage itself is a beta variable."""
    k = int(np.ceil(round((units + 1) * coverage, 9)))
    return scipy.stats.betabinom(n, k, units + 1 - k).interval(0.999)


# --- the quantile -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("n", "coverage", "k"), [(9, 0.9, 9), (10, 0.9, 10), (19, 0.9, 18), (99, 0.95, 95), (3, 0.5, 2)]
)
def test_the_threshold_is_the_score_of_the_right_rank(n, coverage, k):
    scores = np.random.default_rng(0).permutation(np.arange(1.0, n + 1))
    assert float(calibrate(scores, coverage=coverage).threshold) == k


@pytest.mark.parametrize("coverage", [0.5, 0.8, 0.9, 0.95, 0.99, 1 / 3])
def test_the_least_number_of_units_is_the_least(coverage):
    n = min_units(coverage)
    assert calibrate(np.ones(n), coverage=coverage).units == n
    refused(
        f"{n - 1} units coverage {n}",
        lambda: (
            calibrate(np.ones(n - 1), coverage=coverage) if n > 1 else calibrate(np.ones((0, 2)), coverage=coverage)
        ),
    )


@pytest.mark.parametrize("coverage", [0.6, 0.75])
def test_the_coverage_over_all_orders_is_the_promise(coverage):
    """Exhaustively: each of n + 1 different scores in turn is the new one."""
    scores = np.arange(8.0)
    covered = [
        bool(calibrate(np.delete(scores, new), coverage=coverage).covers(scores[new])) for new in range(len(scores))
    ]
    low, high = calibrate(scores[:-1], coverage=coverage).expected_coverage
    assert low <= np.mean(covered) <= high + 1e-12
    assert np.mean(covered) == pytest.approx(high)


# --- coverage on held-out units ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("kind", "coverage"), [*itertools.product(["normal", "heavy", "uniform", "log-normal"], [0.9, 0.95])]
)
def test_the_coverage_of_held_out_units_is_inside_its_binomial_interval(kind, coverage):
    rng = np.random.default_rng(3)
    units = 500
    calibration = calibrate(draw(rng, kind, units), coverage=coverage)
    covered = HELD_OUT * float(calibration.coverage_on(draw(rng, kind, HELD_OUT)))
    low, high = binomial_interval(HELD_OUT, units, coverage)
    assert low <= covered <= high


@pytest.mark.parametrize("coverage", [0.6, 0.75])
def test_a_score_that_equals_the_threshold_is_covered(coverage):
    """Exhaustively, as above, with ties: a discrete score is covered at least as often as a continuous one."""
    scores = np.array([0.0, 0.0, 1.0, 1.0, 1.0, 2.0, 2.0, 2.0])
    covered = [
        bool(calibrate(np.delete(scores, new), coverage=coverage).covers(scores[new])) for new in range(len(scores))
    ]
    assert np.mean(covered) >= coverage


@pytest.mark.parametrize("coverage", [0.9, 0.95])
def test_each_step_of_a_rollout_has_its_own_coverage(coverage):
    """Errors grow along a trajectory, and its frames depend on each other: units are trajectories."""
    rng = np.random.default_rng(0)

    def rollouts(count):
        growth = np.exp(0.3 * rng.standard_normal((count, 1)) * np.arange(1, 11))
        return np.abs(rng.standard_normal((count, 1))) * growth * rng.random((count, 10))

    calibration = calibrate(rollouts(400), coverage=coverage)
    assert calibration.threshold.shape == (10,)
    covered = HELD_OUT * calibration.coverage_on(rollouts(HELD_OUT)).numpy()
    low, high = binomial_interval(HELD_OUT, 400, coverage)
    assert ((covered >= low) & (covered <= high)).all()


@pytest.mark.parametrize("coverage", [0.9, 0.95])
def test_a_calibrated_bound_covers_and_is_tighter(coverage):
    rng = np.random.default_rng(1)
    bounds = np.exp(rng.standard_normal(500 + HELD_OUT))
    errors = bounds * (0.4 + 0.3 * rng.random(len(bounds)))
    pair = calibrate_bound(errors[:500], bounds[:500], coverage=coverage).pair(bounds[500:])
    assert bool((pair.calibrated < 0.71 * pair.guaranteed).all())
    assert bool((torch.as_tensor(errors[500:]) <= pair.guaranteed).all())
    covered = int((torch.as_tensor(errors[500:]) <= pair.calibrated).sum())
    low, high = binomial_interval(HELD_OUT, 500, coverage)
    assert low <= covered <= high


def test_no_calibrated_number_exceeds_its_bound():
    """The upper end of an error may be larger than the bound; the error itself is not."""
    found = calibrate_bound(np.linspace(0.9, 1.1, 99), np.ones(99), coverage=0.95)
    pair = found.pair(2.0)
    assert float(found.ratio.threshold) == 1.0
    assert float(pair.calibrated) == float(pair.guaranteed) == 2.0


def test_a_certificate_gets_its_calibrated_companion():
    rng = np.random.default_rng(0)
    problem = sb.Diffusion(sb.Grid((8, 8)), np.where(rng.random((24, 8, 8)) < 0.5, 12.0, 3.0), 1.0)
    certificate = sb.certify(problem, sb.solve(problem))
    finer = problem.refine(2)
    distance = sb.certify(problem, certificate.values, flux=sb.certify(finer, sb.solve(finer)).flux).upper
    found = calibrate_bound(distance, certificate, coverage=0.9)
    pair = found.pair(certificate)
    assert torch.equal(pair.guaranteed, certificate.upper)
    assert bool((pair.calibrated <= pair.guaranteed).all())
    assert float((distance <= pair.calibrated).double().mean()) >= 0.9


# --- units ------------------------------------------------------------------------------------------------------------


def test_trajectories_may_have_names():
    scores = np.arange(1.0, 41.0)
    found = calibrate(scores, coverage=0.5, trajectories=[f"run {i // 4}" for i in range(40)], reduction="max")
    assert (found.units, float(found.threshold)) == (10, 24.0)


def test_a_coverage_of_almost_nothing_still_takes_a_score():
    assert float(calibrate(np.arange(1.0, 6.0), coverage=1e-12).threshold) == 1.0
    refused("0 units", lambda: calibrate(torch.zeros(0), coverage=1e-12))


def test_the_scale_of_a_rollout_is_one_a_step_or_one_for_all():
    found = calibrate(np.ones((20, 3)))
    assert found.apply(torch.full((5, 1), 2.0)).tolist() == [[2.0] * 3] * 5
    refused("scale shape (2,) calibration 3 steps", lambda: found.apply(torch.ones(2)))


def test_frames_of_one_trajectory_are_refused_as_units_or_put_together():
    rng = np.random.default_rng(0)
    frames, labels = rng.random(120), np.repeat(np.arange(30), 4)
    refused("120 frames 30 trajectories exchangeable", calibrate, frames, trajectories=labels)
    for reduction, expected in (("max", frames.reshape(30, 4).max(1)), ("mean", frames.reshape(30, 4).mean(1))):
        found = calibrate(frames, trajectories=labels, reduction=reduction)
        assert found.units == 30
        assert float(found.threshold) == pytest.approx(np.sort(expected)[27])
    alone = calibrate(frames, trajectories=np.arange(120))
    assert alone.units == 120


def test_the_order_of_the_frames_does_not_matter():
    rng = np.random.default_rng(0)
    frames, labels, order = rng.random(120), np.repeat(np.arange(30), 4), rng.permutation(120)
    found, mixed = (
        calibrate(f, trajectories=l, reduction="max") for f, l in ((frames, labels), (frames[order], labels[order]))
    )
    assert torch.equal(found.threshold, mixed.threshold)


# --- words ------------------------------------------------------------------------------------------------------------


def test_the_words_are_never_mixed():
    calibration = calibrate(np.arange(1.0, 100.0))
    assert calibration.kind == "calibrated"
    words = repr(calibration)
    assert "calibrated" in words
    assert "not guaranteed" in words
    assert "bound" not in words
    assert "estimate" not in words
    lines = repr(calibrate_bound(np.full(99, 0.5), np.ones(99)).pair([1.0, 2.0])).splitlines()
    (bound,) = (line for line in lines if "bound" in line)
    (calibrated,) = (line for line in lines if "calibrated at" in line)
    assert "guaranteed" in bound
    assert "guaranteed" not in calibrated
    assert "bound" not in calibrated
    words = repr(calibration.interval([1.0, 2.0]))
    assert "calibrated at 0.9" in words
    assert "bound" not in words
    assert "guaranteed" not in words


def test_a_calibrated_interval_is_no_guaranteed_one():
    interval = calibrate(np.arange(1.0, 100.0)).interval(0.0)
    assert not isinstance(interval, Interval)
    assert interval.coverage == 0.9


def test_intervals_and_scales():
    calibration = calibrate(np.arange(1.0, 100.0))
    interval = calibration.interval([1.0, 2.0], scale=0.1)
    torch.testing.assert_close(interval.lower, torch.tensor([-8.0, -7.0], dtype=torch.float64))
    torch.testing.assert_close(interval.upper, torch.tensor([10.0, 11.0], dtype=torch.float64))
    steps = calibrate(np.arange(1.0, 100.0)[:, None] * [1.0, 10.0])
    torch.testing.assert_close(steps.apply([[1.0], [2.0]]), torch.tensor([[90.0, 900.0], [180.0, 1800.0]]).double())


def test_a_rollout_that_blew_up_counts_as_the_worst():
    scores = np.arange(1.0, 100.0)
    scores[3] = np.inf
    assert float(calibrate(scores).threshold) == 91.0
    assert float(calibrate(np.where(scores > 80, np.inf, scores)).threshold) == np.inf


# --- bad input --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("scores", "options", "words"),
    [
        (np.ones(99), {"coverage": 1.0}, "coverage 1.0 0 1"),
        (np.ones(99), {"coverage": 90}, "coverage 90 0 1"),
        (np.full(99, np.nan), {}, "scores 99 entries NaN inf"),
        (np.ones((9, 9, 9)), {}, "scores shape (9, 9, 9) unit"),
        (np.ones(8), {}, "8 units coverage 0.9 9"),
        (np.ones(99), {"reduction": "max"}, "trajectories"),
        (np.ones(99), {"trajectories": np.ones(9)}, "trajectories shape (9,) scores (99,)"),
        (np.ones(99), {"trajectories": np.ones(99), "reduction": "median"}, "reduction='max' 'mean' 'median'"),
    ],
)
def test_bad_scores_are_refused(scores, options, words):
    refused(words, calibrate, scores, **options)


def test_what_does_not_fit_a_calibration_is_refused():
    steps = calibrate(np.ones((99, 4)))
    refused("shape (99, 5) calibration 4 steps", lambda: steps.covers(np.ones((99, 5))))
    refused("scale negative", steps.apply, -1.0)
    refused("errors_upper shape (9,) bounds (8,)", lambda: calibrate_bound(np.ones(9), np.ones(8)))
    refused("bound positive", lambda: calibrate_bound(np.ones(9), np.zeros(9)))
