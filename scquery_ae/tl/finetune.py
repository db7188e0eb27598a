"""``tl.finetune``: supervised training on the labelled cells."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from scquery_ae._checks import check_integer, check_number, check_obs_key, check_rate, plain
from scquery_ae._errors import ArgumentError
from scquery_ae._logging import logger
from scquery_ae._slots import Slots
from scquery_ae.encoder import Encoder
from scquery_ae.labels import label_codes, label_types
from scquery_ae.loaders import CellRows, open_training
from scquery_ae.tl._write import write_results
from scquery_ae.training import finetune_encoder, stratified_split

if TYPE_CHECKING:
    import pandas as pd
    from anndata import AnnData


def finetune(
    adata: AnnData,
    encoder: Encoder,
    *,
    label_key: str,
    batch_key: str | None = None,
    class_weight_power: float = 0.5,
    label_smoothing: float = 0.1,
    corruption_level: float = 0.3,
    gene_masking: float = 0.5,
    dropout: float = 0.0,
    epochs: int = 30,
    patience: int = 5,
    batch_size: int = 128,
    learning_rate: float = 1e-3,
    validation_fraction: float = 0.1,
    key_added: str = "scquery",
    random_state: int = 0,
    progress: bool = True,
) -> None:
    """Train a pretrained encoder, with a softmax head on top, to tell cell types apart.

    All layers are trained. Some labelled cells of each type are held out: training stops by them, and
    :func:`scquery_ae.tl.build_reference` calibrates its confidence on them.

    Parameters
    ----------
    adata
        The cells that the encoder was pretrained on, or others normalised with the same genes.
    encoder
        From :func:`scquery_ae.tl.pretrain`; trained in place.
    label_key
        Column of ``obs`` with the cell types. Cells with a missing label are passed over.
    batch_key
        Column of ``obs`` with the batches; held-out cells of each type are spread over them.
    class_weight_power
        A type with n cells weighs ``n ** -class_weight_power`` a cell in the loss: 0 follows the
        frequencies, 1 gives all types equal weight.
    label_smoothing
        Share of each label that is spread over all types, in [0, 1).
    corruption_level
        Share of input values masked while training, in [0, 1).
    gene_masking
        In half of the batches, a share of the genes drawn from 0 to this, in [0, 1), is missing for the whole
        batch, so that a query with fewer genes is nothing new.
    dropout
        Share of hidden values dropped while training, in [0, 1).
    epochs, patience
        Most epochs, and epochs without a lower loss on the held-out cells before training stops; the
        weights of the best epoch are kept.
    batch_size, learning_rate
        Of the Adam optimiser.
    validation_fraction
        Share of the labelled cells held out, in [0, 1). A type never loses its last cell.
    key_added
        Prefix of the slot written.
    random_state
        Seed of the split, the head's weights, the order and the noise.
    progress
        Show a progress bar on a terminal or in a notebook.

    Returns
    -------
    None. Changes `encoder` (layers, head, ``encoder.history["finetune"]``), and writes

    ``obs["scquery_split"]`` : categorical
        ``"train"`` or ``"validation"``, missing for cells without a label.

    Raises
    ------
    MissingKeyError
        If `label_key` or `batch_key` is not a column of ``obs``.
    NotFittedError
        If `adata` was not normalised.
    ArgumentError
        If fewer than two types are labelled, or an argument is out of its range.

    References
    ----------
    Alavi et al., Nature Communications 9, 4768 (2018).
    """
    check_rate("label_smoothing", label_smoothing)
    check_rate("corruption_level", corruption_level)
    check_rate("gene_masking", gene_masking)
    check_rate("dropout", dropout)
    check_rate("validation_fraction", validation_fraction)
    check_number("class_weight_power", class_weight_power, 0, 1)
    check_number("learning_rate", learning_rate, 0, np.inf, closed="neither")
    for name, number in (("epochs", epochs), ("patience", patience), ("batch_size", batch_size)):
        check_integer(name, number)
    check_integer("random_state", random_state, 0)
    if not isinstance(encoder, Encoder):
        msg = f"`tl.finetune` needs the encoder of `sq.tl.pretrain`. Received {type(encoder).__name__}."
        raise ArgumentError(msg)
    cells = open_training(adata, encoder.transform, "tl.finetune")
    labels = check_obs_key(adata, label_key, "label_key")
    types = label_types(labels)
    codes = label_codes(labels, types)
    labelled = codes >= 0
    if len(types) < 2:
        msg = (
            f"`label_key={label_key!r}` must give at least two cell types. Received {len(types)} "
            f"({int(labelled.sum())} of {adata.n_obs} cells have a label); label more cells or name another column."
        )
        raise ArgumentError(msg)
    batches = None
    if batch_key is not None:
        batches = np.array([str(batch) for batch in check_obs_key(adata, batch_key, "batch_key")])[labelled]
    held_out = np.zeros(adata.n_obs, dtype=bool)
    held_out[labelled] = stratified_split(codes[labelled], validation_fraction, random_state, batches)

    settings = plain(
        {
            "class_weight_power": class_weight_power,
            "label_smoothing": label_smoothing,
            "corruption_level": corruption_level,
            "gene_masking": gene_masking,
            "dropout": dropout,
            "epochs": epochs,
            "patience": patience,
            "batch_size": batch_size,
            "learning_rate": learning_rate,
            "random_state": random_state,
        }
    )
    result = finetune_encoder(
        encoder,
        CellRows.read(cells, encoder.transform),
        codes,
        held_out,
        types,
        progress=progress,
        **settings,
    )
    encoder.layers, encoder.head = result.layers, result.head
    encoder.history["finetune"] = result.history
    split = plain({"label_key": label_key, "batch_key": batch_key, "validation_fraction": validation_fraction})
    encoder.parameters["finetune"] = {**split, **settings}
    slot = Slots(key_added).split
    write_results(adata, obs={slot: _split_column(labelled, held_out, adata.obs_names)})
    logger.info("fine-tuned %r on %d of %d cells; wrote obs[%r]", encoder, labelled.sum(), adata.n_obs, slot)


def _split_column(labelled: np.ndarray, held_out: np.ndarray, index: pd.Index) -> pd.Series:
    import pandas as pd

    codes = np.where(labelled, held_out.astype(int), -1)
    return pd.Series(pd.Categorical.from_codes(codes, categories=pd.Index(["train", "validation"])), index=index)
