"""Nonconformity measures: how far cells lie from the cells of their type."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from scquery_ae.annotate.cells import EmbeddedCells
from scquery_ae.dense import Classifier
from scquery_ae.stats import TypeGaussians

#: Nonconformity measures of a cell: minus the classifier's largest probability, and two distances to the type.
N_MEASURES = 3


@dataclass(frozen=True)
class TypeDensities:
    """A Gaussian for each type in the embedding and in principal components.

    A network that was trained to separate types often embeds cells of an unseen type among those of a known type. The
    principal components, fitted without labels, keep the directions that separate the two.

    Attributes
    ----------
    embedding
        The types in the embedding.
    projected
        The types in principal components.
    """

    embedding: TypeGaussians
    projected: TypeGaussians

    @classmethod
    def fit(cls, embedding: np.ndarray, projected: np.ndarray, labels: np.ndarray, n_types: int) -> TypeDensities:
        """Fit to the labelled cells; label code -1 marks cells without a label."""
        return cls(*(TypeGaussians.fit(x, labels, n_types) for x in (embedding, projected)))

    def measures(self, classifier: Classifier, cells: EmbeddedCells, types: np.ndarray) -> np.ndarray:
        """Return the nonconformity measures of cells with respect to one type each, float64 ``(n, 3)``.

        Minus the classifier's largest probability, and the Mahalanobis distances to the type in both spaces; larger is
        farther from the type.

        Parameters
        ----------
        classifier
            Softmax over the types of the training.
        cells
            The cells.
        types
            Label code of the type that each cell is compared with, int ``(n,)``.
        """
        return np.stack(
            [
                -classifier(cells.embedding).max(axis=1),
                self.embedding.distances(cells.embedding, types),
                self.projected.distances(cells.projected, types),
            ],
            axis=1,
        )

    def leave_one_out_measures(
        self, classifier: Classifier, cells: EmbeddedCells, types: np.ndarray, labels: np.ndarray, sizes: np.ndarray
    ) -> np.ndarray:
        """Return :meth:`measures` of cells that the Gaussians were fitted to, each compared with a mean without it.

        The distance to the mean of the cell's own type is ``n / (n - 1)`` times as large without the cell.

        Parameters
        ----------
        classifier, cells, types
            As for :meth:`measures`.
        labels
            Own label code of each cell, int ``(n,)``.
        sizes
            Number of labelled cells of each type, int ``(n_types,)``.
        """
        measures = self.measures(classifier, cells, types)
        n = sizes[types]
        measures[:, 1:] *= np.where(types == labels, n / np.maximum(n - 1, 1), 1)[:, None]
        return measures
