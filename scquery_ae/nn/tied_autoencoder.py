"""Base class of layers with tied weights, and helpers to create their variables."""

from __future__ import annotations

from typing import Any

import keras

from scquery_ae._checks import check_flag
from scquery_ae.nn.autoencoder import Autoencoder


class TiedAutoencoder(Autoencoder):
    """Base class of the layers whose decoder uses the encoder's kernels.

    Parameters
    ----------
    activation
        Activation of the latent representation.
    output_activation
        Activation of the reconstruction.
    use_bias
        Whether encoder and decoder have biases, which are not tied.
    kernel_initializer, bias_initializer
        Initialisers, cloned for every variable.
    kernel_regularizer, bias_regularizer, kernel_constraint, bias_constraint
        Penalties and projections of every kernel and bias.
    **kwargs
        Arguments of :class:`keras.layers.Layer`.
    """

    def __init__(
        self,
        *,
        activation: Any,
        output_activation: Any,
        use_bias: bool,
        kernel_initializer: Any,
        bias_initializer: Any,
        kernel_regularizer: Any,
        bias_regularizer: Any,
        kernel_constraint: Any,
        bias_constraint: Any,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        self.activation = keras.activations.get(activation)
        self.output_activation = keras.activations.get(output_activation)
        self.use_bias = check_flag("use_bias", use_bias)
        self.kernel_initializer = keras.initializers.get(kernel_initializer)
        self.bias_initializer = keras.initializers.get(bias_initializer)
        self.kernel_regularizer = keras.regularizers.get(kernel_regularizer)
        self.bias_regularizer = keras.regularizers.get(bias_regularizer)
        self.kernel_constraint = keras.constraints.get(kernel_constraint)
        self.bias_constraint = keras.constraints.get(bias_constraint)

    def get_config(self) -> dict[str, Any]:
        """Return every constructor argument, serialised."""
        config: dict[str, Any] = super().get_config()
        config.update(
            activation=keras.activations.serialize(self.activation),
            output_activation=keras.activations.serialize(self.output_activation),
            use_bias=self.use_bias,
            kernel_initializer=keras.initializers.serialize(self.kernel_initializer),
            bias_initializer=keras.initializers.serialize(self.bias_initializer),
            kernel_regularizer=keras.regularizers.serialize(self.kernel_regularizer),
            bias_regularizer=keras.regularizers.serialize(self.bias_regularizer),
            kernel_constraint=keras.constraints.serialize(self.kernel_constraint),
            bias_constraint=keras.constraints.serialize(self.bias_constraint),
        )
        return config

    def _add_kernel(self, name: str, shape: tuple[int, ...], position: int = 0, initializer: Any = None) -> Any:
        return self.add_weight(
            name=name,
            shape=shape,
            initializer=initializer or for_variable(self.kernel_initializer, position),
            regularizer=self.kernel_regularizer,
            constraint=self.kernel_constraint,
        )

    def _add_bias(self, name: str, units: int, position: int = 0) -> Any:
        return self.add_weight(
            name=name,
            shape=(units,),
            initializer=for_variable(self.bias_initializer, position),
            regularizer=self.bias_regularizer,
            constraint=self.bias_constraint,
        )


def for_variable(initializer: Any, position: int) -> Any:
    """Return a copy of an initialiser for one variable, with another integer seed for each `position`."""
    if not isinstance(initializer, keras.initializers.Initializer):
        return initializer
    if isinstance(getattr(initializer, "seed", None), keras.random.SeedGenerator):
        return initializer  # draws new numbers for each variable; a copy would repeat them
    config = initializer.get_config()
    if isinstance(config.get("seed"), int):
        config["seed"] += position
    return type(initializer).from_config(config)


def ordinary_layer(layer: keras.layers.Layer, input_shape: tuple[int | None, ...], weights: list[Any]) -> Any:
    """Build an ordinary Keras layer for inputs of a shape, and set its weights."""
    layer.build(input_shape)
    layer.set_weights([keras.ops.convert_to_numpy(weight) for weight in weights])
    return layer
