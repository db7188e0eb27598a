"""The supervised network that a pretrained stack initialises."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import keras
import numpy as np
from keras import ops

from scquery_ae._checks import check_integer
from scquery_ae.nn.gradient_reversal import GradientReversal
from scquery_ae.nn.masked_autoencoder import FixedZeros
from scquery_ae.nn.unit_norm import UnitNorm

#: Codes have length one; the classifier sees them this many times longer, or its logits could not grow apart.
LATENT_SCALE = 16.0

#: Hidden units of the classifier that tells batches apart.
ADVERSARY_UNITS = 64


def build_classifier(
    layers: Sequence[tuple[np.ndarray, np.ndarray, str]],
    n_types: int,
    *,
    masks: Sequence[np.ndarray | None] | None = None,
    dropout: float = 0.0,
    with_latent: bool = False,
    detach_classifier: bool = False,
    n_batches: int = 0,
    adversarial_weight: float = 0.0,
    random_state: int = 0,
) -> keras.Model:
    """Return a classifier whose hidden layers start from given weights.

    Input, dense layers with dropout between them, unit-norm embedding, softmax over the types. All layers are trainable.

    Parameters
    ----------
    layers
        Kernel ``(d, units)``, bias ``(units,)`` and name of the activation of each layer, from the input inwards.
    n_types
        Number of types.
    masks
        For each layer which of its weights may differ from zero, bool ``(d, units)``; None for all.
    dropout
        Share of each hidden layer's outputs dropped while training, in [0, 1).
    with_latent
        Make the embedding an output too, for a loss on it.
    detach_classifier
        Let no gradient of the classifier reach the embedding: the classifier is a probe then.
    n_batches, adversarial_weight
        Number of batches to be told apart by a second classifier behind a :class:`~scquery_ae.nn.GradientReversal` of this
        strength; 0 for none. That classifier also sees the predicted types (Long et al. 2018): where batches differ in
        composition, telling the batch from the type is nothing to be held against the embedding.
    random_state
        Seed of the heads' weights and of the dropout.

    Returns
    -------
    A model whose output is the classifier's, or with more than one a dictionary of ``"classifier"``, ``"code"`` and ``"batch"``.

    References
    ----------
    Ge et al., Journal of Computational Biology 28, 501 (2021).
    Long et al., Advances in Neural Information Processing Systems 31 (2018).
    """
    random_state = check_integer("random_state", random_state, 0)
    masks = [None] * len(layers) if masks is None else masks
    inputs = keras.Input((layers[0][0].shape[0],), name="cells")
    x: Any = inputs
    for i, ((kernel, _, activation), mask) in enumerate(zip(layers, masks, strict=True)):
        constraint = None if mask is None else FixedZeros(mask)
        x = keras.layers.Dense(
            kernel.shape[1], activation=activation, kernel_constraint=constraint, name=f"encoder_{i}"
        )(x)
        if dropout and i < len(layers) - 1:
            x = keras.layers.Dropout(dropout, seed=random_state + i)(x)
    latent = UnitNorm(name="latent")(x)
    scaled = keras.layers.Rescaling(LATENT_SCALE, name="scaled_latent")(
        ops.stop_gradient(latent) if detach_classifier else latent
    )
    outputs = {"classifier": _softmax(n_types, random_state, "classifier")(scaled)}
    if with_latent:
        outputs["latent"] = latent
    if n_batches:
        turned = GradientReversal(adversarial_weight, name="reversal")(latent)
        turned = keras.layers.Rescaling(LATENT_SCALE, name="reversed_latent")(turned)
        seen = keras.layers.Concatenate()([turned, ops.stop_gradient(outputs["classifier"])])
        hidden = keras.layers.Dense(
            ADVERSARY_UNITS, activation="relu", kernel_initializer=_glorot(random_state + 1), name="adversary"
        )(seen)
        outputs["batch"] = _softmax(n_batches, random_state + 2, "batch")(hidden)
    model = keras.Model(inputs, outputs if len(outputs) > 1 else outputs["classifier"], name="classifier")
    for i, (kernel, bias, _) in enumerate(layers):
        model.get_layer(f"encoder_{i}").set_weights([kernel, bias])
    return model


def read_classifier(
    model: keras.Model, n_layers: int
) -> tuple[list[tuple[np.ndarray, np.ndarray]], np.ndarray, np.ndarray]:
    """Return the kernels and biases of the hidden layers, and the classifier's kernel and bias for unit-length embeddings."""
    hidden = [tuple(model.get_layer(f"encoder_{i}").get_weights()) for i in range(n_layers)]
    kernel, bias = model.get_layer("classifier").get_weights()
    return hidden, kernel * np.float32(LATENT_SCALE), bias


def _softmax(units: int, seed: int, name: str) -> keras.layers.Layer:
    # In full precision whatever the policy: probabilities near one another would round to the same.
    return keras.layers.Dense(units, activation="softmax", kernel_initializer=_glorot(seed), dtype="float32", name=name)


def _glorot(seed: int) -> keras.initializers.Initializer:
    return keras.initializers.GlorotUniform(seed=seed)
