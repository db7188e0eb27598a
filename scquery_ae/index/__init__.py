"""Nearest-neighbor search among unit-length vectors. This room knows neither AnnData nor Keras.

Every index follows the protocol `NeighborIndex` and returns `Neighbors`.
"""

from scquery_ae.index.approximate import ApproximateIndex
from scquery_ae.index.base import NeighborIndex, Neighbors
from scquery_ae.index.choose import INDEXES, build_index, choose_index, usable_index
from scquery_ae.index.exact import ExactIndex
from scquery_ae.index.milvus import MilvusIndex

__all__ = [
    "INDEXES",
    "ApproximateIndex",
    "ExactIndex",
    "MilvusIndex",
    "NeighborIndex",
    "Neighbors",
    "build_index",
    "choose_index",
    "usable_index",
]
