"""Neighbor search as a transformer for scanpy and scikit-learn."""

from __future__ import annotations

from typing import Any

import numpy as np
from scipy import sparse
from sklearn.base import BaseEstimator, TransformerMixin

from scquery_ae._checks import check_integer
from scquery_ae.index.base import check_vectors
from scquery_ae.index.choose import build_index


class NeighborsTransformer(TransformerMixin, BaseEstimator):
    """Compute a sparse graph of cosine neighbors, like :class:`sklearn.neighbors.KNeighborsTransformer`.

    ``sc.pp.neighbors(adata, use_rep="X_scquery", transformer=NeighborsTransformer(n_neighbors=15))``

    Parameters
    ----------
    n_neighbors
        Neighbors of each row, not counting the row itself.
    index
        Kind of index, as for :func:`scquery_ae.index.build_index`.
    """

    def __init__(self, n_neighbors: int = 15, *, index: str = "auto") -> None:
        self.n_neighbors = n_neighbors
        self.index = index

    def fit(self, X: Any, y: Any = None) -> NeighborsTransformer:  # noqa: ARG002 (scikit-learn's signature)
        """Index the rows of `X`, ``(n, d)``, scaled to unit length."""
        check_integer("n_neighbors", self.n_neighbors)
        vectors = _unit(X)
        self.index_ = build_index(vectors, self.index)
        self.n_samples_fit_ = len(vectors)
        return self

    def transform(self, X: Any) -> sparse.csr_matrix:
        """Return cosine distances to the nearest fitted rows, CSR ``(n, n_fitted)``.

        As in scikit-learn, each row has ``n_neighbors + 1`` entries: a fitted row finds itself first.
        """
        k = min(self.n_neighbors + 1, self.n_samples_fit_)
        neighbors = self.index_.search(_unit(X), k)
        pointers = np.arange(0, len(neighbors.indices) * k + 1, k)
        shape = (len(neighbors.indices), self.n_samples_fit_)
        return sparse.csr_matrix((neighbors.distances.ravel(), neighbors.indices.ravel(), pointers), shape=shape)


def _unit(x: Any) -> np.ndarray:
    vectors = check_vectors(x)
    norm = np.linalg.norm(vectors, axis=1, keepdims=True)
    return np.asarray(vectors / np.where(norm > 0, norm, 1), dtype=np.float32)
