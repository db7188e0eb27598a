"""Supervised training of a pretrained encoder."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from scquery_ae.encoder import DenseWeights, Encoder, Head
from scquery_ae.loaders import CellRows
from scquery_ae.training.panels import PanelNoise


@dataclass(frozen=True)
class FinetuneResult:
    """What fine-tuning gives: new layers and head for an encoder, and the losses by epoch."""

    layers: tuple[DenseWeights, ...]
    head: Head
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
) -> FinetuneResult:
    """Train all layers of `encoder` with a softmax head on labelled cells; `encoder` itself is left as it is.

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
    label_smoothing, corruption_level, gene_masking, dropout, epochs, patience, batch_size, learning_rate, random_state,
    progress
        As in :func:`scquery_ae.tl.finetune`.
    """
    import keras

    from scquery_ae.nn import Batches, MaskingNoise, ProgressBar, build_classifier, check_converged, read_classifier

    n_types = len(types)
    training = np.flatnonzero((labels >= 0) & ~held_out)
    validation = np.flatnonzero((labels >= 0) & held_out)
    counts = np.bincount(labels[training], minlength=n_types)
    weight = np.maximum(counts, 1).astype(float) ** -class_weight_power
    weight /= weight[labels[training]].mean()
    one_hot = np.eye(n_types, dtype=np.float32)

    model = build_classifier(
        [(layer.kernel, layer.bias, layer.activation) for layer in encoder.layers],
        n_types,
        dropout=dropout,
        random_state=random_state,
    )
    model.compile(
        optimizer=keras.optimizers.Adam(learning_rate),
        loss=keras.losses.CategoricalCrossentropy(label_smoothing=label_smoothing),
        weighted_metrics=["accuracy"],
    )

    def batches(indices: np.ndarray, stream: int, **kwargs: Any) -> Batches:
        return Batches(
            cells,
            indices,
            targets=one_hot[labels[indices]],
            weights=weight[labels[indices]].astype(np.float32),
            batch_size=batch_size,
            seed=[random_state, 1000, stream],
            **kwargs,
        )

    noise = PanelNoise(cells.transform, gene_masking, then=MaskingNoise(corruption_level))
    callbacks: list[keras.callbacks.Callback] = [ProgressBar(f"finetune ({n_types} types)", epochs, enabled=progress)]
    watched = None
    if len(validation):
        watched = batches(validation, 1, fixed=True)
        callbacks.append(keras.callbacks.EarlyStopping(patience=patience, restore_best_weights=True))
    fitted = model.fit(
        batches(training, 0, corruption=noise),
        validation_data=watched,
        epochs=epochs,
        callbacks=callbacks,
        verbose=0,
        shuffle=False,
    )
    check_converged(fitted.history)
    hidden, kernel, bias = read_classifier(model, len(encoder.layers))
    return FinetuneResult(
        layers=tuple(
            DenseWeights(k, b, layer.activation) for (k, b), layer in zip(hidden, encoder.layers, strict=True)
        ),
        head=Head(kernel, bias, types),
        history={name: [float(v) for v in values] for name, values in fitted.history.items()},
    )
