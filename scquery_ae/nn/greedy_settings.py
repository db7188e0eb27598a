"""Settings of greedy pretraining for each layer, and the modules that they describe."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, fields
from typing import Any

import keras
import numpy as np

from scquery_ae._checks import (
    check_choice,
    check_integer,
    check_layer_sizes,
    check_number,
    described,
    is_integer,
    is_several,
    plain,
)
from scquery_ae._errors import ArgumentError
from scquery_ae.nn.autoencoder import Autoencoder
from scquery_ae.nn.corruption import Corruption, get_corruption
from scquery_ae.nn.dense_autoencoder import DenseLayerAutoencoder
from scquery_ae.nn.losses import get_loss
from scquery_ae.nn.rbm import RestrictedBoltzmannMachine

#: Trained modules, and two baselines that initialise a layer without training.
MODULES = ("tied", "untied", "rbm", "pca", "random")
LARGEST_WEIGHT = 1e30
UNTRAINED = ("pca", "random")


@dataclass(frozen=True)
class LayerSettings:
    """Settings of one layer, checked; see :func:`scquery_ae.nn.pretrain_stack`.

    A new setting is a new field here and a new argument there: the fingerprint of checkpoints includes every field.
    """

    module: str
    activation: str
    output_activation: str | None
    loss: str
    corruption: str | Corruption
    corruption_level: float
    corrupted_weight: float
    uncorrupted_weight: float
    epochs: int
    patience: int
    batch_size: int
    learning_rate: float

    def __post_init__(self) -> None:
        check_choice("module", self.module, MODULES)
        _check_activation("activation", self.activation)
        _check_activation("output_activation", self.output_activation)
        get_loss(self.loss, self.output_activation)
        get_corruption(self.corruption, self.corruption_level)
        for name in ("corrupted_weight", "uncorrupted_weight"):
            check_number(name, getattr(self, name), 0, np.inf, closed="left")
        if self.corrupted_weight + self.uncorrupted_weight > LARGEST_WEIGHT:
            msg = (
                f"`corrupted_weight` and `uncorrupted_weight` must add up to at most {LARGEST_WEIGHT:g}. "
                f"Received {self.corrupted_weight:g} and {self.uncorrupted_weight:g}; use smaller weights."
            )
            raise ArgumentError(msg)
        if not self.corrupted_weight + self.uncorrupted_weight > 0:
            msg = (
                "`corrupted_weight` or `uncorrupted_weight` must be above 0. Received 0 for both, which leaves nothing "
                "to reconstruct; set one of them."
            )
            raise ArgumentError(msg)
        for name in ("epochs", "patience", "batch_size"):
            check_integer(name, getattr(self, name))
        check_number("learning_rate", self.learning_rate, 0, np.inf, closed="neither")

    @property
    def emphasis(self) -> tuple[float, float] | None:
        """Weights of corrupted and of uncorrupted elements; None if both are 1."""
        weights = (self.corrupted_weight, self.uncorrupted_weight)
        return None if weights == (1, 1) else weights

    def describe(self) -> dict[str, Any]:
        """Return all settings as plain values."""
        # Not `asdict`: it turns a corruption into a dictionary without its class.
        return described({field.name: getattr(self, field.name) for field in fields(self)})


def _check_activation(name: str, activation: Any) -> None:
    try:
        # Keras takes any callable, such as Python's built-in functions.
        if activation is not None and not isinstance(activation, str):
            raise TypeError
        keras.activations.get(activation)
    except (TypeError, ValueError) as error:
        msg = f"`{name}` must be the name of a Keras activation, such as 'relu'. Received {activation!r}."
        raise ArgumentError(msg) from error


def settings_by_layer(n_layers: int, settings: dict[str, Any]) -> list[LayerSettings]:
    """Return the settings of each layer. A single value holds for all layers, a sequence has one value per layer."""
    columns = {}
    for field in fields(LayerSettings):
        value = settings[field.name]
        if isinstance(value, Sequence | np.ndarray) and is_several(value):
            if len(value) != n_layers:
                msg = (
                    f"`{field.name}` must be one value, or one for each of the {n_layers} layers. "
                    f"Received {len(value)} values: {value!r}."
                )
                raise ArgumentError(msg)
            columns[field.name] = list(value)
        else:
            columns[field.name] = [value] * n_layers
    return [LayerSettings(**plain({name: values[i] for name, values in columns.items()})) for i in range(n_layers)]


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
