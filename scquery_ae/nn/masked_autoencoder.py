"""A tied autoencoder whose units are connected to the features of their group only."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import keras
import numpy as np
from keras import ops

from scquery_ae._checks import check_integer, check_unique
from scquery_ae._errors import ArgumentError, MissingKeyError
from scquery_ae.nn.tied_autoencoder import TiedAutoencoder, for_variable, ordinary_layer


@keras.saving.register_keras_serializable(package="scquery_ae")
class FixedZeros(keras.constraints.Constraint):
    """Constraint that keeps the weights outside of a mask at zero.

    Parameters
    ----------
    mask
        1 where a weight may differ from zero, 0 elsewhere, of the shape of the kernel.
    """

    def __init__(self, mask: Any) -> None:
        self.mask = np.asarray(mask, dtype=bool)

    def __call__(self, w: Any) -> Any:
        """Return `w` with zeros outside of the mask."""
        return w * ops.cast(self.mask, w.dtype)

    def get_config(self) -> dict[str, Any]:
        """Return the mask as nested lists."""
        return {"mask": self.mask.astype(int).tolist()}


@keras.saving.register_keras_serializable(package="scquery_ae")
class MaskedAutoencoder(TiedAutoencoder):
    """Tied autoencoder with one unit for each group of features, such as the genes of a pathway.

    The unit of a group encodes, and through the transposed kernel decodes, the features of its group only. Only the
    connected weights are stored, as one vector, and are scattered into the kernel when it is used. All other weights
    are zero by construction; they are not trained, counted or penalised. The networks of Lin et al. that follow protein
    interactions and transcription factors have first layers of this kind.

    Parameters
    ----------
    mask
        Whether a feature belongs to a group, ``(d, n_groups)`` of 0 and 1. Every group needs a feature.
    group_names
        Name of each group. None uses ``"group_0"``, ``"group_1"``, ...
    free_units
        Number of further units that are connected to all features.
    activation
        Activation of the latent representation.
    output_activation
        Activation of the reconstruction.
    use_bias
        Whether encoder and decoder have biases.
    kernel_initializer, bias_initializer
        Initialisers. The weights of a group are multiplied by ``sqrt(d / size of the group)``, so that the units of
        small and large groups have the same variance.
    kernel_regularizer, bias_regularizer
        Penalties. The kernel's is a penalty on connected weights.
    kernel_constraint, bias_constraint
        Projections after each step. The kernel's is applied to the vector of connected weights and to the kernel of
        the free units separately: use an elementwise constraint, such as :class:`keras.constraints.NonNeg`.
    **kwargs
        Arguments of :class:`keras.layers.Layer`.

    Raises
    ------
    ArgumentError
        If the mask is not a matrix of 0 and 1, a group is empty, or there is not one name per group; in ``build``, if
        the mask does not have one row per feature.

    Notes
    -----
    Input and output have the shape ``(..., d)``, the latent representation ``(..., n_groups + free_units)``, groups
    first.

    References
    ----------
    Lin et al., Nucleic Acids Research 45, e156 (2017).
    Alavi et al., Nature Communications 9, 4768 (2018).

    Examples
    --------
    >>> import numpy as np
    >>> layer = MaskedAutoencoder([[1, 0], [1, 0], [0, 1]], group_names=["glycolysis", "apoptosis"], use_bias=False)
    >>> layer(np.ones((4, 3), dtype="float32")).shape[-1], layer.count_params(), layer.unit("apoptosis")
    (3, 3, 1)
    """

    def __init__(
        self,
        mask: Any,
        group_names: Sequence[str] | None = None,
        free_units: int = 0,
        activation: Any = None,
        output_activation: Any = None,
        use_bias: bool = True,
        kernel_initializer: Any = "glorot_uniform",
        bias_initializer: Any = "zeros",
        kernel_regularizer: Any = None,
        bias_regularizer: Any = None,
        kernel_constraint: Any = None,
        bias_constraint: Any = None,
        **kwargs: Any,
    ) -> None:
        super().__init__(
            activation=activation,
            output_activation=output_activation,
            use_bias=use_bias,
            kernel_initializer=kernel_initializer,
            bias_initializer=bias_initializer,
            kernel_regularizer=kernel_regularizer,
            bias_regularizer=bias_regularizer,
            kernel_constraint=kernel_constraint,
            bias_constraint=bias_constraint,
            **kwargs,
        )
        self.mask = _check_mask(mask)
        n_groups = self.mask.shape[1]
        names = [f"group_{i}" for i in range(n_groups)] if group_names is None else [str(name) for name in group_names]
        if len(names) != n_groups:
            msg = f"`group_names` must have one name for each of the mask's {n_groups} groups. Received {len(names)}."
            raise ArgumentError(msg)
        self.free_units = check_integer("free_units", free_units, 0)
        self.group_names = tuple(names)
        check_unique(self.unit_names, "The names of groups and free units", "give each group a name of its own.")
        self._connected = np.argwhere(self.mask).astype(np.int32)
        self.input_spec = keras.layers.InputSpec(min_ndim=2, axes={-1: self.mask.shape[0]})
        self.supports_masking = True

    @property
    def unit_names(self) -> tuple[str, ...]:
        """Name of each unit: the name of its group, or ``"free_0"``, ``"free_1"``, ..."""
        return (*self.group_names, *(f"free_{i}" for i in range(self.free_units)))

    def unit(self, name: str) -> int:
        """Return the index of the unit with a name, a column of the latent representation."""
        if name not in self.unit_names:
            msg = f"There is no unit {name!r}. Expected the name of a unit, such as {self.unit_names[:5]}."
            raise MissingKeyError(msg)
        return self.unit_names.index(name)

    def build(self, input_shape: Sequence[int | None]) -> None:
        """Create the connected weights, the free units and the biases."""
        width = self._known_width(input_shape)
        if width != self.mask.shape[0]:
            msg = (
                f"`mask` must have one row for each feature. Received {self.mask.shape[0]} rows for inputs of width "
                f"{width}; make the mask for the same features, in the same order."
            )
            raise ArgumentError(msg)
        draw = for_variable(self.kernel_initializer, 0)
        scale = np.sqrt(width / self.mask.sum(axis=0)).astype(np.float32)

        def connected(_: Sequence[int], dtype: Any = None) -> Any:
            kernel = ops.multiply(draw(self.mask.shape, dtype="float32"), ops.convert_to_tensor(scale))
            chosen = ops.take(ops.reshape(kernel, (-1,)), np.flatnonzero(self.mask), axis=0)
            return ops.cast(chosen, dtype or "float32")

        self.connected_weights = self._add_kernel("connected_weights", (len(self._connected),), initializer=connected)
        if self.free_units:
            self.free_kernel = self._add_kernel("free_kernel", (width, self.free_units), 1)
        if self.use_bias:
            self.encoder_bias = self._add_bias("encoder_bias", len(self.unit_names), 0)
            self.decoder_bias = self._add_bias("decoder_bias", width, 1)
        self.built = True

    @property
    def kernel(self) -> Any:
        """Kernel with its zeros, ``(d, n_groups + free_units)``."""
        groups = ops.scatter(self._connected, ops.convert_to_tensor(self.connected_weights), self.mask.shape)
        if not self.free_units:
            return groups
        return ops.concatenate([groups, ops.convert_to_tensor(self.free_kernel)], axis=1)

    @property
    def full_mask(self) -> np.ndarray:
        """Whether a weight of the kernel may differ from zero, bool ``(d, n_groups + free_units)``."""
        return np.concatenate([self.mask, np.ones((len(self.mask), self.free_units), bool)], axis=1)

    def encoder_layers(self) -> list[keras.layers.Layer]:
        """Return a :class:`keras.layers.Dense` with a copy of the weights, and :class:`FixedZeros` as constraint."""
        (kernel, bias, _), *_ = self.dense_weights()
        dense = keras.layers.Dense(
            kernel.shape[1],
            activation=self.activation,
            use_bias=self.use_bias,
            kernel_constraint=FixedZeros(self.full_mask),
            dtype=self.dtype_policy,
        )
        return [ordinary_layer(dense, (None, len(kernel)), [kernel, bias] if self.use_bias else [kernel])]

    def dense_weights(self) -> list[tuple[np.ndarray, np.ndarray, str]]:
        """Return the kernel with its zeros, the bias (zeros without one) and the activation name."""
        self._require_built("dense_weights")
        kernel = ops.convert_to_numpy(self.kernel)
        bias = ops.convert_to_numpy(self.encoder_bias) if self.use_bias else np.zeros(kernel.shape[1], np.float32)
        return [(kernel, bias, keras.activations.serialize(self.activation))]

    def latent_shape(self, input_shape: Sequence[int | None]) -> tuple[int | None, ...]:
        """Return the shape of the latent representation, ``(..., n_groups + free_units)``."""
        return (*input_shape[:-1], len(self.unit_names))

    def get_config(self) -> dict[str, Any]:
        """Return every constructor argument, serialised."""
        config: dict[str, Any] = super().get_config()
        config.update(
            mask=self.mask.astype(int).tolist(), group_names=list(self.group_names), free_units=self.free_units
        )
        return config

    def _input_shape(self) -> tuple[int, ...]:
        return (int(self.mask.shape[0]),)

    def _encode(self, x: Any, training: bool | None) -> Any:  # noqa: ARG002 (some layers drop units)
        x = ops.matmul(x, self._cast(self.kernel))
        return self.activation(ops.add(x, self._cast(self.encoder_bias)) if self.use_bias else x)

    def _decode(self, x: Any) -> Any:
        x = ops.matmul(x, self._cast(ops.transpose(self.kernel)))
        return self.output_activation(ops.add(x, self._cast(self.decoder_bias)) if self.use_bias else x)


def _check_mask(mask: Any) -> np.ndarray:
    try:
        array = np.asarray(mask)
    except ValueError:  # rows of different lengths
        array = np.empty(0, dtype=object)
    numeric = array.dtype.kind in "biuf"
    if array.ndim != 2 or 0 in array.shape or not numeric or not np.isin(array, (0, 1)).all():
        msg = (
            "`mask` must be a matrix of 0 and 1, (n_features, n_groups). "
            f"Received an array of shape {array.shape} and type {array.dtype}."
        )
        raise ArgumentError(msg)
    array = array.astype(bool)
    empty = np.flatnonzero(~array.any(axis=0))
    if len(empty):
        msg = f"Every group of `mask` needs at least one feature. Received none in column(s) {empty[:5].tolist()}."
        raise ArgumentError(msg)
    return array
