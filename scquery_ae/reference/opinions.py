"""What head, neighbourhood and genes say of cells."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from scquery_ae.index import Neighbors
from scquery_ae.reference.annotation import EmbeddedCells
from scquery_ae.stats import centroid_probabilities, unit_rows, vote_probabilities

if TYPE_CHECKING:
    from scquery_ae.reference.reference import Reference

#: Hits of a held-out cell when calibration is fitted; the default of ``tl.query``.
CALIBRATION_HITS = 15


def opinions_on(
    reference: Reference, cells: EmbeddedCells, hits: Neighbors, near: np.ndarray
) -> tuple[np.ndarray, ...]:
    """Return what the head, the neighbourhood and the genes say, each ``(n, n_types)``.

    Head and genes cannot name a type that was added after training: such a type gets from them what the neighbourhood
    gives it. What the genes say of a cell comes from the cells of the training: for the share of its hits
    that were added since, they too say what the neighbourhood does. Where the encoder has no discriminant,
    they say what the others say on average.

    Parameters
    ----------
    reference
        Whose types they are to be given.
    cells
        The cells.
    hits
        Their neighbours.
    near
        What the types' mean codes say, ``(n, n_types)``.
    """
    around = neighborhood(hits, reference.label_codes[hits.indices], near)
    head = _over_types(reference, reference.encoder.classify(cells.codes), around)
    discriminant = reference.encoder.discriminant
    if discriminant is None:
        return head, around, (head + around) / 2
    genes = _over_types(reference, discriminant.probabilities(cells.evidence), around)
    since = reference.added[hits.indices].mean(axis=1, keepdims=True)
    return head, around, (1 - since) * genes + since * around


def neighborhood(hits: Neighbors, labels: np.ndarray, near: np.ndarray) -> np.ndarray:
    """Return the votes of the hits, and for the share of them without a label what mean codes say, ``(n, n_types)``.

    Where a reference has few labels, a cell's neighbours have hardly any; where all have one, they know better than
    the mean codes.

    Parameters
    ----------
    hits
        Of the cells.
    labels
        Type of each hit, int of the shape of the hits; -1 for none.
    near
        What the types' mean codes say, ``(n, n_types)``.
    """
    labelled = (labels >= 0).mean(axis=1, keepdims=True)
    votes = vote_probabilities(hits.distances, labels, near.shape[1])
    return np.asarray(labelled * votes + (1 - labelled) * near)


def opinions_without_self(reference: Reference, cells: EmbeddedCells, rows: np.ndarray) -> tuple[np.ndarray, ...]:
    """Return the opinions on cells of the reference, `rows`, as if each alone were not in it."""
    hits = reference.search_index.search(cells.codes, min(CALIBRATION_HITS + 1, reference.n_obs))
    # A cell that found itself goes last, and the last is one too many.
    order = np.argsort(hits.indices == rows[:, None], axis=1, kind="stable")[:, :-1]
    distances, indices = (np.take_along_axis(x, order, axis=1) for x in (hits.distances, hits.indices))
    labels = reference.label_codes[rows]
    without = unit_rows(reference.type_sums[labels] - reference.embedding[rows])
    near = centroid_probabilities(cells.codes, reference.centroids, (labels, without))
    return opinions_on(reference, cells, Neighbors(indices, distances), near)


def _over_types(reference: Reference, given: np.ndarray, around: np.ndarray) -> np.ndarray:
    """Return probabilities of the head's types as such of the reference's, ``(n, n_types)``."""
    n_types = len(reference.types)
    over = np.zeros((len(given), n_types))
    kept = reference.head_columns >= 0
    np.add.at(over.T, reference.head_columns[kept], given[:, kept].T)
    over /= np.maximum(over.sum(axis=1, keepdims=True), 1e-12)
    new = np.ones(n_types, dtype=bool)
    new[reference.head_columns[kept]] = False
    if new.any():
        over *= 1 - around[:, new].sum(axis=1, keepdims=True)
        over[:, new] = around[:, new]
    return over
