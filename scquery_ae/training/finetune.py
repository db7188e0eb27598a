"""Supervised training of a pretrained encoder."""

from __future__ import annotations

from dataclasses import dataclass, replace
from os import PathLike
from typing import Any

import numpy as np

from scquery_ae.dense import Classifier, DenseWeights
from scquery_ae.encoder import Encoder
from scquery_ae.loaders import CellRows
from scquery_ae.stats import GeneDiscriminant
from scquery_ae.training.discriminant import fit_discriminant
from scquery_ae.training.finetune_settings import FinetuneSettings
from scquery_ae.training.gene_panel_dropout import GenePanelDropout
from scquery_ae.training.objective import output_losses, output_targets, output_weights, plain_history


@dataclass(frozen=True)
class FinetuneResult:
    """Layers, classifier and discriminant for an encoder, and the losses by epoch."""

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
    settings: FinetuneSettings,
    *,
    batches: np.ndarray | None = None,
    checkpoint: str | PathLike[str] | None = None,
    progress: bool = False,
) -> FinetuneResult:
    """Train copies of the layers of `encoder`, with a softmax classifier on top, on labelled cells.

    Parameters
    ----------
    encoder
        Encoder to start from; it is not changed.
    cells
        All cells, labelled or not.
    labels
        Type of each cell, int ``(n,)``; -1 for none.
    held_out
        Labelled cells that only early stopping uses, bool ``(n,)``.
    types
        Names of the types.
    settings
        Settings of the training.
    batches
        Batch of each cell, int ``(n,)``; needed for an adversarial loss.
    checkpoint
        Folder to keep the state in after each epoch. None keeps nothing.
    progress
        Show a progress bar on a terminal or in a notebook.
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

    saved = open_checkpoint(
        checkpoint,
        cells,
        [labels, held_out, batches, *(part for each in encoder.layers for part in (each.kernel, each.bias, each.mask))],
        [types, [layer.activation for layer in encoder.layers], settings.to_parameters()],
    )
    n_types = len(types)
    training = np.flatnonzero((labels >= 0) & ~held_out)
    validation = np.flatnonzero((labels >= 0) & held_out)
    counts = np.maximum(np.bincount(labels[training], minlength=n_types), 1).astype(float)
    weight = counts**-settings.class_weight_power
    weight /= weight[labels[training]].mean()
    # Balanced batches read each type equally often. This keeps the total weight of a type the same.
    balanced_weight = weight * counts / (weight * counts)[np.unique(labels[training])].mean()
    one_hot = np.eye(n_types, dtype=np.float32)
    batch_size = settings.cells_per_step(len(training) + len(validation))
    with_metric = settings.metric_loss is not None

    model = build_classifier(
        [(layer.kernel, layer.bias, layer.activation) for layer in encoder.layers],
        n_types,
        masks=[layer.mask for layer in encoder.layers],
        dropout=settings.dropout,
        with_latent=with_metric,
        detach_classifier=settings.detach_classifier,
        n_batches=0 if batches is None or not settings.adversarial_weight else int(batches.max()) + 1,
        adversarial_weight=settings.adversarial_weight,
        random_state=settings.random_state,
    )
    losses = output_losses(settings)
    plain = settings.is_plain
    model.compile(
        optimizer=keras.optimizers.Adam(settings.learning_rate),
        loss=losses["classifier"] if plain else losses,
        loss_weights=None if plain else output_weights(settings),
        weighted_metrics=["accuracy"] if plain else {"classifier": ["accuracy"]},
    )

    def read(indices: np.ndarray, stream: int, kind: type[Batches] = Batches, **kwargs: Any) -> Batches:
        cell_weight = balanced_weight if kind is BalancedBatches else weight
        types_here = labels[indices]
        batches_here = None if batches is None else batches[indices]
        targets = output_targets(settings, one_hot[types_here], types_here, batches_here)
        weights = {name: np.ones(len(indices), np.float32) for name in targets}
        weights["classifier"] = cell_weight[types_here].astype(np.float32)
        return kind(
            cells,
            indices,
            targets=targets["classifier"] if plain else targets,
            weights=weights["classifier"] if plain else weights,
            batch_size=batch_size,
            seed=[settings.random_state, 1000, stream],
            **kwargs,
        )

    noise = GenePanelDropout(cells.transform, settings.gene_masking, then=MaskingNoise(settings.corruption_level))
    if with_metric:
        train_batches = read(training, 0, BalancedBatches, corruption=noise, types=labels[training])
    else:
        train_batches = read(training, 0, corruption=noise)
    reversals = [layer for layer in model.layers if isinstance(layer, GradientReversal)]
    history = fit(
        model,
        train_batches,
        read(validation, 1, fixed=True) if len(validation) else None,
        epochs=settings.epochs,
        patience=settings.patience,
        monitor="val_loss" if plain else "val_classifier_loss",
        title=f"finetune ({n_types} types)",
        progress=progress,
        callbacks=[StrengthRamp(reversals, settings.epochs)] if reversals else [],
        resume=ResumePoint(saved, "finetune") if saved else None,
    )
    hidden, kernel, bias = read_classifier(model, len(encoder.layers))
    return FinetuneResult(
        layers=tuple(replace(layer, kernel=k, bias=b) for (k, b), layer in zip(hidden, encoder.layers, strict=True)),
        classifier=Classifier(kernel, bias, types),
        discriminant=fit_discriminant(encoder, cells, labels, training, validation, n_types),
        history=plain_history(history),
    )
