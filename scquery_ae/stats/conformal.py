"""Conformal p-values and prediction sets: error rates that hold for exchangeable cells."""

from __future__ import annotations

import math

import numpy as np
from scipy.stats import false_discovery_control

from scquery_ae._array_checks import check_array
from scquery_ae._checks import check_choice, check_number
from scquery_ae._errors import ArgumentError

#: Corrections for testing many cells at once.
CORR_METHODS = ("benjamini-hochberg",)

#: Types with fewer calibration cells share one pool: p-values cannot fall below 1 / (n + 1).
MIN_GROUP = 20


def conformal_pvalues(
    scores: np.ndarray, groups: np.ndarray, calibration_scores: np.ndarray, calibration_groups: np.ndarray
) -> np.ndarray:
    """Return how unusual each score is among held-out scores of its group, ``(n,)`` in (0, 1].

    ``p = (1 + #{calibration scores >= score}) / (1 + #calibration scores)``, group by group (Mondrian), so that
    a rare type keeps its own error rate. A group with fewer than 20 calibration scores uses all of them.

    Parameters
    ----------
    scores, groups
        Nonconformity (larger is stranger) and group of each test point, ``(n,)``.
    calibration_scores, calibration_groups
        The same of points that were held out, ``(m,)``.

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
    """Return which points to call unknown, bool ``(n,)``.

    Parameters
    ----------
    pvalues
        Of belonging to the reference, ``(n,)``.
    alpha
        Level of the test. Without a correction, the expected fraction of known points that are called unknown; with
        one, the expected fraction of known points among those called unknown (the false discovery rate).
    corr_method
        Correction for multiple testing: None, or ``"benjamini-hochberg"`` over all points.

    References
    ----------
    Benjamini & Hochberg, Journal of the Royal Statistical Society B 57, 289 (1995).
    Bates et al., Annals of Statistics 51, 149 (2023): with conformal p-values it holds too.
    """
    check_choice("corr_method", corr_method, CORR_METHODS, optional=True)
    check_number("alpha", alpha, 0, 1)
    pvalues = check_array("pvalues", pvalues, (None,))
    if not ((pvalues >= 0) & (pvalues <= 1)).all():
        msg = "`pvalues` must be in [0, 1]. Received others, or missing ones; give those of `conformal_pvalues`."
        raise ArgumentError(msg)
    if corr_method is None or not len(pvalues):
        return np.asarray(pvalues <= alpha)
    return np.asarray(false_discovery_control(pvalues) <= alpha)


def set_threshold(true_probabilities: np.ndarray, coverage: float) -> float:
    """Return the least probability at which a type enters a prediction set of the given coverage.

    Parameters
    ----------
    true_probabilities
        Probability that held-out points got for their true type, ``(m,)``.
    coverage
        Share of sets that are to hold the true type, in (0, 1).

    Returns
    -------
    The threshold; 0 (every type enters) where there are too few points for the coverage.

    References
    ----------
    Sadinle, Lei & Wasserman, Journal of the American Statistical Association 114, 223 (2019).
    """
    check_number("coverage", coverage, 0, 1, closed="neither")
    true_probabilities = check_array("true_probabilities", true_probabilities, (None,))
    m = len(true_probabilities)
    # The nudge keeps 10 * (1 - 0.8) from being 1.
    rank = min(math.floor((m + 1) * (1 - coverage) + 1e-9), m)
    return float(np.sort(true_probabilities)[rank - 1]) if rank >= 1 else 0.0
