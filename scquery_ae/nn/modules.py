"""Modules of greedy pretraining: entries of `layer_sizes`, and the layers that they stand for."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import keras

from scquery_ae._checks import check_layer_sizes, is_integer
from scquery_ae._errors import ArgumentError
from scquery_ae.nn.autoencoder import Autoencoder
from scquery_ae.nn.dense_autoencoder import DenseLayerAutoencoder
from scquery_ae.nn.layer_settings import LayerSettings
from scquery_ae.nn.losses import get_loss
from scquery_ae.nn.rbm import RestrictedBoltzmannMachine


def check_layers(layers: Any) -> list[int | Autoencoder]:
    """Return widths and autoencoder layers as a list of valid entries."""
    entries = list(layers) if isinstance(layers, Iterable) and not isinstance(layers, str) else layers
    if not isinstance(entries, list) or not any(isinstance(entry, keras.layers.Layer) for entry in entries):
        return list(check_layer_sizes(layers))
    for entry in entries:
        if not isinstance(entry, Autoencoder) and not (is_integer(entry) and entry > 0):
            msg = (
                "`layer_sizes` must hold widths and autoencoder layers of `scquery_ae.nn`. "
                f"Received {entry!r}; other layers have no decoder."
            )
            raise ArgumentError(msg)
        if isinstance(entry, Autoencoder) and entry.built:
            msg = f"`layer_sizes` needs layers that are not built. Received {entry.name!r}, which is; make a new layer."
            raise ArgumentError(msg)
    return [entry if isinstance(entry, Autoencoder) else int(entry) for entry in entries]


def make_layer(
    entry: int | Autoencoder, own: LayerSettings, *, depth: int, visible_std: float | None, seed: int
) -> Autoencoder:
    """Return the module of one layer, not built yet. `visible_std` is None unless a Boltzmann machine is Gaussian."""
    if isinstance(entry, Autoencoder):
        return entry
    initializer = keras.initializers.GlorotUniform(seed=seed + depth)
    if own.module == "rbm":
        return RestrictedBoltzmannMachine(
            entry,
            "bernoulli" if visible_std is None else "gaussian",
            visible_std=visible_std or 1.0,
            kernel_initializer=initializer,
            seed=seed + depth,
            name=f"boltzmann_{depth}",
        )
    return DenseLayerAutoencoder(
        [entry],
        activation=own.activation,
        output_activation=get_loss(own.loss, own.output_activation)[1],
        tied=own.module != "untied",
        kernel_initializer=initializer,
        name=f"denoising_{depth}",
    )


def describe_entry(entry: int | Autoencoder) -> Any:
    """Return a width, or the configuration of a layer, as plain values for the fingerprint."""
    # Names are replaced because Keras numbers the layers of a process in them.
    return entry if isinstance(entry, int) else {**entry.get_config(), "name": type(entry).__name__}
