"""Search in Milvus, a database of vectors: in a file of one's own, or on a server that many share."""

from scquery_ae.index.milvus.index import MilvusIndex

__all__ = ["MilvusIndex"]
