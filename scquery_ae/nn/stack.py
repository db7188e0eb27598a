"""The result of greedy pretraining."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import keras
import numpy as np

from scquery_ae.nn.rows import EncodedRows, Rows, as_rows, chunks


@dataclass
class PretrainedStack:
    """Result of greedy pretraining: one trained module per layer, with its losses.

    Attributes
    ----------
    layers
        Trained modules, from the input inwards.
    history
        Losses by epoch of each layer, ``"loss"`` and, with validation rows, ``"val_loss"``. For a Boltzmann machine,
        these are squared reconstruction errors, and ``"free_energy_gap"`` is the loss that is minimised.
    """

    layers: list[Any] = field(default_factory=list)
    history: list[dict[str, list[float]]] = field(default_factory=list)

    @property
    def weights(self) -> list[tuple[np.ndarray, np.ndarray]]:
        """Kernel ``(d, units)`` and encoder bias ``(units,)`` of each dense layer, as NumPy arrays."""
        return [(kernel, bias) for kernel, bias, _ in self.dense_weights]

    @property
    def dense_weights(self) -> list[tuple[np.ndarray, np.ndarray, str]]:
        """Kernel, encoder bias and activation name of each dense layer."""
        return [weights for layer in self.layers for weights in layer.dense_weights()]

    def encode(self, x: Any) -> np.ndarray:
        """Return the latent representation of rows after all layers, ``(n, units of the last layer)``."""
        return np.concatenate(list(chunks(self._encoded(as_rows(x)))))

    def encoder(self, *, name: str = "encoder") -> keras.Sequential:
        """Return a network of ordinary Keras layers, initialised with copies of the stack's weights.

        Add a classifier and train the network like any other; the stack does not change.
        """
        first = self.layers[0]
        inputs = keras.Input(first._input_shape())
        layers = [part for layer in self.layers for part in layer.encoder_layers()]
        return keras.Sequential([inputs, *layers], name=name)

    def _encoded(self, rows: Rows) -> Rows:
        for layer in self.layers:
            rows = EncodedRows(rows, layer)
        return rows
