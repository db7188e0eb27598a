"""Member probabilities of labelled cells from encoders that have not seen their labels."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from scquery_ae.annotate import (
    CALIBRATION_NEIGHBORS,
    EmbeddedCells,
    MemberProbabilities,
    Predictors,
    TypeDensities,
    latent_types,
)
from scquery_ae.encoder import Encoder
from scquery_ae.index import ExactIndex
from scquery_ae.loaders import CellRows
from scquery_ae.stats import type_centroids
from scquery_ae.training.crossfit import crossfit
from scquery_ae.training.finetune_settings import FinetuneSettings


@dataclass(frozen=True)
class OutOfFold:
    """Out-of-fold predictions: each cell is predicted by an encoder and neighbors of the other folds.

    Attributes
    ----------
    rows
        Rows of the cells, int ``(m,)``.
    members
        Their member probabilities, each ``(m, n_types)``.
    measures
        Their nonconformity measures, ``(m, n_measures)``.
    """

    rows: np.ndarray
    members: MemberProbabilities
    measures: np.ndarray


def out_of_fold(
    encoder: Encoder,
    cells: CellRows,
    labels: np.ndarray,
    folds: np.ndarray,
    batches: np.ndarray | None,
    *,
    progress: bool,
) -> OutOfFold:
    """Repeat fine-tuning once per fold, and predict the cells of each fold.

    Parameters
    ----------
    encoder
        Fine-tuned by :func:`scquery_ae.tl.finetune`, whose settings are used again; with principal components.
    cells
        All cells.
    labels, folds, batches
        Label code, fold and batch of each cell, int ``(n,)``; -1 for none.
    progress
        Show progress bars.
    """
    types = encoder.fitted_classifier.types
    settings = FinetuneSettings.from_parameters(encoder.parameters)
    # The components are those of pretraining in every fold.
    projected = encoder.project(cells.logged)
    found = []
    for inside, other in crossfit(encoder, cells, labels, folds, types, settings, batches=batches, progress=progress):
        rows, rest = np.flatnonzero(inside), np.flatnonzero(~inside)
        embedding = other.encode_logged(cells.logged)
        known = embedding[rest]
        totals = cells.totals[rows]
        asked = EmbeddedCells(embedding[rows], projected[rows], other.decision(cells.logged[rows], totals), totals)
        predictors = Predictors(
            other.fitted_classifier,
            other.fitted_discriminant,
            columns=np.arange(len(types)),
            labels=labels[rest],
            added=np.zeros(len(rest), dtype=bool),
            centroids=type_centroids(known, labels[rest], len(types)),
        )
        neighbors = ExactIndex(known).search(asked.embedding, min(CALIBRATION_NEIGHBORS, len(rest)))
        members = predictors.members(asked, neighbors)
        densities = TypeDensities.fit(known, projected[rest], labels[rest], len(types))
        measures = densities.measures(predictors.classifier, asked, latent_types(members))
        found.append((rows, *members, measures))
    rows, *members_by_fold, measures = (np.concatenate(arrays) for arrays in zip(*found, strict=True))
    return OutOfFold(rows, MemberProbabilities(*members_by_fold), measures)
