"""What an encoder thinks of cells whose labels it has not seen."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from scquery_ae.encoder import Encoder
from scquery_ae.index import ExactIndex
from scquery_ae.loaders import CellRows
from scquery_ae.reference import Novelty
from scquery_ae.reference.calibration import latent_types
from scquery_ae.reference.members import CALIBRATION_NEIGHBORS, neighborhood
from scquery_ae.stats import centroid_probabilities, type_centroids
from scquery_ae.training import FinetuneSettings, crossfit


@dataclass(frozen=True)
class OutOfFold:
    """predictors on labelled cells, each from an encoder and neighbors of the other folds.

    Attributes
    ----------
    rows
        Which cells, int ``(m,)``.
    members
        Probabilities of each type by classifier, neighborhood and genes, each ``(m, n_types)``.
    nonconformity
        As of :meth:`scquery_ae.reference.Reference.nonconformity`, ``(m, 3)``; ``(m, 0)`` where it was not asked for.
    """

    rows: np.ndarray
    members: tuple[np.ndarray, ...]
    nonconformity: np.ndarray


def out_of_fold(
    encoder: Encoder,
    cells: CellRows,
    labels: np.ndarray,
    folds: np.ndarray,
    batches: np.ndarray | None,
    *,
    projected: np.ndarray | None = None,
    progress: bool,
) -> OutOfFold:
    """Fine-tune once a fold, as `encoder` was, and let each judge the cells whose labels it has not seen.

    Parameters
    ----------
    encoder
        Fine-tuned by :func:`scquery_ae.tl.finetune`, whose settings are taken.
    cells
        All cells.
    labels, folds, batches
        Type, fold and batch of each, int ``(n,)``; -1 for none.
    projected
        All cells in the encoder's principal components, ``(n, n_components)``, for their novelty.
    """
    types = encoder.fitted_classifier.types
    settings = FinetuneSettings.from_parameters(encoder.parameters)
    parts = []
    fitted = crossfit(encoder, cells, labels, folds, types, settings, batches=batches, progress=progress)
    for inside, other in fitted:
        rows, rest = np.flatnonzero(inside), np.flatnonzero(~inside)
        latent = other.encode_logged(cells.logged)
        searched = np.ascontiguousarray(latent[rest])
        neighbors = ExactIndex(searched).search(latent[rows], min(CALIBRATION_NEIGHBORS, len(rest)))
        members = (
            other.classify(latent[rows]),
            neighborhood(
                neighbors,
                labels[rest][neighbors.indices],
                centroid_probabilities(latent[rows], type_centroids(searched, labels[rest], len(types))),
            ),
            other.fitted_discriminant.probabilities(other.decision(cells.logged[rows], cells.totals[rows])),
        )
        strange = np.zeros((len(rows), 0))
        if projected is not None:
            given = latent_types(members)
            novelty = Novelty.fit(searched, projected[rest], labels[rest], len(types))
            strange = novelty.nonconformity(other.fitted_classifier, latent[rows], projected[rows], given)
        parts.append((rows, *members, strange))
    rows, *judged, nonconformity = (np.concatenate(arrays) for arrays in zip(*parts, strict=True))
    return OutOfFold(rows, tuple(judged), nonconformity)
