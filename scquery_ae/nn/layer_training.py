"""Training of one module on the encodings of the layers below."""

from __future__ import annotations

from typing import Any

import keras
import numpy as np

from scquery_ae.nn.autoencoder import Autoencoder
from scquery_ae.nn.batches import Batches
from scquery_ae.nn.corruption import NoCorruption, get_corruption
from scquery_ae.nn.fitting import fit
from scquery_ae.nn.layer_settings import UNTRAINED, LayerSettings
from scquery_ae.nn.losses import Dispersion, get_loss
from scquery_ae.nn.principal import principal_weights
from scquery_ae.nn.rows import Rows, chunks


def train_layer(
    layer: Autoencoder,
    own: LayerSettings,
    rows: Rows,
    split: tuple[np.ndarray, np.ndarray],
    seed: list[int],
    counts: Rows | None,
    **watching: Any,
) -> dict[str, list[float]]:
    """Train one module, and return its losses by epoch.

    Parameters
    ----------
    layer
        Module, built.
    own
        Settings of the layer.
    rows
        Clean inputs of the layer.
    split
        Rows for training, and rows for validation.
    seed
        Seed of the order and the noise.
    counts
        Targets of a likelihood of counts, or None.
    **watching
        `title`, `progress` and `resume` of :func:`scquery_ae.nn.fit`.
    """
    training, validation = split
    if own.module in UNTRAINED:
        if own.module == "pca":
            kernel, bias = principal_weights(rows, layer.layer_sizes[0])
            layer.kernels[0].assign(kernel)
            layer.encoder_biases[0].assign(bias)
        return {"loss": []}
    parts: list[Any] = [keras.Input(rows.shape[1:]), layer]
    if own.loss == "negative_binomial":
        parts.append(Dispersion())
    if counts is not None:
        _start_from_mean(layer, counts)
    model = keras.Sequential(parts)
    optimizer = keras.optimizers.Adam(float(own.learning_rate))
    if layer.owns_loss:
        model.compile(optimizer=optimizer, loss=None, metrics=["mse"])
    else:
        model.compile(optimizer=optimizer, loss=get_loss(own.loss)[0])
    noise = NoCorruption() if layer.owns_loss else get_corruption(own.corruption, own.corruption_level)

    def batches(indices: np.ndarray, stream: int, *, fixed: bool = False) -> Batches:
        return Batches(
            rows,
            indices,
            corruption=noise,
            targets=counts,
            emphasis=None if layer.owns_loss else own.emphasis,
            batch_size=own.batch_size,
            seed=[*seed, stream],
            fixed=fixed,
        )

    history = fit(
        model,
        batches(training, 0),
        batches(validation, 1, fixed=True) if len(validation) else None,
        epochs=own.epochs,
        patience=own.patience,
        monitor="val_mse" if layer.owns_loss else "val_loss",
        **watching,
    )
    if layer.owns_loss:
        renamed = {"loss": "mse", "val_loss": "val_mse", "free_energy_gap": "loss"}
        history = {name: history[key] for name, key in renamed.items() if key in history}
    return history


def _start_from_mean(layer: Autoencoder, counts: Rows) -> None:
    """Set the last bias such that training starts from the mean fraction of each feature, which saves epochs."""
    total = np.sum([chunk.sum(axis=0, dtype=np.float64) for chunk in chunks(counts)], axis=0)
    fraction = (total + 1) / (total + 1).sum()
    biases = getattr(layer, "decoder_biases", None) or [getattr(layer, "decoder_bias", None)]
    if biases[-1] is not None and biases[-1].shape == fraction.shape:
        biases[-1].assign(np.log(fraction).astype(np.float32))
