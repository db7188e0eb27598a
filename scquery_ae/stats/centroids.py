"""Labels from the mean code of each type."""

from __future__ import annotations

import numpy as np
from scipy import sparse, special

from scquery_ae._array_checks import check_array, check_labels
from scquery_ae._errors import ArgumentError

#: Cosine similarities are multiplied by this before the softmax: .1 of similarity is odds of about 50 to 1.
SHARPNESS = 40.0


def type_centroids(codes: np.ndarray, labels: np.ndarray, n_types: int) -> np.ndarray:
    """Return the unit-length mean code of each type, float32 ``(n_types, n_latent)``; zeros for a type without cells.

    See :func:`type_sums` for the parameters.
    """
    return unit_rows(type_sums(codes, labels, n_types))


def type_sums(codes: np.ndarray, labels: np.ndarray, n_types: int) -> np.ndarray:
    """Return the sum of each type's codes, float32 ``(n_types, n_latent)``.

    Parameters
    ----------
    codes
        Unit-length codes, ``(n, n_latent)``.
    labels
        Type of each, int ``(n,)``; -1 for none.
    n_types
        Number of types.
    """
    codes = check_array("codes", codes, (None, None), finite=True)
    labels = check_labels("labels", labels, codes.shape[:1], n_types)
    labelled = np.flatnonzero(labels >= 0)
    members = sparse.csr_matrix(
        (np.ones(len(labelled), np.float32), (labels[labelled], labelled)), shape=(n_types, len(labels))
    )
    return np.asarray(members @ np.asarray(codes, dtype=np.float32), dtype=np.float32)


def unit_rows(vectors: np.ndarray) -> np.ndarray:
    """Return rows of length one, float32; zeros stay zeros."""
    norm = np.linalg.norm(vectors, axis=1, keepdims=True)
    # What rounding leaves of a difference of two equal sums has no direction.
    return np.asarray(np.where(norm > 1e-4, vectors / np.maximum(norm, 1e-4), 0), dtype=np.float32)


def _checked_own(own: object, codes: np.ndarray, n_types: int) -> tuple[np.ndarray, np.ndarray]:
    if not isinstance(own, tuple) or len(own) != 2:
        msg = f"`own` must be the types of the cells and the mean codes without them. Received {type(own).__name__}."
        raise ArgumentError(msg)
    labels, without = own
    return check_labels("own", labels, codes.shape[:1], n_types), check_array("own", without, codes.shape, finite=True)


def centroid_probabilities(
    codes: np.ndarray, centroids: np.ndarray, own: tuple[np.ndarray, np.ndarray] | None = None
) -> np.ndarray:
    """Return a softmax over the cosine similarities to the types' mean codes, ``(n, n_types)``.

    Each type has one say, however many cells it has: this is where a type with three cells can win.

    Parameters
    ----------
    codes
        Unit-length codes, ``(n, n_latent)``.
    centroids
        Of :func:`type_centroids`.
    own
        For cells that are themselves among those whose means were taken: the type of each, -1 for none, and the mean
        code of that type without the cell, ``(n, n_latent)``.

    References
    ----------
    Snell, Swersky & Zemel, Prototypical networks for few-shot learning, NeurIPS (2017).
    """
    codes = check_array("codes", codes, (None, None), finite=True)
    centroids = check_array("centroids", centroids, (None, codes.shape[1]), finite=True)
    if not len(centroids):
        msg = "`centroids` must hold the mean code of at least one type. Received none; see `type_centroids`."
        raise ArgumentError(msg)
    similarity = np.asarray(codes @ centroids.T, dtype=np.float64)
    if own is not None:
        labels, without = _checked_own(own, codes, len(centroids))
        rows = np.flatnonzero(labels >= 0)
        similarity[rows, labels[rows]] = np.einsum("ij,ij->i", codes[rows], without[rows])
    return np.asarray(special.softmax(SHARPNESS * similarity, axis=1))
