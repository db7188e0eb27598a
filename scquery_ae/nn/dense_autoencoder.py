"""A stack of dense encoder layers whose decoder is its own transpose."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from typing import Any

import keras
from keras import ops

from scquery_ae._checks import check_flag, check_integer, check_layer_sizes, check_rate
from scquery_ae._errors import ArgumentError
from scquery_ae.nn.unit_norm import unit_norm


@keras.saving.register_keras_serializable(package="scquery_ae")
class DenseLayerAutoencoder(keras.layers.Layer):
    """Tied-weight dense autoencoder in a single layer.

    Used as :class:`keras.layers.Dense` is, with a list of encoder sizes in place of ``units``. The
    decoder mirrors the encoder through the *transposed* kernels: one variable serves both ways, so a
    gradient step moves both. Biases are not tied. Calling the layer reconstructs its input;
    :meth:`encode` and :meth:`decode` give the two halves.

    For an input of width ``d`` and ``layer_sizes=(h1, ..., hn)`` the layer holds the kernels
    ``(d, h1), ..., (h[n-1], hn)``, encoder biases ``h1, ..., hn`` and decoder biases
    ``h[n-1], ..., h1, d``.

    Parameters
    ----------
    layer_sizes
        Width of each encoder layer, from the input inwards; the last is the width of the code.
    activation
        Applied after every encoder layer, the code included, and after every decoder layer but the last.
    output_activation
        Applied to the reconstruction. ``None`` is linear, for real-valued data; ``"sigmoid"`` suits
        data in [0, 1].
    use_bias
        Whether layers have biases, ``2 n`` vectors in all.
    unit_norm
        Scale each code to unit Euclidean length. A code of zeros stays zero, with a finite gradient.
    dropout
        Share of each encoder layer's outputs that is dropped while training, in [0, 1).
    kernel_initializer, bias_initializer
        Cloned for every kernel and bias, so that kernels of one shape differ even under a seeded initialiser.
    kernel_regularizer, bias_regularizer
        Penalties. A tied kernel is one variable and is penalised once.
    kernel_constraint, bias_constraint
        Projections after each step.
    seed
        Seed of the dropout noise.
    **kwargs
        Arguments of :class:`keras.layers.Layer`, such as ``name`` and ``dtype``.

    Raises
    ------
    ValueError
        If ``layer_sizes`` is empty or holds anything but positive integers, or ``dropout`` is outside [0, 1).

    Notes
    -----
    Input ``(..., d)``, output ``(..., d)``, code ``(..., layer_sizes[-1])``.

    References
    ----------
    Vincent et al., Journal of Machine Learning Research 11, 3371 (2010).
    Alavi et al., Nature Communications 9, 4768 (2018).

    Examples
    --------
    >>> import numpy as np
    >>> layer = DenseLayerAutoencoder([6, 3], activation="tanh")
    >>> x = np.ones((2, 10), dtype="float32")
    >>> layer(x).shape[-1], layer.encode(x).shape[-1], layer.count_params()
    (10, 3, 103)
    """

    def __init__(
        self,
        layer_sizes: Sequence[int],
        activation: Any = None,
        output_activation: Any = None,
        use_bias: bool = True,
        unit_norm: bool = False,
        dropout: float = 0.0,
        kernel_initializer: Any = "glorot_uniform",
        bias_initializer: Any = "zeros",
        kernel_regularizer: Any = None,
        bias_regularizer: Any = None,
        kernel_constraint: Any = None,
        bias_constraint: Any = None,
        seed: int | None = None,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        self.layer_sizes = check_layer_sizes(layer_sizes)
        self.activation = keras.activations.get(activation)
        self.output_activation = keras.activations.get(output_activation)
        self.use_bias = check_flag("use_bias", use_bias)
        self.unit_norm = check_flag("unit_norm", unit_norm)
        self.dropout = check_rate("dropout", dropout)
        self.kernel_initializer = keras.initializers.get(kernel_initializer)
        self.bias_initializer = keras.initializers.get(bias_initializer)
        self.kernel_regularizer = keras.regularizers.get(kernel_regularizer)
        self.bias_regularizer = keras.regularizers.get(bias_regularizer)
        self.kernel_constraint = keras.constraints.get(kernel_constraint)
        self.bias_constraint = keras.constraints.get(bias_constraint)
        self.seed = None if seed is None else check_integer("seed", seed, 0)
        self.input_spec = keras.layers.InputSpec(min_ndim=2)
        self.supports_masking = True
        self.kernels: list[Any] = []
        self.encoder_biases: list[Any] = []
        self.decoder_biases: list[Any] = []
        self._dropouts: list[keras.layers.Dropout] = []

    def build(self, input_shape: Sequence[int | None]) -> None:
        """Create the variables for inputs whose last axis has the width of `input_shape`."""
        width = input_shape[-1]
        if width is None:
            msg = (
                f"{type(self).__name__} cannot be built: the last axis of the input must have a fixed width. "
                f"Received input_shape={tuple(input_shape)}; give `keras.Input(shape=(n_features,))`."
            )
            raise ValueError(msg)
        widths = (int(width), *self.layer_sizes)
        for i, shape in enumerate(pairwise(widths)):
            self.kernels.append(
                self.add_weight(
                    name=f"kernel_{i}",
                    shape=shape,
                    initializer=_for_variable(self.kernel_initializer, i),
                    regularizer=self.kernel_regularizer,
                    constraint=self.kernel_constraint,
                )
            )
            if self.use_bias:
                self.encoder_biases.append(self._add_bias(f"encoder_bias_{i}", shape[1], 2 * i))
        if self.use_bias:
            for i, units in reversed(list(enumerate(widths[:-1]))):
                self.decoder_biases.append(self._add_bias(f"decoder_bias_{i}", units, 2 * i + 1))
        if self.dropout:
            self._dropouts = [
                keras.layers.Dropout(self.dropout, seed=None if self.seed is None else self.seed + i)
                for i in range(len(self.layer_sizes))
            ]
        self.input_spec = keras.layers.InputSpec(min_ndim=2, axes={-1: int(width)})
        self.built = True

    def call(self, inputs: Any, training: bool | None = None) -> Any:
        """Reconstruct `inputs`, shape ``(..., d)``."""
        return self._decode(self._encode(inputs, training))

    def encode(self, inputs: Any, training: bool | None = None) -> Any:
        """Return the code of an array, ``(..., d)`` to ``(..., layer_sizes[-1])``.

        Builds the layer if it has not been called before. For a code inside a functional model use
        :meth:`encoder_model`.
        """
        inputs = self._eager("encode", inputs)
        self._check_width("encode", inputs, self.kernels[0].shape[0] if self.built else None)
        if not self.built:
            self.build(inputs.shape)
        return self._encode(inputs, training)

    def decode(self, codes: Any) -> Any:
        """Return the reconstruction of codes, ``(..., layer_sizes[-1])`` to ``(..., d)``."""
        codes = self._eager("decode", codes)
        if not self.built:
            msg = (
                f"{type(self).__name__}.decode: the layer does not know the width of its output yet. "
                "Call the layer, `encode` or `build` first."
            )
            raise ValueError(msg)
        self._check_width("decode", codes, self.layer_sizes[-1])
        return self._decode(codes)

    def encoder_model(self) -> keras.Model:
        """Return the encoder as a Keras model that owns (shares) this layer's variables."""
        if not self.built:
            msg = f"{type(self).__name__}.encoder_model: the layer has no weights yet; call it or `build` it first."
            raise ValueError(msg)
        return _EncoderHalf(self)

    def compute_output_shape(self, input_shape: Sequence[int | None]) -> tuple[int | None, ...]:
        """Return the shape of the reconstruction, that of the input."""
        return tuple(input_shape)

    def get_config(self) -> dict[str, Any]:
        """Return every constructor argument, serialised."""
        config: dict[str, Any] = super().get_config()
        config.update(
            layer_sizes=list(self.layer_sizes),
            activation=keras.activations.serialize(self.activation),
            output_activation=keras.activations.serialize(self.output_activation),
            use_bias=self.use_bias,
            unit_norm=self.unit_norm,
            dropout=self.dropout,
            kernel_initializer=keras.initializers.serialize(self.kernel_initializer),
            bias_initializer=keras.initializers.serialize(self.bias_initializer),
            kernel_regularizer=keras.regularizers.serialize(self.kernel_regularizer),
            bias_regularizer=keras.regularizers.serialize(self.bias_regularizer),
            kernel_constraint=keras.constraints.serialize(self.kernel_constraint),
            bias_constraint=keras.constraints.serialize(self.bias_constraint),
            seed=self.seed,
        )
        return config

    def _add_bias(self, name: str, units: int, position: int) -> Any:
        return self.add_weight(
            name=name,
            shape=(units,),
            initializer=_for_variable(self.bias_initializer, position),
            regularizer=self.bias_regularizer,
            constraint=self.bias_constraint,
        )

    def _encode(self, x: Any, training: bool | None) -> Any:
        for i, kernel in enumerate(self.kernels):
            # `encode` runs outside of `__call__`, where Keras does not cast variables by itself.
            x = ops.matmul(x, ops.cast(kernel, self.compute_dtype))
            if self.use_bias:
                x = ops.add(x, ops.cast(self.encoder_biases[i], self.compute_dtype))
            x = self.activation(x)
            if self._dropouts:
                x = self._dropouts[i](x, training=training)
        return unit_norm(x) if self.unit_norm else x

    def _decode(self, x: Any) -> Any:
        last = len(self.kernels) - 1
        for i, kernel in enumerate(reversed(self.kernels)):
            x = ops.matmul(x, ops.cast(ops.transpose(kernel), self.compute_dtype))
            if self.use_bias:
                x = ops.add(x, ops.cast(self.decoder_biases[i], self.compute_dtype))
            x = self.output_activation(x) if i == last else self.activation(x)
        return x

    def _eager(self, method: str, x: Any) -> Any:
        if keras.backend.is_keras_tensor(x):
            # Keras would record the products but not own the kernels: the model would save without weights.
            msg = (
                f"{type(self).__name__}.{method} takes arrays, but received a symbolic Keras tensor. "
                "Inside a functional model use `layer.encoder_model()(inputs)`, or call the layer itself."
            )
            raise TypeError(msg)
        return ops.convert_to_tensor(x, dtype=self.compute_dtype)

    def _check_width(self, method: str, x: Any, width: int | None) -> None:
        if len(x.shape) < 2 or width not in (None, x.shape[-1]):
            msg = (
                f"{type(self).__name__}.{method} needs an array of rows, shape (..., {width or 'n_features'}). "
                f"Received shape {tuple(x.shape)}."
            )
            raise ArgumentError(msg)


@keras.saving.register_keras_serializable(package="scquery_ae")
class _EncoderHalf(keras.Model):
    """The encoder of a built autoencoder layer, sharing its variables."""

    def __init__(self, autoencoder: DenseLayerAutoencoder, **kwargs: Any) -> None:
        super().__init__(**{"dtype": autoencoder.dtype_policy, **kwargs})
        self.autoencoder = autoencoder

    def call(self, inputs: Any, training: bool | None = None) -> Any:
        return self.autoencoder._encode(inputs, training)

    def compute_output_shape(self, input_shape: Sequence[int | None]) -> tuple[int | None, ...]:
        return (*input_shape[:-1], self.autoencoder.layer_sizes[-1])

    def get_config(self) -> dict[str, Any]:
        config: dict[str, Any] = super().get_config()
        config["autoencoder"] = keras.saving.serialize_keras_object(self.autoencoder)
        return config

    @classmethod
    def from_config(cls, config: dict[str, Any], custom_objects: Any = None) -> _EncoderHalf:
        config = dict(config)
        layer = keras.saving.deserialize_keras_object(config.pop("autoencoder"), custom_objects=custom_objects)
        return cls(layer, **config)


def _for_variable(initializer: Any, position: int) -> Any:
    """Clone an initialiser for one variable, moving an integer seed so that equal shapes differ."""
    if not isinstance(initializer, keras.initializers.Initializer):
        return initializer
    if isinstance(getattr(initializer, "seed", None), keras.random.SeedGenerator):
        return initializer  # it moves on by itself; a clone would start it over
    config = initializer.get_config()
    if isinstance(config.get("seed"), int):
        config["seed"] += position
    return type(initializer).from_config(config)
