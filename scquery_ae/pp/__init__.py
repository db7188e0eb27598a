"""Preprocessing: normalisation, gene alignment, and the check before a query."""

from scquery_ae.pp._report import CheckReport
from scquery_ae.pp.align_genes import align_genes
from scquery_ae.pp.check import check
from scquery_ae.pp.normalize import normalize

__all__ = ["CheckReport", "align_genes", "check", "normalize"]
