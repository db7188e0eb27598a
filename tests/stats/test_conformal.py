"""Conformal p-values and prediction sets: cases computed by hand, and error rates in simulations."""

import numpy as np
import pytest
from scipy import stats

from scquery_ae import ArgumentError
from scquery_ae.stats import CORR_METHODS, conformal_pvalues, reject, set_threshold
from scquery_ae.stats.conformal import MIN_GROUP


def pvalues(scores, groups, calibration_scores, calibration_groups):
    return conformal_pvalues(*(np.asarray(a) for a in (scores, groups, calibration_scores, calibration_groups)))


def test_hand_worked_pvalues():
    # Twenty calibration scores of one group: 1 to 20.
    calibration = np.arange(1, 21)
    received = pvalues([0.5, 20, 20.5, 10.5, 10], [0] * 5, calibration, [0] * 20)
    np.testing.assert_allclose(received, [21 / 21, 2 / 21, 1 / 21, 11 / 21, 12 / 21])


def test_pvalues_compare_scores_within_the_group():
    scores = np.r_[np.arange(20), 100 + np.arange(20)]
    groups = np.r_[np.zeros(20, int), np.ones(20, int)]
    received = pvalues([50, 50, 119], [0, 1, 1], scores, groups)
    # A score of 50 is above all scores of group 0 and below all scores of group 1.
    np.testing.assert_allclose(received, [1 / 21, 21 / 21, 2 / 21])


def test_small_groups_use_the_scores_of_all_groups():
    small = MIN_GROUP - 1
    scores = np.r_[np.full(small, 10.0), np.arange(100)]
    groups = np.r_[np.zeros(small, int), np.ones(100, int)]
    received = pvalues([95, 95, 95], [0, 1, 7], scores, groups)
    # Group 0 has too few scores and group 7 none: five of all 119 scores are at least 95.
    np.testing.assert_allclose(received, [6 / 120, 6 / 101, 6 / 120])
    # With one more score, group 0 uses its own.
    received = pvalues([95], [0], np.r_[scores, 10.0], np.r_[groups, 0])
    np.testing.assert_allclose(received, [1 / 21])


def test_pvalues_are_one_without_calibration_scores():
    np.testing.assert_array_equal(pvalues([0.1, 99], [0, 1], np.zeros(0), np.zeros(0, int)), [1, 1])


def test_pvalues_do_not_depend_on_the_order_of_points():
    rng = np.random.default_rng(0)
    scores, groups = rng.random(50), rng.integers(0, 3, 50)
    calibration = rng.random(90), rng.integers(0, 3, 90)
    order, shuffled = rng.permutation(50), rng.permutation(90)
    expected = pvalues(scores, groups, *calibration)
    received = pvalues(scores[order], groups[order], calibration[0][shuffled], calibration[1][shuffled])
    np.testing.assert_array_equal(received, expected[order])


def test_pvalues_are_uniform_for_exchangeable_cells():
    # Two groups with different scales, and a new calibration set for each test cell.
    rng = np.random.default_rng(0)
    received = []
    for _ in range(600):
        groups = np.r_[np.zeros(99, int), np.ones(99, int)]
        scores = rng.exponential(1 + 9 * groups)
        group = rng.integers(2)
        received.append(pvalues([rng.exponential(1 + 9 * group)], [group], scores, groups)[0])
    # With continuous scores, p * 100 is uniform on the integers from 1 to 100; jitter makes it continuous.
    continuous = np.array(received) - rng.random(600) / 100
    assert stats.kstest(continuous, "uniform").pvalue > 0.05
    # Cells of the wider group compared with scores of the narrower group are not exchangeable with these.
    pooled = pvalues(rng.exponential(10, 600), np.zeros(600, int), rng.exponential(1, 99), np.zeros(99, int))
    assert stats.kstest(pooled, "uniform").pvalue < 1e-6


@pytest.mark.parametrize("alpha", [0.05, 0.2])
def test_the_fraction_of_exchangeable_cells_called_unknown_is_alpha(alpha):
    rng = np.random.default_rng(1)
    rates = []
    for _ in range(300):
        calibration = rng.standard_normal(59)
        test = pvalues(rng.standard_normal(50), np.zeros(50, int), calibration, np.zeros(59, int))
        rates.append((test <= alpha).mean())
    # With sixty ranks, the expected rate is exactly floor(60 * alpha) / 60.
    assert np.mean(rates) == pytest.approx(alpha, abs=3 * np.std(rates) / np.sqrt(300))


def test_hand_worked_threshold():
    probabilities = np.array([0.9, 0.1, 0.5, 0.3, 0.7, 0.2, 0.8, 0.4, 0.6])
    # Nine points have ten ranks; a fifth of them are two, so the second smallest probability is the threshold.
    assert set_threshold(probabilities, 0.8) == 0.2
    assert set_threshold(probabilities, 0.5) == 0.5
    # A tenth is one rank, although (9 + 1) * (1 - .9) is 0.9999999999999998 in floating point.
    assert set_threshold(probabilities, 0.9) == 0.1
    # Less than one rank: every type is in the set.
    assert set_threshold(probabilities, 0.95) == 0


@pytest.mark.parametrize(
    ("m", "coverage", "rank"), [(99, 0.9, 10), (19, 0.95, 1), (999, 0.7, 300), (49, 0.98, 1), (9, 0.4, 6)]
)
def test_threshold_for_whole_ranks(m, coverage, rank):
    assert set_threshold(np.arange(1.0, m + 1), coverage) == rank


@pytest.mark.parametrize("m", [0, 3])
def test_threshold_is_zero_with_too_few_points(m):
    assert set_threshold(np.full(m, 0.9), 0.9) == 0


@pytest.mark.parametrize("coverage", [0.7, 0.9])
def test_prediction_sets_have_the_requested_coverage(coverage):
    rng = np.random.default_rng(2)
    covered = []
    for _ in range(400):
        threshold = set_threshold(rng.beta(5, 2, 60), coverage)
        covered.append((rng.beta(5, 2, 100) >= threshold).mean())
    mean, error = np.mean(covered), np.std(covered) / np.sqrt(400)
    # At least the requested coverage, and at most 1 / 61 more.
    assert coverage - 3 * error <= mean <= coverage + 1 / 61 + 3 * error


# Rejection.


def test_rejection_without_correction():
    np.testing.assert_array_equal(reject(np.array([0.05, 0.051, 0.01]), 0.05), [True, False, True])
    # The result for a point does not depend on the other points.
    np.testing.assert_array_equal(reject(np.array([0.05]), 0.05), [True])


@pytest.mark.parametrize(
    ("pvalues", "alpha", "expected"),
    [
        # Limits 0.05 * rank / 5: .01, .02, .03, .04, .05. The fourth sorted p-value is the last below its limit. The
        # third is above its own limit and is rejected with it.
        ([0.04, 0.5, 0.001, 0.031, 0.015], 0.05, [True, False, True, True, True]),
        ([0.011, 0.5, 0.6, 0.7, 0.8], 0.05, [False] * 5),
        ([0.01, 0.5, 0.6, 0.7, 0.8], 0.05, [True, False, False, False, False]),
        ([0.05] * 4, 0.05, [True] * 4),
        ([0.06] * 4, 0.05, [False] * 4),
        ([0.2], 0.2, [True]),
    ],
)
def test_hand_worked_rejection_with_benjamini_hochberg(pvalues, alpha, expected):
    np.testing.assert_array_equal(reject(np.array(pvalues), alpha, corr_method="benjamini-hochberg"), expected)


@pytest.mark.parametrize("seed", range(5))
def test_rejection_equals_the_step_up_procedure_of_benjamini_and_hochberg(seed):
    rng = np.random.default_rng(seed)
    # Conformal p-values have ties.
    pvalues = np.ceil(rng.beta(0.4, 1, 80) * 100) / 101
    for alpha in (0.01, 0.1, 0.3):
        ordered = np.sort(pvalues)
        within = np.flatnonzero(ordered <= alpha * np.arange(1, 81) / 80 + 1e-12)
        expected = pvalues <= ordered[within[-1]] if len(within) else np.zeros(80, bool)
        received = reject(pvalues, alpha, corr_method="benjamini-hochberg")
        np.testing.assert_array_equal(received, expected)
        np.testing.assert_array_equal(received, stats.false_discovery_control(pvalues, method="bh") <= alpha)


def test_benjamini_hochberg_controls_the_false_discovery_rate():
    rng = np.random.default_rng(3)
    false_discoveries = []
    for _ in range(200):
        calibration = rng.standard_normal(500)
        scores = np.r_[rng.standard_normal(80), rng.standard_normal(20) + 5]
        called = reject(
            pvalues(scores, np.zeros(100, int), calibration, np.zeros(500, int)), 0.2, corr_method="benjamini-hochberg"
        )
        false_discoveries.append(called[:80].sum() / max(called.sum(), 1))
        assert called[80:].mean() > 0.5
    # 80 of 100 points are known, so the rate is at most 0.2 * 0.8. It should not be far lower either.
    assert np.mean(false_discoveries) < 0.16 + 3 * np.std(false_discoveries) / np.sqrt(200)
    assert np.mean(false_discoveries) > 0.08


def test_shape_dtype_and_methods_of_rejection():
    for corr_method in (None, *CORR_METHODS):
        assert reject(np.zeros(0), 0.05, corr_method=corr_method).shape == (0,)
        assert reject(np.array([0.5]), 0.05, corr_method=corr_method).dtype == bool
    with pytest.raises(
        ArgumentError, match=r"`corr_method` must be None or one of 'benjamini-hochberg'\. Received 'bh'"
    ):
        reject(np.array([0.5]), 0.05, corr_method="bh")


@pytest.mark.parametrize("values", [[0.5, 1.1], [-0.1], [np.nan]])
def test_wrong_pvalues_are_refused(values):
    with pytest.raises(
        ArgumentError, match=r"`pvalues` must be in \[0, 1\]\. Received values outside, or NaN; pass those"
    ):
        reject(np.array(values), 0.05)
