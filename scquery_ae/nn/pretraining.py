"""Greedy layer-wise pretraining of tied denoising autoencoders (Vincent et al. 2010)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import keras
import numpy as np

from scquery_ae._checks import check_integer, check_layer_sizes, check_number, check_rate
from scquery_ae._errors import ArgumentError
from scquery_ae.nn.batches import Batches
from scquery_ae.nn.corruption import get_corruption
from scquery_ae.nn.dense_autoencoder import DenseLayerAutoencoder
from scquery_ae.nn.progress import ProgressBar, check_converged
from scquery_ae.nn.rows import EncodedRows, Rows, as_rows

#: Rows that `PretrainedStack.encode` makes dense at a time.
ENCODED_AT_ONCE = 4096


@dataclass
class PretrainedStack:
    """What greedy pretraining leaves: one tied autoencoder a layer, and how each was trained.

    Attributes
    ----------
    layers
        Trained one-layer :class:`DenseLayerAutoencoder`, from the input inwards.
    history
        For each layer the losses by epoch, under ``"loss"`` and, with a validation split, ``"val_loss"``.
    """

    layers: list[DenseLayerAutoencoder] = field(default_factory=list)
    history: list[dict[str, list[float]]] = field(default_factory=list)

    @property
    def weights(self) -> list[tuple[np.ndarray, np.ndarray]]:
        """Kernel ``(d, units)`` and encoder bias ``(units,)`` of each layer, as NumPy arrays."""
        return [
            (keras.ops.convert_to_numpy(layer.kernels[0]), keras.ops.convert_to_numpy(layer.encoder_biases[0]))
            for layer in self.layers
        ]

    def encode(self, x: Any) -> np.ndarray:
        """Return the codes of ``(n, d)`` rows under the whole stack, ``(n, units of the last layer)``."""
        rows = as_rows(x)
        for layer in self.layers:
            rows = EncodedRows(rows, layer)
        starts = range(0, rows.shape[0], ENCODED_AT_ONCE)
        parts = [rows.take(np.arange(start, min(start + ENCODED_AT_ONCE, rows.shape[0]))) for start in starts]
        return np.concatenate(parts)


def pretrain_stack(
    x: Any,
    layer_sizes: Sequence[int],
    *,
    activation: str = "relu",
    code_activation: str = "linear",
    corruption: str = "masking",
    corruption_level: float = 0.3,
    epochs: int = 30,
    patience: int = 3,
    batch_size: int = 128,
    learning_rate: float = 1e-3,
    validation_fraction: float = 0.1,
    random_state: int = 0,
    progress: bool = True,
) -> PretrainedStack:
    """Train a stack of tied denoising autoencoders, one layer after the other.

    Layer *k* is a one-layer denoising autoencoder of its own. It is shown a corrupted version of the clean
    encodings of the layers below and has to give the clean ones back under squared error; the noise is fresh
    in every epoch. Its kernel and encoder bias are kept to initialise a supervised network.

    Parameters
    ----------
    x
        ``(n, d)`` array or CSR matrix, or an object with the two steps of :class:`~scquery_ae.nn.Rows`.
    layer_sizes
        Widths of the layers, from the input inwards.
    activation, code_activation
        Of the hidden layers, and of the last, whose output is the code. Reconstructions are linear.
    corruption, corruption_level
        ``"masking"`` with a share in [0, 1), ``"gaussian"`` with a standard deviation, or ``"none"``.
    epochs, patience
        Most epochs a layer, and epochs without a lower denoising loss on the validation rows before it stops;
        the weights of its best epoch are kept.
    batch_size, learning_rate
        Of the Adam optimiser.
    validation_fraction
        Share of the rows, in [0, 1), that is held out; 0 trains for `epochs` on all.
    random_state
        Seed of the initial weights, the split, the order and the noise.
    progress
        Show a progress bar on a terminal or in a notebook.

    Returns
    -------
    The trained layers and their histories.

    Raises
    ------
    ArgumentError
        If an argument is out of its range, or there are fewer than two rows.

    References
    ----------
    Vincent et al., Journal of Machine Learning Research 11, 3371 (2010), section 3.4.
    Bengio et al., Advances in Neural Information Processing Systems 19 (2007).
    """
    sizes = check_layer_sizes(layer_sizes)
    noise = get_corruption(corruption, corruption_level)
    check_integer("epochs", epochs)
    check_integer("patience", patience)
    check_integer("batch_size", batch_size)
    random_state = check_integer("random_state", random_state, 0)
    learning_rate = check_number("learning_rate", learning_rate, 0, np.inf, closed="neither")
    check_rate("validation_fraction", validation_fraction)
    rows: Rows = as_rows(x)
    n_rows = rows.shape[0]
    if n_rows < 2:
        msg = f"Pretraining needs at least two rows. Received {n_rows}; give more cells."
        raise ArgumentError(msg)

    order = np.random.default_rng([random_state, 0]).permutation(n_rows)
    n_validation = min(round(validation_fraction * n_rows), n_rows - 1)
    validation, training = np.sort(order[:n_validation]), np.sort(order[n_validation:])

    stack = PretrainedStack()
    for depth, units in enumerate(sizes):
        layer = DenseLayerAutoencoder(
            [units],
            activation=code_activation if depth == len(sizes) - 1 else activation,
            kernel_initializer=keras.initializers.GlorotUniform(seed=random_state + depth),
            name=f"denoising_{depth}",
        )
        model = keras.Sequential([keras.Input((rows.shape[1],)), layer])
        model.compile(optimizer=keras.optimizers.Adam(learning_rate), loss="mse")
        common: dict[str, Any] = {"corruption": noise, "batch_size": batch_size}
        callbacks: list[keras.callbacks.Callback] = [
            ProgressBar(f"pretrain layer {depth + 1}/{len(sizes)} ({units} units)", epochs, enabled=progress)
        ]
        held_out = None
        if n_validation:
            held_out = Batches(rows, validation, seed=[random_state, depth, 1], fixed=True, **common)
            callbacks.append(keras.callbacks.EarlyStopping(patience=patience, restore_best_weights=True))
        fitted = model.fit(
            Batches(rows, training, seed=[random_state, depth, 0], **common),
            validation_data=held_out,
            epochs=epochs,
            callbacks=callbacks,
            verbose=0,
            shuffle=False,
        )
        check_converged(fitted.history)
        stack.layers.append(layer)
        stack.history.append({name: [float(v) for v in values] for name, values in fitted.history.items()})
        rows = EncodedRows(rows, layer)
    return stack
