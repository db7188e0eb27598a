"""How unlike its type a cell is, in a space that no label has shaped."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from scipy import sparse

from scquery_ae._array_checks import check_array, check_labels, check_n_types
from scquery_ae._errors import ArgumentError

#: Share of the mean variance that is added to every direction: covariances of few cells are too thin.
SHRINKAGE = 0.1

#: A type with fewer calibration cells is judged by the spread of all.
MIN_CELLS = 10


@dataclass(frozen=True)
class TypeGaussians:
    """One normal distribution a type, all of one covariance (Lee et al. 2018).

    Attributes
    ----------
    means
        float32 ``(n_types, d)``.
    whitening
        Cells times this have distances of Mahalanobis, float32 ``(d, d)``.
    """

    means: np.ndarray
    whitening: np.ndarray

    @classmethod
    def fit(cls, x: np.ndarray, labels: np.ndarray, n_types: int) -> TypeGaussians:
        """Fit to labelled points; a type without any has the mean of all.

        Parameters
        ----------
        x
            ``(n, d)``.
        labels
            Type of each, int ``(n,)``; -1 for none, which is left out.
        n_types
            Number of types.
        """
        x = check_array("x", x, (None, None), finite=True)
        labels = check_labels("labels", labels, x.shape[:1], n_types)
        if not x.shape[1] or not (labels >= 0).any():
            msg = f"`x` must hold a labelled point of at least one feature. Received none, in shape {x.shape}."
            raise ArgumentError(msg)
        n = np.bincount(labels[labels >= 0], minlength=n_types)
        sums = np.zeros((n_types, x.shape[1]))
        # In blocks: a copy of all cells in double precision would take more memory than anything else in a reference.
        for part, own in _labelled_blocks(x, labels):
            members = sparse.csr_matrix((np.ones(len(own)), (own, np.arange(len(own)))), shape=(n_types, len(own)))
            sums += members @ part
        means = np.where(n[:, None] > 0, sums / np.maximum(n, 1)[:, None], sums.sum(axis=0) / n.sum())
        covariance = np.zeros((x.shape[1], x.shape[1]))
        for part, own in _labelled_blocks(x, labels):
            rest = part - means[own]
            covariance += rest.T @ rest / n.sum()
        scale = max(float(np.trace(covariance)) / len(covariance), 1e-12)
        covariance += SHRINKAGE * scale * np.eye(len(covariance))
        whitening = np.linalg.cholesky(np.linalg.inv(covariance))
        return cls(means.astype(np.float32), whitening.astype(np.float32))

    def distances(self, x: np.ndarray, labels: np.ndarray) -> np.ndarray:
        """Return the Mahalanobis distance of each point to the mean of a type, float64 ``(n,)``."""
        return np.asarray(np.linalg.norm((x - self.means[labels]) @ self.whitening, axis=1), dtype=np.float64)


def _labelled_blocks(x: np.ndarray, labels: np.ndarray, size: int = 65_536) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Yield the labelled points in double precision, and their types."""
    for start in range(0, len(x), size):
        own = labels[start : start + size]
        yield np.asarray(x[start : start + size][own >= 0], dtype=np.float64), own[own >= 0]


@dataclass(frozen=True)
class Standardization:
    """Location and spread of scores by type, so that scores of different kinds can be added.

    Attributes
    ----------
    location, spread
        float64 ``(n_types,)``.
    """

    location: np.ndarray
    spread: np.ndarray

    def __post_init__(self) -> None:
        if not (np.isfinite(self.location).all() and (np.asarray(self.spread) > 0).all()):
            msg = "A standardisation needs finite locations and spreads above 0. Received others."
            raise ArgumentError(msg)

    @classmethod
    def fit(cls, scores: np.ndarray, groups: np.ndarray, n_types: int, *, by_type: bool = True) -> Standardization:
        """Fit to the scores of held-out cells; types with few of them use all.

        Parameters
        ----------
        scores, groups
            Score and predicted type of each, ``(m,)``.
        n_types
            Number of types.
        by_type
            Whether each type has a location and spread of its own; otherwise all have those of all scores.
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
                # A little of the spread of all: ten cells that happen to agree are no proof of a narrow type.
                location[kind], spread[kind] = own.mean(), own.std() + 0.1 * pooled
        return cls(location, spread)

    def __call__(self, scores: np.ndarray, groups: np.ndarray) -> np.ndarray:
        """Return scores in units of their type's spread, ``(n,)``."""
        return np.asarray((scores - self.location[groups]) / self.spread[groups])
