"""``tl.pretrain``: unsupervised training on all cells."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from os import PathLike
from typing import TYPE_CHECKING, Any

import numpy as np

from scquery_ae._checks import (
    check_flag,
    check_fraction_range,
    check_integer,
    check_layer_sizes,
    described,
    is_integer,
    is_several,
    plain,
)
from scquery_ae._errors import ArgumentError, warn
from scquery_ae._logging import logger
from scquery_ae.encoder import Encoder
from scquery_ae.gene_sets import GeneSetMask, gene_set_mask, read_gmt
from scquery_ae.loaders import CellRows, fitted_transform, open_training
from scquery_ae.training import MOST_PRETRAINING, default_batch_size, pretrain_encoder, principal_components

if TYPE_CHECKING:
    from anndata import AnnData

    from scquery_ae.nn import Corruption

#: Cells in a step above which the learning rate grows.
USUAL_BATCH = 128


def pretrain(
    adata: AnnData,
    *,
    layer_sizes: Sequence[int] = (512, 64),
    module: str | Sequence[str] = "tied",
    activation: str | Sequence[str] = "relu",
    latent_activation: str = "linear",
    loss: str | Sequence[str] = "squared_error",
    corruption: str | Corruption | Sequence[str | Corruption] = "masking",
    corruption_level: float | Sequence[float] = 0.3,
    gene_masking: float | tuple[float, float] = 0.0,
    corrupted_weight: float | Sequence[float] = 1.0,
    uncorrupted_weight: float | Sequence[float] = 1.0,
    gene_sets: str | PathLike[str] | Mapping[str, Sequence[str]] | None = None,
    free_units: int = 0,
    epochs: int | Sequence[int] = 15,
    patience: int | Sequence[int] = 3,
    batch_size: int | Sequence[int] | None = None,
    learning_rate: float | Sequence[float] | None = None,
    validation_fraction: float = 0.1,
    checkpoint: str | PathLike[str] | None = None,
    random_state: int = 0,
    progress: bool = True,
) -> Encoder:
    """Pretrain a stack of tied-weight denoising autoencoders, layer by layer, on all cells.

    Labels are not looked at. Each layer learns to restore the clean encodings of the layer below from a
    corrupted version of them, with fresh noise in every epoch. Arguments that may be a sequence take one value for all
    layers, or one a layer.

    Parameters
    ----------
    adata
        Cells after :func:`scquery_ae.pp.normalize`, ``(n_obs, n_vars)``; left as it is.
    layer_sizes
        Widths of the layers from the input inwards; the last is that of the embedding.
    module
        ``"tied"`` autoencoders, ``"untied"`` ones, or ``"rbm"``, restricted Boltzmann machines with Gaussian visible
        units.
        To compare with, without training: ``"pca"`` starts from principal components, ``"random"`` from random weights.
    activation, latent_activation
        Of the hidden layers, and of the last, whose output is the embedding: ``"relu"``, ``"elu"``, ``"selu"``,
        ``"tanh"``, ``"sigmoid"`` or ``"linear"``.
    loss
        ``"squared_error"`` of log-normalised values, or a likelihood of the counts given the cell's library size,
        ``"poisson"`` or ``"negative_binomial"``, in the first layer. ``"cross_entropy"`` is for layers upon
        sigmoid ones.
    corruption
        ``"masking"`` sets values to zero, ``"gaussian"`` adds noise, ``"salt_and_pepper"`` sets values to the lowest or
        highest of the gene, ``"none"`` makes plain autoencoders.
    corruption_level
        Share of corrupted values, in [0, 1), or the standard deviation of Gaussian noise.
    gene_masking
        In half of the first layer's batches, a share of the genes drawn from 0 to this, or from a range ``(low, high)``
        in [0, 1), is missing for the whole batch. For autoencoders.
    corrupted_weight, uncorrupted_weight
        Weights in the loss of the values that the noise changed, and of those that it did not.
    gene_sets
        A GMT file, or gene sets by name: the first layer gets one unit for each set of at least three model genes,
        which sees the genes of the set alone, in fine-tuning too. `layer_sizes` are then the layers above it.
    free_units
        Units beside those of the gene sets that see all genes.
    epochs, patience
        Most epochs a layer, and epochs without a lower denoising loss on held-out cells before it stops.
    batch_size
        Cells in a step; None for what makes 32 steps an epoch, but 32 at least and 512 at most.
    learning_rate
        Of the Adam optimiser; None for 0.001, and from batches of 128 on more with the root of their size.
    validation_fraction
        Share of the cells held out to stop by, in [0, 1); 0 trains for all `epochs`.
    checkpoint
        Folder that keeps the state after each epoch. The same call on the same cells goes on from the last of them, to
        the same result as a call that was not interrupted.
    random_state
        Seed. The same seed on the same machine gives the same encoder.
    progress
        Show a progress bar on a terminal or in a notebook.

    Returns
    -------
    An encoder, ready for :func:`scquery_ae.tl.finetune`; its losses are in ``encoder.history["pretrain"]``. With gene
    sets, ``encoder.layers[0].units`` names the units.

    Raises
    ------
    NotFittedError
        If `adata` was not normalised.
    ArgumentError
        If an argument is out of its range, or loss, activation and data do not go together.
    GeneOverlapError
        If no gene set holds three of the model genes.
    MissingKeyError
        If there is no file of gene sets at the path.

    Warns
    -----
    ScqueryWarning
        If gene sets are left out because they hold too few model genes.

    References
    ----------
    Vincent et al., Journal of Machine Learning Research 11, 3371 (2010).
    Alavi et al., Nature Communications 9, 4768 (2018).
    Lopez et al., Nature Methods 15, 1053 (2018), on likelihoods of counts.
    """
    sizes = check_layer_sizes(layer_sizes)
    fractions = check_fraction_range("gene_masking", gene_masking)
    check_integer("free_units", free_units, 0)
    check_flag("progress", progress)
    transform = fitted_transform(adata, "tl.pretrain")
    sets = _read_sets(gene_sets, transform.genes, free_units)
    cells = CellRows.read(open_training(adata, transform, "tl.pretrain"), transform)
    if batch_size is None:
        batch_size = default_batch_size(adata.n_obs, MOST_PRETRAINING)
    if learning_rate is None:
        learning_rate = _learning_rate(batch_size)
    settings = plain(
        {
            "module": module,
            "activation": activation,
            "latent_activation": latent_activation,
            "loss": loss,
            "corruption": corruption,
            "corruption_level": corruption_level,
            "corrupted_weight": corrupted_weight,
            "uncorrupted_weight": uncorrupted_weight,
            "epochs": epochs,
            "patience": patience,
            "batch_size": batch_size,
            "learning_rate": learning_rate,
            "validation_fraction": validation_fraction,
            "random_state": random_state,
        }
    )
    encoder = pretrain_encoder(
        cells,
        sizes,
        gene_sets=sets,
        free_units=free_units,
        gene_masking=fractions,
        checkpoint=checkpoint,
        progress=progress,
        **settings,
    )
    encoder.components = principal_components(cells.logged)
    encoder.parameters["pretrain"] = {
        "layer_sizes": list(sizes),
        **described(settings),
        "gene_masking": list(fractions),
        "n_gene_sets": len(sets.names) if sets else 0,
        "free_units": free_units,
    }
    logger.info(
        "pretrained %r on %d cells; wrote history['pretrain'] of the encoder that is returned, and nothing into the "
        "AnnData",
        encoder,
        adata.n_obs,
    )
    return encoder


def _learning_rate(batch_size: Any) -> float | list[float]:
    """Return a rate for batches of a size, or of several: averaged over more cells, a step may be longer."""
    if is_several(batch_size):
        return [float(np.max(_learning_rate(size))) for size in batch_size]
    # What is no size is refused later, in its own words.
    size = batch_size if is_integer(batch_size) else USUAL_BATCH
    return float(1e-3 * max(size / USUAL_BATCH, 1.0) ** 0.5)


def _read_sets(gene_sets: object, genes: np.ndarray, free_units: int) -> GeneSetMask | None:
    """Return gene sets over the model genes, or None without any."""
    if gene_sets is None:
        if free_units:
            msg = f"`free_units` stand beside units of gene sets. Received free_units={free_units} without `gene_sets`."
            raise ArgumentError(msg)
        return None
    if isinstance(gene_sets, str | PathLike):
        gene_sets = read_gmt(gene_sets)
    if not isinstance(gene_sets, Mapping):
        msg = (
            "`gene_sets` must be the path of a GMT file, or a mapping from names to genes. "
            f"Received {type(gene_sets).__name__}."
        )
        raise ArgumentError(msg)
    sets = gene_set_mask(gene_sets, genes)
    if sets.dropped:
        warn(f"{len(sets.dropped)} of {len(gene_sets)} gene sets hold fewer than three model genes and are left out.")
    return sets
