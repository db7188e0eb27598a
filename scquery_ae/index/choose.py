"""Choice of an index by the number of vectors."""

from __future__ import annotations

import numpy as np

from scquery_ae._checks import check_choice
from scquery_ae.index.approximate import KINDS, ApproximateIndex
from scquery_ae.index.base import NeighborIndex, check_vectors
from scquery_ae.index.exact import ExactIndex

INDEXES = ("auto", "exact", *KINDS)

#: Number of vectors up to which exact search is the default, and up to which a graph is small enough.
EXACT_UP_TO = 100_000
GRAPH_UP_TO = 2_000_000


def choose_index(n_items: int, kind: str = "auto") -> str:
    """Return the default kind of index for `n_items` vectors, or `kind` itself unless it is ``"auto"``."""
    check_choice("index", kind, INDEXES)
    if kind != "auto":
        return kind
    if n_items <= EXACT_UP_TO:
        return "exact"
    return "hnsw" if n_items <= GRAPH_UP_TO else "int8"


def usable_index(n_items: int, kind: str = "auto") -> str:
    """Return the kind that :func:`choose_index` returns, or ``"exact"`` if `n_items` is too small to train it."""
    chosen = choose_index(n_items, kind)
    return chosen if chosen in KINDS and n_items >= KINDS[chosen].min_vectors else "exact"


def build_index(vectors: np.ndarray, kind: str = "auto") -> NeighborIndex:
    """Build an index over unit-length vectors.

    Parameters
    ----------
    vectors
        Unit-length rows, float32 ``(n_items, n_latent)``.
    kind
        ``"exact"``, ``"hnsw"``, ``"ivf"``, ``"int8"``, ``"pq"`` or ``"auto"``. ``"auto"`` is exact search up to 100,000
        vectors, ``"hnsw"`` up to two million, and ``"int8"`` above.

    Raises
    ------
    ArgumentError
        If `kind` is unknown, or there are too few vectors for it.
    """
    vectors = check_vectors(vectors)
    chosen = choose_index(len(vectors), kind)
    return ExactIndex(vectors) if chosen == "exact" else ApproximateIndex.build(vectors, chosen)
