"""Votes, calibration, conformal statistics and retrieval metrics; NumPy and SciPy only."""

from scquery_ae.stats.calibration import Combination, expected_calibration_error, fit_combination
from scquery_ae.stats.centroids import centroid_probabilities, type_centroids
from scquery_ae.stats.conformal import conformal_pvalues, set_threshold
from scquery_ae.stats.retrieval import average_precision
from scquery_ae.stats.votes import vote_probabilities

__all__ = [
    "Combination",
    "average_precision",
    "centroid_probabilities",
    "conformal_pvalues",
    "expected_calibration_error",
    "fit_combination",
    "set_threshold",
    "type_centroids",
    "vote_probabilities",
]
