"""Scaling to unit length, with a finite gradient at zero."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import keras
from keras import ops


def unit_norm(x: Any) -> Any:
    """Scale the last axis to unit Euclidean length; zeros stay zero, with the gradient of the identity.

    Checked first: ``keras.layers.UnitNormalization``, whose gradient is 1e12 at zero.
    """
    # Dividing by the largest value first keeps squares in the range of float16, and does not change the gradient.
    scale = ops.stop_gradient(ops.max(ops.abs(x), axis=-1, keepdims=True))
    positive = scale > 0
    # The inner `where`s are needed: a division by zero in the branch not taken would make the gradient NaN.
    ones = ops.ones_like(scale)
    scaled = x / ops.where(positive, scale, ones)
    squared = ops.sum(ops.square(scaled), axis=-1, keepdims=True)
    return ops.where(positive, scaled * ops.rsqrt(ops.where(positive, squared, ones)), x)


@keras.saving.register_keras_serializable(package="scquery_ae")
class UnitNorm(keras.layers.Layer):
    """:func:`unit_norm` as a layer, shape unchanged."""

    def call(self, inputs: Any) -> Any:
        """Return `inputs` scaled to unit length."""
        return unit_norm(inputs)

    def compute_output_shape(self, input_shape: Sequence[int | None]) -> tuple[int | None, ...]:
        """Return the shape of the input."""
        return tuple(input_shape)
