"""Calibration of probabilities, p-values and prediction sets on held-out cells."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from scquery_ae.annotate.novelty import N_MEASURES
from scquery_ae.annotate.predictors import MemberProbabilities, combine, fit_members, latent_types
from scquery_ae.stats import Combination, Standardization, conformal_pvalues, set_threshold

#: Weights of the nonconformity measures in the novelty score: classifier, embedding, principal components.
NOVELTY_WEIGHTS = (0.5, 1.0, 2.0)


@dataclass(frozen=True)
class Calibration:
    """Calibration fitted to held-out cells, which training did not see.

    Attributes
    ----------
    combination
        Combines the member probabilities into one calibrated probability.
    scales
        Location and spread of each nonconformity measure among held-out cells of each type, and for the last measure
        also among all of them.
    scores
        Nonconformity score of each held-out cell, float64 ``(m,)``.
    groups
        Type near which each held-out cell lies in the embedding, int64 ``(m,)``.
    true_probabilities
        Calibrated probability of the true type of each held-out cell, float64 ``(m,)``.
    method
        Where the cells came from: ``"held_out"``, ``"cross_validated"``, ``"leave_one_batch_out"`` or ``"none"``.
    """

    combination: Combination
    scales: tuple[Standardization, ...]
    scores: np.ndarray
    groups: np.ndarray
    true_probabilities: np.ndarray
    method: str

    @classmethod
    def empty(cls, n_types: int) -> Calibration:
        """Return the calibration without held-out cells: temperature 1, p-values of 1, prediction sets of all types."""
        nothing = np.zeros(0)
        scales = tuple(Standardization.fit(nothing, nothing, n_types) for _ in range(N_MEASURES + 1))
        return cls(Combination(), scales, nothing, nothing.astype(np.int64), nothing, "none")

    @classmethod
    def fit(cls, members: MemberProbabilities, measures: np.ndarray, truth: np.ndarray, method: str) -> Calibration:
        """Fit to held-out cells.

        Parameters
        ----------
        members
            Member probabilities, each ``(m, n_types)``.
        measures
            Nonconformity measures with respect to :func:`latent_types`, ``(m, n_measures)``.
        truth
            Label codes, int ``(m,)``.
        method
            Where the cells came from.
        """
        combination = fit_members(members, truth)
        probabilities = combine(combination, members)
        groups = latent_types(members)
        n_types = probabilities.shape[1]
        by_type = [Standardization.fit(measure, groups, n_types) for measure in measures.T]
        scales = (*by_type, Standardization.fit(measures[:, -1], groups, n_types, by_type=False))
        return cls(
            combination=combination,
            scales=scales,
            scores=np.sum(_standardized(scales, measures, groups), axis=0),
            groups=groups,
            true_probabilities=probabilities[np.arange(len(truth)), truth],
            method=method,
        )

    def nonconformity(self, measures: np.ndarray, groups: np.ndarray) -> np.ndarray:
        """Return the nonconformity score of each cell with respect to its type, ``(n,)``.

        The score is the sum of the measures, each in units of its spread among held-out cells of the type.
        """
        return np.asarray(np.sum(_standardized(self.scales, measures, groups), axis=0))

    def novelty(self, measures: np.ndarray, groups: np.ndarray) -> np.ndarray:
        """Return the novelty score of each cell, which ranks cells of all types together, ``(n,)``.

        The score is a weighted sum of the measures. The distance in principal components weighs most, and its unit is
        the spread among all held-out cells: a type whose cells lie close together in one study may not do so in
        another.
        """
        measured = [*_standardized(self.scales, measures, groups)[:-1], self.scales[-1](measures[:, -1], groups)]
        return np.asarray(np.sum([weight * m for weight, m in zip(NOVELTY_WEIGHTS, measured, strict=True)], axis=0))

    def pvalues(self, scores: np.ndarray, groups: np.ndarray) -> np.ndarray:
        """Return the conformal p-value of each cell, ``(n,)`` in (0, 1].

        The null hypothesis is that the cell belongs to its type.

        Parameters
        ----------
        scores
            Nonconformity scores from :meth:`nonconformity`, ``(n,)``.
        groups
            Type near which each cell lies in the embedding, int ``(n,)``.
        """
        return conformal_pvalues(scores, groups, self.scores, self.groups)

    def prediction_sets(self, probabilities: np.ndarray, coverage: float) -> np.ndarray:
        """Return the types in each prediction set, bool ``(n, n_types)``; the most probable type is always in it."""
        sets = probabilities >= set_threshold(self.true_probabilities, coverage)
        sets[np.arange(len(sets)), probabilities.argmax(axis=1)] = True
        return sets


def _standardized(scales: Sequence[Standardization], measures: np.ndarray, groups: np.ndarray) -> list[np.ndarray]:
    """Return each measure in units of its spread among held-out cells of the type."""
    by_type = scales[: measures.shape[1]]
    return [scale(measure, groups) for scale, measure in zip(by_type, measures.T, strict=True)]
