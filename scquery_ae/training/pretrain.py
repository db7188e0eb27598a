"""Unsupervised training: rows of cells in, an encoder out."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from scquery_ae._checks import check_choice
from scquery_ae.encoder import ACTIVATIONS, DenseWeights, Encoder
from scquery_ae.loaders import CellRows


def pretrain_encoder(
    cells: CellRows, layer_sizes: Sequence[int], *, activation: str, code_activation: str, **settings: Any
) -> Encoder:
    """Train a stack of denoising autoencoders on `cells` and return its encoder.

    `settings` are those of :func:`scquery_ae.nn.pretrain_stack`.
    """
    from scquery_ae.nn import pretrain_stack

    check_choice("activation", activation, tuple(ACTIVATIONS))
    check_choice("code_activation", code_activation, tuple(ACTIVATIONS))
    stack = pretrain_stack(cells, layer_sizes, activation=activation, code_activation=code_activation, **settings)
    activations = [activation] * (len(stack.layers) - 1) + [code_activation]
    return Encoder(
        transform=cells.transform,
        layers=tuple(
            DenseWeights(kernel, bias, name) for (kernel, bias), name in zip(stack.weights, activations, strict=True)
        ),
        history={"pretrain": stack.history},
    )
