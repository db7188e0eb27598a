"""Convolutional autoencoders whose decoder is the transpose of their convolution."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, ClassVar

import keras
from keras import ops

from scquery_ae._checks import check_choice, check_integer, is_integer
from scquery_ae._errors import ArgumentError
from scquery_ae.nn.tied_autoencoder import TiedAutoencoder, ordinary_layer

PADDINGS = ("valid", "same")


class ConvAutoencoder(TiedAutoencoder):
    """Tied-weight convolutional autoencoder: base class of :class:`Conv1DAutoencoder` and :class:`Conv2DAutoencoder`.

    The encoder's convolution and the decoder's transposed convolution use the same kernel; biases are not tied. The
    reconstruction always has the shape of the input, also for lengths that are not multiples of the strides.

    Parameters
    ----------
    filters
        Channels of the latent representation.
    kernel_size, strides
        A positive integer, or one integer for each spatial axis.
    padding
        ``"valid"``, or ``"same"``, which pads the input with zeros, at the end by as many as at the start or one more.
    activation
        Activation of the latent representation.
    output_activation
        Activation of the reconstruction.
    use_bias
        Whether the encoder has a bias ``(filters,)`` and the decoder a bias ``(channels,)``.
    kernel_initializer, bias_initializer, kernel_regularizer, bias_regularizer, kernel_constraint, bias_constraint
        As in :class:`keras.layers.Conv2D`.
    **kwargs
        Arguments of :class:`keras.layers.Layer`.

    Raises
    ------
    ArgumentError
        If an argument is out of its range; in ``build``, if lengths are unknown or smaller than the kernel.

    Notes
    -----
    Input and output have the shape ``(n, *lengths, channels)`` under any image data format of Keras, the latent
    representation ``(n, *latent lengths, filters)``.

    References
    ----------
    Masci et al., Artificial Neural Networks and Machine Learning, ICANN (2011).
    """

    rank: ClassVar[int]
    _ordinary: ClassVar[type[keras.layers.Layer]]

    def __init__(
        self,
        filters: int,
        kernel_size: int | Sequence[int],
        strides: int | Sequence[int] = 1,
        padding: str = "valid",
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
        self.filters = check_integer("filters", filters)
        self.kernel_size = self._per_axis("kernel_size", kernel_size)
        self.strides = self._per_axis("strides", strides)
        self.padding = check_choice("padding", padding, PADDINGS)
        self.input_spec = keras.layers.InputSpec(ndim=self.rank + 2)

    def build(self, input_shape: Sequence[int | None]) -> None:
        """Create the kernel and the biases for inputs of `input_shape`, ``(n, *lengths, channels)``."""
        if len(input_shape) != self.rank + 2 or None in input_shape[1:]:
            msg = (
                f"{type(self).__name__} cannot be built: inputs must have {self.rank} spatial axes and a channel axis, "
                f"all of fixed length. Received input_shape={tuple(input_shape)}; pass for example "
                f"`keras.Input(shape=({'28, ' * self.rank}1))`."
            )
            raise ArgumentError(msg)
        shape = [int(n) for n in input_shape[1:] if n is not None]
        short = [i for i, n in enumerate(shape[:-1]) if self.padding == "valid" and n < self.kernel_size[i]]
        if short:
            msg = (
                f"A kernel of size {self.kernel_size} does not fit into inputs of {tuple(shape[:-1])} without padding. "
                'Use a smaller `kernel_size`, or `padding="same"`.'
            )
            raise ArgumentError(msg)
        self._shape = tuple(shape)
        channels = shape[-1]
        self.kernel = self._add_kernel("kernel", (*self.kernel_size, channels, self.filters))
        if self.use_bias:
            self.encoder_bias = self._add_bias("encoder_bias", self.filters, 0)
            self.decoder_bias = self._add_bias("decoder_bias", channels, 1)
        self.input_spec = keras.layers.InputSpec(shape=(None, *shape))
        self.built = True

    def encoder_layers(self) -> list[keras.layers.Layer]:
        """Return an ordinary Keras convolution, initialised with a copy of this layer's weights."""
        self._require_built("encoder_layers")
        layer = self._ordinary(
            self.filters,
            self.kernel_size,
            strides=self.strides,
            padding=self.padding,
            data_format="channels_last",
            activation=self.activation,
            use_bias=self.use_bias,
            dtype=self.dtype_policy,
        )
        biases = [self.encoder_bias] if self.use_bias else []
        return [ordinary_layer(layer, (None, *self._shape), [self.kernel, *biases])]

    def latent_shape(self, input_shape: Sequence[int | None]) -> tuple[int | None, ...]:
        """Return the shape of the latent representation, ``(n, *lengths, filters)``."""
        lengths = [
            None if n is None else self._latent_length(n, axis) for axis, n in enumerate(input_shape[1 : self.rank + 1])
        ]
        return (input_shape[0], *lengths, self.filters)

    def get_config(self) -> dict[str, Any]:
        """Return every constructor argument, serialised."""
        config: dict[str, Any] = super().get_config()
        config.update(
            filters=self.filters,
            kernel_size=list(self.kernel_size),
            strides=list(self.strides),
            padding=self.padding,
        )
        return config

    def _input_shape(self) -> tuple[int, ...]:
        return self._shape

    def _encode(self, x: Any, training: bool | None) -> Any:  # noqa: ARG002 (some layers drop units)
        # Explicit padding: backends differ in where "same" puts an odd zero, which the transpose has to match.
        x = ops.pad(x, [(0, 0), *map(self._padding_of, range(self.rank)), (0, 0)])
        x = ops.conv(x, self._cast(self.kernel), self.strides, padding="valid", data_format="channels_last")
        return self.activation(ops.add(x, self._cast(self.encoder_bias)) if self.use_bias else x)

    def _decode(self, x: Any) -> Any:
        # `conv_transpose` expects a kernel (*size, channels out, channels in), which is the encoder's kernel as it is.
        x = ops.conv_transpose(x, self._cast(self.kernel), self.strides, padding="valid", data_format="channels_last")
        padding, cut = [], []
        for axis, length in enumerate(self._shape[:-1]):
            before, _ = self._padding_of(axis)
            # The filters do not read inputs behind the last full stride, so they are reconstructed as zeros.
            padding.append((0, max(before + length - x.shape[axis + 1], 0)))
            cut.append(slice(before, before + length))
        x = ops.pad(x, [(0, 0), *padding, (0, 0)])[(slice(None), *cut)]
        return self.output_activation(ops.add(x, self._cast(self.decoder_bias)) if self.use_bias else x)

    def _latent_length(self, length: int, axis: int) -> int:
        size, stride = self.kernel_size[axis], self.strides[axis]
        return -(-length // stride) if self.padding == "same" else (length - size) // stride + 1

    def _padding_of(self, axis: int) -> tuple[int, int]:
        """Return the number of zeros before and after one axis."""
        length, size, stride = self._shape[axis], self.kernel_size[axis], self.strides[axis]
        if self.padding == "valid":
            return 0, 0
        total = max((self._latent_length(length, axis) - 1) * stride + size - length, 0)
        return total // 2, total - total // 2

    def _per_axis(self, name: str, value: Any) -> tuple[int, ...]:
        values = (value,) * self.rank if is_integer(value) else tuple(value) if isinstance(value, Sequence) else ()
        if len(values) != self.rank or not all(is_integer(v) and v > 0 for v in values):
            msg = f"`{name}` must be a positive integer, or {self.rank} of them. Received {value!r}."
            raise ArgumentError(msg)
        return tuple(int(v) for v in values)


@keras.saving.register_keras_serializable(package="scquery_ae")
class Conv1DAutoencoder(ConvAutoencoder):
    """Tied-weight convolutional autoencoder for sequences, ``(n, length, channels)``.

    See :class:`ConvAutoencoder` for the arguments.
    """

    rank = 1
    _ordinary = keras.layers.Conv1D


@keras.saving.register_keras_serializable(package="scquery_ae")
class Conv2DAutoencoder(ConvAutoencoder):
    """Tied-weight convolutional autoencoder for images, ``(n, rows, columns, channels)``.

    See :class:`ConvAutoencoder` for the arguments.
    """

    rank = 2
    _ordinary = keras.layers.Conv2D
