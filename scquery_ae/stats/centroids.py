"""Labels from the mean code of each type."""

from __future__ import annotations

import numpy as np
from scipy import sparse, special

#: Cosine similarities are multiplied by this before the softmax: .1 of similarity is odds of about 50 to 1.
SHARPNESS = 40.0


def type_centroids(codes: np.ndarray, labels: np.ndarray, n_types: int) -> np.ndarray:
    """Return the unit-length mean code of each type, float32 ``(n_types, n_latent)``; zeros for a type without cells.

    Parameters
    ----------
    codes
        Unit-length codes, ``(n, n_latent)``.
    labels
        Type of each, int ``(n,)``; -1 for none.
    n_types
        Number of types.
    """
    labelled = np.flatnonzero(labels >= 0)
    members = sparse.csr_matrix(
        (np.ones(len(labelled), np.float32), (labels[labelled], labelled)), shape=(n_types, len(labels))
    )
    sums = members @ np.asarray(codes, dtype=np.float32)
    norm = np.linalg.norm(sums, axis=1, keepdims=True)
    return np.asarray(sums / np.where(norm > 0, norm, 1), dtype=np.float32)


def centroid_probabilities(codes: np.ndarray, centroids: np.ndarray) -> np.ndarray:
    """Return a softmax over the cosine similarities to the types' mean codes, ``(n, n_types)``.

    Each type has one say, however many cells it has: this is where a type with three cells can win.

    Parameters
    ----------
    codes
        Unit-length codes, ``(n, n_latent)``.
    centroids
        Of :func:`type_centroids`.

    References
    ----------
    Snell, Swersky & Zemel, Prototypical networks for few-shot learning, NeurIPS (2017).
    """
    return np.asarray(special.softmax(SHARPNESS * np.asarray(codes @ centroids.T, dtype=np.float64), axis=1))
