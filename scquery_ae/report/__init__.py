"""An HTML page about one query: composition, confidence, what to doubt, and how the query was run."""

from scquery_ae.report.write import write

__all__ = ["write"]
