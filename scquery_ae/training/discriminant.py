"""Fitting and calibrating the linear discriminant on gene expression."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pandas as pd

from scquery_ae.encoder import Encoder
from scquery_ae.loaders import CellRows
from scquery_ae.stats import GeneDiscriminant

#: Held-out cells that suffice for calibration. With fewer, all labelled cells are calibrated on in `FOLDS` folds.
ENOUGH_HELD_OUT, FOLDS = 50, 3


def fit_discriminant(
    encoder: Encoder, cells: CellRows, labels: np.ndarray, training: np.ndarray, held_out: np.ndarray, n_types: int
) -> GeneDiscriminant:
    """Fit the discriminant to the training cells, and calibrate it on cells that it was not fitted to.

    Parameters
    ----------
    encoder
        Encoder whose decision function weighs cells by their depth.
    cells
        All cells.
    labels
        Type of each cell, int ``(n,)``; -1 for none.
    training, held_out
        Rows of the training cells and of the held-out cells.
    n_types
        Number of types.
    """

    def fit(rows: np.ndarray) -> GeneDiscriminant:
        known = np.full(len(labels), -1)
        known[rows] = labels[rows]
        return GeneDiscriminant.fit(cells.logged, known, n_types)

    def decision(fitted: GeneDiscriminant, rows: np.ndarray) -> np.ndarray:
        scorer = replace(encoder, classifier=None, discriminant=fitted)
        # A discriminant fitted without a type cannot score it.
        return np.where(fitted.seen, scorer.decision(cells.logged[rows], cells.totals[rows]), -np.inf)

    fitted = fit(training)
    if len(held_out) >= ENOUGH_HELD_OUT:
        return fitted.calibrated(decision(fitted, held_out), labels[held_out])
    rows = np.sort(np.concatenate([training, held_out]))
    folds = pd.Series(labels[rows]).groupby(labels[rows]).cumcount().to_numpy() % FOLDS
    scored, scores = [], []
    for fold in range(FOLDS):
        rest, inside = rows[folds != fold], rows[folds == fold]
        inside = inside[np.isin(labels[inside], labels[rest])]
        if len(inside):
            scored.append(inside)
            scores.append(decision(fit(rest), inside))
    return fitted.calibrated(np.concatenate(scores), labels[np.concatenate(scored)]) if scored else fitted
