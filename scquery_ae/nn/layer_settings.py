"""Settings of each layer in greedy pretraining."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, fields
from typing import Any

import keras
import numpy as np

from scquery_ae._checks import check_choice, check_integer, check_number, described, is_several, plain
from scquery_ae._errors import ArgumentError
from scquery_ae.nn.corruption import Corruption, get_corruption
from scquery_ae.nn.losses import get_loss

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
