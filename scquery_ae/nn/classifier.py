"""The supervised network, initialised by a pretrained stack."""

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

#: Embeddings have unit length. The classifier multiplies them by this number, so that its logits can differ enough.
LATENT_SCALE = 16.0

#: Hidden units of the adversarial batch classifier.
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
    """Return a network that embeds and classifies cells, with given initial weights of the encoder.

    The network consists of the encoder's dense layers with dropout between them, a unit-length embedding, and a softmax
    over the types. All layers are trainable.

    Parameters
    ----------
    layers
        Kernel ``(d, units)``, bias ``(units,)`` and activation name of each encoder layer, from the input inwards.
    n_types
        Number of types.
    masks
        For each layer, the weights that may differ from zero, bool ``(d, units)``; None for all weights.
    dropout
        Fraction of each hidden layer's outputs that are dropped during training, in [0, 1).
    with_latent
        Add the embedding to the outputs, for a loss on it.
    detach_classifier
        Stop the classifier's gradient at the embedding.
    n_batches, adversarial_weight
        Number of batches that an adversarial classifier predicts, behind a
        :class:`~scquery_ae.nn.GradientReversal` of this strength; 0 for none. The adversarial classifier also sees the
        predicted types (Long et al. 2018): a batch that can be predicted from the type alone, because batches differ in
        composition, does not change the embedding.
    random_state
        Seed of the classifiers' initial weights and of dropout.

    Returns
    -------
    A model. Its output is the probabilities of the types, or, with several outputs, a dictionary of ``"classifier"``,
    ``"latent"`` and ``"batch"``.

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
        reversed_latent = GradientReversal(adversarial_weight, name="reversal")(latent)
        reversed_latent = keras.layers.Rescaling(LATENT_SCALE, name="reversed_latent")(reversed_latent)
        seen = keras.layers.Concatenate()([reversed_latent, ops.stop_gradient(outputs["classifier"])])
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
    """Return the kernel and bias of each encoder layer, and of the classifier for embeddings of unit length."""
    hidden = [tuple(model.get_layer(f"encoder_{i}").get_weights()) for i in range(n_layers)]
    kernel, bias = model.get_layer("classifier").get_weights()
    return hidden, kernel * np.float32(LATENT_SCALE), bias


def _softmax(units: int, seed: int, name: str) -> keras.layers.Layer:
    # In full precision under any policy: similar probabilities would be rounded to the same number.
    return keras.layers.Dense(units, activation="softmax", kernel_initializer=_glorot(seed), dtype="float32", name=name)


def _glorot(seed: int) -> keras.initializers.Initializer:
    return keras.initializers.GlorotUniform(seed=seed)
