"""Encoders that have not seen the labels of a fold, for judging cells by others."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np

from scquery_ae._errors import ArgumentError, NotFittedError
from scquery_ae.encoder import Encoder
from scquery_ae.loaders import CellRows
from scquery_ae.training.finetune import finetune_encoder
from scquery_ae.training.split import stratified_split


def make_folds(labels: np.ndarray, batches: np.ndarray | None, n_folds: int, random_state: int) -> np.ndarray:
    """Return the fold of each cell, int ``(n,)``; -1 for cells without a label.

    Batches stay whole, the largest first into the smallest fold; without batches, each type is dealt out in turn.

    Parameters
    ----------
    labels
        Type of each cell, int ``(n,)``; -1 for none.
    batches
        Batch of each, int ``(n,)``, or None.
    n_folds
        Number of folds, at most that of the batches.
    random_state
        Seed.
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
    *,
    validation_fraction: float,
    progress: bool,
    **settings: Any,
) -> Iterator[tuple[np.ndarray, Encoder]]:
    """Yield for each fold its cells, bool ``(n,)``, and an encoder fine-tuned without their labels.

    Fine-tuning starts from the layers that pretraining left: it has seen all cells, and no label.

    Parameters
    ----------
    encoder
        Fine-tuned.
    cells, labels, types
        As of :func:`scquery_ae.training.finetune_encoder`.
    folds
        Of :func:`make_folds`.
    validation_fraction
        Share of the other folds' cells that early stopping watches.
    **settings
        Those of :func:`scquery_ae.training.finetune_encoder`.

    Raises
    ------
    NotFittedError
        If the encoder no longer has the layers that fine-tuning started from.
    ArgumentError
        If one fold holds all labelled cells.
    """
    if encoder.pretrained is None:
        msg = (
            "Cross-fitting needs the layers that fine-tuning started from, which are not kept in a file: those of this "
            "encoder have seen all labels. Use one that was fine-tuned in this session."
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
        held_out[seen] = stratified_split(known[seen], validation_fraction, settings["random_state"])
        result = finetune_encoder(start, cells, known, held_out, types, progress=progress, **settings)
        yield inside, Encoder(encoder.transform, result.layers, result.classifier, discriminant=result.discriminant)
