"""Labels from the mean embedding of each type."""

from __future__ import annotations

import numpy as np
from scipy import sparse, special

from scquery_ae._array_checks import check_array, check_labels
from scquery_ae._errors import ArgumentError

#: Cosine similarities are multiplied by this before the softmax: .1 of similarity is odds of about 50 to 1.
SHARPNESS = 40.0


def type_centroids(latent: np.ndarray, labels: np.ndarray, n_types: int) -> np.ndarray:
    """Return the unit-length mean embedding of each type, float32 ``(n_types, n_latent)``; zeros for a type without cells.

    See :func:`type_sums` for the parameters.
    """
    return unit_rows(type_sums(latent, labels, n_types))


def type_sums(latent: np.ndarray, labels: np.ndarray, n_types: int) -> np.ndarray:
    """Return the sum of each type's embeddings, float32 ``(n_types, n_latent)``.

    Parameters
    ----------
    latent
        Unit-length embeddings, ``(n, n_latent)``.
    labels
        Type of each, int ``(n,)``; -1 for none.
    n_types
        Number of types.
    """
    latent = check_array("latent", latent, (None, None), finite=True)
    labels = check_labels("labels", labels, latent.shape[:1], n_types)
    labelled = np.flatnonzero(labels >= 0)
    members = sparse.csr_matrix(
        (np.ones(len(labelled), np.float32), (labels[labelled], labelled)), shape=(n_types, len(labels))
    )
    return np.asarray(members @ np.asarray(latent, dtype=np.float32), dtype=np.float32)


def unit_rows(vectors: np.ndarray) -> np.ndarray:
    """Return rows of length one, float32; zeros stay zeros."""
    norm = np.linalg.norm(vectors, axis=1, keepdims=True)
    # What rounding leaves of a difference of two equal sums has no direction.
    return np.asarray(np.where(norm > 1e-4, vectors / np.maximum(norm, 1e-4), 0), dtype=np.float32)


def _checked_own(own: object, latent: np.ndarray, n_types: int) -> tuple[np.ndarray, np.ndarray]:
    if not isinstance(own, tuple) or len(own) != 2:
        msg = (
            f"`own` must be the types of the cells and the mean embeddings without them. Received {type(own).__name__}."
        )
        raise ArgumentError(msg)
    labels, without = own
    return check_labels("own", labels, latent.shape[:1], n_types), check_array(
        "own", without, latent.shape, finite=True
    )


def centroid_probabilities(
    latent: np.ndarray, centroids: np.ndarray, own: tuple[np.ndarray, np.ndarray] | None = None
) -> np.ndarray:
    """Return a softmax over the cosine similarities to the types' mean embeddings, ``(n, n_types)``.

    Each type has one say, however many cells it has: this is where a type with three cells can win.

    Parameters
    ----------
    latent
        Unit-length embeddings, ``(n, n_latent)``.
    centroids
        Of :func:`type_centroids`.
    own
        For cells that are themselves among those whose means were taken: the type of each, -1 for none, and the mean
        embedding of that type without the cell, ``(n, n_latent)``.

    References
    ----------
    Snell, Swersky & Zemel, Prototypical networks for few-shot learning, NeurIPS (2017).
    """
    latent = check_array("latent", latent, (None, None), finite=True)
    centroids = check_array("centroids", centroids, (None, latent.shape[1]), finite=True)
    if not len(centroids):
        msg = "`centroids` must hold the mean embedding of at least one type. Received none; see `type_centroids`."
        raise ArgumentError(msg)
    similarity = np.asarray(latent @ centroids.T, dtype=np.float64)
    if own is not None:
        labels, without = _checked_own(own, latent, len(centroids))
        rows = np.flatnonzero(labels >= 0)
        similarity[rows, labels[rows]] = np.einsum("ij,ij->i", latent[rows], without[rows])
    return np.asarray(special.softmax(SHARPNESS * similarity, axis=1))
