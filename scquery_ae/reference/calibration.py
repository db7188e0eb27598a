"""What held-out cells of the reference say about its opinions."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from scquery_ae.index import Neighbors
from scquery_ae.stats import Combination, conformal_pvalues, fit_combination, set_threshold

#: Hits whose mean distance says how far a cell is from the reference.
NOVELTY_HITS = 5


@dataclass(frozen=True)
class Calibration:
    """Fitted on cells that training did not see.

    Attributes
    ----------
    combination
        How several opinions make one probability.
    scores
        Nonconformity of each held-out cell, float64 ``(m,)``.
    groups
        Its predicted type, int64 ``(m,)``.
    true_probabilities
        Probability that its true type got, float64 ``(m,)``.
    """

    combination: Combination
    scores: np.ndarray
    groups: np.ndarray
    true_probabilities: np.ndarray

    @classmethod
    def empty(cls) -> Calibration:
        """Return the calibration of a reference without held-out cells: plain mean, every p-value 1, full sets."""
        nothing = np.zeros(0)
        return cls(Combination(), nothing, nothing.astype(np.int64), nothing)

    @classmethod
    def fit(cls, opinions: Sequence[np.ndarray], neighbors: Neighbors, truth: np.ndarray) -> Calibration:
        """Fit on what is thought of held-out cells.

        Parameters
        ----------
        opinions
            Probabilities of each type, from different sources, each ``(m, n_types)``.
        neighbors
            Their hits among cells that are not held out.
        truth
            Their types, int ``(m,)``.
        """
        combination = fit_combination(opinions, truth)
        probabilities = combination(opinions)
        return cls(
            combination=combination,
            scores=nonconformity(probabilities, neighbors),
            groups=probabilities.argmax(axis=1),
            true_probabilities=probabilities[np.arange(len(truth)), truth],
        )

    def pvalues(self, probabilities: np.ndarray, neighbors: Neighbors) -> np.ndarray:
        """Return how plausible it is that each cell belongs to the type it was given, ``(n,)`` in (0, 1]."""
        scores = nonconformity(probabilities, neighbors)
        return conformal_pvalues(scores, probabilities.argmax(axis=1), self.scores, self.groups)

    def label_sets(self, probabilities: np.ndarray, coverage: float) -> np.ndarray:
        """Return which types cannot be ruled out, bool ``(n, n_types)``; the most probable always is among them."""
        sets = probabilities >= set_threshold(self.true_probabilities, coverage)
        sets[np.arange(len(sets)), probabilities.argmax(axis=1)] = True
        return sets


def nonconformity(probabilities: np.ndarray, neighbors: Neighbors) -> np.ndarray:
    """Return how strange each cell is, 0 to 1: far from its nearest hits, or torn between types.

    One minus the mean cosine similarity of the five nearest hits times the probability of the likeliest type.
    """
    similarity = 1 - neighbors.distances[:, :NOVELTY_HITS].mean(axis=1, dtype=np.float64)
    return np.asarray(1 - np.maximum(similarity, 0) * probabilities.max(axis=1))
