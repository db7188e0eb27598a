"""Centroids of types, against cases computed by hand and a loop."""

import numpy as np
import pytest
from scipy import special

from scquery_ae import ArgumentError
from scquery_ae.stats import centroid_probabilities, type_centroids, type_sums, unit_rows


def test_hand_worked_centroids():
    embedding = np.array([[1, 0], [0, 1], [0, 1], [0.6, 0.8]], dtype=np.float32)
    received = type_centroids(embedding, np.array([0, 0, 2, -1]), 4)
    # The mean of two orthogonal embeddings, scaled to unit length; no cells of types 1 and 3.
    np.testing.assert_allclose(received, [[np.sqrt(0.5), np.sqrt(0.5)], [0, 0], [0, 1], [0, 0]], rtol=1e-6)
    assert received.dtype == np.float32
    assert received.shape == (4, 2)


def test_centroids_equal_a_loop():
    rng = np.random.default_rng(0)
    embedding, labels = rng.standard_normal((80, 5)), rng.integers(-1, 4, 80)
    embedding /= np.linalg.norm(embedding, axis=1, keepdims=True)
    means = np.array([embedding[labels == t].mean(axis=0) for t in range(4)])
    expected = means / np.linalg.norm(means, axis=1, keepdims=True)
    np.testing.assert_allclose(type_centroids(embedding, labels, 4), expected, atol=1e-5)


def test_hand_worked_probabilities():
    centroids = np.array([[1, 0], [0, 1]], dtype=np.float32)
    received = centroid_probabilities(np.array([[1, 0], [np.sqrt(0.5), np.sqrt(0.5)], [0.8, 0.6]]), centroids)
    # Differences of 1, 0 and .2 in similarity, times forty.
    expected = [1 / (1 + np.exp(-40)), 0.5, 1 / (1 + np.exp(-8))]
    np.testing.assert_allclose(received[:, 0], expected, rtol=1e-6)
    np.testing.assert_allclose(received.sum(axis=1), 1)


def test_the_size_of_a_type_does_not_matter():
    embedding = np.vstack([np.tile([1.0, 0.0], (1000, 1)), [[0.0, 1.0]]])
    centroids = type_centroids(embedding, np.r_[np.zeros(1000, int), 1], 2)
    np.testing.assert_allclose(
        centroid_probabilities(np.array([[np.sqrt(0.5), np.sqrt(0.5)]]), centroids), [[0.5, 0.5]]
    )


def test_leave_one_out_probabilities_equal_those_of_centroids_without_the_cell():
    rng = np.random.default_rng(1)
    embedding, labels = unit_rows(rng.standard_normal((12, 4))), np.array([0, 1, 2, -1] * 3)
    sums = type_sums(embedding, labels, 3)
    without = unit_rows(sums[labels] - embedding)
    received = centroid_probabilities(embedding, unit_rows(sums), (labels, without))
    for cell in range(12):
        others = np.where(np.arange(12) == cell, -1, labels)
        similarity = embedding[cell] @ type_centroids(embedding, others, 3).T
        np.testing.assert_allclose(received[cell], special.softmax(40 * similarity), rtol=1e-4)


def test_vectors_of_length_zero_stay_zero():
    np.testing.assert_array_equal(
        unit_rows(np.array([[0, 0], [3, 4], [1e-6, 0]])), np.float32([[0, 0], [0.6, 0.8], [0, 0]])
    )


@pytest.mark.parametrize(
    ("centroids", "left_out", "match"),
    [
        (
            np.zeros((0, 2)),
            None,
            r"`centroids` must hold the centroid of at least one type\. Received none; see `type_c",
        ),
        (np.zeros((2, 3)), None, r"`centroids` must be an array of finite numbers of shape \(n, 2\)"),
        (np.eye(2), np.zeros(3, int), r"`left_out` must be a pair: the label code of .* the cell\. Received ndarray"),
        (np.eye(2), (np.full(3, 2), np.ones((3, 2))), r"`left_out` must be positions among the 2 types"),
        (np.eye(2), (np.zeros(3, int), np.ones(3)), r"`left_out` must be an array of finite numbers of shape \(3, 2\)"),
    ],
)
def test_wrong_centroids_are_refused(centroids, left_out, match):
    with pytest.raises(ArgumentError, match=match):
        centroid_probabilities(np.ones((3, 2)), centroids, left_out)
