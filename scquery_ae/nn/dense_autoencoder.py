"""Dense autoencoders whose decoder is the transpose of their encoder."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from typing import Any

import keras
import numpy as np
from keras import ops

from scquery_ae._checks import check_flag, check_integer, check_layer_sizes, check_rate
from scquery_ae.nn.tied_autoencoder import TiedAutoencoder, ordinary_layer
from scquery_ae.nn.unit_norm import UnitNorm, unit_norm


@keras.saving.register_keras_serializable(package="scquery_ae")
class DenseLayerAutoencoder(TiedAutoencoder):
    """Tied-weight dense autoencoder in a single layer.

    The layer is used like :class:`keras.layers.Dense`, with a list of encoder sizes in place of ``units``. The decoder
    mirrors the encoder with the *transposed* kernels: encoder and decoder share one variable per layer. Biases are not
    tied. Calling the layer reconstructs its input; :meth:`encode` and :meth:`decode` compute the two halves.

    For inputs of width ``d`` and ``layer_sizes=(h1, ..., hn)``, the layer has the kernels
    ``(d, h1), ..., (h[n-1], hn)``, encoder biases ``h1, ..., hn`` and decoder biases ``h[n-1], ..., h1, d``.

    Parameters
    ----------
    layer_sizes
        Width of each encoder layer, from the input inwards. The last is the width of the latent representation.
    activation
        Activation of every encoder layer, the last included, and of every decoder layer but the last.
    output_activation
        Activation of the reconstruction. None is linear, for real-valued data; ``"sigmoid"`` suits data in [0, 1].
    use_bias
        Whether the layers have biases, ``2 n`` vectors in total.
    unit_norm
        Scale the latent representation to unit Euclidean length. Zeros stay zero, with a finite gradient.
    tied
        Whether the decoder uses the encoder's kernels. False gives the decoder its own kernels, of the transposed
        shapes, as a baseline.
    dropout
        Fraction of each encoder layer's outputs that are dropped during training, in [0, 1).
    kernel_initializer, bias_initializer
        Initialisers, cloned for each kernel and bias, so that kernels of one shape differ under a seeded initialiser.
    kernel_regularizer, bias_regularizer
        Penalties. A tied kernel is one variable and is penalised once.
    kernel_constraint, bias_constraint
        Projections after each step.
    seed
        Seed of dropout.
    **kwargs
        Arguments of :class:`keras.layers.Layer`, such as ``name`` and ``dtype``.

    Raises
    ------
    ArgumentError
        If ``layer_sizes`` is empty or holds anything but positive integers, or ``dropout`` is not in [0, 1).

    Notes
    -----
    Input and output have the shape ``(..., d)``, the latent representation ``(..., layer_sizes[-1])``.

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
        tied: bool = True,
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
        super().__init__(
            activation=activation,
            output_activation=output_activation,
            use_bias=use_bias,
            kernel_initializer=kernel_initializer,
            bias_initializer=bias_initializer,
            kernel_regularizer=kernel_regularizer,
            bias_regularizer=bias_regularizer,
            kernel_constraint=kernel_constraint,
            bias_constraint=bias_constraint,
            **kwargs,
        )
        self.layer_sizes = check_layer_sizes(layer_sizes)
        self.unit_norm = check_flag("unit_norm", unit_norm)
        self.tied = check_flag("tied", tied)
        self.dropout = check_rate("dropout", dropout)
        self.seed = None if seed is None else check_integer("seed", seed, 0)
        self.input_spec = keras.layers.InputSpec(min_ndim=2)
        self.supports_masking = True
        self.kernels: list[Any] = []
        self.decoder_kernels: list[Any] = []
        self.encoder_biases: list[Any] = []
        self.decoder_biases: list[Any] = []
        self._dropouts: list[keras.layers.Dropout] = []

    def build(self, input_shape: Sequence[int | None]) -> None:
        """Create the variables for inputs with the last axis of `input_shape`."""
        width = self._known_width(input_shape)
        widths = (width, *self.layer_sizes)
        n_layers = len(self.layer_sizes)
        for i, shape in enumerate(pairwise(widths)):
            self.kernels.append(self._add_kernel(f"kernel_{i}", shape, i))
            if self.use_bias:
                self.encoder_biases.append(self._add_bias(f"encoder_bias_{i}", shape[1], 2 * i))
        for i, (units, inner) in reversed(list(enumerate(pairwise(widths)))):
            if not self.tied:
                self.decoder_kernels.append(self._add_kernel(f"decoder_kernel_{i}", (inner, units), n_layers + i))
            if self.use_bias:
                self.decoder_biases.append(self._add_bias(f"decoder_bias_{i}", units, 2 * i + 1))
        if self.dropout:
            self._dropouts = [
                keras.layers.Dropout(
                    self.dropout, seed=None if self.seed is None else self.seed + i, dtype=self.dtype_policy
                )
                for i in range(n_layers)
            ]
        self.input_spec = keras.layers.InputSpec(min_ndim=2, axes={-1: width})
        self.built = True

    def encoder_layers(self) -> list[keras.layers.Layer]:
        """Return :class:`keras.layers.Dense` layers, with dropout and unit norm if any, with copies of the weights."""
        self._require_built("encoder_layers")
        layers: list[keras.layers.Layer] = []
        for i, kernel in enumerate(self.kernels):
            width, units = kernel.shape
            biases = [self.encoder_biases[i]] if self.use_bias else []
            dense = keras.layers.Dense(
                units, activation=self.activation, use_bias=self.use_bias, dtype=self.dtype_policy
            )
            layers.append(ordinary_layer(dense, (None, width), [kernel, *biases]))
            if self.dropout:
                layers.append(keras.layers.Dropout(self.dropout, seed=self._dropouts[i].seed, dtype=self.dtype_policy))
        return [*layers, UnitNorm(dtype=self.dtype_policy)] if self.unit_norm else layers

    def dense_weights(self) -> list[tuple[np.ndarray, np.ndarray, str]]:
        """Return the kernel, bias (zeros without one) and activation name of each encoder layer."""
        self._require_built("dense_weights")
        kernels = [ops.convert_to_numpy(kernel) for kernel in self.kernels]
        biases = [ops.convert_to_numpy(bias) for bias in self.encoder_biases] or [
            np.zeros(kernel.shape[1], np.float32) for kernel in kernels
        ]
        name = keras.activations.serialize(self.activation)
        return [(kernel, bias, name) for kernel, bias in zip(kernels, biases, strict=True)]

    def latent_shape(self, input_shape: Sequence[int | None]) -> tuple[int | None, ...]:
        """Return the shape of the latent representation, ``(..., layer_sizes[-1])``."""
        return (*input_shape[:-1], self.layer_sizes[-1])

    def get_config(self) -> dict[str, Any]:
        """Return every constructor argument, serialised."""
        config: dict[str, Any] = super().get_config()
        config.update(
            layer_sizes=list(self.layer_sizes),
            unit_norm=self.unit_norm,
            tied=self.tied,
            dropout=self.dropout,
            seed=self.seed,
        )
        return config

    def _input_shape(self) -> tuple[int, ...]:
        return (int(self.kernels[0].shape[0]),)

    def _encode(self, x: Any, training: bool | None) -> Any:
        for i, kernel in enumerate(self.kernels):
            x = ops.matmul(x, self._cast(kernel))
            if self.use_bias:
                x = ops.add(x, self._cast(self.encoder_biases[i]))
            x = self.activation(x)
            if self._dropouts:
                x = self._dropouts[i](x, training=training)
        return unit_norm(x) if self.unit_norm else x

    def _decode(self, x: Any) -> Any:
        last = len(self.kernels) - 1
        kernels = [ops.transpose(k) for k in reversed(self.kernels)] if self.tied else self.decoder_kernels
        for i, kernel in enumerate(kernels):
            x = ops.matmul(x, self._cast(kernel))
            if self.use_bias:
                x = ops.add(x, self._cast(self.decoder_biases[i]))
            x = self.output_activation(x) if i == last else self.activation(x)
        return x
