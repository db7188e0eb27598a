"""One probability from the three predictors."""

from __future__ import annotations

import numpy as np

from scquery_ae.annotate.predictors import MemberProbabilities
from scquery_ae.stats import Combination, fit_combination

#: Weight of the discriminant, where classifier and neighbors have weight 1 each: less than both together, because the
#: discriminant is seldom unsure and would otherwise decide alone.
DISCRIMINANT_WEIGHT = 1.6


def member_weights(gene_fraction: float = 1.0) -> tuple[float, float, float]:
    """Return the weights of classifier, neighbors and discriminant.

    Classifier and neighbors depend on a network that was trained on all genes; their weight is the fraction of the
    model genes that the cells have.
    """
    return (gene_fraction, gene_fraction, DISCRIMINANT_WEIGHT)


def fit_members(members: MemberProbabilities, truth: np.ndarray) -> Combination:
    """Fit the temperature of the combined probability to held-out cells of known types, int ``(m,)``."""
    return fit_combination(members, truth, member_weights())


def combine(combination: Combination, members: MemberProbabilities, gene_fraction: float = 1.0) -> np.ndarray:
    """Return the calibrated probability of each type, float64 ``(n, n_types)``.

    Parameters
    ----------
    combination
        Fitted by :func:`fit_members`.
    members
        Member probabilities.
    gene_fraction
        Fraction of the model genes that the cells have, 0 to 1.
    """
    return combination(members, member_weights(gene_fraction))
