"""Reconstruction losses with one value per element, so that elements can be weighted."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import keras
from keras import ops

from scquery_ae._checks import check_choice
from scquery_ae._errors import ArgumentError

#: Likelihoods of counts, for which the decoder returns logits of each feature's fraction of the row's sum.
COUNT_LOSSES = ("poisson", "negative_binomial")
RECONSTRUCTION_LOSSES = ("squared_error", "cross_entropy", *COUNT_LOSSES)

_TINY = 1e-8


class _Elementwise(keras.losses.Loss):
    """A loss with one value per element, averaged after weighting.

    Keras' own losses average over the features first, so that weights of shape ``(n, d)`` cannot be used.
    """

    def __init__(self, name: str | None = None, reduction: str = "sum_over_batch_size", **kwargs: Any) -> None:
        super().__init__(name=name, reduction=reduction, **kwargs)


@keras.saving.register_keras_serializable(package="scquery_ae")
class SquaredError(_Elementwise):
    """Squared difference of each element."""

    def call(self, y_true: Any, y_pred: Any) -> Any:
        """Return the squared differences, of the same shape."""
        return ops.square(y_true - y_pred)


@keras.saving.register_keras_serializable(package="scquery_ae")
class CrossEntropy(_Elementwise):
    """Cross-entropy of each element between data in [0, 1] and the output of a sigmoid (Vincent et al. 2010)."""

    def call(self, y_true: Any, y_pred: Any) -> Any:
        """Return ``-y log p - (1 - y) log(1 - p)``, of the same shape."""
        epsilon = keras.config.epsilon()
        p = ops.clip(y_pred, epsilon, 1 - epsilon)
        return -y_true * ops.log(p) - (1 - y_true) * ops.log(1 - p)


@keras.saving.register_keras_serializable(package="scquery_ae")
class Poisson(_Elementwise):
    """Negative log-likelihood of counts under Poisson distributions.

    The prediction holds logits ``(n, d)``. The mean is their softmax times the row's sum of counts (its library size).
    """

    def call(self, y_true: Any, y_pred: Any) -> Any:
        """Return the negative log-likelihood of each count, ``(n, d)``."""
        return -poisson_log_likelihood(y_true, _means(y_true, y_pred))


@keras.saving.register_keras_serializable(package="scquery_ae")
class NegativeBinomial(_Elementwise):
    """Negative log-likelihood of counts under negative binomial distributions.

    The prediction holds the logits and log-dispersions of :class:`Dispersion`, ``(n, d, 2)``. The mean is the softmax
    of the logits times the row's sum of counts.
    """

    def call(self, y_true: Any, y_pred: Any) -> Any:
        """Return the negative log-likelihood of each count, ``(n, d)``."""
        means = _means(y_true, y_pred[..., 0])
        return -negative_binomial_log_likelihood(y_true, means, ops.exp(y_pred[..., 1]))


@keras.saving.register_keras_serializable(package="scquery_ae")
class Dispersion(keras.layers.Layer):
    """Add a trainable log-dispersion to the logit of each feature, ``(n, d)`` to ``(n, d, 2)``."""

    #: Bounds of the log-dispersion. At exp(-4) counts vary more than any measured counts do; exp(6) is almost Poisson.
    LOWEST, HIGHEST = -4.0, 6.0

    def build(self, input_shape: Sequence[int | None]) -> None:
        """Create the log-dispersions, initialised with zeros."""
        self.log_dispersion = self.add_weight(name="log_dispersion", shape=(input_shape[-1],), initializer="zeros")
        self.built = True

    def call(self, inputs: Any) -> Any:
        """Return logits and log-dispersions."""
        bounded = ops.clip(ops.cast(self.log_dispersion, inputs.dtype), self.LOWEST, self.HIGHEST)
        return ops.stack([inputs, ops.broadcast_to(bounded, ops.shape(inputs))], axis=-1)

    def compute_output_shape(self, input_shape: Sequence[int | None]) -> tuple[int | None, ...]:
        """Return ``(n, d, 2)``."""
        return (*input_shape, 2)


def poisson_log_likelihood(counts: Any, mean: Any) -> Any:
    """Return the log-probability of counts under Poisson distributions, elementwise; counts may be fractional."""
    return counts * ops.log(mean + _TINY) - mean - log_gamma(counts + 1)


def negative_binomial_log_likelihood(counts: Any, mean: Any, dispersion: Any) -> Any:
    """Return the log-probability of counts under negative binomials, elementwise; counts may be fractional.

    The variance is ``mean + mean ** 2 / dispersion``.
    """
    total = ops.log(dispersion + mean)
    return (
        log_gamma(counts + dispersion)
        - log_gamma(dispersion)
        - log_gamma(counts + 1)
        + dispersion * (ops.log(dispersion) - total)
        + counts * (ops.log(mean + _TINY) - total)
    )


def log_gamma(x: Any) -> Any:
    """Return the logarithm of the gamma function of positive numbers, by Stirling's series after a shift by 4.

    Checked first: Keras 3.15 has no such op.
    """
    shifted = x + 4
    series = 1 / (12 * shifted) - 1 / (360 * shifted**3) + 1 / (1260 * shifted**5)
    stirling = (shifted - 0.5) * ops.log(shifted) - shifted + 0.5 * math.log(2 * math.pi) + series
    return stirling - ops.log(x * (x + 1) * (x + 2) * (x + 3))


_LOSSES: dict[str, tuple[type[keras.losses.Loss], str]] = {
    "squared_error": (SquaredError, "linear"),
    "cross_entropy": (CrossEntropy, "sigmoid"),
    "poisson": (Poisson, "linear"),
    "negative_binomial": (NegativeBinomial, "linear"),
}


def get_loss(name: str, output_activation: str | None = None) -> tuple[keras.losses.Loss, str]:
    """Return a loss and the matching activation of the reconstruction.

    Parameters
    ----------
    name
        ``"squared_error"``, ``"cross_entropy"``, ``"poisson"`` or ``"negative_binomial"``.
    output_activation
        None for the default of the loss: sigmoid for cross-entropy, linear otherwise. Only squared error works with
        other activations.

    Raises
    ------
    ArgumentError
        If the two are not compatible.
    """
    check_choice("loss", name, RECONSTRUCTION_LOSSES)
    loss, own = _LOSSES[name]
    if output_activation not in (None, own) and name != "squared_error":
        msg = (
            f"`loss={name!r}` needs a {own} reconstruction. "
            f'Received `output_activation={output_activation!r}`; leave it out, or use `loss="squared_error"`.'
        )
        raise ArgumentError(msg)
    return loss(), output_activation or own


def _means(counts: Any, logits: Any) -> Any:
    return ops.sum(counts, axis=-1, keepdims=True) * ops.softmax(logits, axis=-1)
