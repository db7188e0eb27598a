"""Which search for how many vectors."""

from __future__ import annotations

import numpy as np

from scquery_ae._checks import check_choice
from scquery_ae.index.approximate import FACTORIES, LEAST, ApproximateIndex
from scquery_ae.index.base import NeighborIndex, check_vectors
from scquery_ae.index.exact import ExactIndex

INDEXES = ("auto", "exact", *FACTORIES)

#: Vectors up to which exact search is fast enough to be the default, and up to which a graph is small enough.
EXACT_UP_TO = 100_000
GRAPH_UP_TO = 2_000_000


def choose_index(n_items: int, kind: str = "auto") -> str:
    """Return the kind of index for a number of vectors, or `kind` itself unless it is ``"auto"``."""
    check_choice("index", kind, INDEXES)
    if kind != "auto":
        return kind
    if n_items <= EXACT_UP_TO:
        return "exact"
    return "hnsw" if n_items <= GRAPH_UP_TO else "int8"


def usable_index(n_items: int, kind: str = "auto") -> str:
    """Return the kind of :func:`choose_index`, or ``"exact"`` where there are too few vectors for it."""
    chosen = choose_index(n_items, kind)
    return chosen if n_items >= LEAST.get(chosen, 1) else "exact"


def build_index(vectors: np.ndarray, kind: str = "auto") -> NeighborIndex:
    """Build the search over unit-length rows, float32 ``(n_items, n_latent)``.

    Parameters
    ----------
    vectors
        Unit-length rows.
    kind
        ``"exact"``, ``"hnsw"``, ``"ivf"``, ``"int8"``, ``"pq"``, or ``"auto"``: exact up to 100,000 vectors, a graph up
        to two million, compressed lists above.

    Raises
    ------
    ArgumentError
        If there is no such kind, or there are too few vectors for it.
    """
    vectors = check_vectors(vectors)
    chosen = choose_index(len(vectors), kind)
    return ExactIndex(vectors) if chosen == "exact" else ApproximateIndex.build(vectors, chosen)
