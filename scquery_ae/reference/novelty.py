"""How strange cells are for the types that they are given."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from scquery_ae.dense import Classifier
from scquery_ae.stats import TypeGaussians

#: Ways of being strange that are looked at.
N_KINDS = 3


@dataclass(frozen=True)
class Novelty:
    """Where the reference's types lie, in two spaces.

    A network that was trained to tell types apart puts a cell of a type that it never saw on top of one that it did.
    The directions that told those two apart are still there in principal components.

    Attributes
    ----------
    latent
        The types in the embedding.
    components
        The types in principal components, which no label has shaped.
    """

    latent: TypeGaussians
    components: TypeGaussians

    @classmethod
    def fit(cls, latent: np.ndarray, projected: np.ndarray, labels: np.ndarray, n_types: int) -> Novelty:
        """Fit to cells in both spaces; -1 for cells without a label."""
        return cls(TypeGaussians.fit(latent, labels, n_types), TypeGaussians.fit(projected, labels, n_types))

    def nonconformity(
        self, classifier: Classifier, latent: np.ndarray, projected: np.ndarray, labels: np.ndarray
    ) -> np.ndarray:
        """Return how strange cells are for the types that they are given, ``(n, 3)``, larger is stranger.

        Minus the classifier's greatest probability, and the Mahalanobis distances to the type in both spaces.
        """
        return np.stack(
            [
                -classifier(latent).max(axis=1),
                self.latent.distances(latent, labels),
                self.components.distances(projected, labels),
            ],
            axis=1,
        )
