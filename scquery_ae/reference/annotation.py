"""Cells as a reference sees them, and what it says about them."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from scquery_ae.index import Neighbors


@dataclass(frozen=True)
class EmbeddedCells:
    """Cells as a reference sees them.

    Attributes
    ----------
    latent
        Unit-length embeddings, float32 ``(n, n_latent)``.
    projected
        Principal components, float32 ``(n, n_components)``.
    decision
        What the genes themselves say for each of the classifier's types, float32 ``(n, n_classifier_types)``; ``(n, 0)`` where the
        encoder has no discriminant.
    totals
        Counts in the model genes, float64 ``(n,)``.
    """

    latent: np.ndarray
    projected: np.ndarray
    decision: np.ndarray
    totals: np.ndarray


@dataclass(frozen=True)
class Annotation:
    """What a reference says about some cells.

    Attributes
    ----------
    types
        The reference's cell types, in the order of the columns below.
    labels
        Most probable type of each cell, int ``(n,)``, a position in `types`.
    probabilities
        Calibrated probability of each type, float64 ``(n, n_types)``.
    pvalues
        Conformal p-value of being an ordinary cell of the type that the embedding speaks for, float64 ``(n,)``.
    novelty
        How unlike the cells of its type each is, among those of all types; larger is stranger, float64 ``(n,)``.
    prediction_sets
        Types that cannot be ruled out, bool ``(n, n_types)``.
    neighbors
        The nearest reference cells.
    """

    types: tuple[str, ...]
    labels: np.ndarray
    probabilities: np.ndarray
    pvalues: np.ndarray
    novelty: np.ndarray
    prediction_sets: np.ndarray
    neighbors: Neighbors
