"""Neighbour search in embeddings; knows neither AnnData nor Keras."""

from scquery_ae.index.base import NeighborIndex, Neighbors
from scquery_ae.index.exact import ExactIndex

__all__ = ["ExactIndex", "NeighborIndex", "Neighbors"]
