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
from scquery_ae._docs import shared_parameters
from scquery_ae._errors import ArgumentError, warn
from scquery_ae._logging import logger
from scquery_ae.encoder import Encoder
from scquery_ae.gene_sets import GeneSetMask, gene_set_mask, read_gmt
from scquery_ae.loaders import CellRows, fitted_transform, open_training
from scquery_ae.training import MOST_PRETRAINING, default_batch_size, pretrain_encoder, principal_components

if TYPE_CHECKING:
    from anndata import AnnData

    from scquery_ae.nn import Corruption

#: Cells per step above which the default learning rate grows.
USUAL_BATCH = 128


@shared_parameters
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
    """Pretrain a stack of tied-weight denoising autoencoders on all cells, layer by layer.

    Labels are not used. Each layer learns to reconstruct the clean encodings of the layer below from a corrupted
    version of them, with fresh noise in every epoch. Arguments that may be a sequence take one value for all layers, or
    one value per layer.

    Parameters
    ----------
    adata
        Cells after :func:`scquery_ae.pp.normalize`, ``(n_obs, n_vars)``; not changed.
    layer_sizes
        Widths of the layers from the input inwards. The last is the width of the embedding.
    module
        ``"tied"`` or ``"untied"`` autoencoders, or ``"rbm"``, restricted Boltzmann machines with Gaussian visible
        units. Two baselines are not trained: ``"pca"`` uses principal components, ``"random"`` random weights.
    activation, latent_activation
        Activation of the hidden layers, and of the last layer, whose output is the embedding: ``"relu"``, ``"elu"``,
        ``"selu"``, ``"tanh"``, ``"sigmoid"`` or ``"linear"``.
    loss
        ``"squared_error"`` of log-normalised values, or, in the first layer, a likelihood of the counts given the
        library size of the cell, ``"poisson"`` or ``"negative_binomial"``. ``"cross_entropy"`` is for layers above
        sigmoid layers.
    corruption
        ``"masking"`` sets values to zero, ``"gaussian"`` adds noise, ``"salt_and_pepper"`` sets values to the lowest or
        highest value of the gene, ``"none"`` trains plain autoencoders.
    corruption_level
        Fraction of corrupted values, in [0, 1), or the standard deviation of Gaussian noise.
    gene_masking
        Gene-panel dropout, for autoencoders: half of the batches of the first layer lose a fraction of the genes, drawn
        between 0 and this number, or from a range ``(low, high)``, in [0, 1).
    corrupted_weight, uncorrupted_weight
        Weights in the loss of corrupted and of uncorrupted values.
    gene_sets
        A GMT file, or the genes of each gene set by name. The first layer then has one unit for each set with at least
        three model genes, which is connected to the genes of the set only, in fine-tuning too. `layer_sizes` are the
        widths of the layers above it.
    free_units
        Number of further units in the layer of gene sets, which are connected to all genes.
    epochs, patience
        Largest number of epochs per layer, and number of epochs without a lower denoising loss on held-out cells after
        which its training stops.
    batch_size
        Cells per step. None uses 32 steps per epoch, with 32 to 512 cells per step.
    learning_rate
        Learning rate of the Adam optimiser. None uses 0.001, times the square root of ``batch_size / 128`` for larger
        batches.
    validation_fraction
        Fraction of the cells that are held out for early stopping, in [0, 1). 0 trains for all `epochs`.
    checkpoint
        Folder to keep the state in after each epoch. The same call on the same cells resumes from the last epoch, with
        the same result as an uninterrupted call.
    random_state
        Random seed. The same seed on the same machine gives the same encoder.
    %(progress)s

    Returns
    -------
    An encoder for :func:`scquery_ae.tl.finetune`. Its losses are in ``encoder.history["pretrain"]``. With gene sets,
    ``encoder.layers[0].units`` holds the names of the units.

    Raises
    ------
    NotFittedError
        If `adata` was not normalised.
    ArgumentError
        If an argument is out of its range, or loss, activation and data are not compatible.
    GeneOverlapError
        If no gene set has three model genes.
    MissingKeyError
        If the file of gene sets does not exist.

    Warns
    -----
    ScqueryWarning
        If gene sets are left out because they have too few model genes.

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
    """Return the default learning rate for a batch size, or for one batch size per layer.

    The gradient of a larger batch is less noisy, so that a larger step can be taken.
    """
    if is_several(batch_size):
        return [float(np.max(_learning_rate(size))) for size in batch_size]
    # Other values are refused later, by the check of `batch_size`.
    size = batch_size if is_integer(batch_size) else USUAL_BATCH
    return float(1e-3 * max(size / USUAL_BATCH, 1.0) ** 0.5)


def _read_sets(gene_sets: object, genes: np.ndarray, free_units: int) -> GeneSetMask | None:
    """Return the gene sets over the model genes, or None without gene sets."""
    if gene_sets is None:
        if free_units:
            msg = (
                f"`free_units` needs `gene_sets`. Received free_units={free_units} without gene sets; pass "
                "`gene_sets`, or leave `free_units` out."
            )
            raise ArgumentError(msg)
        return None
    if isinstance(gene_sets, str | PathLike):
        gene_sets = read_gmt(gene_sets)
    if not isinstance(gene_sets, Mapping):
        msg = (
            "`gene_sets` must be the path of a GMT file, or a mapping from names of gene sets to their genes. "
            f"Received {type(gene_sets).__name__}."
        )
        raise ArgumentError(msg)
    sets = gene_set_mask(gene_sets, genes)
    if sets.dropped:
        warn(f"{len(sets.dropped)} of {len(gene_sets)} gene sets have fewer than three model genes and are left out.")
    return sets
