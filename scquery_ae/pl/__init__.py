"""Plots of training, embeddings and query results."""

from scquery_ae.pl.check import check
from scquery_ae.pl.composition import composition
from scquery_ae.pl.confusion import confusion
from scquery_ae.pl.embedding import embedding
from scquery_ae.pl.explain import explain
from scquery_ae.pl.history import history
from scquery_ae.pl.neighbors_by_batch import neighbors_by_batch
from scquery_ae.pl.on_reference import on_reference
from scquery_ae.pl.query import query
from scquery_ae.pl.reliability import reliability
from scquery_ae.pl.risk_coverage import risk_coverage

__all__ = [
    "check",
    "composition",
    "confusion",
    "embedding",
    "explain",
    "history",
    "neighbors_by_batch",
    "on_reference",
    "query",
    "reliability",
    "risk_coverage",
]
