"""What every neighbour search takes and returns."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

import numpy as np

from scquery_ae._errors import ArgumentError


@dataclass(frozen=True)
class Neighbors:
    """The nearest items of each query, checked on creation.

    Attributes
    ----------
    indices
        Rows of the indexed items, int64 ``(n_queries, n_neighbors)``, nearest first.
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
                "Neighbours need int64 indices and float32 distances of one shape, (n_queries, n_neighbors). Received "
                f"{self.indices.dtype} {self.indices.shape} and {self.distances.dtype} {self.distances.shape}."
            )
            raise ArgumentError(msg)


class NeighborIndex(Protocol):
    """Search among unit-length vectors."""

    @property
    def n_items(self) -> int:
        """How many vectors can be found."""
        ...

    def search(self, queries: np.ndarray, n_neighbors: int) -> Neighbors:
        """Return the `n_neighbors` nearest vectors of each of ``(n_queries, n_latent)`` unit-length queries."""
        ...
