"""Checks that layers, losses, noise and data are compatible, before any training."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import keras
import numpy as np

from scquery_ae._caller import argument
from scquery_ae._errors import ArgumentError, warn
from scquery_ae.nn.autoencoder import Autoencoder
from scquery_ae.nn.layer_settings import LayerSettings
from scquery_ae.nn.losses import COUNT_LOSSES, get_loss
from scquery_ae.nn.rows import Rows, as_rows, chunks


def check_chain(entries: Sequence[int | Autoencoder], settings: Sequence[LayerSettings], width: int) -> None:
    """Raise or warn if layers, losses and noise are not compatible."""
    inside_unit = False
    for depth, (entry, own) in enumerate(zip(entries, settings, strict=True)):
        machine = entry.owns_loss if isinstance(entry, Autoencoder) else own.module == "rbm"
        if machine and own.loss in COUNT_LOSSES:
            msg = (
                f"`loss={own.loss!r}` is a loss of autoencoders, but layer {depth + 1} is a Boltzmann machine, which "
                'has its own loss. Leave `loss` out, or use `module="tied"`.'
            )
            raise ArgumentError(msg)
        if depth and own.loss in COUNT_LOSSES:
            msg = (
                f"`loss={own.loss!r}` is a likelihood of counts, which only the first layer reconstructs. Received it "
                f'for layer {depth + 1}; pass one loss per layer, such as `loss=("{own.loss}", "squared_error")`.'
            )
            raise ArgumentError(msg)
        if depth and own.loss == "cross_entropy" and not (inside_unit or machine):
            msg = (
                f'`loss="cross_entropy"` needs values in [0, 1], but layer {depth + 1} reconstructs values in another '
                'range. Use `activation="sigmoid"` in the layer below, or `loss="squared_error"` here.'
            )
            raise ArgumentError(msg)
        if isinstance(entry, Autoencoder) and not entry.owns_loss:
            _check_output(entry, own, depth)
        units = entry if isinstance(entry, int) else None
        if units is not None and own.module in ("tied", "untied") and own.corruption == "none" and units >= width > 0:
            warn(
                f"Layer {depth + 1} is at least as wide as its input ({units} units, {width} features) and has no "
                f"corruption: it can copy its input. Use a smaller layer, or {argument('corruption', 'masking')}."
            )
        if isinstance(entry, Autoencoder):
            inside_unit, width = entry.latent_in_unit_interval, 0
        else:
            inside_unit, width = own.module == "rbm" or own.activation == "sigmoid", entry


def check_counts(counts: Any, loss: str, rows: Rows) -> Rows | None:
    """Return the rows of `counts` for a likelihood of counts, or None for other losses."""
    if loss not in COUNT_LOSSES:
        if counts is not None:
            msg = (
                f'`counts` needs a likelihood of counts. Received `loss="{loss}"`; use "poisson" or '
                '"negative_binomial", or leave `counts` out.'
            )
            raise ArgumentError(msg)
        return None
    shape = None if counts is None else tuple(getattr(counts, "shape", np.shape(counts)))
    if shape != rows.shape:
        msg = f"`loss={loss!r}` needs `counts` with the shape of `x`, {rows.shape}. Received {shape}; pass `counts=`."
        raise ArgumentError(msg)
    read = as_rows(counts)
    for chunk in chunks(read):
        if chunk.size and not (np.isfinite(chunk).all() and chunk.min() >= 0):
            msg = "`counts` must be finite and not negative. Received other values; pass raw counts."
            raise ArgumentError(msg)
    return read


def check_range(entry: int | Autoencoder, own: LayerSettings, rows: Rows) -> bool:
    """Return whether the first layer models values in [0, 1]; raise if it needs such values and there are others."""
    given = isinstance(entry, Autoencoder)
    machine = entry.owns_loss if isinstance(entry, Autoencoder) else own.module == "rbm"
    wanted = ""
    if machine and getattr(entry, "visible", "") == "bernoulli":
        wanted, fix = "A Boltzmann machine with Bernoulli visible units", '`visible="gaussian"`'
    elif not machine and get_loss(own.loss, own.output_activation)[1] == "sigmoid":
        wanted = f"`loss={own.loss!r}`" if own.loss == "cross_entropy" else '`output_activation="sigmoid"`'
        fix = '`loss="squared_error"` with a linear reconstruction'
    if not wanted and (given or not machine):
        return False
    low = high = 0.0
    for chunk in chunks(rows):
        low, high = min(low, float(chunk.min())), max(high, float(chunk.max()))
    inside = low >= 0 and high <= 1
    if wanted and not inside:
        msg = f"{wanted} needs data in [0, 1]. Received values from {low:.4g} to {high:.4g}; scale them or use {fix}."
        raise ArgumentError(msg)
    return inside


def _check_output(layer: Autoencoder, own: LayerSettings, depth: int) -> None:
    given = keras.activations.serialize(getattr(layer, "output_activation", keras.activations.linear))
    wanted = get_loss(own.loss, own.output_activation)[1]
    if given != wanted and (own.loss != "squared_error" or own.output_activation is not None):
        msg = (
            f"`loss={own.loss!r}` needs a {wanted} reconstruction, but layer {depth + 1} ({layer.name!r}) has "
            f"`output_activation={given!r}`. Make the layer with `output_activation={wanted!r}`, or change the loss."
        )
        raise ArgumentError(msg)
