"""Labels from neighbors."""

from __future__ import annotations

import numpy as np

from scquery_ae._array_checks import check_array, check_labels

#: The bandwidth of the vote is the distance of this hit: nearer ones count almost fully.
BANDWIDTH_HIT = 3


def vote_probabilities(distances: np.ndarray, labels: np.ndarray, n_types: int) -> np.ndarray:
    """Return how the neighbors of each query vote, ``(n_queries, n_types)``, rows summing to 1.

    A hit at distance d weighs ``exp(-d / h)``, with h the distance of the query's third nearest labelled neighbor. A
    type with two or three close cells is thus not outvoted by the crowd behind them.

    Parameters
    ----------
    distances
        Ascending in each row, ``(n_queries, n_neighbors)``.
    labels
        Type of each neighbor, int of the same shape, in ``[0, n_types)``; -1 for an unlabelled cell, which does not vote.
    n_types
        Number of types.

    Returns
    -------
    Shares, float64. A query without a labelled neighbor gets equal shares.
    """
    distances = check_array("distances", distances, (None, None), finite=True)
    distances = distances + 0.0  # also where they are booleans
    labels = check_labels("labels", labels, distances.shape, n_types)
    labelled = labels >= 0
    rank = np.cumsum(labelled, axis=1)
    n_labelled = rank[:, -1:]
    at_bandwidth = labelled & (rank == np.minimum(BANDWIDTH_HIT, n_labelled))
    bandwidth = np.where(at_bandwidth, distances, 0).sum(axis=1, keepdims=True, dtype=np.float64)
    # Hits at distance zero (copies of the query) would leave no scale.
    weights = np.where(labelled, np.exp(-distances / np.maximum(bandwidth, 1e-6)), 0)
    # One bin per query and type, filled in a single pass.
    bins = np.arange(len(labels))[:, None] * n_types + np.maximum(labels, 0)
    sums = np.bincount(bins.ravel(), weights=weights.ravel(), minlength=len(labels) * n_types)
    votes = sums.reshape(len(labels), n_types)
    total = votes.sum(axis=1, keepdims=True)
    return np.where(total > 0, votes / np.where(total > 0, total, 1), 1 / n_types)
