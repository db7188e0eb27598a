"""Combination of predictors, temperature scaling and calibration error."""

import numpy as np
import pytest
from scipy import special

from scquery_ae import ArgumentError
from scquery_ae.stats import Combination, expected_calibration_error, fit_combination
from scquery_ae.stats.calibration import TEMPERATURE_RANGE, UNIFORM_WEIGHT


def log_loss(probabilities, truth):
    return -np.log(probabilities[np.arange(len(truth)), truth]).mean()


def draw(rng, n=4000, n_types=4):
    """True probabilities of points, and a type drawn from each."""
    probabilities = special.softmax(1.5 * rng.standard_normal((n, n_types)), axis=1)
    truth = (probabilities.cumsum(axis=1) > rng.random((n, 1))).argmax(axis=1)
    return probabilities, truth


def sharpened(probabilities, temperature):
    return special.softmax(np.log(probabilities) / temperature, axis=1)


def test_hand_worked_mean_and_temperature():
    members = [np.array([[0.8, 0.2]]), np.array([[0.4, 0.6]]), np.array([[0.6, 0.4]])]
    mixed = (1 - UNIFORM_WEIGHT) * np.array([0.6, 0.4]) + UNIFORM_WEIGHT / 2
    np.testing.assert_allclose(Combination()(members), [mixed])
    np.testing.assert_allclose(Combination(0.5)(members), [mixed**2 / (mixed**2).sum()])
    np.testing.assert_allclose(Combination(2.0)(members), [mixed**0.5 / (mixed**0.5).sum()])


def test_hand_worked_weights():
    members = [np.array([[0.8, 0.2]]), np.array([[0.4, 0.6]]), np.array([[0.6, 0.4]])]
    # .8 / 8 + .4 * 2 / 8 + .6 * 5 / 8 = .575.
    mixed = (1 - UNIFORM_WEIGHT) * np.array([0.575, 0.425]) + UNIFORM_WEIGHT / 2
    np.testing.assert_allclose(Combination()(members, (1, 2, 5)), [mixed])
    np.testing.assert_allclose(Combination(0.5)(members, [0.1, 0.2, 0.5]), [mixed**2 / (mixed**2).sum()])
    alone = (1 - UNIFORM_WEIGHT) * np.array([0.4, 0.6]) + UNIFORM_WEIGHT / 2
    np.testing.assert_allclose(Combination()(members, np.array([0, 3, 0])), [alone])
    np.testing.assert_array_equal(Combination()(members, (2, 2, 2)), Combination()(members))


@pytest.mark.parametrize(
    ("weights", "match"),
    [
        ((1, 1), r"`weights` must be an array of finite numbers of shape \(3\)\. Received tuple .* shape \(2,\)"),
        ((1, 1, 1, 3), r"`weights` must be an array of finite numbers of shape \(3\)\. Received .* shape \(4,\)"),
        ((1, np.nan, 1), "`weights` must be an array of finite numbers"),
        ((1, np.inf, 1), "`weights` must be an array of finite numbers"),
        (("a", "b", "c"), "`weights` must be an array of finite numbers"),
        ((1, -0.5, 1), r"`weights` must be at least 0, and not all of them 0\. Received \[1\.0, -0\.5, 1\.0\]"),
        ((0, 0, 0), r"`weights` must be at least 0, and not all of them 0\. Received \[0\.0, 0\.0, 0\.0\]"),
    ],
)
def test_wrong_weights_are_refused(weights, match):
    members = [np.array([[0.8, 0.2]])] * 3
    with pytest.raises(ArgumentError, match=match):
        Combination()(members, weights)
    with pytest.raises(ArgumentError, match=match):
        fit_combination(members, np.array([0]), weights)


@pytest.mark.parametrize(
    ("members", "match"),
    [
        (3, r"`members` must be a sequence of arrays, each \(n, n_types\)\. Received int"),
        ([], r"`members` must hold at least one array \(n, n_types\), of at least one type\. Received none"),
        ([np.ones((2, 0))], "`members` must hold at least one array"),
        ([np.ones((2, 2)), np.ones((2, 3))], r"`members` must be an array of real numbers of shape \(2, 2\)"),
        ([np.full((2, 2), 1.1)], r"`members` must be probabilities, in \[0, 1\]\. Received values outside, or NaN"),
        ([np.full((2, 2), np.nan)], "`members` must be probabilities"),
    ],
)
def test_wrong_members_are_refused(members, match):
    with pytest.raises(ArgumentError, match=match):
        Combination()(members)
    with pytest.raises(ArgumentError, match=match):
        fit_combination(members, np.array([0, 1]))


@pytest.mark.parametrize("truth", [[0, 2], [-1, 1]])
def test_wrong_truth_is_refused(truth):
    match = (
        rf"`truth` must be label codes of the 2 types in `members`\. Received values from {min(truth)} to {max(truth)}"
    )
    with pytest.raises(ArgumentError, match=match):
        fit_combination([np.full((2, 2), 0.5)], np.array(truth))


def test_probabilities_are_finite_and_above_zero():
    certain = np.array([[1.0, 0.0, 0.0]])
    for temperature in TEMPERATURE_RANGE:
        received = Combination(temperature)([certain, certain])
        assert np.isfinite(received).all()
        assert (received > 0).all()
        assert received.sum() == pytest.approx(1)


def test_temperature_does_not_change_the_order_of_types():
    rng = np.random.default_rng(0)
    members = [special.softmax(rng.standard_normal((50, 5)), axis=1) for _ in range(3)]
    plain = Combination()(members).argsort(axis=1)
    np.testing.assert_array_equal(Combination(0.3)(members).argsort(axis=1), plain)
    np.testing.assert_array_equal(Combination(4)(members).argsort(axis=1), plain)


@pytest.mark.parametrize("true_temperature", [0.5, 1.0, 2.5])
def test_fit_recovers_the_temperature_of_a_miscalibrated_classifier(true_temperature):
    probabilities, truth = draw(np.random.default_rng(1))
    # A classifier sharpened by a temperature of .5 is corrected by a temperature of 2.
    fitted = fit_combination([sharpened(probabilities, true_temperature)], truth)
    assert fitted.temperature == pytest.approx(1 / true_temperature, rel=0.1)


def test_fit_lowers_log_loss_and_calibration_error():
    rng = np.random.default_rng(2)
    probabilities, truth = draw(rng)
    members = [sharpened(probabilities, 0.4), sharpened(probabilities, 0.3)]
    fitted = fit_combination(members, truth)
    assert fitted.temperature > 1
    assert log_loss(fitted(members), truth) < log_loss(Combination()(members), truth) - 0.01

    def error(combination):
        p = combination(members)
        return expected_calibration_error(p.max(axis=1), p.argmax(axis=1) == truth)

    assert error(fitted) < 0.05 < error(Combination())


def test_fit_is_at_least_as_good_as_a_grid_search():
    probabilities, truth = draw(np.random.default_rng(3), n=300)
    members = [sharpened(probabilities, 0.5), np.full_like(probabilities, 0.25)]
    fitted = fit_combination(members, truth)
    grid = np.geomspace(*TEMPERATURE_RANGE, 400)
    losses = [log_loss(Combination(t)(members), truth) for t in grid]
    assert log_loss(fitted(members), truth) <= min(losses) + 1e-5


def test_fit_depends_on_the_weights():
    probabilities, truth = draw(np.random.default_rng(3), n=300)
    members = [sharpened(probabilities, 0.5), np.full_like(probabilities, 0.25)]
    fitted = fit_combination(members, truth, (3, 1))
    losses = [log_loss(Combination(t)(members, (3, 1)), truth) for t in np.geomspace(*TEMPERATURE_RANGE, 400)]
    assert log_loss(fitted(members, (3, 1)), truth) <= min(losses) + 1e-5
    assert fitted.temperature > 1.2 * fit_combination(members, truth).temperature
    alone = fit_combination(members, truth, (1, 0)).temperature
    assert alone == pytest.approx(fit_combination(members[:1], truth).temperature)


def test_fit_stays_in_the_temperature_range():
    certain = np.tile([0.9, 0.1], (20, 1))
    low, high = TEMPERATURE_RANGE
    assert fit_combination([certain], np.zeros(20, int)).temperature == pytest.approx(low, rel=0.02)
    assert fit_combination([certain], np.ones(20, int)).temperature == pytest.approx(high, rel=0.02)


def test_temperature_is_one_without_held_out_points():
    assert fit_combination([np.zeros((0, 3))] * 2, np.zeros(0, int)) == Combination(1.0)


def test_calibration_error_by_hand():
    # Bins [0, .5) and [.5, 1]: two points of mean .3, one correct; three of mean .8, two correct.
    confidence = np.array([0.2, 0.4, 0.7, 0.8, 0.9])
    correct = np.array([True, False, True, True, False])
    expected = 2 / 5 * abs(0.3 - 1 / 2) + 3 / 5 * abs(0.8 - 2 / 3)
    assert expected_calibration_error(confidence, correct, n_bins=2) == pytest.approx(expected)


@pytest.mark.parametrize(
    ("confidence", "correct", "expected"),
    [
        ([1.0, 1.0], [True, True], 0),
        ([1.0, 1.0], [True, False], 0.5),
        ([0.0], [False], 0),
        ([0.75] * 4, [1, 1, 1, 0], 0),
    ],
)
def test_calibration_error_in_extreme_cases(confidence, correct, expected):
    assert expected_calibration_error(np.array(confidence), np.array(correct, bool)) == pytest.approx(expected)


def test_confidence_one_is_in_the_last_bin():
    # Both points are in one bin: mean .95, one correct. A separate bin for confidence 1 would give (1 + .1) / 2.
    assert expected_calibration_error(np.array([1.0, 0.9]), np.array([False, True]), n_bins=2) == pytest.approx(0.45)


def test_calibrated_confidence_has_a_small_error():
    rng = np.random.default_rng(0)
    confidence = rng.random(20_000)
    correct = rng.random(20_000) < confidence
    assert expected_calibration_error(confidence, correct) < 0.02
    assert expected_calibration_error(np.sqrt(confidence), correct) > 0.1


@pytest.mark.parametrize("confidence", [[], [0.5, 1.1], [-0.1], [np.nan]])
def test_wrong_confidence_is_refused(confidence):
    match = r"`confidence` must hold at least one probability, all of them in \[0, 1\]\. Received none, or others"
    with pytest.raises(ArgumentError, match=match):
        expected_calibration_error(np.array(confidence), np.ones(len(confidence), bool))
