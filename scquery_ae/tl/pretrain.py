"""``tl.pretrain``: unsupervised training on all cells."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from scquery_ae._checks import check_layer_sizes, plain
from scquery_ae._logging import logger
from scquery_ae.encoder import Encoder
from scquery_ae.loaders import CellRows, fitted_transform, open_training
from scquery_ae.training import pretrain_encoder

if TYPE_CHECKING:
    from anndata import AnnData


def pretrain(
    adata: AnnData,
    *,
    layer_sizes: Sequence[int] = (512, 64),
    activation: str = "relu",
    code_activation: str = "linear",
    corruption: str = "masking",
    corruption_level: float = 0.3,
    epochs: int = 15,
    patience: int = 3,
    batch_size: int = 128,
    learning_rate: float = 1e-3,
    validation_fraction: float = 0.1,
    random_state: int = 0,
    progress: bool = True,
) -> Encoder:
    """Pretrain a stack of tied-weight denoising autoencoders, layer by layer, on all cells.

    Labels are not looked at. Each layer learns to restore the clean encodings of the layer below from a
    corrupted version of them, with fresh noise in every epoch.

    Parameters
    ----------
    adata
        Cells after :func:`scquery_ae.pp.normalize`, ``(n_obs, n_vars)``; left as it is.
    layer_sizes
        Widths of the layers from the input inwards; the last is that of the embedding.
    activation, code_activation
        Of the hidden layers, and of the last, whose output is the embedding: ``"relu"``, ``"elu"``, ``"selu"``,
        ``"tanh"``, ``"sigmoid"`` or ``"linear"``.
    corruption
        ``"masking"`` sets values to zero, ``"gaussian"`` adds noise, ``"none"`` makes plain autoencoders.
    corruption_level
        Share of masked values, in [0, 1), or the standard deviation of Gaussian noise.
    epochs, patience
        Most epochs a layer, and epochs without a lower denoising loss on held-out cells before it stops.
    batch_size, learning_rate
        Of the Adam optimiser.
    validation_fraction
        Share of the cells held out to stop by, in [0, 1); 0 trains for all `epochs`.
    random_state
        Seed. The same seed on the same machine gives the same encoder.
    progress
        Show a progress bar on a terminal or in a notebook.

    Returns
    -------
    An encoder, ready for :func:`scquery_ae.tl.finetune`; its losses are in ``encoder.history["pretrain"]``.

    Raises
    ------
    NotFittedError
        If `adata` was not normalised.
    ArgumentError
        If an argument is out of its range.

    References
    ----------
    Vincent et al., Journal of Machine Learning Research 11, 3371 (2010).
    Alavi et al., Nature Communications 9, 4768 (2018).
    """
    sizes = check_layer_sizes(layer_sizes)
    transform = fitted_transform(adata, "tl.pretrain")
    cells = CellRows.read(open_training(adata, transform, "tl.pretrain"), transform)
    settings = plain(
        {
            "activation": activation,
            "code_activation": code_activation,
            "corruption": corruption,
            "corruption_level": corruption_level,
            "epochs": epochs,
            "patience": patience,
            "batch_size": batch_size,
            "learning_rate": learning_rate,
            "validation_fraction": validation_fraction,
            "random_state": random_state,
        }
    )
    encoder = pretrain_encoder(cells, sizes, progress=progress, **settings)
    encoder.parameters["pretrain"] = {"layer_sizes": list(sizes), **settings}
    logger.info("pretrained %r on %d cells", encoder, adata.n_obs)
    return encoder
