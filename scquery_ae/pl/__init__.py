"""Plots: what training, embeddings and queries look like. Nothing is trained or changed here."""

from scquery_ae.pl.embedding import embedding
from scquery_ae.pl.explain import explain
from scquery_ae.pl.history import history
from scquery_ae.pl.query import query

__all__ = ["embedding", "explain", "history", "query"]
