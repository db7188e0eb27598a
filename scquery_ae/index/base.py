"""The protocol of every index, the result of every search, and the checks that they have in common."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np

from scquery_ae._array_checks import check_array
from scquery_ae._errors import ArgumentError


@dataclass(frozen=True)
class Neighbors:
    """Nearest neighbors of each query. Shapes and types are checked on creation.

    Attributes
    ----------
    indices
        Rows of the indexed vectors, int64 ``(n_queries, n_neighbors)``, nearest first.
    distances
        Cosine distances, float32 of the same shape, 0 to 2, ascending in each row.
    """

    indices: np.ndarray
    distances: np.ndarray

    def __post_init__(self) -> None:
        if (
            self.indices.ndim != 2
            or self.indices.shape != self.distances.shape
            or self.indices.dtype != np.int64
            or self.distances.dtype != np.float32
        ):
            msg = (
                "Neighbors need int64 indices and float32 distances of one shape, (n_queries, n_neighbors). Received "
                f"{self.indices.dtype} {self.indices.shape} and {self.distances.dtype} {self.distances.shape}."
            )
            raise ArgumentError(msg)

    @classmethod
    def from_similarity(cls, similarity: np.ndarray, indices: np.ndarray) -> Neighbors:
        """Convert inner products of unit vectors to cosine distances."""
        # Rounding can move an inner product of unit vectors slightly outside [-1, 1].
        return cls(np.asarray(indices, dtype=np.int64), np.clip(1 - similarity, 0, 2).astype(np.float32))


class NeighborIndex(Protocol):
    """Search among unit-length vectors."""

    @property
    def n_items(self) -> int:
        """Number of indexed vectors."""
        ...

    def search(self, queries: np.ndarray, n_neighbors: int, *, among: np.ndarray | None = None) -> Neighbors:
        """Return the `n_neighbors` nearest vectors of each query.

        Parameters
        ----------
        queries
            Unit-length rows, ``(n_queries, n_latent)``.
        n_neighbors
            Neighbors per query, at most the number of vectors that are searched.
        among
            Rows to search, int; None for all.
        """
        ...


def check_vectors(vectors: np.ndarray) -> np.ndarray:
    """Return vectors to index as a C-contiguous float32 array."""
    vectors = np.ascontiguousarray(check_array("vectors", vectors, finite=True), dtype=np.float32)
    if vectors.ndim != 2 or 0 in vectors.shape:
        msg = f"Vectors to search must have shape (n_items, n_latent). Received {vectors.shape}."
        raise ArgumentError(msg)
    return vectors


def check_among(among: Any, n_items: int) -> np.ndarray | None:
    """Return the rows to search as int64, or None for all."""
    if among is None:
        return None
    rows = check_array("among", among, (None,), whole=True).astype(np.int64)
    if rows.size and not 0 <= rows.min() <= rows.max() < n_items:
        msg = f"`among` must be rows from 0 to {n_items - 1}. Received {rows.min()} to {rows.max()}."
        raise ArgumentError(msg)
    return rows


def check_queries(queries: np.ndarray, width: int) -> np.ndarray:
    """Return queries as float32 rows of the same width as the indexed vectors."""
    queries = np.ascontiguousarray(check_array("queries", queries, finite=True), dtype=np.float32)
    if queries.ndim != 2 or queries.shape[1] != width:
        msg = (
            f"Queries must have shape (n_queries, {width}), the width of the indexed embedding. "
            f"Received {queries.shape}; embed them with the reference's own encoder."
        )
        raise ArgumentError(msg)
    return queries
