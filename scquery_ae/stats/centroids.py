"""Type probabilities from the centroid of each type in the embedding."""

from __future__ import annotations

import numpy as np
from scipy import sparse, special

from scquery_ae._array_checks import check_array, check_labels
from scquery_ae._errors import ArgumentError

#: Factor of the cosine similarities in the softmax: a difference of .1 in similarity gives odds of about 50 to 1.
LOGIT_SCALE = 40.0


def type_centroids(embedding: np.ndarray, labels: np.ndarray, n_types: int) -> np.ndarray:
    """Return the centroid of each type, float32 ``(n_types, n_latent)``; zeros for a type without cells.

    A centroid is the mean embedding of the type's cells, scaled to unit length. See :func:`type_sums` for the
    parameters.
    """
    return unit_rows(type_sums(embedding, labels, n_types))


def type_sums(embedding: np.ndarray, labels: np.ndarray, n_types: int) -> np.ndarray:
    """Return the sum of the embeddings of each type's cells, float32 ``(n_types, n_latent)``.

    Parameters
    ----------
    embedding
        Unit-length embedding, ``(n, n_latent)``.
    labels
        Label code of each cell, int ``(n,)``; -1 for none.
    n_types
        Number of types.
    """
    embedding = check_array("embedding", embedding, (None, None), finite=True)
    labels = check_labels("labels", labels, embedding.shape[:1], n_types)
    labelled = np.flatnonzero(labels >= 0)
    indicator = sparse.csr_matrix(
        (np.ones(len(labelled), np.float32), (labels[labelled], labelled)), shape=(n_types, len(labels))
    )
    return np.asarray(indicator @ np.asarray(embedding, dtype=np.float32), dtype=np.float32)


def unit_rows(vectors: np.ndarray) -> np.ndarray:
    """Return the rows scaled to unit length, float32; rows of zeros stay zero."""
    norm = np.linalg.norm(vectors, axis=1, keepdims=True)
    # A difference of two equal sums is not exactly zero, and its direction is rounding error.
    return np.asarray(np.where(norm > 1e-4, vectors / np.maximum(norm, 1e-4), 0), dtype=np.float32)


def centroid_probabilities(
    embedding: np.ndarray, centroids: np.ndarray, left_out: tuple[np.ndarray, np.ndarray] | None = None
) -> np.ndarray:
    """Return the softmax of the cosine similarities of each cell to the centroids, ``(n, n_types)``.

    Every type has one centroid, however many cells it has: a type with three cells can be the most probable one.

    Parameters
    ----------
    embedding
        Unit-length embedding, ``(n, n_latent)``.
    centroids
        Centroid of each type, from :func:`type_centroids`.
    left_out
        For leave-one-out prediction of cells from which the centroids were computed: the label code of each cell, int
        ``(n,)``, -1 for none, and the centroid of its type without the cell, ``(n, n_latent)``.

    References
    ----------
    Snell, Swersky & Zemel, Prototypical networks for few-shot learning, NeurIPS (2017).
    """
    embedding = check_array("embedding", embedding, (None, None), finite=True)
    centroids = check_array("centroids", centroids, (None, embedding.shape[1]), finite=True)
    if not len(centroids):
        msg = "`centroids` must hold the centroid of at least one type. Received none; see `type_centroids`."
        raise ArgumentError(msg)
    similarity = np.asarray(embedding @ centroids.T, dtype=np.float64)
    if left_out is not None:
        labels, without = _checked_left_out(left_out, embedding, len(centroids))
        rows = np.flatnonzero(labels >= 0)
        similarity[rows, labels[rows]] = np.einsum("ij,ij->i", embedding[rows], without[rows])
    return np.asarray(special.softmax(LOGIT_SCALE * similarity, axis=1))


def _checked_left_out(left_out: object, embedding: np.ndarray, n_types: int) -> tuple[np.ndarray, np.ndarray]:
    if not isinstance(left_out, tuple) or len(left_out) != 2:
        msg = (
            "`left_out` must be a pair: the label code of each cell, and the centroid of its type without the cell. "
            f"Received {type(left_out).__name__}."
        )
        raise ArgumentError(msg)
    labels, without = left_out
    return (
        check_labels("left_out", labels, embedding.shape[:1], n_types),
        check_array("left_out", without, embedding.shape, finite=True),
    )
