"""What an encoder thinks of cells whose labels it has not seen."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from scquery_ae._errors import NotFittedError
from scquery_ae.encoder import Encoder
from scquery_ae.index import ExactIndex
from scquery_ae.loaders import CellRows
from scquery_ae.reference import Novelty
from scquery_ae.reference.calibration import placed
from scquery_ae.reference.opinions import CALIBRATION_HITS, neighborhood
from scquery_ae.stats import centroid_probabilities, type_centroids
from scquery_ae.training import Objective, crossfit


@dataclass(frozen=True)
class OutOfFold:
    """Opinions on labelled cells, each from an encoder and neighbours of the other folds.

    Attributes
    ----------
    rows
        Which cells, int ``(m,)``.
    opinions
        Probabilities of each type by head, neighbourhood and genes, each ``(m, n_types)``.
    strangeness
        As of :meth:`scquery_ae.reference.Reference.strangeness`, ``(m, 3)``; ``(m, 0)`` where it was not asked for.
    """

    rows: np.ndarray
    opinions: tuple[np.ndarray, ...]
    strangeness: np.ndarray


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
        All cells in the encoder's principal components, ``(n, n_components)``, for their strangeness.
    """
    types = encoder.fitted_head.types
    settings, objective, fraction = finetune_settings(encoder)
    parts = []
    fitted = crossfit(
        encoder,
        cells,
        labels,
        folds,
        types,
        validation_fraction=fraction,
        objective=objective,
        batches=batches,
        progress=progress,
        **settings,
    )
    for inside, other in fitted:
        rows, rest = np.flatnonzero(inside), np.flatnonzero(~inside)
        codes = other.encode_logged(cells.logged)
        searched = np.ascontiguousarray(codes[rest])
        hits = ExactIndex(searched).search(codes[rows], min(CALIBRATION_HITS, len(rest)))
        opinions = (
            other.classify(codes[rows]),
            neighborhood(
                hits,
                labels[rest][hits.indices],
                centroid_probabilities(codes[rows], type_centroids(searched, labels[rest], len(types))),
            ),
            other.fitted_discriminant.probabilities(other.evidence(cells.logged[rows], cells.totals[rows])),
        )
        strange = np.zeros((len(rows), 0))
        if projected is not None:
            given = placed(opinions)
            novelty = Novelty.fit(searched, projected[rest], labels[rest], len(types))
            strange = novelty.strangeness(other.fitted_head, codes[rows], projected[rows], given)
        parts.append((rows, *opinions, strange))
    rows, *judged, strangeness = (np.concatenate(arrays) for arrays in zip(*parts, strict=True))
    return OutOfFold(rows, tuple(judged), strangeness)


def finetune_settings(encoder: Encoder) -> tuple[dict[str, Any], Objective, float]:
    """Return the settings that an encoder was fine-tuned with, its objective, and the share that was held out."""
    if "finetune" not in encoder.parameters:
        msg = (
            "The encoder does not say how it was fine-tuned (`encoder.parameters`), so that it cannot be done again. "
            "Fine-tune it with `sq.tl.finetune`."
        )
        raise NotFittedError(msg)
    recorded = dict(encoder.parameters["finetune"])
    fraction = recorded.pop("validation_fraction")
    names = ("metric_loss", "metric_weight", "margin", "batch_invariance")
    objective = Objective(**{name: recorded.pop(name) for name in names})
    for name in ("label_key", "batch_key", "wrong_labels"):
        recorded.pop(name)
    return recorded, objective, fraction
