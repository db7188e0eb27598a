"""What greedy pretraining leaves."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import keras
import numpy as np

from scquery_ae.nn.rows import EncodedRows, Rows, as_rows, chunks


@dataclass
class PretrainedStack:
    """What greedy pretraining leaves: one module a layer, and how each was trained.

    Attributes
    ----------
    layers
        Trained modules, from the input inwards.
    history
        For each layer the losses by epoch, under ``"loss"`` and, with a validation split, ``"val_loss"``. Those of a
        Boltzmann machine are squared errors of reconstruction; what it minimises is ``"free_energy_gap"``.
    """

    layers: list[Any] = field(default_factory=list)
    history: list[dict[str, list[float]]] = field(default_factory=list)

    @property
    def weights(self) -> list[tuple[np.ndarray, np.ndarray]]:
        """Kernel ``(d, units)`` and encoder bias ``(units,)`` of each dense layer, as NumPy arrays."""
        return [(kernel, bias) for kernel, bias, _ in self.dense_weights]

    @property
    def dense_weights(self) -> list[tuple[np.ndarray, np.ndarray, str]]:
        """Kernel, encoder bias and name of the activation of each dense layer."""
        return [weights for layer in self.layers for weights in layer.dense_weights()]

    def encode(self, x: Any) -> np.ndarray:
        """Return the embeddings of rows under the whole stack, ``(n, units of the last layer)``."""
        return np.concatenate(list(chunks(self._encoded(as_rows(x)))))

    def encoder(self, *, name: str = "encoder") -> keras.Sequential:
        """Return a network of ordinary Keras layers that starts from copies of the stack's weights.

        Put a classifier on it and train it as any other: the stack stays as it is.
        """
        first = self.layers[0]
        inputs = keras.Input(first._input_shape())
        layers = [part for layer in self.layers for part in layer.encoder_layers()]
        return keras.Sequential([inputs, *layers], name=name)

    def _encoded(self, rows: Rows) -> Rows:
        for layer in self.layers:
            rows = EncodedRows(rows, layer)
        return rows
