"""Greedy layer-wise pretraining (Bengio et al. 2007, Vincent et al. 2010)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from os import PathLike
from typing import Any

import numpy as np

from scquery_ae._checks import check_flag, check_integer, check_rate
from scquery_ae._errors import ArgumentError
from scquery_ae.nn.autoencoder import Autoencoder
from scquery_ae.nn.checkpoint import ResumePoint, open_checkpoint
from scquery_ae.nn.corruption import Corruption
from scquery_ae.nn.greedy_checks import check_chain, check_counts, check_range
from scquery_ae.nn.layer_settings import settings_by_layer
from scquery_ae.nn.layer_training import train_layer
from scquery_ae.nn.losses import COUNT_LOSSES
from scquery_ae.nn.modules import check_layers, describe_entry, make_layer
from scquery_ae.nn.rows import Rows, as_rows, encoded_rows, pooled_std
from scquery_ae.nn.stack import PretrainedStack


def pretrain_stack(
    x: Any,
    layer_sizes: Sequence[int | Autoencoder],
    *,
    counts: Any = None,
    module: str | Sequence[str] = "tied",
    activation: str | Sequence[str] = "relu",
    latent_activation: str = "linear",
    output_activation: str | Sequence[str | None] | None = None,
    loss: str | Sequence[str] = "squared_error",
    corruption: str | Corruption | Sequence[str | Corruption] = "masking",
    corruption_level: float | Sequence[float] = 0.3,
    corrupted_weight: float | Sequence[float] = 1.0,
    uncorrupted_weight: float | Sequence[float] = 1.0,
    epochs: int | Sequence[int] = 30,
    patience: int | Sequence[int] = 3,
    batch_size: int | Sequence[int] = 128,
    learning_rate: float | Sequence[float] = 1e-3,
    validation_fraction: float = 0.1,
    checkpoint: str | PathLike[str] | None = None,
    random_state: int = 0,
    progress: bool = True,
) -> PretrainedStack:
    """Train a stack of autoencoders or Boltzmann machines, layer by layer.

    Each layer is a module. Its target is the clean encodings of the layers below, and its input a corrupted version of
    them, with fresh noise in every epoch. The weights of all layers initialise a network
    (:meth:`PretrainedStack.encoder`). The arguments from `module` to `learning_rate` take one value for all layers, or
    a sequence with one value per layer.

    Parameters
    ----------
    x
        ``(n, d)`` array or CSR matrix, images ``(n, rows, columns, channels)`` for convolutional layers, or an object
        with the methods of :class:`~scquery_ae.nn.Rows`.
    layer_sizes
        Widths of the layers, from the input inwards. An autoencoder layer of this module that is not built can stand in
        place of a width; `module` and the activations do not apply to it.
    counts
        Targets of the first layer under a likelihood of counts, ``(n, d)`` array or CSR matrix, while `x` is the input,
        such as ``log1p`` of normalised counts.
    module
        ``"tied"`` autoencoders; ``"untied"`` autoencoders, whose decoders have their own kernels; or ``"rbm"``:
        restricted Boltzmann machines trained with CD-1 on clean rows. Their visible units are Bernoulli if all values
        are in [0, 1], and otherwise Gaussian with the pooled standard deviation of the features. Two baselines are not
        trained: ``"pca"`` uses principal components, ``"random"`` random weights.
    activation, latent_activation
        Activation of the hidden layers, and of the last layer, whose output is the latent representation. If
        `activation` is a sequence, it includes the last layer, and `latent_activation` is ignored. Boltzmann machines
        always use sigmoids.
    output_activation
        Activation of the reconstructions. None uses the default of the loss.
    loss
        ``"squared_error"`` with a linear reconstruction; ``"cross_entropy"`` with a sigmoid reconstruction, for values
        in [0, 1]; ``"poisson"`` or ``"negative_binomial"`` (with a dispersion for each feature) for `counts`, in the
        first layer. If one of the last two is given alone, the other layers use squared error.
    corruption, corruption_level
        ``"masking"`` or ``"salt_and_pepper"`` with the fraction of corrupted values, in [0, 1); ``"gaussian"`` with a
        standard deviation; ``"none"``; or a custom :class:`~scquery_ae.nn.Corruption`.
    corrupted_weight, uncorrupted_weight
        Weights in the loss of corrupted and of uncorrupted elements. 1 and 0 are the "full emphasis" of Vincent et al.
    epochs, patience
        Largest number of epochs per layer, and number of epochs without a lower denoising loss on the validation rows
        after which its training stops. The weights of the best epoch are kept.
    batch_size, learning_rate
        Rows per step, and learning rate of the Adam optimiser.
    validation_fraction
        Fraction of the rows that are held out, in [0, 1). 0 trains for `epochs` epochs on all rows.
    checkpoint
        Folder to keep the state in after each epoch. The same call with the same data resumes from the last epoch, with
        the same result as an uninterrupted call. A custom corruption is identified by its ``repr``.
    random_state
        Seed of the initial weights, the split, the order and the noise.
    progress
        Show a progress bar on a terminal or in a notebook.

    Returns
    -------
    The trained layers and their histories.

    Raises
    ------
    ArgumentError
        If an argument is out of its range, if loss, activation and data are not compatible, if there are fewer than two
        rows, or if `checkpoint` holds another run.

    References
    ----------
    Vincent et al., Journal of Machine Learning Research 11, 3371 (2010).
    Bengio et al., Advances in Neural Information Processing Systems 19 (2007).
    """
    entries = check_layers(layer_sizes)
    hidden = len(entries) - 1
    activations = [*[activation] * hidden, latent_activation] if isinstance(activation, str) else activation
    losses = [loss, *["squared_error"] * hidden] if isinstance(loss, str) and loss in COUNT_LOSSES else loss
    settings = settings_by_layer(
        len(entries),
        {
            "module": module,
            "activation": activations,
            "output_activation": output_activation,
            "loss": losses,
            "corruption": corruption,
            "corruption_level": corruption_level,
            "corrupted_weight": corrupted_weight,
            "uncorrupted_weight": uncorrupted_weight,
            "epochs": epochs,
            "patience": patience,
            "batch_size": batch_size,
            "learning_rate": learning_rate,
        },
    )
    settings = [
        replace(own, module="tied") if isinstance(entry, Autoencoder) else own
        for entry, own in zip(entries, settings, strict=True)
    ]
    random_state = check_integer("random_state", random_state, 0)
    check_rate("validation_fraction", validation_fraction)
    check_flag("progress", progress)
    rows: Rows = as_rows(x)
    n_rows = rows.shape[0]
    if n_rows < 2:
        msg = f"Pretraining needs at least two rows. Received {n_rows}; pass more cells."
        raise ArgumentError(msg)
    check_chain(entries, settings, rows.shape[-1])
    counts = check_counts(counts, settings[0].loss, rows)
    binary = check_range(entries[0], settings[0], rows)
    run = [own.describe() for own in settings], [describe_entry(entry) for entry in entries]
    saved = open_checkpoint(checkpoint, rows, [counts], [*run, validation_fraction, random_state])

    order = np.random.default_rng([random_state, 0]).permutation(n_rows)
    n_validation = min(round(validation_fraction * n_rows), n_rows - 1)
    split = np.sort(order[n_validation:]), np.sort(order[:n_validation])

    stack = PretrainedStack()
    for depth, (entry, own) in enumerate(zip(entries, settings, strict=True)):
        # A Boltzmann machine samples real values, with the standard deviation of the data.
        spread = pooled_std(rows) if own.module == "rbm" and not binary else None
        layer = make_layer(entry, own, depth=depth, visible_std=spread, seed=random_state)
        layer.build((None, *rows.shape[1:]))
        title = f"pretrain layer {depth + 1}/{len(entries)} ({layer.latent_shape((None, *rows.shape[1:]))[-1]} units)"
        history = train_layer(
            layer,
            own,
            rows,
            split,
            [random_state, depth],
            counts,
            title=title,
            progress=progress,
            resume=ResumePoint(saved, f"layer_{depth}") if saved else None,
        )
        stack.layers.append(layer)
        stack.history.append(history)
        if depth + 1 < len(entries):
            rows, counts = encoded_rows(rows, layer), None
            binary = layer.latent_in_unit_interval
    return stack
