"""What head, neighbours, mean codes and genes say of cells."""

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
    """Return what the head, the neighbours, the types' mean codes and the genes say, each ``(n, n_types)``.

    Head and genes cannot name a type that was added after training: such a type gets from them what neighbours and
    mean codes give it. What the genes say of a cell comes from the cells of the training: for the share of its hits
    that were added since, they too say what neighbours and mean codes do. Where the encoder has no discriminant,
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
    votes = vote_probabilities(hits.distances, reference.label_codes[hits.indices], len(reference.types))
    head = _over_types(reference, reference.encoder.classify(cells.codes), votes, near)
    discriminant = reference.encoder.discriminant
    if discriminant is None:
        return head, votes, near, (head + votes + near) / 3
    genes = _over_types(reference, discriminant.probabilities(cells.evidence), votes, near)
    since = reference.added[hits.indices].mean(axis=1, keepdims=True)
    return head, votes, near, (1 - since) * genes + since * (votes + near) / 2


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


def _over_types(reference: Reference, given: np.ndarray, votes: np.ndarray, near: np.ndarray) -> np.ndarray:
    """Return probabilities of the head's types as such of the reference's, ``(n, n_types)``."""
    n_types = len(reference.types)
    over = np.zeros((len(given), n_types))
    kept = reference.head_columns >= 0
    np.add.at(over.T, reference.head_columns[kept], given[:, kept].T)
    over /= np.maximum(over.sum(axis=1, keepdims=True), 1e-12)
    new = np.ones(n_types, dtype=bool)
    new[reference.head_columns[kept]] = False
    if new.any():
        share = (votes[:, new] + near[:, new]) / 2
        over *= 1 - share.sum(axis=1, keepdims=True)
        over[:, new] = share
    return over
