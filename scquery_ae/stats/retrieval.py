"""Metrics of retrieval: whether a search finds cells of the query's type."""

from __future__ import annotations

import numpy as np

from scquery_ae._array_checks import check_array
from scquery_ae._checks import is_several
from scquery_ae._errors import ArgumentError


def average_precision(relevant: np.ndarray, n_relevant: np.ndarray) -> np.ndarray:
    """Return the average precision of ranked lists of k neighbors, ``(n_queries,)``.

    The average precision is the sum of the precisions at the relevant neighbors, divided by the number of relevant
    neighbors that a perfect search returns: ``sum_i precision_i * relevant_i / min(n_relevant, k)``. It is NaN for a
    query without relevant cells.

    Parameters
    ----------
    relevant
        Whether each neighbor has the query's type, bool ``(n_queries, k)``, nearest first.
    n_relevant
        Number of reference cells of each query's type, ``(n_queries,)``.

    References
    ----------
    Manning, Raghavan & Schuetze, Introduction to Information Retrieval (2008), section 8.4; used by
    Alavi et al., Nature Communications 9, 4768 (2018) as mean average precision.
    """
    relevant = check_array("relevant", relevant, finite=True).astype(float)
    n_relevant = check_array("n_relevant", n_relevant, finite=True)
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


def average_flexible_precision(similarity: np.ndarray, best: np.ndarray) -> np.ndarray:
    """Return the average flexible precision of ranked lists of k neighbors, ``(n_queries,)`` in [0, 1].

    It generalizes :func:`average_precision` to graded relevance: the similarity of a neighbor's type to the query's
    type, instead of whether the two are equal. It is ``sum_i p_i s_i / sum_i p*_i s*_i``, where ``s_i`` is the
    similarity of neighbor i, ``p_i`` the mean of the first i similarities, and a star marks the best possible list from
    the reference. With similarities of 0 and 1 it equals the average precision. It is NaN if all of the best
    similarities are 0.

    Parameters
    ----------
    similarity
        Similarity of each neighbor's type to the query's type, in [0, 1], ``(n_queries, k)``, nearest first.
    best
        The k largest similarities of reference cells to each query's type, ``(n_queries, k)``, in any order.

    Raises
    ------
    ArgumentError
        If the shapes differ, or a similarity is outside [0, 1].

    References
    ----------
    Alavi et al., Nature Communications 9, 4768 (2018), on mean average flexible precision.
    """
    similarity = check_array("similarity", similarity).astype(float)
    best = check_array("best", best).astype(float)
    inside = all(((values >= 0) & (values <= 1)).all() for values in (similarity, best))
    if similarity.ndim != 2 or best.shape != similarity.shape or not inside:
        msg = (
            "`similarity` and `best` must have one shape, (n_queries, k), and values in [0, 1]. "
            f"Received {similarity.shape} and {best.shape}."
        )
        raise ArgumentError(msg)
    got, ideal = (_weighted_precision(values) for values in (similarity, -np.sort(-best, axis=1)))
    return np.where(ideal > 0, got / np.where(ideal > 0, ideal, 1), np.nan)


def mean_by_type(values: np.ndarray, types: np.ndarray) -> tuple[dict[str, float], float, float]:
    """Return the mean of the values of each type, the mean over queries, and the mean over types.

    NaN values are ignored. The mean over queries weights each type by its number of queries; the mean over types
    weights all types equally.

    Parameters
    ----------
    values
        Value of each query, ``(n_queries,)``.
    types
        Type of each query, ``(n_queries,)``.
    """
    values = check_array("values", values, (None,)).astype(float)
    named = np.asarray([str(kind) for kind in types] if is_several(types) else [], dtype=str)
    if named.shape != values.shape:
        msg = f"`types` must have one entry for each of the {len(values)} values. Received shape {named.shape}."
        raise ArgumentError(msg)
    kept = ~np.isnan(values)
    by_type = {str(kind): float(values[kept & (named == kind)].mean()) for kind in np.unique(named[kept])}
    if not by_type:
        return {}, float("nan"), float("nan")
    return by_type, float(values[kept].mean()), float(np.mean(list(by_type.values())))


def _weighted_precision(similarity: np.ndarray) -> np.ndarray:
    precision = np.cumsum(similarity, axis=1) / np.arange(1, similarity.shape[1] + 1)
    return np.asarray((precision * similarity).sum(axis=1))
