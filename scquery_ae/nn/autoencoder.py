"""What all autoencoder layers have in common: two halves, and a model of the encoder."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import keras
import numpy as np
from keras import ops

from scquery_ae._errors import ArgumentError


class Autoencoder(keras.layers.Layer):
    """Base of the layers that :func:`scquery_ae.nn.pretrain_stack` trains, one upon the other.

    Calling the layer reconstructs its input; :meth:`encode` and :meth:`decode` give the two halves. A subclass offers
    ``_encode(x, training)``, ``_decode(code)``, :meth:`latent_shape`, :meth:`encoder_layers` and :meth:`dense_weights`.
    """

    #: Whether the layer brings its own loss (``add_loss``), in place of one on the reconstruction.
    owns_loss = False

    def call(self, inputs: Any, training: bool | None = None) -> Any:
        """Reconstruct `inputs`, shape unchanged."""
        return self._decode(self._encode(inputs, training))

    def encode(self, inputs: Any, training: bool | None = None) -> Any:
        """Return the embedding of an array.

        Builds the layer if it has not been called before. For a embedding inside a functional model use
        :meth:`encoder_model`.
        """
        inputs = self._eager("encode", inputs)
        self._check_shape("encode", inputs, self._input_shape() if self.built else None)
        if not self.built:
            self.build(inputs.shape)
        return self._encode(inputs, training)

    def decode(self, latent: Any) -> Any:
        """Return the reconstruction of embeddings."""
        latent = self._eager("decode", latent)
        if not self.built:
            msg = (
                f"{type(self).__name__}.decode: the layer does not know the width of its output yet. "
                "Call the layer, `encode` or `build` first."
            )
            raise ValueError(msg)
        self._check_shape("decode", latent, self.latent_shape((None, *self._input_shape()))[1:])
        return self._decode(latent)

    def encoder_model(self) -> keras.Model:
        """Return the encoder as a Keras model that owns (shares) this layer's variables."""
        self._require_built("encoder_model")
        return EncoderHalf(self)

    @property
    def latent_in_unit_interval(self) -> bool:
        """Whether all values of embeddings are in [0, 1], as those of a sigmoid are."""
        activation = getattr(self, "activation", keras.activations.linear)
        return bool(keras.activations.serialize(activation) == "sigmoid")

    def encoder_layers(self) -> list[keras.layers.Layer]:
        """Return the encoder as ordinary Keras layers that start from copies of this layer's weights."""
        raise NotImplementedError

    def dense_weights(self) -> list[tuple[np.ndarray, np.ndarray, str]]:
        """Return kernel ``(d, units)``, bias ``(units,)`` and name of the activation of each dense encoder layer."""
        msg = f"{type(self).__name__} has no dense weights. Use `encoder_layers()` for a network of Keras layers."
        raise ArgumentError(msg)

    def latent_shape(self, input_shape: Sequence[int | None]) -> tuple[int | None, ...]:
        """Return the shape of the embedding of inputs of a shape, both with the batch axis."""
        raise NotImplementedError

    def compute_output_shape(self, input_shape: Sequence[int | None]) -> tuple[int | None, ...]:
        """Return the shape of the reconstruction, that of the input."""
        return tuple(input_shape)

    def _input_shape(self) -> tuple[int, ...]:
        """Shape of one input, once built."""
        raise NotImplementedError

    def _encode(self, x: Any, training: bool | None) -> Any:
        raise NotImplementedError

    def _decode(self, x: Any) -> Any:
        raise NotImplementedError

    def _cast(self, variable: Any) -> Any:
        """Return a variable in the type of the computation: `encode` runs outside of ``__call__``, which would."""
        return ops.cast(variable, self.compute_dtype)

    def _require_built(self, method: str) -> None:
        if not self.built:
            msg = f"{type(self).__name__}.{method}: the layer has no weights yet; call it or `build` it first."
            raise ValueError(msg)

    def _known_width(self, input_shape: Sequence[int | None]) -> int:
        """Return the width of the last axis, or say that it has to be known."""
        width = input_shape[-1]
        if width is None:
            msg = (
                f"{type(self).__name__} cannot be built: the last axis of the input must have a fixed width. "
                f"Received input_shape={tuple(input_shape)}; give `keras.Input(shape=(n_features,))`."
            )
            raise ValueError(msg)
        return int(width)

    def _eager(self, method: str, x: Any) -> Any:
        if keras.backend.is_keras_tensor(x):
            # Keras would record the products but not own the kernels: the model would save without weights.
            msg = (
                f"{type(self).__name__}.{method} takes arrays, but received a symbolic Keras tensor. "
                "Inside a functional model use `layer.encoder_model()(inputs)`, or call the layer itself."
            )
            raise TypeError(msg)
        return ops.convert_to_tensor(x, dtype=self.compute_dtype)

    def _check_shape(self, method: str, x: Any, expected: tuple[int | None, ...] | None) -> None:
        n_axes = 1 if expected is None else len(expected)
        if len(x.shape) <= n_axes or (expected is not None and tuple(x.shape[-n_axes:]) != expected):
            wanted = "n_features" if expected is None else ", ".join(map(str, expected))
            msg = (
                f"{type(self).__name__}.{method} needs an array of rows, shape (..., {wanted}). "
                f"Received shape {tuple(x.shape)}."
            )
            raise ArgumentError(msg)


@keras.saving.register_keras_serializable(package="scquery_ae")
class EncoderHalf(keras.Model):
    """The encoder of a built autoencoder layer, sharing its variables; see :meth:`Autoencoder.encoder_model`."""

    def __init__(self, autoencoder: Autoencoder, **kwargs: Any) -> None:
        super().__init__(**{"dtype": autoencoder.dtype_policy, **kwargs})
        self.autoencoder = autoencoder

    def call(self, inputs: Any, training: bool | None = None) -> Any:
        """Return the embedding of `inputs`."""
        return self.autoencoder._encode(inputs, training)

    def compute_output_shape(self, input_shape: Sequence[int | None]) -> tuple[int | None, ...]:
        """Return the shape of the embedding."""
        return self.autoencoder.latent_shape(input_shape)

    def get_config(self) -> dict[str, Any]:
        """Return the configuration of the autoencoder beside the model's own."""
        config: dict[str, Any] = super().get_config()
        config["autoencoder"] = keras.saving.serialize_keras_object(self.autoencoder)
        return config

    @classmethod
    def from_config(cls, config: dict[str, Any], custom_objects: Any = None) -> EncoderHalf:
        """Make the autoencoder and its encoder again."""
        config = dict(config)
        layer = keras.saving.deserialize_keras_object(config.pop("autoencoder"), custom_objects=custom_objects)
        return cls(layer, **config)
