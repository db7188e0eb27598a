"""From two opinions on a cell, the head's and the neighbours', to one probability."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy.optimize import minimize

#: Share of every mixed probability that is spread over all types: no type is ever impossible.
FLOOR = 1e-3


@dataclass(frozen=True)
class Combination:
    """``temper(weight * head + (1 - weight) * vote)``.

    Attributes
    ----------
    weight
        Of the head's probabilities, 0 to 1.
    temperature
        Probabilities are raised to ``1 / temperature`` and normalised: above 1 less certain, below 1 more.
    """

    weight: float = 0.5
    temperature: float = 1.0

    def __call__(self, head: np.ndarray, vote: np.ndarray) -> np.ndarray:
        """Return the probabilities of each type, ``(n, n_types)``, rows summing to 1."""
        mixed = self.weight * head + (1 - self.weight) * vote
        mixed = (1 - FLOOR) * mixed + FLOOR / mixed.shape[1]
        logits = np.log(mixed) / self.temperature
        logits -= logits.max(axis=1, keepdims=True)
        powered = np.exp(logits)
        return powered / powered.sum(axis=1, keepdims=True)


def fit_combination(head: np.ndarray, vote: np.ndarray, truth: np.ndarray) -> Combination:
    """Choose weight and temperature that give held-out points the least log loss.

    Parameters
    ----------
    head, vote
        Probabilities of held-out points, ``(m, n_types)``.
    truth
        Their types, int ``(m,)``.

    Returns
    -------
    The combination; the plain mean where there is nothing to fit on.

    References
    ----------
    Guo et al., On calibration of modern neural networks, ICML (2017).
    """
    if not len(truth):
        return Combination()
    rows = np.arange(len(truth))

    def loss(parameters: np.ndarray) -> float:
        combination = _combination(parameters)
        chosen = combination(head, vote)[rows, truth]
        # A weak pull to the plain mean decides where held-out points cannot, as when all are right.
        return float(-np.log(chosen).mean() + 1e-3 * np.square(parameters).sum())

    fitted = minimize(loss, np.zeros(2), method="Nelder-Mead")
    return _combination(fitted.x)


def expected_calibration_error(confidence: np.ndarray, correct: np.ndarray, n_bins: int = 15) -> float:
    """Return the mean gap between confidence and accuracy over equal-width bins, weighted by their points.

    Parameters
    ----------
    confidence
        Probability of the predicted type, ``(n,)``.
    correct
        Whether it was right, bool ``(n,)``.
    n_bins
        Number of bins in [0, 1].

    References
    ----------
    Guo et al., On calibration of modern neural networks, ICML (2017).
    """
    bins = np.minimum((np.asarray(confidence) * n_bins).astype(int), n_bins - 1)
    gap = np.bincount(bins, weights=np.asarray(confidence) - np.asarray(correct), minlength=n_bins)
    return float(np.abs(gap).sum() / len(bins))


def _combination(parameters: np.ndarray) -> Combination:
    return Combination(weight=float(1 / (1 + np.exp(-parameters[0]))), temperature=float(np.exp(parameters[1])))
