"""Plots: what training, embeddings and queries look like. Nothing is trained or changed here."""

from scquery_ae.pl.composition import composition
from scquery_ae.pl.confusion import confusion
from scquery_ae.pl.embedding import embedding
from scquery_ae.pl.explain import explain
from scquery_ae.pl.history import history
from scquery_ae.pl.hits_by_study import hits_by_study
from scquery_ae.pl.on_reference import on_reference
from scquery_ae.pl.preflight import preflight
from scquery_ae.pl.query import query
from scquery_ae.pl.reliability import reliability
from scquery_ae.pl.report import report
from scquery_ae.pl.risk_coverage import risk_coverage

__all__ = [
    "composition",
    "confusion",
    "embedding",
    "explain",
    "history",
    "hits_by_study",
    "on_reference",
    "preflight",
    "query",
    "reliability",
    "report",
    "risk_coverage",
]
