"""Dense layers of a trained network, computed by NumPy."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from scipy import special

from scquery_ae._checks import check_choice
from scquery_ae._errors import ArgumentError

_SELU_ALPHA, _SELU_SCALE = 1.6732632423543772, 1.0507009873554805

#: Activations by their names in Keras.
ACTIVATIONS: dict[str, Callable[[np.ndarray], np.ndarray]] = {
    "linear": lambda x: x,
    "relu": lambda x: np.maximum(x, 0),
    "elu": lambda x: np.where(x > 0, x, np.expm1(np.minimum(x, 0))),
    "selu": lambda x: _SELU_SCALE * np.where(x > 0, x, _SELU_ALPHA * np.expm1(np.minimum(x, 0))),
    "tanh": np.tanh,
    "sigmoid": special.expit,
}

#: Derivatives of the activations.
SLOPES: dict[str, Callable[[np.ndarray], np.ndarray]] = {
    "linear": np.ones_like,
    "relu": lambda x: (x > 0).astype(x.dtype),
    "elu": lambda x: np.where(x > 0, 1, np.exp(np.minimum(x, 0))),
    "selu": lambda x: _SELU_SCALE * np.where(x > 0, 1, _SELU_ALPHA * np.exp(np.minimum(x, 0))),
    "tanh": lambda x: 1 - np.tanh(x) ** 2,
    "sigmoid": lambda x: special.expit(x) * special.expit(-x),
}


@dataclass(frozen=True)
class DenseWeights:
    """One encoder layer: ``activation(x @ kernel + bias)``.

    Attributes
    ----------
    kernel
        Weights, float32 ``(d, units)``.
    bias
        Bias, float32 ``(units,)``.
    activation
        Name of the activation.
    mask
        Which weights may differ from zero, bool ``(d, units)``: those of the genes in each unit's gene set. None for
        all.
    units
        Names of the gene sets that the units represent; None if they do not represent any.
    """

    kernel: np.ndarray
    bias: np.ndarray
    activation: str
    mask: np.ndarray | None = None
    units: tuple[str, ...] | None = None

    def __post_init__(self) -> None:
        check_choice("activation", self.activation, tuple(ACTIVATIONS))
        _check_dense("a layer", self.kernel, self.bias)
        if self.mask is not None and (self.mask.shape != self.kernel.shape or self.kernel[~self.mask].any()):
            msg = (
                f"`mask` must have the shape of the kernel, {self.kernel.shape}, and all weights outside it must be 0. "
                f"Received shape {self.mask.shape}."
            )
            raise ArgumentError(msg)
        if self.units is not None and len(self.units) != len(self.bias):
            msg = f"`units` needs one name for each of the {len(self.bias)} units. Received {len(self.units)}."
            raise ArgumentError(msg)

    def __call__(self, x: np.ndarray) -> np.ndarray:
        """Return the layer's output, ``(n, units)``."""
        return ACTIVATIONS[self.activation](x @ self.kernel + self.bias)


@dataclass(frozen=True)
class Classifier:
    """The classifier of fine-tuning, a softmax over cell types: ``softmax(embedding @ kernel + bias)``.

    Attributes
    ----------
    kernel
        Weights, float32 ``(n_latent, n_types)``.
    bias
        Bias, float32 ``(n_types,)``.
    types
        Names of the types, in the order of the kernel's columns.
    """

    kernel: np.ndarray
    bias: np.ndarray
    types: tuple[str, ...]

    def __post_init__(self) -> None:
        _check_dense("the classifier", self.kernel, self.bias)
        if len(self.types) != len(self.bias):
            msg = f"The classifier needs one name per type. Received {len(self.types)} for {len(self.bias)} types."
            raise ArgumentError(msg)

    def __call__(self, embedding: np.ndarray) -> np.ndarray:
        """Return the probability of each type, ``(n, n_types)``."""
        return np.asarray(special.softmax(self.logits(embedding), axis=1))

    def logits(self, embedding: np.ndarray) -> np.ndarray:
        """Return the logit of each type, ``(n, n_types)``."""
        return np.asarray(embedding @ self.kernel + self.bias)


def _check_dense(name: str, kernel: np.ndarray, bias: np.ndarray) -> None:
    if kernel.ndim != 2 or bias.shape != kernel.shape[1:]:
        msg = (
            f"The weights of {name} must be a kernel (d, units) and a bias (units,). "
            f"Received {kernel.shape} and {bias.shape}."
        )
        raise ArgumentError(msg)
