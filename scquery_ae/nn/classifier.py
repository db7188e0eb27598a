"""The supervised network that a pretrained stack initialises."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import keras
import numpy as np

from scquery_ae._checks import check_integer
from scquery_ae.nn.unit_norm import UnitNorm

#: Codes have length one; the head sees them this many times longer, or its logits could not grow apart.
CODE_SCALE = 16.0


def build_classifier(
    layers: Sequence[tuple[np.ndarray, np.ndarray, str]], n_types: int, *, dropout: float = 0.0, random_state: int = 0
) -> keras.Model:
    """Return a classifier whose hidden layers start from given weights.

    Input, dense layers with dropout between them, unit-norm code, softmax over the types. All layers are trainable.

    Parameters
    ----------
    layers
        Kernel ``(d, units)``, bias ``(units,)`` and name of the activation of each layer, from the input inwards.
    n_types
        Number of types.
    dropout
        Share of each hidden layer's outputs dropped while training, in [0, 1).
    random_state
        Seed of the head's weights and of the dropout.
    """
    random_state = check_integer("random_state", random_state, 0)
    inputs = keras.Input((layers[0][0].shape[0],), name="cells")
    x: Any = inputs
    for i, (kernel, _, activation) in enumerate(layers):
        x = keras.layers.Dense(kernel.shape[1], activation=activation, name=f"encoder_{i}")(x)
        if dropout and i < len(layers) - 1:
            x = keras.layers.Dropout(dropout, seed=random_state + i)(x)
    code = UnitNorm(name="code")(x)
    scaled = keras.layers.Rescaling(CODE_SCALE, name="scaled_code")(code)
    head = keras.layers.Dense(
        n_types,
        activation="softmax",
        kernel_initializer=keras.initializers.GlorotUniform(seed=random_state),
        name="head",
    )(scaled)
    model = keras.Model(inputs, head, name="classifier")
    for i, (kernel, bias, _) in enumerate(layers):
        model.get_layer(f"encoder_{i}").set_weights([kernel, bias])
    return model


def read_classifier(
    model: keras.Model, n_layers: int
) -> tuple[list[tuple[np.ndarray, np.ndarray]], np.ndarray, np.ndarray]:
    """Return the kernels and biases of the hidden layers, and the head's kernel and bias for unit-length codes."""
    hidden = [tuple(model.get_layer(f"encoder_{i}").get_weights()) for i in range(n_layers)]
    kernel, bias = model.get_layer("head").get_weights()
    return hidden, kernel * np.float32(CODE_SCALE), bias
