"""What held-out cells of the reference say about its predictors."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from scquery_ae.stats import Combination, Standardization, conformal_pvalues, fit_combination, set_threshold

#: What the genes' own opinion counts, where those of classifier and neighborhood count one each: less than these together,
#: for it is seldom unsure, and so would decide alone.
DISCRIMINANT_WEIGHT = 1.6

#: What each kind of measures counts where cells of all types are ranked: the classifier's doubt, the distance among embeddings,
#: and that among principal components.
RANKING = (0.5, 1.0, 2.0)


def weights(share: float = 1.0) -> tuple[float, ...]:
    """Return what the predictors of classifier, neighborhood and genes count.

    The first two come from a network that was trained on all genes; they count for the share of them that are there.
    """
    return (share, share, DISCRIMINANT_WEIGHT)


def latent_types(members: Sequence[np.ndarray]) -> np.ndarray:
    """Return the type that each cell's code speaks for, int ``(n,)``: what it may be strange for.

    Codes and principal components are where measures is measured. The genes may know better which type it is, but
    not whether the cell lies among the type's cells.
    """
    classifier, around, _ = members
    return np.asarray((classifier + around).argmax(axis=1))


@dataclass(frozen=True)
class Calibration:
    """Fitted on cells that training did not see.

    Attributes
    ----------
    combination
        How several predictors make one probability.
    scales
        For each kind of measures, what is usual among held-out cells of each group; and for the last what is usual
        among all of them.
    scores
        Nonconformity of each held-out cell, float64 ``(m,)``.
    groups
        The type that its embedding speaks for, int64 ``(m,)``.
    true_probabilities
        Probability that its true type got, float64 ``(m,)``.
    method
        Where the cells came from: ``"held_out"``, ``"cross_validated"``, ``"leave_one_batch_out"`` or ``"none"``.
    """

    combination: Combination
    scales: tuple[Standardization, ...]
    scores: np.ndarray
    groups: np.ndarray
    true_probabilities: np.ndarray
    method: str = "none"

    @classmethod
    def empty(cls, n_types: int, n_kinds: int) -> Calibration:
        """Return the calibration of a reference without held-out cells: plain mean, every p-value 1, full sets."""
        nothing = np.zeros(0)
        scales = tuple(Standardization.fit(nothing, nothing, n_types) for _ in range(n_kinds + 1))
        return cls(Combination(), scales, nothing, nothing.astype(np.int64), nothing)

    @classmethod
    def fit(cls, members: Sequence[np.ndarray], measures: np.ndarray, truth: np.ndarray, method: str) -> Calibration:
        """Fit on what is thought of held-out cells.

        Parameters
        ----------
        members
            Probabilities of each type by classifier, neighborhood and genes, each ``(m, n_types)``.
        measures
            How strange each cell is in several ways, larger is stranger, ``(m, n_kinds)``.
        truth
            Their types, int ``(m,)``.
        method
            Where the cells came from.
        """
        combination = fit_combination(members, truth, weights())
        probabilities = combination(members, weights())
        groups = latent_types(members)
        n_types = probabilities.shape[1]
        by_type = [Standardization.fit(kind, groups, n_types) for kind in measures.T]
        scales = (*by_type, Standardization.fit(measures[:, -1], groups, n_types, by_type=False))
        return cls(
            combination=combination,
            scales=scales,
            scores=np.sum(_standard(scales, measures, groups), axis=0),
            groups=groups,
            true_probabilities=probabilities[np.arange(len(truth)), truth],
            method=method,
        )

    def probabilities(self, members: Sequence[np.ndarray], share: float = 1.0) -> np.ndarray:
        """Return the calibrated probability of each type, ``(n, n_types)``.

        Parameters
        ----------
        members
            Of classifier, neighborhood and genes, each ``(n, n_types)``.
        share
            Share of the model genes that the cells have.
        """
        return self.combination(members, weights(share))

    def nonconformity(self, measures: np.ndarray, groups: np.ndarray) -> np.ndarray:
        """Return how strange each cell is among those of the type that it is given, ``(n,)``.

        The ways of being strange are added, each in units of what is usual for the type.
        """
        return np.asarray(np.sum(_standard(self.scales, measures, groups), axis=0))

    def novelty(self, measures: np.ndarray, groups: np.ndarray) -> np.ndarray:
        """Return how strange each cell is among those of all types, ``(n,)``.

        The distance among components, the last kind, counts most, and in units of what is usual for all: a type whose
        cells lie close together in one study may not do so in another.
        """
        kinds = [*_standard(self.scales, measures, groups)[:-1], self.scales[-1](measures[:, -1], groups)]
        return np.asarray(np.sum([says * kind for says, kind in zip(RANKING, kinds, strict=True)], axis=0))

    def pvalues(self, scores: np.ndarray, groups: np.ndarray) -> np.ndarray:
        """Return how plausible it is that each cell belongs to the type that it is given, ``(n,)`` in (0, 1].

        `scores` are those of :meth:`nonconformity`.
        """
        return conformal_pvalues(scores, groups, self.scores, self.groups)

    def prediction_sets(self, probabilities: np.ndarray, coverage: float) -> np.ndarray:
        """Return which types cannot be ruled out, bool ``(n, n_types)``; the most probable always is among them."""
        sets = probabilities >= set_threshold(self.true_probabilities, coverage)
        sets[np.arange(len(sets)), probabilities.argmax(axis=1)] = True
        return sets


def _standard(scales: Sequence[Standardization], measures: np.ndarray, groups: np.ndarray) -> list[np.ndarray]:
    """Return each kind of measures in units of what is usual for the type."""
    by_type = scales[: measures.shape[1]]
    return [scale(kind, groups) for scale, kind in zip(by_type, measures.T, strict=True)]
