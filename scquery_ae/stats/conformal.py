"""Conformal p-values and prediction sets, valid for cells exchangeable with the calibration cells."""

from __future__ import annotations

import math

import numpy as np
from scipy.stats import false_discovery_control

from scquery_ae._array_checks import check_array
from scquery_ae._checks import check_choice, check_number
from scquery_ae._errors import ArgumentError

#: Corrections for testing many cells at once.
CORR_METHODS = ("benjamini-hochberg",)

#: Smallest number of calibration scores for which a group has p-values of its own, which are at least 1 / (n + 1).
MIN_GROUP = 20


def conformal_pvalues(
    scores: np.ndarray, groups: np.ndarray, calibration_scores: np.ndarray, calibration_groups: np.ndarray
) -> np.ndarray:
    """Return the class-conditional (Mondrian) conformal p-value of each point, ``(n,)`` in (0, 1].

    ``p = (1 + #{calibration scores of the group >= score}) / (1 + #{calibration scores of the group})``. The error rate
    therefore holds in each group, rare ones included. A group with fewer than 20 calibration scores uses those of all
    groups.

    Parameters
    ----------
    scores, groups
        Nonconformity score (larger is less typical) and group of each test point, ``(n,)``.
    calibration_scores, calibration_groups
        Nonconformity score and group of each held-out point, ``(m,)``.

    References
    ----------
    Vovk, Gammerman & Shafer, Algorithmic Learning in a Random World (2005), chapters 2 and 4.
    Bates et al., Annals of Statistics 51, 149 (2023).
    """
    scores, calibration_scores = (
        check_array(name, values, (None,))
        for name, values in (("scores", scores), ("calibration_scores", calibration_scores))
    )
    groups = check_array("groups", groups, scores.shape, whole=True)
    calibration_groups = check_array("calibration_groups", calibration_groups, calibration_scores.shape, whole=True)
    pooled = np.sort(calibration_scores)
    result = np.empty(len(scores))
    for group in np.unique(groups):
        mine = groups == group
        own = np.sort(calibration_scores[calibration_groups == group])
        used = own if len(own) >= MIN_GROUP else pooled
        at_least = len(used) - np.searchsorted(used, scores[mine], side="left")
        result[mine] = (1 + at_least) / (1 + len(used))
    return result


def reject(pvalues: np.ndarray, alpha: float, *, corr_method: str | None = None) -> np.ndarray:
    """Return for which points the null hypothesis is rejected, that is which are unknown, bool ``(n,)``.

    Parameters
    ----------
    pvalues
        p-value of each point under the null hypothesis that it belongs to the reference, ``(n,)``.
    alpha
        Level of the test. Without correction: expected fraction of known points that are called unknown. With
        correction: expected fraction of known points among those called unknown (false discovery rate).
    corr_method
        Correction for multiple testing over all points: None or ``"benjamini-hochberg"``.

    References
    ----------
    Benjamini & Hochberg, Journal of the Royal Statistical Society B 57, 289 (1995).
    Bates et al., Annals of Statistics 51, 149 (2023), on its validity for conformal p-values.
    """
    check_choice("corr_method", corr_method, CORR_METHODS, optional=True)
    check_number("alpha", alpha, 0, 1)
    pvalues = check_array("pvalues", pvalues, (None,))
    if not ((pvalues >= 0) & (pvalues <= 1)).all():
        msg = "`pvalues` must be in [0, 1]. Received values outside, or NaN; pass those of `conformal_pvalues`."
        raise ArgumentError(msg)
    if corr_method is None or not len(pvalues):
        return np.asarray(pvalues <= alpha)
    return np.asarray(false_discovery_control(pvalues) <= alpha)


def set_threshold(true_probabilities: np.ndarray, coverage: float) -> float:
    """Return the smallest probability with which a type is in a prediction set of the given coverage.

    Parameters
    ----------
    true_probabilities
        Predicted probability of the true type of each held-out point, ``(m,)``.
    coverage
        Expected fraction of prediction sets that hold the true type, in (0, 1).

    Returns
    -------
    The threshold; 0 (every type is in the set) if there are too few points for the coverage.

    References
    ----------
    Sadinle, Lei & Wasserman, Journal of the American Statistical Association 114, 223 (2019).
    """
    check_number("coverage", coverage, 0, 1, closed="neither")
    true_probabilities = check_array("true_probabilities", true_probabilities, (None,))
    m = len(true_probabilities)
    # In floating point, 10 * (1 - 0.8) is slightly below 2.
    rank = min(math.floor((m + 1) * (1 - coverage) + 1e-9), m)
    return float(np.sort(true_probabilities)[rank - 1]) if rank >= 1 else 0.0
