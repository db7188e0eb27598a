"""Mean embeddings of the types, by hand and against loops."""

import numpy as np

from scquery_ae.stats import centroid_probabilities, type_centroids


def test_hand_worked_means():
    latent = np.array([[1, 0], [0, 1], [0, 1], [0.6, 0.8]], dtype=np.float32)
    received = type_centroids(latent, np.array([0, 0, 2, -1]), 4)
    # The mean of two embeddings at right angles, made unit length; no cells for types 1 and 3.
    np.testing.assert_allclose(received, [[np.sqrt(0.5), np.sqrt(0.5)], [0, 0], [0, 1], [0, 0]], rtol=1e-6)
    assert received.dtype == np.float32
    assert received.shape == (4, 2)


def test_equal_to_a_loop():
    rng = np.random.default_rng(0)
    latent, labels = rng.standard_normal((80, 5)), rng.integers(-1, 4, 80)
    latent /= np.linalg.norm(latent, axis=1, keepdims=True)
    means = np.array([latent[labels == t].mean(axis=0) for t in range(4)])
    expected = means / np.linalg.norm(means, axis=1, keepdims=True)
    np.testing.assert_allclose(type_centroids(latent, labels, 4), expected, atol=1e-5)


def test_hand_worked_probabilities():
    centroids = np.array([[1, 0], [0, 1]], dtype=np.float32)
    received = centroid_probabilities(np.array([[1, 0], [np.sqrt(0.5), np.sqrt(0.5)], [0.8, 0.6]]), centroids)
    # A lead of 1 and of .2 in similarity, times forty.
    expected = [1 / (1 + np.exp(-40)), 0.5, 1 / (1 + np.exp(-8))]
    np.testing.assert_allclose(received[:, 0], expected, rtol=1e-6)
    np.testing.assert_allclose(received.sum(axis=1), 1)


def test_the_size_of_a_type_has_no_say():
    latent = np.vstack([np.tile([1.0, 0.0], (1000, 1)), [[0.0, 1.0]]])
    centroids = type_centroids(latent, np.r_[np.zeros(1000, int), 1], 2)
    np.testing.assert_allclose(
        centroid_probabilities(np.array([[np.sqrt(0.5), np.sqrt(0.5)]]), centroids), [[0.5, 0.5]]
    )
