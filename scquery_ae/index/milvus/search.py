"""How far to look in a collection for the nearest, and what to do where that was not far enough."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

from scquery_ae._checks import check_neighbors
from scquery_ae._errors import ArgumentError, SearchServiceError
from scquery_ae.index.approximate import EF_SEARCH, PROBED
from scquery_ae.index.base import Neighbors
from scquery_ae.index.exact import ExactIndex
from scquery_ae.index.milvus.collection import Collection

#: Limits of Milvus: neighbors of a query, breadth of a search in a graph.
MOST_HITS = 16_384
MOST_EF = 32_768
#: Limits of our own on one request: Milvus reads a filter anew for each, and the embedded file's server cuts off one
#: that takes half a minute.
REQUEST_HITS = 1_000_000
REQUEST_QUERIES = 512
#: Vectors that a filter may leave for them to be compared here, one by one, and how much farther to look for more.
FETCHED = 10_000
WIDENED = 16


def nearest(
    held: Collection, queries: np.ndarray, n_neighbors: int, conditions: Sequence[str], *, by_value: bool
) -> Neighbors:
    """Return the nearest rows that meet any of the conditions, which say something of values or not."""
    if n_neighbors > MOST_HITS:
        check_neighbors(n_neighbors, held.count([""]))
        msg = (
            f"Milvus gives at most {MOST_HITS} neighbors a query. Received `n_neighbors={n_neighbors}`; ask for fewer."
        )
        raise ArgumentError(msg)
    wider = 1.0
    if held.kind != "exact" and any(conditions):
        # Graphs and lists are slow, and miss much, where few are let through.
        left = _left(held, n_neighbors, conditions, by_value=by_value)
        if left <= FETCHED:
            return _compared(held, queries, n_neighbors, conditions)
        wider = min(held.count([""]) / left, WIDENED)
    rows, similarity = _found(held, queries, n_neighbors, conditions, breadth(held, n_neighbors, wider))
    short = (rows < 0).any(axis=1)
    if short.any() or not len(queries):
        _left(held, n_neighbors, conditions, by_value=by_value)
        # Lists or graph ran out before enough was found: look everywhere.
        widest = breadth(held, n_neighbors, math.inf)
        rows[short], similarity[short] = _found(held, queries[short], n_neighbors, conditions, widest)
        if (rows < 0).any():
            msg = (
                f"Milvus found fewer than {n_neighbors} neighbors in {held.name!r}, where there are enough. "
                'Build it with `kind="exact"`, or filter less.'
            )
            raise SearchServiceError(msg)
    return Neighbors.from_similarity(similarity, rows)


def breadth(held: Collection, n_neighbors: int, wider: float) -> dict[str, int]:
    """Return how far to look for some neighbors, so many times as far as usual."""
    if held.kind == "hnsw":
        return {"ef": math.ceil(min(max(EF_SEARCH, 2 * n_neighbors) * wider, MOST_EF))}
    if held.n_lists:
        return {"nprobe": math.ceil(min(max(PROBED, held.n_lists // 16) * wider, held.n_lists))}
    return {}


def _left(held: Collection, n_neighbors: int, conditions: Sequence[str], *, by_value: bool) -> int:
    """Return how many vectors can be found, unless they are too few."""
    left = held.count(conditions)
    if by_value and left < n_neighbors:
        msg = (
            f"`n_neighbors={n_neighbors}` is more than the {left} vectors that the filter leaves. "
            "Ask for fewer, or filter less."
        )
        raise ArgumentError(msg)
    check_neighbors(n_neighbors, left)
    return left


def _compared(held: Collection, queries: np.ndarray, n_neighbors: int, conditions: Sequence[str]) -> Neighbors:
    """Return the nearest of the vectors that meet any of the conditions, which are fetched and compared."""
    fetched = [item for condition in conditions for item in held.query(condition, ["row", "vector"])]
    rows = np.array([item["row"] for item in fetched], dtype=np.int64)
    neighbors = ExactIndex(np.array([item["vector"] for item in fetched], dtype=np.float32)).search(
        queries, n_neighbors
    )
    return Neighbors(rows[neighbors.indices], neighbors.distances)


def _found(
    held: Collection, queries: np.ndarray, n_neighbors: int, conditions: Sequence[str], how: dict[str, int]
) -> tuple[np.ndarray, np.ndarray]:
    """Return rows, -1 where there are none, and similarities, of the best that meet any of the conditions."""
    step = min(REQUEST_QUERIES, REQUEST_HITS // n_neighbors)
    rows = np.full((len(queries), n_neighbors), -1, dtype=np.int64)
    similarity = np.full(rows.shape, -np.inf, dtype=np.float32)
    for start in range(0, len(queries), step):
        answers = [
            held.service(
                "search",
                held.name,
                data=list(queries[start : start + step]),
                filter=condition,
                limit=n_neighbors,
                search_params={"metric_type": "IP", "params": how},
                consistency_level="Strong",
            )
            for condition in conditions
        ]
        for i, neighbors in enumerate(zip(*answers, strict=True), start):
            ids = np.array([row for part in neighbors for row in part.ids], dtype=np.int64)
            near = np.array([value for part in neighbors for value in part.distances], dtype=np.float32)
            best = np.argsort(-near, kind="stable")[:n_neighbors]
            rows[i, : len(best)], similarity[i, : len(best)] = ids[best], near[best]
    return rows, similarity
