"""How well a search finds cells of the query's type."""

from __future__ import annotations

import numpy as np

from scquery_ae._errors import ArgumentError


def average_precision(relevant: np.ndarray, n_relevant: np.ndarray) -> np.ndarray:
    """Return the average precision of ranked lists of k hits, ``(n_queries,)``.

    The precision at each relevant hit, averaged over the relevant hits that a perfect search would have shown:
    ``sum_i precision_i * relevant_i / min(n_relevant, k)``. A query with nothing to find gets NaN.

    Parameters
    ----------
    relevant
        Whether each hit has the query's type, ``(n_queries, k)``, nearest first.
    n_relevant
        Reference cells of each query's type, ``(n_queries,)``.

    References
    ----------
    Manning, Raghavan & Schuetze, Introduction to Information Retrieval (2008), section 8.4; used by
    Alavi et al., Nature Communications 9, 4768 (2018) as mean average precision.
    """
    relevant = np.asarray(relevant, dtype=float)
    n_relevant = np.asarray(n_relevant)
    if relevant.ndim != 2 or n_relevant.shape != relevant.shape[:1]:
        msg = (
            "`relevant` must be (n_queries, k) and `n_relevant` (n_queries,). "
            f"Received {relevant.shape} and {n_relevant.shape}."
        )
        raise ArgumentError(msg)
    k = relevant.shape[1]
    precision = np.cumsum(relevant, axis=1) / np.arange(1, k + 1)
    findable = np.minimum(n_relevant, k)
    return np.where(findable > 0, (precision * relevant).sum(axis=1) / np.maximum(findable, 1), np.nan)
