"""Public datasets, from installed packages or downloaded once, each file pinned by its SHA-256."""

from scquery_ae.datasets.islets import baron_human1
from scquery_ae.datasets.kang import pbmc_kang
from scquery_ae.datasets.pbmc import pbmc68k_reduced

__all__ = ["baron_human1", "pbmc68k_reduced", "pbmc_kang"]
