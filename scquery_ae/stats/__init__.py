"""Votes, discriminant, calibration, conformal statistics and retrieval metrics on arrays, with NumPy and SciPy only."""

from scquery_ae.stats.calibration import Combination, expected_calibration_error, fit_combination
from scquery_ae.stats.centroids import centroid_probabilities, type_centroids, type_sums, unit_rows
from scquery_ae.stats.conformal import CORR_METHODS, conformal_pvalues, reject, set_threshold
from scquery_ae.stats.discriminant import GeneDiscriminant
from scquery_ae.stats.novelty import Standardization, TypeGaussians
from scquery_ae.stats.retrieval import average_flexible_precision, average_precision, mean_by_type
from scquery_ae.stats.votes import vote_probabilities

__all__ = [
    "CORR_METHODS",
    "Combination",
    "GeneDiscriminant",
    "Standardization",
    "TypeGaussians",
    "average_flexible_precision",
    "average_precision",
    "centroid_probabilities",
    "conformal_pvalues",
    "expected_calibration_error",
    "fit_combination",
    "mean_by_type",
    "reject",
    "set_threshold",
    "type_centroids",
    "type_sums",
    "unit_rows",
    "vote_probabilities",
]
