"""What held-out cells of the reference say about its opinions."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from scquery_ae.stats import Combination, Standardization, conformal_pvalues, fit_combination, set_threshold

#: What the genes' own opinion counts, where those of head and neighbourhood count one each: less than these together,
#: for it is seldom unsure, and so would decide alone.
GENES_SAY = 1.6

#: What each kind of strangeness counts (the head's doubt, the distance among codes, that among principal components),
#: and whether its unit is what is usual for the type, or for all. Cells of a type that lie close together in the
#: components in one study may not do so in another.
STRANGENESS_SAYS = ((0.5, True), (1.0, True), (2.0, False))


def weights(share: float = 1.0) -> tuple[float, ...]:
    """Return what the opinions of head, neighbourhood and genes count.

    The first two come from a network that was trained on all genes; they count for the share of them that are there.
    """
    return (share, share, GENES_SAY)


def placed(opinions: Sequence[np.ndarray]) -> np.ndarray:
    """Return the type that each cell's code speaks for, int ``(n,)``: what it may be strange for.

    Codes and principal components are where strangeness is measured. The genes may know better which type it is, but
    not whether the cell lies among the type's cells.
    """
    head, around, _ = opinions
    return np.asarray((head + around).argmax(axis=1))


@dataclass(frozen=True)
class Calibration:
    """Fitted on cells that training did not see.

    Attributes
    ----------
    combination
        How several opinions make one probability.
    scales
        For each kind of strangeness, what is usual among held-out cells, and how much more counts for one.
    scores
        Nonconformity of each held-out cell, float64 ``(m,)``.
    groups
        The type that its code speaks for, int64 ``(m,)``.
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
        scales = tuple(Standardization.fit(nothing, nothing, n_types) for _ in range(n_kinds))
        return cls(Combination(), scales, nothing, nothing.astype(np.int64), nothing)

    @classmethod
    def fit(
        cls, opinions: Sequence[np.ndarray], strangeness: np.ndarray, truth: np.ndarray, method: str
    ) -> Calibration:
        """Fit on what is thought of held-out cells.

        Parameters
        ----------
        opinions
            Probabilities of each type by head, neighbourhood and genes, each ``(m, n_types)``.
        strangeness
            How strange each cell is in each of the ways of `STRANGENESS_SAYS`, larger is stranger, ``(m, n_kinds)``.
        truth
            Their types, int ``(m,)``.
        method
            Where the cells came from.
        """
        combination = fit_combination(opinions, truth, weights())
        probabilities = combination(opinions, weights())
        groups = placed(opinions)
        n_types = probabilities.shape[1]
        scales = tuple(
            _scale(kind, groups, n_types, *says) for kind, says in zip(strangeness.T, STRANGENESS_SAYS, strict=True)
        )
        return cls(
            combination=combination,
            scales=scales,
            scores=_nonconformity(scales, strangeness, groups),
            groups=groups,
            true_probabilities=probabilities[np.arange(len(truth)), truth],
            method=method,
        )

    def probabilities(self, opinions: Sequence[np.ndarray], share: float = 1.0) -> np.ndarray:
        """Return the calibrated probability of each type, ``(n, n_types)``.

        Parameters
        ----------
        opinions
            Of head, neighbourhood and genes, each ``(n, n_types)``.
        share
            Share of the model genes that the cells have.
        """
        return self.combination(opinions, weights(share))

    def nonconformity(self, strangeness: np.ndarray, groups: np.ndarray) -> np.ndarray:
        """Return how strange each cell is for the type that it is given, ``(n,)``.

        The ways of being strange are added, each in units of what is usual.
        """
        return _nonconformity(self.scales, strangeness, groups)

    def pvalues(self, scores: np.ndarray, groups: np.ndarray) -> np.ndarray:
        """Return how plausible it is that each cell belongs to the type that it is given, ``(n,)`` in (0, 1].

        `scores` are those of :meth:`nonconformity`.
        """
        return conformal_pvalues(scores, groups, self.scores, self.groups)

    def label_sets(self, probabilities: np.ndarray, coverage: float) -> np.ndarray:
        """Return which types cannot be ruled out, bool ``(n, n_types)``; the most probable always is among them."""
        sets = probabilities >= set_threshold(self.true_probabilities, coverage)
        sets[np.arange(len(sets)), probabilities.argmax(axis=1)] = True
        return sets


def _scale(kind: np.ndarray, groups: np.ndarray, n_types: int, says: float, by_type: bool) -> Standardization:
    """Return what is usual of a kind of strangeness; what counts twice as much has half the unit."""
    usual = Standardization.fit(kind, groups, n_types, by_type=by_type)
    return replace(usual, spread=usual.spread / says)


def _nonconformity(scales: Sequence[Standardization], strangeness: np.ndarray, groups: np.ndarray) -> np.ndarray:
    standard = [scale(kind, groups) for scale, kind in zip(scales, strangeness.T, strict=True)]
    return np.asarray(np.sum(standard, axis=0))
