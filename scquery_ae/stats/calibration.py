"""Combination of predictors into one calibrated probability, by temperature scaling."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from scipy.optimize import minimize_scalar

from scquery_ae._array_checks import check_array
from scquery_ae._checks import check_integer, check_number
from scquery_ae._errors import ArgumentError

#: Weight of the uniform distribution in every mean probability, so that no type has probability 0.
UNIFORM_WEIGHT = 1e-3

#: Range of the temperature: a value outside it is more likely to come from few held-out points than from the
#: predictors.
TEMPERATURE_RANGE = (0.2, 5.0)


@dataclass(frozen=True)
class Combination:
    """The weighted mean of member probabilities, with temperature scaling.

    Only the temperature is fitted. The weights are given: held-out cells come from the reference's own batches and
    include few cells of rare types, so weights fitted to them would not suit a query from another batch.

    Attributes
    ----------
    temperature
        Mean probabilities are raised to the power of ``1 / temperature`` and normalised: values above 1 make them less
        certain, values below 1 more certain.
    """

    temperature: float = 1.0

    def __post_init__(self) -> None:
        check_number("temperature", self.temperature, 0, np.inf, closed="neither")

    def __call__(self, members: Sequence[np.ndarray], weights: Sequence[float] | None = None) -> np.ndarray:
        """Return the probability of each type, ``(n, n_types)``; rows sum to 1.

        Parameters
        ----------
        members
            Probabilities of each predictor, each ``(n, n_types)``.
        weights
            Weight of each predictor, at least 0 and not all 0; None for equal weights.
        """
        checked = _checked(members)
        mixed = np.average(checked, axis=0, weights=_checked_weights(weights, len(checked)))
        mixed = (1 - UNIFORM_WEIGHT) * mixed + UNIFORM_WEIGHT / mixed.shape[1]
        logits = np.log(mixed) / self.temperature
        logits -= logits.max(axis=1, keepdims=True)
        powered = np.exp(logits)
        return np.asarray(powered / powered.sum(axis=1, keepdims=True))


def fit_combination(
    members: Sequence[np.ndarray], truth: np.ndarray, weights: Sequence[float] | None = None
) -> Combination:
    """Fit the temperature that minimizes the log loss of held-out points.

    Parameters
    ----------
    members
        Probabilities of the held-out points by each predictor, each ``(m, n_types)``.
    truth
        True type of each point, int ``(m,)``.
    weights
        As for :class:`Combination`.

    Returns
    -------
    The combination; its temperature is 1 if there are no held-out points.

    References
    ----------
    Guo et al., On calibration of modern neural networks, ICML (2017).
    """
    checked = _checked(members)
    truth = check_array("truth", truth, checked[0].shape[:1], whole=True)
    if not len(truth):
        return Combination()
    if truth.min() < 0 or truth.max() >= checked[0].shape[1]:
        msg = (
            f"`truth` must be label codes of the {checked[0].shape[1]} types in `members`. "
            f"Received values from {truth.min()} to {truth.max()}."
        )
        raise ArgumentError(msg)
    rows = np.arange(len(truth))

    def loss(temperature: float) -> float:
        return float(-np.log(Combination(temperature)(members, weights)[rows, truth]).mean())

    return Combination(best_temperature(loss, TEMPERATURE_RANGE))


def best_temperature(loss: Callable[[float], float], between: tuple[float, float]) -> float:
    """Return the temperature with the smallest loss, by a bounded search on a logarithmic scale."""
    found = minimize_scalar(
        lambda log_temperature: loss(float(np.exp(log_temperature))), bounds=np.log(between), method="bounded"
    )
    return float(np.exp(found.x))


def _checked(members: Sequence[np.ndarray]) -> list[np.ndarray]:
    """Return member probabilities as arrays of one shape, each ``(n, n_types)``."""
    arrays: list[np.ndarray] = []
    if not isinstance(members, list | tuple | np.ndarray) or getattr(members, "ndim", 1) == 0:
        msg = f"`members` must be a sequence of arrays, each (n, n_types). Received {type(members).__name__}."
        raise ArgumentError(msg)
    for member in members:
        arrays.append(check_array("members", member, arrays[0].shape if arrays else (None, None)))
        if not ((arrays[-1] >= 0) & (arrays[-1] <= 1 + 1e-4)).all():
            msg = "`members` must be probabilities, in [0, 1]. Received values outside, or NaN."
            raise ArgumentError(msg)
    if not arrays or not arrays[0].shape[1]:
        msg = "`members` must hold at least one array (n, n_types), of at least one type. Received none."
        raise ArgumentError(msg)
    return arrays


def _checked_weights(weights: Sequence[float] | None, n: int) -> np.ndarray:
    if weights is None:
        return np.ones(n)
    checked = check_array("weights", weights, (n,), finite=True).astype(float)
    if (checked < 0).any() or not checked.any():
        msg = f"`weights` must be at least 0, and not all of them 0. Received {checked.tolist()}."
        raise ArgumentError(msg)
    return checked


def expected_calibration_error(confidence: np.ndarray, correct: np.ndarray, n_bins: int = 15) -> float:
    """Return the mean absolute difference of confidence and accuracy in bins of equal width, weighted by bin size.

    Parameters
    ----------
    confidence
        Probability of the predicted type, ``(n,)``.
    correct
        Whether the prediction is correct, bool ``(n,)``.
    n_bins
        Number of bins in [0, 1].

    References
    ----------
    Guo et al., On calibration of modern neural networks, ICML (2017).
    """
    check_integer("n_bins", n_bins)
    confidence = check_array("confidence", confidence, (None,))
    correct = check_array("correct", correct, confidence.shape).astype(float)
    if not len(confidence) or not ((confidence >= 0) & (confidence <= 1)).all():
        msg = "`confidence` must hold at least one probability, all of them in [0, 1]. Received none, or others."
        raise ArgumentError(msg)
    bins = np.minimum((confidence * n_bins).astype(int), n_bins - 1)
    gap = np.bincount(bins, weights=confidence - correct, minlength=n_bins)
    return float(np.abs(gap).sum() / len(bins))
