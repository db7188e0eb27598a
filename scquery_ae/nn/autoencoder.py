"""The interface of all autoencoder layers: encode, decode, and a model of the encoder."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import keras
import numpy as np
from keras import ops

from scquery_ae._errors import ArgumentError


class Autoencoder(keras.layers.Layer):
    """Base class of the layers that :func:`scquery_ae.nn.pretrain_stack` trains one by one.

    Calling the layer reconstructs its input. :meth:`encode` and :meth:`decode` compute the two halves. A subclass
    implements ``_encode(x, training)``, ``_decode(latent)``, :meth:`latent_shape`, :meth:`encoder_layers` and
    :meth:`dense_weights`.
    """

    #: Whether the layer adds its own loss (``add_loss``), in place of a loss on the reconstruction.
    owns_loss = False

    def call(self, inputs: Any, training: bool | None = None) -> Any:
        """Return the reconstruction of `inputs`, of the same shape."""
        return self._decode(self._encode(inputs, training))

    def encode(self, inputs: Any, training: bool | None = None) -> Any:
        """Return the latent representation of an array.

        The layer is built if it has not been called before. Inside a functional model, use :meth:`encoder_model`.
        """
        inputs = self._eager("encode", inputs)
        self._check_shape("encode", inputs, self._input_shape() if self.built else None)
        if not self.built:
            self.build(inputs.shape)
        return self._encode(inputs, training)

    def decode(self, latent: Any) -> Any:
        """Return the reconstruction of a latent representation."""
        latent = self._eager("decode", latent)
        if not self.built:
            msg = (
                f"{type(self).__name__}.decode needs a built layer, which knows the width of its output. "
                "Call the layer, `encode` or `build` first."
            )
            raise ValueError(msg)
        self._check_shape("decode", latent, self.latent_shape((None, *self._input_shape()))[1:])
        return self._decode(latent)

    def encoder_model(self) -> keras.Model:
        """Return the encoder as a Keras model that shares this layer's variables."""
        self._require_built("encoder_model")
        return EncoderHalf(self)

    @property
    def latent_in_unit_interval(self) -> bool:
        """Whether all latent values are in [0, 1], as after a sigmoid."""
        activation = getattr(self, "activation", keras.activations.linear)
        return bool(keras.activations.serialize(activation) == "sigmoid")

    def encoder_layers(self) -> list[keras.layers.Layer]:
        """Return the encoder as ordinary Keras layers, initialised with copies of this layer's weights."""
        raise NotImplementedError

    def dense_weights(self) -> list[tuple[np.ndarray, np.ndarray, str]]:
        """Return the kernel ``(d, units)``, bias ``(units,)`` and activation name of each dense encoder layer."""
        msg = f"{type(self).__name__} has no dense weights. Use `encoder_layers()`, which returns Keras layers."
        raise ArgumentError(msg)

    def latent_shape(self, input_shape: Sequence[int | None]) -> tuple[int | None, ...]:
        """Return the shape of the latent representation of inputs of a shape, both with the batch axis."""
        raise NotImplementedError

    def compute_output_shape(self, input_shape: Sequence[int | None]) -> tuple[int | None, ...]:
        """Return the shape of the reconstruction, which is the shape of the input."""
        return tuple(input_shape)

    def _input_shape(self) -> tuple[int, ...]:
        """Return the shape of one input of a built layer."""
        raise NotImplementedError

    def _encode(self, x: Any, training: bool | None) -> Any:
        raise NotImplementedError

    def _decode(self, x: Any) -> Any:
        raise NotImplementedError

    def _cast(self, variable: Any) -> Any:
        """Return a variable in the compute dtype: `encode` does not run in ``__call__``, which casts variables."""
        return ops.cast(variable, self.compute_dtype)

    def _require_built(self, method: str) -> None:
        if not self.built:
            msg = f"{type(self).__name__}.{method} needs a built layer. Call the layer or `build` first."
            raise ValueError(msg)

    def _known_width(self, input_shape: Sequence[int | None]) -> int:
        """Return the width of the last axis; raise if it is not fixed."""
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
            # Keras would record the operations but not track the kernels: the model would be saved without weights.
            msg = (
                f"{type(self).__name__}.{method} needs an array. Received a symbolic Keras tensor. "
                "Inside a functional model, use `layer.encoder_model()(inputs)`, or call the layer itself."
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
    """Encoder of a built autoencoder layer, with the same variables; see :meth:`Autoencoder.encoder_model`."""

    def __init__(self, autoencoder: Autoencoder, **kwargs: Any) -> None:
        super().__init__(**{"dtype": autoencoder.dtype_policy, **kwargs})
        self.autoencoder = autoencoder

    def call(self, inputs: Any, training: bool | None = None) -> Any:
        """Return the latent representation of `inputs`."""
        return self.autoencoder._encode(inputs, training)

    def compute_output_shape(self, input_shape: Sequence[int | None]) -> tuple[int | None, ...]:
        """Return the shape of the latent representation."""
        return self.autoencoder.latent_shape(input_shape)

    def get_config(self) -> dict[str, Any]:
        """Return the model's configuration with the autoencoder's."""
        config: dict[str, Any] = super().get_config()
        config["autoencoder"] = keras.saving.serialize_keras_object(self.autoencoder)
        return config

    @classmethod
    def from_config(cls, config: dict[str, Any], custom_objects: Any = None) -> EncoderHalf:
        """Return the encoder of an autoencoder that is made from its configuration."""
        config = dict(config)
        layer = keras.saving.deserialize_keras_object(config.pop("autoencoder"), custom_objects=custom_objects)
        return cls(layer, **config)
