"""Votes, calibration, conformal statistics and retrieval metrics; NumPy and SciPy only."""

from scquery_ae.stats.calibration import Combination, expected_calibration_error, fit_combination
from scquery_ae.stats.conformal import conformal_pvalues, set_threshold
from scquery_ae.stats.retrieval import average_precision
from scquery_ae.stats.votes import vote_probabilities

__all__ = [
    "Combination",
    "average_precision",
    "conformal_pvalues",
    "expected_calibration_error",
    "fit_combination",
    "set_threshold",
    "vote_probabilities",
]
