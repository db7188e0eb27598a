"""Mahalanobis distances to types, and standardization of scores by type."""

import numpy as np
import pytest
from scipy.spatial.distance import mahalanobis

from scquery_ae import ArgumentError
from scquery_ae.stats import Standardization, TypeGaussians
from scquery_ae.stats.novelty import MIN_CELLS, SHRINKAGE


@pytest.fixture
def points():
    rng = np.random.default_rng(0)
    labels = rng.integers(-1, 3, 200)
    mixing = rng.normal(size=(4, 4))
    return rng.normal(size=(200, 4)) @ mixing + 3.0 * labels[:, None], labels


def shrunk_covariance(x, labels):
    """Pooled covariance within types, with a tenth of the mean variance added to the diagonal."""
    deviations = np.concatenate([x[labels == code] - x[labels == code].mean(axis=0) for code in np.unique(labels)])
    covariance = sum(np.outer(row, row) for row in deviations) / len(deviations)
    return covariance + SHRINKAGE * np.mean(np.diag(covariance)) * np.eye(x.shape[1])


def test_distances_are_mahalanobis_distances_with_the_shrunk_covariance(points):
    x, labels = points
    gaussians = TypeGaussians.fit(x, labels, 3)
    labelled = labels >= 0
    inverse = np.linalg.inv(shrunk_covariance(x[labelled], labels[labelled]))
    for code in range(3):
        mean = x[labels == code].mean(axis=0)
        expected = [mahalanobis(row, mean, inverse) for row in x]
        received = gaussians.distances(x, np.full(len(x), code))
        assert received.dtype == np.float64
        np.testing.assert_allclose(received, expected, rtol=1e-4)


def test_each_point_is_compared_with_its_own_type(points):
    x, labels = points
    gaussians = TypeGaussians.fit(x, labels, 3)
    types = np.arange(len(x)) % 3
    by_type = np.stack([gaussians.distances(x, np.full(len(x), code)) for code in range(3)], axis=1)
    np.testing.assert_array_equal(gaussians.distances(x, types), by_type[np.arange(len(x)), types])


def test_unlabelled_points_are_ignored(points):
    x, labels = points
    far = np.where((labels < 0)[:, None], 1e6, x)
    one, other = TypeGaussians.fit(x, labels, 3), TypeGaussians.fit(far, labels, 3)
    np.testing.assert_array_equal(one.means, other.means)
    np.testing.assert_array_equal(one.whitening, other.whitening)


def test_a_type_without_points_has_the_mean_of_all_labelled_points(points):
    x, labels = points
    gaussians = TypeGaussians.fit(x, labels, 4)
    np.testing.assert_allclose(gaussians.means[3], x[labels >= 0].mean(axis=0), rtol=1e-5)
    np.testing.assert_array_equal(gaussians.whitening, TypeGaussians.fit(x, labels, 3).whitening)


def test_fewer_points_than_dimensions():
    x = np.random.default_rng(1).normal(size=(6, 20))
    labels = np.array([0, 0, 0, 1, 1, 1])
    gaussians = TypeGaussians.fit(x, labels, 2)
    inverse = np.linalg.inv(shrunk_covariance(x, labels))
    expected = [mahalanobis(row, x[labels == code].mean(axis=0), inverse) for row, code in zip(x, labels, strict=True)]
    np.testing.assert_allclose(gaussians.distances(x, labels), expected, rtol=1e-4)


def test_distances_are_finite_without_variance_within_types():
    x = np.array([[1.0, 2.0], [1.0, 2.0], [5.0, 5.0]])
    gaussians = TypeGaussians.fit(x, np.array([0, 0, 1]), 2)
    received = gaussians.distances(x, np.array([0, 0, 1]))
    np.testing.assert_array_equal(received, 0)
    assert np.isfinite(gaussians.distances(x, np.array([1, 1, 0]))).all()


def test_hand_worked_standardization():
    # Ten scores of type 0 with mean 3 and ten of type 1 with mean 12; nine of type 2 are too few.
    own = [np.array([1.0, 5.0] * 5), np.array([10.0, 14.0] * 5), np.full(9, 100.0)]
    scores, groups = np.concatenate(own), np.repeat([0, 1, 2], [10, 10, 9])
    fitted = Standardization.fit(scores, groups, 4)
    mean = (10 * 3 + 10 * 12 + 9 * 100) / 29
    pooled = np.sqrt((5 * (1 + 25 + 100 + 196) + 9 * 100**2) / 29 - mean**2)
    np.testing.assert_allclose(fitted.location, [3, 12, mean, mean])
    np.testing.assert_allclose(fitted.spread, [2 + 0.1 * pooled, 2 + 0.1 * pooled, pooled, pooled])
    np.testing.assert_allclose(
        fitted(np.array([5.0, 5.0, 5.0, 5.0]), np.array([0, 1, 2, 3])),
        [2 / (2 + 0.1 * pooled), -7 / (2 + 0.1 * pooled), (5 - mean) / pooled, (5 - mean) / pooled],
    )


def test_standardization_with_one_spread_for_all_types():
    scores, groups = np.array([1.0, 5.0] * 10 + [10.0, 14.0] * 10), np.repeat([0, 1], 20)
    fitted = Standardization.fit(scores, groups, 3, by_type=False)
    np.testing.assert_allclose(fitted.location, [7.5] * 3)
    np.testing.assert_allclose(fitted.spread, [scores.std()] * 3)


@pytest.mark.parametrize("n", [MIN_CELLS - 1, MIN_CELLS])
def test_a_type_has_its_own_location_from_ten_scores_on(n):
    scores = np.concatenate([np.zeros(n), np.full(20, 6.0)])
    fitted = Standardization.fit(scores, np.repeat([0, 1], [n, 20]), 2)
    assert fitted.location[0] == pytest.approx(0 if n == 10 else 6 * 20 / 29)


def test_equal_scores_are_standardized_to_finite_values():
    fitted = Standardization.fit(np.full(30, 2.0), np.zeros(30, int), 1)
    np.testing.assert_array_equal(fitted(np.array([2.0]), np.array([0])), [0])
    assert np.isfinite(fitted(np.array([3.0]), np.array([0]))).all()


def test_standardization_without_scores_is_the_identity():
    fitted = Standardization.fit(np.zeros(0), np.zeros(0, int), 3)
    np.testing.assert_array_equal(fitted(np.array([4.0, -1.0, 0.0]), np.array([0, 1, 2])), [4, -1, 0])


@pytest.mark.parametrize(("x", "labels"), [(np.ones((3, 2)), [-1, -1, -1]), (np.ones((3, 0)), [0, 1, 2])])
def test_fitting_without_labelled_points_is_refused(x, labels):
    match = r"`x` must hold a labelled point with at least one feature\. Received none, in shape \(3, \d\)"
    with pytest.raises(ArgumentError, match=match):
        TypeGaussians.fit(x, np.array(labels), 3)


@pytest.mark.parametrize(
    ("location", "spread", "match"),
    [
        ([np.nan, 0, np.inf], [1, 1, 1], "Received 2 other locations and 0 other spreads"),
        (
            [0, 0, 0],
            [1, 0, np.nan],
            "finite locations and spreads above 0. Received 0 other locations and 2 other spreads",
        ),
    ],
)
def test_wrong_standardizations_are_refused(location, spread, match):
    with pytest.raises(ArgumentError, match=match):
        Standardization(np.array(location), np.array(spread))
