"""Exact search through faiss."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from scquery_ae._checks import check_neighbors
from scquery_ae._errors import ArgumentError
from scquery_ae.index.base import Neighbors


@dataclass(frozen=True)
class ExactIndex:
    """Compare each query with every vector (``faiss.knn``).

    The vectors are used where they lie: a memory-mapped embedding stays on disk, and nothing beside it has
    to be stored.

    Attributes
    ----------
    vectors
        Unit-length rows, float32 ``(n_items, n_latent)``, C-contiguous.
    """

    vectors: np.ndarray

    @property
    def n_items(self) -> int:
        """How many vectors can be found."""
        return len(self.vectors)

    def search(self, queries: np.ndarray, n_neighbors: int) -> Neighbors:
        """Return the `n_neighbors` nearest vectors of each of ``(n_queries, n_latent)`` unit-length queries."""
        import faiss

        check_neighbors(n_neighbors, self.n_items)
        queries = np.ascontiguousarray(queries, dtype=np.float32)
        if queries.ndim != 2 or queries.shape[1] != self.vectors.shape[1]:
            msg = (
                f"Queries must have shape (n_queries, {self.vectors.shape[1]}), as the embedding has. "
                f"Received {queries.shape}; embed them with the reference's own encoder."
            )
            raise ArgumentError(msg)
        similarity, indices = faiss.knn(queries, self.vectors, n_neighbors, metric=faiss.METRIC_INNER_PRODUCT)
        # Rounding leaves products of unit vectors a little outside [-1, 1].
        distances = np.clip(1 - similarity, 0, 2).astype(np.float32)
        return Neighbors(np.asarray(indices, dtype=np.int64), distances)
