"""Gradient reversal, for embeddings that should not carry some information."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import keras
import numpy as np
from keras import ops

from scquery_ae._checks import check_number


@keras.saving.register_keras_serializable(package="scquery_ae")
class GradientReversal(keras.layers.Layer):
    """Return the input, and multiply its gradient by ``-strength``.

    The layers behind it are trained to predict something from the embedding; the layers before it are trained to make
    this prediction worse.

    Parameters
    ----------
    strength
        Weight of the reversed gradient, at least 0.
    **kwargs
        Arguments of :class:`keras.layers.Layer`.

    References
    ----------
    Ganin et al., Journal of Machine Learning Research 17, 59 (2016).
    """

    def __init__(self, strength: float = 1.0, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.strength = check_number("strength", strength, 0, np.inf, closed="left")
        # A variable, so that a callback can change it in a compiled step.
        self.current = self.add_weight(
            name="current",
            shape=(),
            initializer=keras.initializers.Constant(self.strength),
            trainable=False,
        )
        self.supports_masking = True

    def build(self, input_shape: Sequence[int | None]) -> None:
        """Mark the layer as built; its variable is created in the constructor."""
        self.built = True

    def call(self, inputs: Any) -> Any:
        """Return `inputs`."""
        scaled = inputs * ops.cast(self.current, inputs.dtype)
        # The bracket has the value zero and the derivative minus the strength.
        return ops.stop_gradient(inputs) + (ops.stop_gradient(scaled) - scaled)

    def compute_output_shape(self, input_shape: Sequence[int | None]) -> tuple[int | None, ...]:
        """Return the shape of the input."""
        return tuple(input_shape)

    def get_config(self) -> dict[str, Any]:
        """Return every constructor argument."""
        return {**super().get_config(), "strength": self.strength}


class StrengthRamp(keras.callbacks.Callback):
    """Raise the strength of gradient reversal from 0 to its full value over the epochs.

    At progress p it is ``2 / (1 + exp(-10 p)) - 1`` of the full strength (Ganin et al. 2016). The first epochs shape
    the embedding by the types, while the adversarial classifier has not learnt anything yet.
    """

    def __init__(self, layers: Sequence[GradientReversal], epochs: int) -> None:
        super().__init__()
        self._layers = layers
        self._epochs = epochs

    def on_epoch_begin(self, epoch: int, logs: dict[str, float] | None = None) -> None:
        """Set the strength of the epoch."""
        progress = epoch / (self._epochs - 1) if self._epochs > 1 else 1.0
        for layer in self._layers:
            layer.current.assign(layer.strength * (2 / (1 + np.exp(-10 * progress)) - 1))
