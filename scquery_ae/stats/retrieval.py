"""How well a search finds cells of the query's type."""

from __future__ import annotations

import numpy as np

from scquery_ae._array_checks import check_array
from scquery_ae._checks import is_several
from scquery_ae._errors import ArgumentError


def average_precision(relevant: np.ndarray, n_relevant: np.ndarray) -> np.ndarray:
    """Return the average precision of ranked lists of k neighbors, ``(n_queries,)``.

    The precision at each relevant neighbor, averaged over the relevant neighbors that a perfect search would have shown:
    ``sum_i precision_i * relevant_i / min(n_relevant, k)``. A query with nothing to find gets NaN.

    Parameters
    ----------
    relevant
        Whether each neighbor has the query's type, ``(n_queries, k)``, nearest first.
    n_relevant
        Reference cells of each query's type, ``(n_queries,)``.

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

    As :func:`average_precision`, with neighbors that are right in part: a neighbor of a type close to the query's counts by how
    close it is. ``sum_i p_i s_i / sum_i p*_i s*_i`` with ``s_i`` the similarity of hit i, ``p_i`` the mean of the first
    i, and stars for the best list that the reference could have given. With similarities of 0 and 1 it is the
    average precision.

    Parameters
    ----------
    similarity
        How close the type of each neighbor is to the query's, in [0, 1], ``(n_queries, k)``, nearest first.
    best
        The k greatest similarities in the reference of each query's type, ``(n_queries, k)``, in any order.

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
    """Return the mean value of each type's queries, the mean over queries, and the mean over types.

    NaN values are passed over. The mean over queries weighs types by their cells, that over types equally.

    Parameters
    ----------
    values
        One a query, ``(n_queries,)``.
    types
        Type of each, ``(n_queries,)``.
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
