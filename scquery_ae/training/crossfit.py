"""Cross-fitting: encoders that were fine-tuned without the labels of a fold."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from scquery_ae._errors import ArgumentError, NotFittedError
from scquery_ae.encoder import Encoder
from scquery_ae.loaders import CellRows
from scquery_ae.training.finetune import finetune_encoder
from scquery_ae.training.finetune_settings import FinetuneSettings
from scquery_ae.training.split import stratified_split


def make_folds(labels: np.ndarray, batches: np.ndarray | None, n_folds: int, random_state: int) -> np.ndarray:
    """Return the fold of each cell, int ``(n,)``; -1 for cells without a label.

    With batches, each batch belongs to one fold: batches are assigned from the largest to the smallest, each to the
    fold with the fewest cells. Without batches, the cells of each type are distributed evenly.

    Parameters
    ----------
    labels
        Type of each cell, int ``(n,)``; -1 for none.
    batches
        Batch of each cell, int ``(n,)``, or None.
    n_folds
        Number of folds, at most the number of batches.
    random_state
        Random seed.
    """
    rng = np.random.default_rng([random_state, 2])
    folds = np.full(len(labels), -1)
    labelled = labels >= 0
    if batches is not None:
        sizes = np.bincount(batches[labelled], minlength=int(batches.max()) + 1)
        load = np.zeros(n_folds)
        for batch in np.argsort(-sizes, kind="stable"):
            fold = int(load.argmin())
            folds[labelled & (batches == batch)] = fold
            load[fold] += sizes[batch]
        return folds
    for kind in np.unique(labels[labelled]):
        members = rng.permutation(np.flatnonzero(labels == kind))
        folds[members] = (np.arange(len(members)) + rng.integers(n_folds)) % n_folds
    return folds


def crossfit(
    encoder: Encoder,
    cells: CellRows,
    labels: np.ndarray,
    folds: np.ndarray,
    types: tuple[str, ...],
    settings: FinetuneSettings,
    *,
    batches: np.ndarray | None = None,
    progress: bool = False,
) -> Iterator[tuple[np.ndarray, Encoder]]:
    """Yield the cells of each fold, bool ``(n,)``, with an encoder that was fine-tuned without their labels.

    Each fine-tuning starts from the pretrained layers, which have seen all cells but no labels.

    Parameters
    ----------
    encoder
        Encoder fine-tuned by :func:`scquery_ae.tl.finetune`.
    cells, labels, types, batches, progress
        As in :func:`scquery_ae.training.finetune_encoder`.
    folds
        Fold of each cell, from :func:`make_folds`.
    settings
        Settings to repeat, such as ``FinetuneSettings.from_parameters(encoder.parameters)``. A fraction
        `validation_fraction` of the cells outside a fold is held out for early stopping.

    Raises
    ------
    NotFittedError
        If the encoder does not keep its pretrained layers.
    ArgumentError
        If one fold holds all labelled cells.
    """
    if encoder.pretrained is None:
        msg = (
            "Cross-fitting starts from the pretrained layers, which are not saved to a file, and the layers of this "
            "encoder have seen all labels. Use an encoder that was fine-tuned in this session."
        )
        raise NotFittedError(msg)
    for fold in range(max(int(folds.max()) + 1, 1)):
        if not ((folds != fold) & (labels >= 0)).any():
            msg = (
                "Cross-fitting needs labelled cells outside of each fold. Received a fold that holds them all; label "
                "cells of more batches, or leave `batch_key` out."
            )
            raise ArgumentError(msg)
    start = Encoder(encoder.transform, encoder.pretrained)
    for fold in range(int(folds.max()) + 1):
        inside = folds == fold
        known = np.where(inside, -1, labels)
        held_out = np.zeros(len(labels), dtype=bool)
        seen = known >= 0
        held_out[seen] = stratified_split(known[seen], settings.validation_fraction, settings.random_state)
        result = finetune_encoder(start, cells, known, held_out, types, settings, batches=batches, progress=progress)
        yield inside, Encoder(encoder.transform, result.layers, result.classifier, discriminant=result.discriminant)
