"""Type probabilities from the labels of nearest neighbors."""

from __future__ import annotations

import numpy as np

from scquery_ae._array_checks import check_array, check_labels

#: Rank of the labelled neighbor whose distance is the bandwidth; nearer neighbors have weights above 1/e.
BANDWIDTH_NEIGHBOR = 3


def vote_probabilities(distances: np.ndarray, labels: np.ndarray, n_types: int) -> np.ndarray:
    """Return type probabilities from the distance-weighted votes of each query's neighbors, ``(n_queries, n_types)``.

    A neighbor at distance d has the weight ``exp(-d / h)``. The bandwidth h is the distance of the query's third
    nearest labelled neighbor, so that two or three close cells of a rare type outweigh many cells of a common type
    farther away.

    Parameters
    ----------
    distances
        Distance of each neighbor, ascending in each row, ``(n_queries, n_neighbors)``.
    labels
        Label code of each neighbor, int of the same shape, in ``[0, n_types)``; -1 for an unlabelled cell, which has no
        vote.
    n_types
        Number of types.

    Returns
    -------
    Probabilities, float64; rows sum to 1. They are uniform for a query without a labelled neighbor.
    """
    distances = check_array("distances", distances, (None, None), finite=True)
    distances = distances + 0.0  # NumPy cannot negate booleans
    labels = check_labels("labels", labels, distances.shape, n_types)
    labelled = labels >= 0
    rank = np.cumsum(labelled, axis=1)
    n_labelled = rank[:, -1:]
    at_bandwidth = labelled & (rank == np.minimum(BANDWIDTH_NEIGHBOR, n_labelled))
    bandwidth = np.where(at_bandwidth, distances, 0).sum(axis=1, keepdims=True, dtype=np.float64)
    # The bandwidth is zero if the query has three copies among its neighbors.
    weights = np.where(labelled, np.exp(-distances / np.maximum(bandwidth, 1e-6)), 0)
    # One bin per query and type, filled in a single pass.
    bins = np.arange(len(labels))[:, None] * n_types + np.maximum(labels, 0)
    sums = np.bincount(bins.ravel(), weights=weights.ravel(), minlength=len(labels) * n_types)
    votes = sums.reshape(len(labels), n_types)
    total = votes.sum(axis=1, keepdims=True)
    return np.where(total > 0, votes / np.where(total > 0, total, 1), 1 / n_types)
