"""What classifier, neighborhood and genes say of cells."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from scquery_ae.index import Neighbors
from scquery_ae.reference.annotation import EmbeddedCells
from scquery_ae.stats import centroid_probabilities, unit_rows, vote_probabilities

if TYPE_CHECKING:
    from scquery_ae.reference.reference import Reference

#: Hits of a held-out cell when calibration is fitted; the default of ``tl.query``.
CALIBRATION_NEIGHBORS = 15


def member_probabilities(
    reference: Reference, cells: EmbeddedCells, neighbors: Neighbors, near: np.ndarray
) -> tuple[np.ndarray, ...]:
    """Return what the classifier, the neighborhood and the genes say, each ``(n, n_types)``.

    Classifier and genes cannot name a type that was added after training: such a type gets from them what the neighborhood
    gives it. What the genes say of a cell comes from the cells of the training: for the share of its neighbors
    that were added since, they too say what the neighborhood does. Where the encoder has no discriminant,
    they say what the others say on average.

    Parameters
    ----------
    reference
        Whose types they are to be given.
    cells
        The cells.
    neighbors
        Their neighbors.
    near
        What the types' mean embeddings say, ``(n, n_types)``.
    """
    around = neighborhood(neighbors, reference.label_codes[neighbors.indices], near)
    classifier = _over_types(reference, reference.encoder.classify(cells.latent), around)
    discriminant = reference.encoder.discriminant
    if discriminant is None:
        return classifier, around, (classifier + around) / 2
    genes = _over_types(reference, discriminant.probabilities(cells.decision), around)
    since = reference.added[neighbors.indices].mean(axis=1, keepdims=True)
    return classifier, around, (1 - since) * genes + since * around


def neighborhood(neighbors: Neighbors, labels: np.ndarray, near: np.ndarray) -> np.ndarray:
    """Return the votes of the neighbors, and for the share of them without a label what mean embeddings say, ``(n, n_types)``.

    Where a reference has few labels, a cell's neighbors have hardly any; where all have one, they know better than
    the mean embeddings.

    Parameters
    ----------
    neighbors
        Of the cells.
    labels
        Type of each neighbor, int of the shape of the neighbors; -1 for none.
    near
        What the types' mean embeddings say, ``(n, n_types)``.
    """
    labelled = (labels >= 0).mean(axis=1, keepdims=True)
    votes = vote_probabilities(neighbors.distances, labels, near.shape[1])
    return np.asarray(labelled * votes + (1 - labelled) * near)


def leave_one_out_members(reference: Reference, cells: EmbeddedCells, rows: np.ndarray) -> tuple[np.ndarray, ...]:
    """Return the predictors on cells of the reference, `rows`, as if each alone were not in it."""
    neighbors = reference.search_index.search(cells.latent, min(CALIBRATION_NEIGHBORS + 1, reference.n_obs))
    # A cell that found itself goes last, and the last is one too many.
    order = np.argsort(neighbors.indices == rows[:, None], axis=1, kind="stable")[:, :-1]
    distances, indices = (np.take_along_axis(x, order, axis=1) for x in (neighbors.distances, neighbors.indices))
    labels = reference.label_codes[rows]
    without = unit_rows(reference.type_sums[labels] - reference.embedding[rows])
    near = centroid_probabilities(cells.latent, reference.centroids, (labels, without))
    return member_probabilities(reference, cells, Neighbors(indices, distances), near)


def _over_types(reference: Reference, given: np.ndarray, around: np.ndarray) -> np.ndarray:
    """Return probabilities of the classifier's types as such of the reference's, ``(n, n_types)``."""
    n_types = len(reference.types)
    over = np.zeros((len(given), n_types))
    kept = reference.classifier_columns >= 0
    np.add.at(over.T, reference.classifier_columns[kept], given[:, kept].T)
    over /= np.maximum(over.sum(axis=1, keepdims=True), 1e-12)
    new = np.ones(n_types, dtype=bool)
    new[reference.classifier_columns[kept]] = False
    if new.any():
        over *= 1 - around[:, new].sum(axis=1, keepdims=True)
        over[:, new] = around[:, new]
    return over
