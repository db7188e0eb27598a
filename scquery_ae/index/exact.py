"""Exact search with faiss."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from scquery_ae._checks import check_neighbors
from scquery_ae.index.base import Neighbors, check_among, check_queries


@dataclass(frozen=True)
class ExactIndex:
    """Compare each query with every vector (``faiss.knn``).

    The index uses the vectors in place: a memory-mapped embedding stays on disk, and the index stores nothing else.

    Attributes
    ----------
    vectors
        Unit-length rows, float32 ``(n_items, n_latent)``, C-contiguous.
    """

    vectors: np.ndarray

    @property
    def n_items(self) -> int:
        """Number of indexed vectors."""
        return len(self.vectors)

    def search(self, queries: np.ndarray, n_neighbors: int, *, among: np.ndarray | None = None) -> Neighbors:
        """Return the nearest vectors of each query. See :meth:`NeighborIndex.search` for the parameters."""
        import faiss

        among = check_among(among, self.n_items)
        vectors = self.vectors if among is None else np.ascontiguousarray(self.vectors[among])
        check_neighbors(n_neighbors, len(vectors))
        queries = check_queries(queries, self.vectors.shape[1])
        similarity, indices = faiss.knn(queries, vectors, n_neighbors, metric=faiss.METRIC_INNER_PRODUCT)
        return Neighbors.from_similarity(similarity, indices if among is None else among[indices])
