"""``tl.finetune``: supervised training on the labelled cells."""

from __future__ import annotations

from dataclasses import replace
from os import PathLike
from typing import TYPE_CHECKING, Any

import numpy as np

from scquery_ae._array_checks import check_margin
from scquery_ae._checks import check_flag, check_obs_key, check_slots, shown
from scquery_ae._errors import ArgumentError
from scquery_ae._logging import logger
from scquery_ae.encoder import Encoder
from scquery_ae.labels import label_codes, label_types
from scquery_ae.loaders import CellRows, open_training
from scquery_ae.tl._labels import batch_codes, label_issues_to_drop, split_column
from scquery_ae.tl._write import write_results
from scquery_ae.training import FinetuneSettings, finetune_encoder, stratified_split

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
    gene_masking: float | tuple[float, float] = 0.5,
    metric_loss: str | None = None,
    metric_weight: float = 0.5,
    margin: float | pd.DataFrame = 0.5,
    adversarial_weight: float = 0.0,
    dropout: float = 0.0,
    epochs: int = 30,
    patience: int = 5,
    batch_size: int | None = None,
    learning_rate: float = 1e-3,
    validation_fraction: float = 0.1,
    label_issues: str = "auto",
    checkpoint: str | PathLike[str] | None = None,
    key_added: str = "scquery",
    random_state: int = 0,
    progress: bool = True,
) -> None:
    """Train a pretrained encoder, with a softmax classifier on top, to tell cell types apart.

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
        Column of ``obs`` with the batches; held-out cells of each type are spread over them, and
        `adversarial_weight` needs it.
    class_weight_power
        A type with n cells weighs ``n ** -class_weight_power`` a cell in the loss: 0 follows the
        frequencies, 1 gives all types equal weight.
    label_smoothing
        Share of each label that is spread over all types, in [0, 1).
    corruption_level
        Share of input values masked while training, in [0, 1).
    gene_masking
        In half of the batches, a share of the genes drawn from 0 to this, or from a range ``(low, high)`` in [0, 1), is
        missing for the whole batch, so that a query with fewer genes is nothing new.
    metric_loss
        A loss on the embedding beside the classifier's: ``"triplet"`` (batch-hard) or ``"contrastive"`` (Siamese). Batches then
        hold equally many cells of each of their types.
    metric_weight
        Weight of the metric loss, in (0, 1], the classifier's loss having the rest. With 1 the metric loss alone shapes the
        code, and the classifier learns to read it.
    margin
        Of the metric loss, between embeddings of length one: a number, or a table of types by types with one for each pair,
        such as that of :meth:`scquery_ae.ontology.CellOntology.margins`.
    adversarial_weight
        Strength, at least 0, of a second classifier that learns to tell the batches of `batch_key` from the embedding, and whose
        gradient is turned round so that the embedding unlearns it; 0 for none. Try .2 to .5 first: much stronger
        ones can leave the batch as readable as it was. Good where batches hold the same types.
    dropout
        Share of hidden values dropped while training, in [0, 1).
    epochs, patience
        Most epochs, and epochs without a lower loss on the held-out cells before training stops; the
        weights of the best epoch are kept.
    batch_size
        Cells in a step; None for what makes 32 steps an epoch, but 32 at least and 128 at most.
    learning_rate
        Of the Adam optimiser.
    validation_fraction
        Share of the labelled cells held out, in [0, 1). A type never loses its last cell.
    label_issues
        What to do with label issues, those that trees on principal components hold for clearly less probable than
        another, taught by other cells. ``"drop"``: the cells count as unlabelled. ``"keep"``: learn from
        all. ``"auto"``: drop them where so many labels are absurd that labels must have been mixed up, as they are not
        where types merely shade into each other; a warning says so.
    checkpoint
        Folder that keeps the state after each epoch. The same call with the same cells and encoder goes on from the
        last of them, to the same result as a call that was not interrupted.
    key_added
        Prefix of the slot written.
    random_state
        Seed of the split, the classifier's weights, the order and the noise.
    progress
        Show a progress bar on a terminal or in a notebook.

    Returns
    -------
    None. Changes `encoder` (layers, classifier, discriminant, ``encoder.history["finetune"]``), and writes

    ``obs["scquery_split"]`` : categorical
        ``"train"`` or ``"validation"``; ``"label_issue"`` for cells whose label was dropped; missing for cells without one.

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
    Northcutt et al., Journal of Artificial Intelligence Research 70, 1373 (2021), on wrong labels.
    """
    slot = check_slots(key_added).split
    check_flag("progress", progress)
    settings = FinetuneSettings(
        class_weight_power=class_weight_power,
        label_smoothing=label_smoothing,
        corruption_level=corruption_level,
        gene_masking=gene_masking,  # type: ignore[arg-type]  # a single number becomes a pair
        metric_loss=metric_loss,
        metric_weight=metric_weight,
        adversarial_weight=adversarial_weight,
        dropout=dropout,
        epochs=epochs,
        patience=patience,
        batch_size=batch_size,
        learning_rate=learning_rate,
        validation_fraction=validation_fraction,
        label_issues=label_issues,
        random_state=random_state,
    )
    if not isinstance(encoder, Encoder):
        msg = f"`tl.finetune` needs the encoder of `scq.tl.pretrain`. Received {type(encoder).__name__}."
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
    settings = replace(settings, margin=_margins(margin, types))
    batches = batch_codes(adata, batch_key)
    if adversarial_weight and (batches is None or len(np.unique(batches[labelled])) < 2):
        msg = (
            "`adversarial_weight` needs a `batch_key` with at least two batches of labelled cells. "
            f"Received {batch_key!r}{'' if batches is None else ' with one'}; name the column of the batches."
        )
        raise ArgumentError(msg)
    rows = CellRows.read(cells, encoder.transform)
    label_issue = np.zeros(adata.n_obs, dtype=bool)
    if label_issues != "keep":
        label_issue = label_issues_to_drop(encoder, rows, codes, len(types), label_issues, random_state)
        codes[label_issue] = -1
        labelled &= ~label_issue
    settings = replace(settings, batch_size=settings.cells_per_step(int(labelled.sum())))
    held_out = np.zeros(adata.n_obs, dtype=bool)
    held_out[labelled] = stratified_split(
        codes[labelled], validation_fraction, random_state, None if batches is None else batches[labelled]
    )
    result = finetune_encoder(
        encoder, rows, codes, held_out, types, settings, batches=batches, checkpoint=checkpoint, progress=progress
    )
    if encoder.pretrained is None:
        encoder.pretrained = encoder.layers
    encoder.layers, encoder.classifier, encoder.discriminant = result.layers, result.classifier, result.discriminant
    encoder.history["finetune"] = result.history
    encoder.parameters["finetune"] = {"label_key": label_key, "batch_key": batch_key, **settings.to_parameters()}
    written = write_results(adata, obs={slot: split_column(labelled, held_out, label_issue, adata.obs_names)})
    logger.info(
        "fine-tuned %r on %d of %d cells; wrote %s, and the encoder's layers, classifier, discriminant and "
        "history['finetune']",
        encoder,
        labelled.sum(),
        adata.n_obs,
        written,
    )


def _margins(margin: float | pd.DataFrame, types: tuple[str, ...]) -> np.ndarray:
    """Return one margin, or one for each pair of types in their order."""
    import pandas as pd

    values: Any = margin
    if isinstance(margin, pd.DataFrame):
        margin = margin.rename(index=str, columns=str)
        lacking = [kind for kind in types if kind not in margin.index or kind not in margin.columns]
        if lacking:
            msg = (
                f"`margin` needs a row and a column for each type. Received none for {shown(lacking)}; "
                "add them, or give one number."
            )
            raise ArgumentError(msg)
        values = margin.loc[list(types), list(types)].to_numpy()
    margins = check_margin(values)
    if margins.ndim == 2 and len(margins) != len(types):
        msg = (
            f"`margin` must have a row and a column for each of the {len(types)} types. Received {margins.shape}; "
            "give a table with their names, or one number."
        )
        raise ArgumentError(msg)
    return margins
