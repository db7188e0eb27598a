"""The restricted Boltzmann machine, an alternative module of greedy pretraining."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import keras
import numpy as np
from keras import ops

from scquery_ae._checks import check_choice, check_integer, check_number
from scquery_ae._errors import ArgumentError
from scquery_ae.nn.autoencoder import Autoencoder
from scquery_ae.nn.tied_autoencoder import for_variable, ordinary_layer

VISIBLE = ("bernoulli", "gaussian")


@keras.saving.register_keras_serializable(package="scquery_ae")
class RestrictedBoltzmannMachine(Autoencoder):
    r"""Restricted Boltzmann machine with Bernoulli hidden units, trained by contrastive divergence.

    The layer is used like an autoencoder layer. Calling it reconstructs the input by one mean-field step up and down,
    and the probabilities of the hidden units are the latent representation. During training it adds its own loss, the
    free energy of the data minus the free energy after `n_steps` steps of Gibbs sampling, whose gradient is contrastive
    divergence. Compile the model with ``loss=None``.

    With visible biases :math:`b`, hidden biases :math:`c` and kernel :math:`W`, :math:`P(h=1|v) = \sigma(vW + c)`;
    Bernoulli visible units follow :math:`P(v=1|h) = \sigma(Wh + b)`, Gaussian ones
    :math:`\mathcal{N}(b + \text{std}^2 Wh, \text{std}^2)`.

    Parameters
    ----------
    units
        Number of hidden units.
    visible
        ``"bernoulli"`` for data in [0, 1], ``"gaussian"`` for real-valued data.
    n_steps
        Steps of Gibbs sampling, the k of CD-k.
    visible_std
        Standard deviation of all Gaussian visible units.
    kernel_initializer, bias_initializer
        Initialisers of the kernel, and of both biases.
    kernel_regularizer
        Penalty on the kernel.
    seed
        Seed of the sampling.
    **kwargs
        Arguments of :class:`keras.layers.Layer`.

    Raises
    ------
    ArgumentError
        If an argument is out of its range.

    Notes
    -----
    Input and output have the shape ``(..., d)``, the latent representation ``(..., units)``.

    References
    ----------
    Hinton, Neural Computation 14, 1771 (2002).
    Bengio et al., Advances in Neural Information Processing Systems 19 (2007).
    """

    owns_loss = True

    def __init__(
        self,
        units: int,
        visible: str = "bernoulli",
        n_steps: int = 1,
        visible_std: float = 1.0,
        kernel_initializer: Any = "glorot_uniform",
        bias_initializer: Any = "zeros",
        kernel_regularizer: Any = None,
        seed: int | None = None,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        self.units = check_integer("units", units)
        self.visible = check_choice("visible", visible, VISIBLE)
        self.n_steps = check_integer("n_steps", n_steps)
        self.visible_std = check_number("visible_std", visible_std, 0, np.inf, closed="neither")
        self.kernel_initializer = keras.initializers.get(kernel_initializer)
        self.bias_initializer = keras.initializers.get(bias_initializer)
        self.kernel_regularizer = keras.regularizers.get(kernel_regularizer)
        self.seed = None if seed is None else check_integer("seed", seed, 0)
        self.seed_generator = keras.random.SeedGenerator(self.seed)
        self.input_spec = keras.layers.InputSpec(min_ndim=2)

    def build(self, input_shape: Sequence[int | None]) -> None:
        """Create the kernel and the biases for inputs with the last axis of `input_shape`."""
        width = self._known_width(input_shape)
        self.kernel = self.add_weight(
            name="kernel",
            shape=(width, self.units),
            initializer=for_variable(self.kernel_initializer, 0),
            regularizer=self.kernel_regularizer,
        )
        self.hidden_bias = self.add_weight(
            name="hidden_bias", shape=(self.units,), initializer=for_variable(self.bias_initializer, 0)
        )
        self.visible_bias = self.add_weight(
            name="visible_bias", shape=(width,), initializer=for_variable(self.bias_initializer, 1)
        )
        self.input_spec = keras.layers.InputSpec(min_ndim=2, axes={-1: width})
        self.built = True

    def call(self, inputs: Any, training: bool | None = None) -> Any:
        """Return the reconstruction of `inputs`, ``(..., d)``; during training, add the contrastive divergence loss."""
        # Zero outside of training, because some backends cannot evaluate a model without a loss.
        self.add_loss(self.contrastive_divergence(inputs) if training else ops.zeros(()))
        return self._decode(self._encode(inputs, training))

    def contrastive_divergence(self, visible: Any) -> Any:
        """Return the loss with the gradient of CD-k: the mean free energy of the data minus that of the samples."""
        samples = visible
        for _ in range(self.n_steps):
            samples = self._sample_visible(self._bernoulli(self._encode(samples, None)))
        return ops.mean(self.free_energy(visible)) - ops.mean(self.free_energy(ops.stop_gradient(samples)))

    def free_energy(self, visible: Any) -> Any:
        """Return the negative logarithm of the unnormalised probability of visible rows, ``(...,)``."""
        visible = ops.convert_to_tensor(visible, dtype=self.compute_dtype)
        hidden = ops.matmul(visible, self._cast(self.kernel)) + self._cast(self.hidden_bias)
        bias = self._cast(self.visible_bias)
        if self.visible == "bernoulli":
            own = -ops.sum(visible * bias, axis=-1)
        else:
            own = ops.sum(ops.square(visible - bias), axis=-1) / (2 * self.visible_std**2)
        # In full precision: the difference of two sums over thousands of genes would be lost in half precision.
        return ops.cast(own, "float32") - ops.sum(ops.cast(ops.softplus(hidden), "float32"), axis=-1)

    def pseudo_log_likelihood(self, x: Any, *, random_state: int = 0) -> np.ndarray:
        """Estimate the logarithm of the pseudo-likelihood of binary rows.

        One random feature of each row is flipped. The estimate is ``d log sigmoid(F(flipped) - F(row))`` with the free
        energy F.

        Parameters
        ----------
        x
            Rows of 0 and 1, ``(n, d)``.
        random_state
            Seed of the flipped features.

        Returns
        -------
        Estimate for each row, float32 ``(n,)``.

        Raises
        ------
        ArgumentError
            If the visible units are not Bernoulli.
        """
        if self.visible != "bernoulli":
            msg = (
                "`pseudo_log_likelihood` needs binary visible units. "
                'Received `visible="gaussian"`; use `visible="bernoulli"` for data in [0, 1].'
            )
            raise ArgumentError(msg)
        x = np.asarray(x, dtype=np.float32)
        flipped = x.copy()
        rows = np.arange(len(x))
        columns = np.random.default_rng(random_state).integers(x.shape[1], size=len(x))
        flipped[rows, columns] = 1 - flipped[rows, columns]
        gap = ops.convert_to_numpy(self.free_energy(flipped)) - ops.convert_to_numpy(self.free_energy(x))
        return np.asarray(-x.shape[1] * np.logaddexp(0, -gap), dtype=np.float32)

    @property
    def latent_in_unit_interval(self) -> bool:
        """Whether all latent values are in [0, 1]; always true for probabilities."""
        return True

    def encoder_layers(self) -> list[keras.layers.Layer]:
        """Return a sigmoid :class:`keras.layers.Dense` with copies of the kernel and the hidden bias."""
        self._require_built("encoder_layers")
        dense = keras.layers.Dense(self.units, activation="sigmoid", dtype=self.dtype_policy)
        return [ordinary_layer(dense, (None, *self._input_shape()), [self.kernel, self.hidden_bias])]

    def dense_weights(self) -> list[tuple[np.ndarray, np.ndarray, str]]:
        """Return the kernel, the hidden bias and ``"sigmoid"``."""
        self._require_built("dense_weights")
        return [(ops.convert_to_numpy(self.kernel), ops.convert_to_numpy(self.hidden_bias), "sigmoid")]

    def latent_shape(self, input_shape: Sequence[int | None]) -> tuple[int | None, ...]:
        """Return the shape of the latent representation, ``(..., units)``."""
        return (*input_shape[:-1], self.units)

    def get_config(self) -> dict[str, Any]:
        """Return every constructor argument, serialised."""
        config: dict[str, Any] = super().get_config()
        config.update(
            units=self.units,
            visible=self.visible,
            n_steps=self.n_steps,
            visible_std=self.visible_std,
            kernel_initializer=keras.initializers.serialize(self.kernel_initializer),
            bias_initializer=keras.initializers.serialize(self.bias_initializer),
            kernel_regularizer=keras.regularizers.serialize(self.kernel_regularizer),
            seed=self.seed,
        )
        return config

    def _input_shape(self) -> tuple[int, ...]:
        return (int(self.kernel.shape[0]),)

    def _encode(self, x: Any, training: bool | None) -> Any:  # noqa: ARG002 (some layers drop units)
        return ops.sigmoid(ops.matmul(x, self._cast(self.kernel)) + self._cast(self.hidden_bias))

    def _decode(self, x: Any) -> Any:
        drive = ops.matmul(x, self._cast(ops.transpose(self.kernel)))
        bias = self._cast(self.visible_bias)
        return ops.sigmoid(drive + bias) if self.visible == "bernoulli" else bias + self.visible_std**2 * drive

    def _sample_visible(self, hidden: Any) -> Any:
        mean = self._decode(hidden)
        if self.visible == "bernoulli":
            return self._bernoulli(mean)
        noise = keras.random.normal(ops.shape(mean), dtype=mean.dtype, seed=self.seed_generator)
        return mean + self.visible_std * noise

    def _bernoulli(self, probability: Any) -> Any:
        draw = keras.random.uniform(ops.shape(probability), dtype="float32", seed=self.seed_generator)
        return ops.cast(draw < ops.cast(probability, "float32"), probability.dtype)
