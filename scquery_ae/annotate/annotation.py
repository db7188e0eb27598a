"""Annotation of embedded cells: labels, probabilities, p-values, novelty scores and prediction sets."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from scquery_ae.annotate.calibration import Calibration
from scquery_ae.annotate.cells import EmbeddedCells
from scquery_ae.annotate.novelty import TypeDensities
from scquery_ae.annotate.predictors import Predictors, combine, latent_types
from scquery_ae.index import Neighbors


@dataclass(frozen=True)
class Annotation:
    """The annotation of some cells.

    Attributes
    ----------
    labels
        Label code of the most probable type of each cell, int ``(n,)``.
    probabilities
        Calibrated probability of each type, float64 ``(n, n_types)``.
    pvalues
        Conformal p-value of each cell with respect to the type near which it lies in the embedding, float64 ``(n,)``.
    novelty
        Novelty score, float64 ``(n,)``: ranks cells of all types; larger is more novel.
    prediction_sets
        Types in the prediction set of each cell, bool ``(n, n_types)``.
    neighbors
        Nearest reference cells.
    """

    labels: np.ndarray
    probabilities: np.ndarray
    pvalues: np.ndarray
    novelty: np.ndarray
    prediction_sets: np.ndarray
    neighbors: Neighbors


def annotate(
    cells: EmbeddedCells,
    neighbors: Neighbors,
    predictors: Predictors,
    densities: TypeDensities,
    calibration: Calibration,
    *,
    coverage: float,
    gene_fraction: float = 1.0,
) -> Annotation:
    """Annotate cells by their neighbors and the other predictors.

    Parameters
    ----------
    cells
        The cells.
    neighbors
        Their nearest reference cells, as rows of the cells of `predictors`.
    predictors, densities, calibration
        Predictors, type densities and calibration of the reference.
    coverage
        Expected fraction of prediction sets that hold the true type, in (0, 1).
    gene_fraction
        Fraction of the model genes that the cells have, 0 to 1.
    """
    members = predictors.members(cells, neighbors)
    probabilities = combine(calibration.combination, members, gene_fraction)
    groups = latent_types(members)
    measures = densities.measures(predictors.classifier, cells, groups)
    return Annotation(
        labels=probabilities.argmax(axis=1),
        probabilities=probabilities,
        pvalues=calibration.pvalues(calibration.nonconformity(measures, groups), groups),
        novelty=calibration.novelty(measures, groups),
        prediction_sets=calibration.prediction_sets(probabilities, coverage),
        neighbors=neighbors,
    )
