"""The three nonconformity measures, against NumPy and scikit-learn."""

import numpy as np
import pytest
from sklearn.discriminant_analysis import LinearDiscriminantAnalysis

from scquery_ae.annotate import N_MEASURES, EmbeddedCells, TypeDensities
from scquery_ae.dense import Classifier


@pytest.fixture
def points():
    """Embeddings, principal components and types of cells, some without a type."""
    rng = np.random.default_rng(0)
    labels = rng.integers(-1, 3, 200)
    latent = rng.standard_normal((200, 4)) @ rng.standard_normal((4, 4)) + labels[:, None]
    projected = 10 * rng.standard_normal((200, 6)) @ rng.standard_normal((6, 6)) - 3 * labels[:, None]
    return latent.astype(np.float32), projected.astype(np.float32), labels


def cells_of(latent, projected):
    return EmbeddedCells(latent, projected, np.zeros((len(latent), 3), np.float32), np.ones(len(latent)))


@pytest.fixture
def classifier():
    rng = np.random.default_rng(1)
    return Classifier(
        rng.standard_normal((4, 3)).astype(np.float32), rng.standard_normal(3).astype(np.float32), tuple("abc")
    )


def distances_by_hand(x, labels, types):
    x = x.astype(float)
    known = labels >= 0
    means = np.stack([x[labels == kind].mean(axis=0) for kind in range(3)])
    rest = x[known] - means[labels[known]]
    covariance = rest.T @ rest / known.sum()
    covariance += 0.1 * np.trace(covariance) / len(covariance) * np.eye(len(covariance))
    difference = x - means[types]
    return np.sqrt(np.einsum("ij,ij->i", difference, np.linalg.solve(covariance, difference.T).T))


def test_measures_by_hand(points, classifier):
    latent, projected, labels = points
    types = np.random.default_rng(2).integers(0, 3, 200)
    cells = cells_of(latent, projected)
    measures = TypeDensities.fit(latent, projected, labels, 3).measures(classifier, cells, types)
    assert measures.shape == (200, N_MEASURES) == (200, 3)
    weights = np.exp(latent.astype(float) @ classifier.kernel + classifier.bias)
    np.testing.assert_allclose(-measures[:, 0], (weights / weights.sum(axis=1, keepdims=True)).max(axis=1), rtol=1e-5)
    np.testing.assert_allclose(measures[:, 1], distances_by_hand(latent, labels, types), rtol=1e-4)
    np.testing.assert_allclose(measures[:, 2], distances_by_hand(projected, labels, types), rtol=1e-4)


def test_the_gaussians_are_those_of_scikit_learn(points):
    latent, projected, labels = points
    densities = TypeDensities.fit(latent, projected, labels, 3)
    for gaussians, x in ((densities.embedding, latent), (densities.projected, projected)):
        known = labels >= 0
        fitted = LinearDiscriminantAnalysis(solver="lsqr", store_covariance=True).fit(x[known], labels[known])
        np.testing.assert_allclose(gaussians.means, fitted.means_, rtol=1e-4, atol=1e-4)
        shrunk = fitted.covariance_ + 0.1 * np.trace(fitted.covariance_) / x.shape[1] * np.eye(x.shape[1])
        whitening = gaussians.whitening.astype(float)
        np.testing.assert_allclose(np.linalg.inv(whitening @ whitening.T), shrunk, rtol=1e-3, atol=1e-3)


def test_principal_components_reveal_a_new_type_that_the_embedding_does_not(points, classifier):
    """The cells lie on top of a known type in the embedding, but far from all types in the principal components."""
    latent, projected, labels = points
    densities = TypeDensities.fit(latent, projected, labels, 3)
    known = np.flatnonzero(labels == 1)
    usual = densities.measures(classifier, cells_of(latent[known], projected[known]), labels[known])
    new = densities.measures(classifier, cells_of(latent[known], projected[known] + np.float32(300)), labels[known])
    np.testing.assert_array_equal(new[:, :2], usual[:, :2])
    assert new[:, 2].min() > usual[:, 2].max()
