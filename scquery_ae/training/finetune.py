"""Supervised training of a pretrained encoder."""

from __future__ import annotations

from dataclasses import dataclass, replace
from os import PathLike
from typing import Any

import numpy as np
import pandas as pd

from scquery_ae.dense import Classifier, DenseWeights
from scquery_ae.encoder import Encoder
from scquery_ae.loaders import CellRows
from scquery_ae.stats import GeneDiscriminant
from scquery_ae.training.gene_panel_dropout import GenePanelDropout
from scquery_ae.training.objective import Objective, plain_history

PLAIN = Objective()

#: Held-out cells that are enough to calibrate the discriminant on, and folds of all where there are fewer.
ENOUGH_HELD_OUT, FOLDS = 50, 3


@dataclass(frozen=True)
class FinetuneResult:
    """What fine-tuning gives: new layers, classifier and discriminant for an encoder, and the losses by epoch."""

    layers: tuple[DenseWeights, ...]
    classifier: Classifier
    discriminant: GeneDiscriminant
    history: dict[str, list[float]]


def finetune_encoder(
    encoder: Encoder,
    cells: CellRows,
    labels: np.ndarray,
    held_out: np.ndarray,
    types: tuple[str, ...],
    *,
    class_weight_power: float,
    label_smoothing: float,
    corruption_level: float,
    gene_masking: float,
    dropout: float,
    epochs: int,
    patience: int,
    batch_size: int,
    learning_rate: float,
    random_state: int,
    progress: bool,
    gene_masking_from: float = 0.0,
    objective: Objective = PLAIN,
    batches: np.ndarray | None = None,
    checkpoint: str | PathLike[str] | None = None,
) -> FinetuneResult:
    """Train all layers of `encoder` with a softmax classifier on labelled cells; `encoder` itself is left as it is.

    Parameters
    ----------
    encoder
        Whose layers to start from.
    cells
        All cells, labelled or not.
    labels
        Type of each, int ``(n,)``; -1 for none.
    held_out
        Labelled cells that early stopping watches and training does not see, bool ``(n,)``.
    types
        Names of the types.
    class_weight_power
        A type with n cells weighs ``n ** -power`` a cell: 0 leaves frequencies as they are, 1 makes types equal.
    gene_masking, gene_masking_from
        Largest and least share of genes that a cut batch lacks.
    objective
        Losses beside the classifier's.
    batches
        Batch of each cell, int ``(n,)``, where the objective has to do with them.
    checkpoint
        Folder that keeps the state after each epoch; None keeps nothing.
    label_smoothing, corruption_level, dropout, epochs, patience, batch_size, learning_rate, random_state, progress
        As in :func:`scquery_ae.tl.finetune`.
    """
    import keras

    from scquery_ae.nn import (
        BalancedBatches,
        Batches,
        GradientReversal,
        MaskingNoise,
        ResumePoint,
        StrengthRamp,
        build_classifier,
        fit,
        open_checkpoint,
        read_classifier,
    )

    kept = open_checkpoint(
        checkpoint,
        cells,
        [labels, held_out, batches, *(part for each in encoder.layers for part in (each.kernel, each.bias, each.mask))],
        [
            types,
            [layer.activation for layer in encoder.layers],
            class_weight_power,
            label_smoothing,
            corruption_level,
            [gene_masking_from, gene_masking],
            dropout,
            [epochs, patience, batch_size, learning_rate, random_state],
            [objective.metric_loss, objective.metric_weight, np.asarray(objective.margin).tolist()],
            objective.adversarial_weight,
        ],
    )
    n_types = len(types)
    training = np.flatnonzero((labels >= 0) & ~held_out)
    validation = np.flatnonzero((labels >= 0) & held_out)
    counts = np.maximum(np.bincount(labels[training], minlength=n_types), 1).astype(float)
    weight = counts**-class_weight_power
    weight /= weight[labels[training]].mean()
    # Balanced batches read types equally often: the weight of a type's cells together stays the same.
    balanced_weight = weight * counts / (weight * counts)[np.unique(labels[training])].mean()
    one_hot = np.eye(n_types, dtype=np.float32)

    model = build_classifier(
        [(layer.kernel, layer.bias, layer.activation) for layer in encoder.layers],
        n_types,
        masks=[layer.mask for layer in encoder.layers],
        dropout=dropout,
        with_latent=objective.metric_loss is not None,
        detach_classifier=objective.detach_classifier,
        n_batches=0 if batches is None or not objective.adversarial_weight else int(batches.max()) + 1,
        adversarial_weight=objective.adversarial_weight,
        random_state=random_state,
    )
    losses = objective.losses(keras.losses.CategoricalCrossentropy(label_smoothing=label_smoothing))
    plain = objective.is_plain
    model.compile(
        optimizer=keras.optimizers.Adam(learning_rate),
        loss=losses["classifier"] if plain else losses,
        loss_weights=None if plain else objective.weights(),
        weighted_metrics=["accuracy"] if plain else {"classifier": ["accuracy"]},
    )

    def read(indices: np.ndarray, stream: int, kind: type[Batches] = Batches, **kwargs: Any) -> Batches:
        cell_weight = balanced_weight if kind is BalancedBatches else weight
        types_here = labels[indices]
        targets = objective.targets(one_hot[types_here], types_here, None if batches is None else batches[indices])
        weights = {name: np.ones(len(indices), np.float32) for name in targets}
        weights["classifier"] = cell_weight[types_here].astype(np.float32)
        return kind(
            cells,
            indices,
            targets=targets["classifier"] if plain else targets,
            weights=weights["classifier"] if plain else weights,
            batch_size=batch_size,
            seed=[random_state, 1000, stream],
            **kwargs,
        )

    noise = GenePanelDropout(
        cells.transform, gene_masking, then=MaskingNoise(corruption_level), lowest=gene_masking_from
    )
    if objective.metric_loss is None:
        learnt = read(training, 0, corruption=noise)
    else:
        learnt = read(training, 0, BalancedBatches, corruption=noise, types=labels[training])
    turned = [layer for layer in model.layers if isinstance(layer, GradientReversal)]
    history = fit(
        model,
        learnt,
        read(validation, 1, fixed=True) if len(validation) else None,
        epochs=epochs,
        patience=patience,
        monitor="val_loss" if plain else "val_classifier_loss",
        title=f"finetune ({n_types} types)",
        progress=progress,
        callbacks=[StrengthRamp(turned, epochs)] if turned else [],
        resume=ResumePoint(kept, "finetune") if kept else None,
    )
    hidden, kernel, bias = read_classifier(model, len(encoder.layers))
    return FinetuneResult(
        layers=tuple(replace(layer, kernel=k, bias=b) for (k, b), layer in zip(hidden, encoder.layers, strict=True)),
        classifier=Classifier(kernel, bias, types),
        discriminant=_discriminant(encoder, cells, labels, training, validation, n_types),
        history=plain_history(history),
    )


def _discriminant(
    encoder: Encoder, cells: CellRows, labels: np.ndarray, training: np.ndarray, held_out: np.ndarray, n_types: int
) -> GeneDiscriminant:
    """Fit to the cells of the training, and calibrate on cells that it has not seen."""

    def fit(rows: np.ndarray) -> GeneDiscriminant:
        known = np.full(len(labels), -1)
        known[rows] = labels[rows]
        return GeneDiscriminant.fit(cells.logged, known, n_types)

    def decision(fitted: GeneDiscriminant, rows: np.ndarray) -> np.ndarray:
        judge = replace(encoder, classifier=None, discriminant=fitted)
        # What has had no cell of a type can say nothing of it.
        return np.where(fitted.seen, judge.decision(cells.logged[rows], cells.totals[rows]), -np.inf)

    fitted = fit(training)
    if len(held_out) >= ENOUGH_HELD_OUT:
        return fitted.calibrated(decision(fitted, held_out), labels[held_out])
    # Too few to tell from: all judge each other.
    rows = np.sort(np.concatenate([training, held_out]))
    folds = pd.Series(labels[rows]).groupby(labels[rows]).cumcount().to_numpy() % FOLDS
    judged, scores = [], []
    for fold in range(FOLDS):
        rest, asked = rows[folds != fold], rows[folds == fold]
        asked = asked[np.isin(labels[asked], labels[rest])]
        if len(asked):
            judged.append(asked)
            scores.append(decision(fit(rest), asked))
    return fitted.calibrated(np.concatenate(scores), labels[np.concatenate(judged)]) if judged else fitted
