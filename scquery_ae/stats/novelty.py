"""Mahalanobis distances to types, and standardization of scores by type."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from scipy import sparse

from scquery_ae._array_checks import check_array, check_labels, check_n_types
from scquery_ae._errors import ArgumentError

#: Fraction of the mean variance that is added to the variance of every direction: the smallest eigenvalues of a sample
#: covariance are too small, and zero with fewer cells than directions.
SHRINKAGE = 0.1

#: Smallest number of scores for which a type has a location and spread of its own.
MIN_CELLS = 10


@dataclass(frozen=True)
class TypeGaussians:
    """A normal distribution for each type, with one shrunk covariance matrix for all types.

    Attributes
    ----------
    means
        Mean of each type, float32 ``(n_types, d)``.
    whitening
        Matrix by which points are multiplied, so that Euclidean distances become Mahalanobis distances, float32
        ``(d, d)``.

    References
    ----------
    Lee et al., A simple unified framework for detecting out-of-distribution samples, NeurIPS (2018).
    """

    means: np.ndarray
    whitening: np.ndarray

    @classmethod
    def fit(cls, x: np.ndarray, labels: np.ndarray, n_types: int) -> TypeGaussians:
        """Fit to the labelled points; a type without points gets the mean of all labelled points.

        Parameters
        ----------
        x
            Points, ``(n, d)``.
        labels
            Label code of each point, int ``(n,)``; -1 for none.
        n_types
            Number of types.
        """
        x = check_array("x", x, (None, None), finite=True)
        labels = check_labels("labels", labels, x.shape[:1], n_types)
        if not x.shape[1] or not (labels >= 0).any():
            msg = f"`x` must hold a labelled point with at least one feature. Received none, in shape {x.shape}."
            raise ArgumentError(msg)
        n = np.bincount(labels[labels >= 0], minlength=n_types)
        sums = np.zeros((n_types, x.shape[1]))
        # In blocks, because a copy of all cells in double precision would be the largest array in memory.
        for part, own in _labelled_blocks(x, labels):
            indicator = sparse.csr_matrix((np.ones(len(own)), (own, np.arange(len(own)))), shape=(n_types, len(own)))
            sums += indicator @ part
        means = np.where(n[:, None] > 0, sums / np.maximum(n, 1)[:, None], sums.sum(axis=0) / n.sum())
        covariance = np.zeros((x.shape[1], x.shape[1]))
        for part, own in _labelled_blocks(x, labels):
            deviations = part - means[own]
            covariance += deviations.T @ deviations / n.sum()
        scale = max(float(np.trace(covariance)) / len(covariance), 1e-12)
        covariance += SHRINKAGE * scale * np.eye(len(covariance))
        whitening = np.linalg.cholesky(np.linalg.inv(covariance))
        return cls(means.astype(np.float32), whitening.astype(np.float32))

    def distances(self, x: np.ndarray, labels: np.ndarray) -> np.ndarray:
        """Return the Mahalanobis distance of each point to the mean of the type in `labels`, float64 ``(n,)``."""
        return np.asarray(np.linalg.norm((x - self.means[labels]) @ self.whitening, axis=1), dtype=np.float64)


def _labelled_blocks(x: np.ndarray, labels: np.ndarray, size: int = 65_536) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Yield blocks of labelled points in double precision with their label codes."""
    for start in range(0, len(x), size):
        own = labels[start : start + size]
        yield np.asarray(x[start : start + size][own >= 0], dtype=np.float64), own[own >= 0]


@dataclass(frozen=True)
class Standardization:
    """Standardization of scores by type, so that scores with different units can be added.

    Attributes
    ----------
    location, spread
        Mean and standard deviation of the scores of each type, float64 ``(n_types,)``.
    """

    location: np.ndarray
    spread: np.ndarray

    def __post_init__(self) -> None:
        infinite, narrow = ~np.isfinite(self.location), ~(np.asarray(self.spread) > 0)
        if infinite.any() or narrow.any():
            msg = (
                "A standardization needs finite locations and spreads above 0. Received "
                f"{infinite.sum()} other locations and {narrow.sum()} other spreads."
            )
            raise ArgumentError(msg)

    @classmethod
    def fit(cls, scores: np.ndarray, groups: np.ndarray, n_types: int, *, by_type: bool = True) -> Standardization:
        """Fit to the scores of held-out cells.

        Parameters
        ----------
        scores, groups
            Score and predicted type of each cell, ``(m,)``.
        n_types
            Number of types.
        by_type
            Fit a location and spread for each type with at least 10 scores. Other types, and all types if this is
            False, get the location and spread of all scores.
        """
        check_n_types(n_types)
        scores = check_array("scores", scores, (None,), finite=True)
        groups = check_array("groups", groups, scores.shape, whole=True)
        if not len(scores):
            return cls(np.zeros(n_types), np.ones(n_types))
        pooled = max(float(scores.std()), 1e-9)
        location, spread = np.full(n_types, float(scores.mean())), np.full(n_types, pooled)
        for kind in range(n_types if by_type else 0):
            own = scores[groups == kind]
            if len(own) >= MIN_CELLS:
                # A tenth of the pooled spread is added, because ten cells can have similar scores by chance.
                location[kind], spread[kind] = own.mean(), own.std() + 0.1 * pooled
        return cls(location, spread)

    def __call__(self, scores: np.ndarray, groups: np.ndarray) -> np.ndarray:
        """Return the scores minus the location of their type, in units of its spread, ``(n,)``."""
        return np.asarray((scores - self.location[groups]) / self.spread[groups])
