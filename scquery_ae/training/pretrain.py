"""Unsupervised training of an encoder."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from scquery_ae._checks import check_choice
from scquery_ae.dense import ACTIVATIONS, DenseWeights
from scquery_ae.encoder import Encoder
from scquery_ae.gene_sets import GeneSetMask
from scquery_ae.loaders import CellRows
from scquery_ae.training.gene_panel_dropout import GenePanelDropout


def pretrain_encoder(
    cells: CellRows,
    layer_sizes: Sequence[int],
    *,
    activation: str | Sequence[str],
    latent_activation: str,
    gene_masking: tuple[float, float] = (0.0, 0.0),
    gene_sets: GeneSetMask | None = None,
    free_units: int = 0,
    **settings: Any,
) -> Encoder:
    """Train a stack of autoencoders on `cells` and return its encoder.

    Parameters
    ----------
    cells
        All cells, labelled or not.
    layer_sizes
        Widths of the layers. With `gene_sets`, widths of the layers above the layer of gene sets.
    activation, latent_activation
        Names of activations that the NumPy encoder has.
    gene_masking
        Smallest and largest fraction of genes hidden by gene-panel dropout in the first layer.
    gene_sets, free_units
        Gene sets of a first layer with one unit per set, and number of its further units, which see all genes.
    **settings
        Further arguments of :func:`scquery_ae.nn.pretrain_stack`.
    """
    import keras

    from scquery_ae.nn import COUNT_LOSSES, MaskedAutoencoder, get_corruption, get_loss, pretrain_stack

    hidden = list(activation) if isinstance(activation, list | tuple) else [activation]
    for name in hidden:
        check_choice("activation", name, tuple(ACTIVATIONS))
    check_choice("latent_activation", latent_activation, tuple(ACTIVATIONS))
    entries: list[Any] = list(layer_sizes)
    loss: Any = settings.get("loss", "squared_error")
    first_loss = loss[0] if isinstance(loss, list | tuple) and loss else loss
    if gene_sets is not None:
        entries.insert(
            0,
            MaskedAutoencoder(
                gene_sets.mask,
                gene_sets.names,
                free_units,
                activation=hidden[0] if hidden else None,
                output_activation=get_loss(first_loss)[1],
                kernel_initializer=keras.initializers.GlorotUniform(seed=settings.get("random_state", 0)),
                name="gene_sets",
            ),
        )
    if gene_masking[1]:
        noises = _by_layer(settings.get("corruption", "masking"), len(entries))
        levels = _by_layer(settings.get("corruption_level", 0.3), len(entries))
        if noises and levels:  # `pretrain_stack` refuses empty sequences
            first = get_corruption(noises[0], levels[0])
            panels = GenePanelDropout(cells.transform, gene_masking, then=first)
            settings["corruption"] = [panels, *noises[1:]]
    stack = pretrain_stack(
        cells,
        entries,
        counts=cells.counts() if isinstance(first_loss, str) and first_loss in COUNT_LOSSES else None,
        activation=activation,
        latent_activation=latent_activation,
        **settings,
    )
    layers = []
    for module in stack.layers:
        masked = isinstance(module, MaskedAutoencoder)
        for kernel, bias, name in module.dense_weights():
            mask, units = (module.full_mask, module.unit_names) if masked else (None, None)
            layers.append(DenseWeights(kernel, bias, name, mask, units))
    return Encoder(transform=cells.transform, layers=tuple(layers), history={"pretrain": stack.history})


def _by_layer(value: Any, n_layers: int) -> list[Any]:
    return list(value) if isinstance(value, list | tuple) else [value] * n_layers
