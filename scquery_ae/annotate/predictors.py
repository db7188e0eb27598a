"""The three predictors of a cell's type, classifier, neighbors and discriminant, and their combination."""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from scquery_ae.annotate.cells import EmbeddedCells
from scquery_ae.dense import Classifier
from scquery_ae.index import Neighbors
from scquery_ae.stats import (
    Combination,
    GeneDiscriminant,
    centroid_probabilities,
    fit_combination,
    vote_probabilities,
)

#: Neighbors of a held-out cell in calibration; the default of ``tl.query``.
CALIBRATION_NEIGHBORS = 15

#: Weight of the discriminant, where classifier and neighbors have weight 1 each: less than both together, because the
#: discriminant is seldom unsure and would otherwise decide alone.
DISCRIMINANT_WEIGHT = 1.6


class MemberProbabilities(NamedTuple):
    """Probabilities of each type by each predictor, float64 ``(n, n_types)`` each."""

    classifier: np.ndarray
    neighbors: np.ndarray
    discriminant: np.ndarray


@dataclass(frozen=True)
class Predictors:
    """The fitted predictors, and the labelled cells that they use.

    Attributes
    ----------
    classifier
        Softmax over the types of the training.
    discriminant
        Gaussian discriminant over the genes, for the same types.
    columns
        Position of each type of the classifier among all types, int ``(n_classifier_types,)``; -1 for a type that is
        no longer one of them.
    labels
        Label code of each cell that can be a neighbor, int ``(n,)``; -1 for none.
    added
        Whether each of these cells was added after training, bool ``(n,)``.
    centroids
        Unit-length mean embedding of each type, float32 ``(n_types, n_latent)``.
    """

    classifier: Classifier
    discriminant: GeneDiscriminant
    columns: np.ndarray
    labels: np.ndarray
    added: np.ndarray
    centroids: np.ndarray

    def members(
        self, cells: EmbeddedCells, neighbors: Neighbors, *, left_out: tuple[np.ndarray, np.ndarray] | None = None
    ) -> MemberProbabilities:
        """Return the member probabilities of some cells.

        A type that was added after training is unknown to the classifier and the discriminant: both take its
        probability from the neighbors. The discriminant was fitted to the cells of the training, so the fraction of
        a cell's neighbors that were added later replaces the same fraction of its probabilities by those of the
        neighbors.

        Parameters
        ----------
        cells
            The cells.
        neighbors
            Their nearest labelled or unlabelled cells.
        left_out
            For leave-one-out prediction, the label code of each cell (-1 for none) and the centroid of its type without
            the cell, as for :func:`scquery_ae.stats.centroid_probabilities`.
        """
        nearest_centroids = centroid_probabilities(cells.embedding, self.centroids, left_out)
        by_neighbors = neighbor_probabilities(neighbors, self.labels[neighbors.indices], nearest_centroids)
        by_classifier = self._over_all_types(self.classifier(cells.embedding), by_neighbors)
        by_genes = self._over_all_types(self.discriminant.probabilities(cells.decision), by_neighbors)
        added = self.added[neighbors.indices].mean(axis=1, keepdims=True)
        return MemberProbabilities(by_classifier, by_neighbors, (1 - added) * by_genes + added * by_neighbors)

    def _over_all_types(self, trained: np.ndarray, by_neighbors: np.ndarray) -> np.ndarray:
        """Spread probabilities of the classifier's types over all types, ``(n, n_types)``."""
        n_types = len(self.centroids)
        kept = self.columns >= 0
        spread = np.zeros((len(trained), n_types))
        np.add.at(spread.T, self.columns[kept], trained[:, kept].T)
        spread /= np.maximum(spread.sum(axis=1, keepdims=True), 1e-12)
        new = np.ones(n_types, dtype=bool)
        new[self.columns[kept]] = False
        if new.any():
            spread *= 1 - by_neighbors[:, new].sum(axis=1, keepdims=True)
            spread[:, new] = by_neighbors[:, new]
        return spread


def neighbor_probabilities(neighbors: Neighbors, labels: np.ndarray, nearest_centroids: np.ndarray) -> np.ndarray:
    """Return the votes of the neighbors, completed by the centroids for unlabelled neighbors, ``(n, n_types)``.

    The fraction of a cell's neighbors without a label is filled with the centroid probabilities: in a reference with
    few labels a cell has hardly any labelled neighbor. Where all neighbors have a label, the votes are more accurate
    than the centroids, which then do not count.

    Parameters
    ----------
    neighbors
        Nearest cells.
    labels
        Label code of each neighbor, int of the same shape; -1 for none.
    nearest_centroids
        Centroid probabilities, ``(n, n_types)``.
    """
    labelled = (labels >= 0).mean(axis=1, keepdims=True)
    votes = vote_probabilities(neighbors.distances, labels, nearest_centroids.shape[1])
    return np.asarray(labelled * votes + (1 - labelled) * nearest_centroids)


def latent_types(members: MemberProbabilities) -> np.ndarray:
    """Return the type near which each cell lies in the embedding, int ``(n,)``: the group of its p-value.

    The discriminant is left out. Nonconformity is measured among embeddings and principal components; the genes may
    tell the type better, but not whether the cell lies among the cells of that type in these spaces.
    """
    return np.asarray((members.classifier + members.neighbors).argmax(axis=1))


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
