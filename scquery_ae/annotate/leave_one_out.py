"""Leave-one-out prediction for cells of the reference, and calibration on its held-out cells."""

from __future__ import annotations

import numpy as np

from scquery_ae.annotate.calibration import Calibration
from scquery_ae.annotate.cells import EmbeddedCells
from scquery_ae.annotate.novelty import TypeDensities
from scquery_ae.annotate.predictors import CALIBRATION_NEIGHBORS, MemberProbabilities, Predictors, latent_types
from scquery_ae.index import NeighborIndex, Neighbors
from scquery_ae.stats import unit_rows


def leave_one_out_members(
    predictors: Predictors,
    cells: EmbeddedCells,
    rows: np.ndarray,
    own_embedding: np.ndarray,
    index: NeighborIndex,
    type_sums: np.ndarray,
) -> MemberProbabilities:
    """Return the member probabilities of reference cells, each predicted as if it were not in the reference.

    Parameters
    ----------
    predictors
        Predictors of the reference.
    cells
        The cells to predict, possibly embedded from fewer genes or counts than in the reference.
    rows
        Their rows in the reference, int ``(m,)``.
    own_embedding
        Their embeddings in the reference, ``(m, n_latent)``.
    index
        Search over all cells of the reference.
    type_sums
        Sum of the embeddings of each type, ``(n_types, n_latent)``.
    """
    found = index.search(cells.embedding, min(CALIBRATION_NEIGHBORS + 1, index.n_items))
    # A cell among its own neighbors is moved to the end; the last neighbor is dropped.
    order = np.argsort(found.indices == rows[:, None], axis=1, kind="stable")[:, :-1]
    distances, indices = (np.take_along_axis(x, order, axis=1) for x in (found.distances, found.indices))
    labels = predictors.labels[rows]
    centroids_without = unit_rows(type_sums[labels] - own_embedding)
    return predictors.members(cells, Neighbors(indices, distances), left_out=(labels, centroids_without))


def calibrate_held_out(
    predictors: Predictors,
    densities: TypeDensities,
    cells: EmbeddedCells,
    rows: np.ndarray,
    index: NeighborIndex,
    type_sums: np.ndarray,
) -> Calibration:
    """Fit the calibration to held-out cells of the reference, each predicted from all others.

    Parameters
    ----------
    predictors, densities
        Predictors and type densities of the reference.
    cells
        The held-out cells.
    rows
        Their rows in the reference, int ``(m,)``; all have a label.
    index, type_sums
        As for :func:`leave_one_out_members`.
    """
    n_types = len(predictors.centroids)
    labels = predictors.labels
    labelled = labels[labels >= 0]
    if not len(rows) or len(labelled) < 2:
        return Calibration.empty(n_types)
    members = leave_one_out_members(predictors, cells, rows, cells.embedding, index, type_sums)
    measures = densities.leave_one_out_measures(
        predictors.classifier, cells, latent_types(members), labels[rows], np.bincount(labelled, minlength=n_types)
    )
    return Calibration.fit(members, measures, labels[rows], "held_out")
