"""Search in a collection: breadth, batches of queries, and a second attempt if the first search was too narrow."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

from scquery_ae._checks import check_neighbors
from scquery_ae._errors import ArgumentError, SearchServiceError
from scquery_ae.index.approximate import EF_SEARCH, N_PROBES
from scquery_ae.index.base import Neighbors
from scquery_ae.index.exact import ExactIndex
from scquery_ae.index.milvus.collection import Collection

#: Milvus' limits on the neighbors of a query, and on the candidates in a search of a graph.
MAX_NEIGHBORS = 16_384
MAX_EF = 32_768
#: Our own limits on one request. Milvus parses a filter again for each request, and Milvus Lite cancels a request that
#: takes half a minute.
REQUEST_NEIGHBORS = 1_000_000
REQUEST_QUERIES = 512
#: If a filter leaves at most so many vectors, fetch and compare them exactly. Otherwise widen the search by up to this
#: factor.
MAX_FETCHED = 10_000
MAX_WIDENING = 16


def nearest(
    collection: Collection, queries: np.ndarray, n_neighbors: int, conditions: Sequence[str], *, by_value: bool
) -> Neighbors:
    """Return the nearest rows that meet any of the conditions.

    Parameters
    ----------
    collection
        Collection to search.
    queries
        Unit-length rows, ``(n_queries, n_latent)``.
    n_neighbors
        Neighbors per query.
    conditions
        Disjoint filters.
    by_value
        Whether the filters use metadata. The message for too few vectors differs.
    """
    if n_neighbors > MAX_NEIGHBORS:
        check_neighbors(n_neighbors, collection.count([""]))
        msg = (
            f"Milvus returns at most {MAX_NEIGHBORS} neighbors per query. Received `n_neighbors={n_neighbors}`; "
            "ask for fewer."
        )
        raise ArgumentError(msg)
    widening = 1.0
    if collection.kind != "exact" and any(conditions):
        # An approximate search is slow and misses many neighbors if the filter leaves few vectors.
        n_left = _count(collection, n_neighbors, conditions, by_value=by_value)
        if n_left <= MAX_FETCHED:
            return _compare(collection, queries, n_neighbors, conditions)
        widening = min(collection.count([""]) / n_left, MAX_WIDENING)
    rows, similarity = _search(collection, queries, n_neighbors, conditions, breadth(collection, n_neighbors, widening))
    short = (rows < 0).any(axis=1)
    if short.any() or not len(queries):
        _count(collection, n_neighbors, conditions, by_value=by_value)
        # The lists or the graph ended before enough neighbors were found: search everything.
        widest = breadth(collection, n_neighbors, math.inf)
        rows[short], similarity[short] = _search(collection, queries[short], n_neighbors, conditions, widest)
        if (rows < 0).any():
            msg = (
                f"Milvus found fewer than {n_neighbors} neighbors in {collection.name!r}, although there are enough "
                'vectors. Build the collection with `kind="exact"`, or use a weaker filter.'
            )
            raise SearchServiceError(msg)
    return Neighbors.from_similarity(similarity, rows)


def breadth(collection: Collection, n_neighbors: int, widening: float) -> dict[str, int]:
    """Return Milvus' search parameters, with a breadth `widening` times the usual."""
    if collection.kind == "hnsw":
        return {"ef": math.ceil(min(max(EF_SEARCH, 2 * n_neighbors) * widening, MAX_EF))}
    if collection.n_lists:
        usual = max(N_PROBES, collection.n_lists // 16)
        return {"nprobe": math.ceil(min(usual * widening, collection.n_lists))}
    return {}


def _count(collection: Collection, n_neighbors: int, conditions: Sequence[str], *, by_value: bool) -> int:
    """Return the number of vectors that meet the conditions. Raise if there are fewer than `n_neighbors`."""
    n_left = collection.count(conditions)
    if by_value and n_left < n_neighbors:
        msg = (
            f"`n_neighbors={n_neighbors}` is more than the {n_left} vectors that the filter leaves. "
            "Ask for fewer neighbors, or use a weaker filter."
        )
        raise ArgumentError(msg)
    check_neighbors(n_neighbors, n_left)
    return n_left


def _compare(collection: Collection, queries: np.ndarray, n_neighbors: int, conditions: Sequence[str]) -> Neighbors:
    """Fetch the vectors that meet the conditions, and search them exactly."""
    fetched = [item for condition in conditions for item in collection.query(condition, ["row", "vector"])]
    rows = np.array([item["row"] for item in fetched], dtype=np.int64)
    vectors = np.array([item["vector"] for item in fetched], dtype=np.float32)
    neighbors = ExactIndex(vectors).search(queries, n_neighbors)
    return Neighbors(rows[neighbors.indices], neighbors.distances)


def _search(
    collection: Collection,
    queries: np.ndarray,
    n_neighbors: int,
    conditions: Sequence[str],
    parameters: dict[str, int],
) -> tuple[np.ndarray, np.ndarray]:
    """Return rows, -1 where none was found, and similarities."""
    step = min(REQUEST_QUERIES, REQUEST_NEIGHBORS // n_neighbors)
    rows = np.full((len(queries), n_neighbors), -1, dtype=np.int64)
    similarity = np.full(rows.shape, -np.inf, dtype=np.float32)
    for start in range(0, len(queries), step):
        answers = [
            collection.service(
                "search",
                collection.name,
                data=list(queries[start : start + step]),
                filter=condition,
                limit=n_neighbors,
                search_params={"metric_type": "IP", "params": parameters},
                consistency_level="Strong",
            )
            for condition in conditions
        ]
        for i, found in enumerate(zip(*answers, strict=True), start):
            ids = np.array([row for part in found for row in part.ids], dtype=np.int64)
            values = np.array([value for part in found for value in part.distances], dtype=np.float32)
            best = np.argsort(-values, kind="stable")[:n_neighbors]
            rows[i, : len(best)], similarity[i, : len(best)] = ids[best], values[best]
    return rows, similarity
