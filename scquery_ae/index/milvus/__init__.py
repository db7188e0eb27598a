"""Search in Milvus, a vector database: in a local file (Milvus Lite) or on a server."""

from scquery_ae.index.milvus.index import MilvusIndex

__all__ = ["MilvusIndex"]
