"""Public datasets, read offline from installed packages."""

from scquery_ae.datasets.islets import baron_human1
from scquery_ae.datasets.pbmc import pbmc68k_reduced

__all__ = ["baron_human1", "pbmc68k_reduced"]
