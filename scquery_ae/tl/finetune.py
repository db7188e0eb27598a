"""``tl.finetune``: supervised training on the labelled cells."""

from __future__ import annotations

from dataclasses import replace
from os import PathLike
from typing import TYPE_CHECKING, Any

import numpy as np

from scquery_ae._array_checks import check_margin
from scquery_ae._caller import argument
from scquery_ae._checks import check_flag, check_obs_key, check_slots, shown
from scquery_ae._docs import shared_parameters
from scquery_ae._errors import ArgumentError
from scquery_ae._logging import logger
from scquery_ae.encoder import Encoder
from scquery_ae.labels import batch_codes, label_codes, label_types
from scquery_ae.loaders import CellRows, open_training
from scquery_ae.tl._split import split_column
from scquery_ae.tl._write import write_results
from scquery_ae.training import FinetuneSettings, finetune_encoder, labels_to_drop, stratified_split

if TYPE_CHECKING:
    import pandas as pd
    from anndata import AnnData


@shared_parameters
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
    """Fine-tune a pretrained encoder, with a softmax classifier on top, on labelled cells.

    All layers are trained. Some labelled cells of each type are held out: early stopping monitors their loss, and
    :func:`scquery_ae.tl.build_reference` calibrates confidence on them.

    Parameters
    ----------
    adata
        Cells that the encoder was pretrained on, or other cells normalised with the same genes.
    encoder
        Encoder from :func:`scquery_ae.tl.pretrain`; changed in place.
    label_key
        Column of ``obs`` with the cell types. Cells with a missing label are ignored.
    batch_key
        Column of ``obs`` with the batches. Held-out cells of each type are spread over the batches, and
        `adversarial_weight` needs them.
    class_weight_power
        A cell of a type with n cells has the weight ``n ** -class_weight_power`` in the loss: 0 weights all cells
        equally, 1 all types.
    label_smoothing
        Fraction of each label that is spread over all types, in [0, 1).
    corruption_level
        Fraction of input values that are masked during training, in [0, 1).
    gene_masking
        Gene-panel dropout: half of the batches lose a fraction of the genes, drawn between 0 and this number, or from a
        range ``(low, high)``, in [0, 1). It prepares the encoder for queries with fewer genes.
    metric_loss
        Additional loss on the embedding: ``"triplet"`` (batch-hard) or ``"contrastive"`` (Siamese). Batches then hold
        the same number of cells of each of their types.
    metric_weight
        Weight of the metric loss, in (0, 1]; the classifier's loss has the rest. With 1, the metric loss alone shapes
        the embedding, and the classifier is trained on top of it.
    margin
        Margin of the metric loss, between embeddings of unit length: a number, or a table of types by types with a
        margin for each pair, such as the table that :meth:`scquery_ae.ontology.CellOntology.margins` returns.
    adversarial_weight
        Weight, at least 0, of an adversarial classifier that predicts the batch from the embedding, and whose gradient
        is reversed so that the embedding loses this information. 0 disables it. Try 0.2 to 0.5 first; much larger
        weights can leave the batch as predictable as before. Use it where batches hold the same types.
    dropout
        Fraction of hidden values that are dropped during training, in [0, 1).
    epochs, patience
        Largest number of epochs, and number of epochs without a lower loss on held-out cells after which training
        stops. The weights of the best epoch are kept.
    batch_size
        Cells per step. None uses 32 steps per epoch, with 32 to 128 cells per step.
    learning_rate
        Learning rate of the Adam optimiser.
    validation_fraction
        Fraction of the labelled cells that are held out, in [0, 1). A type always keeps one cell for training.
    label_issues
        What to do with label issues: labels that are less probable than another type by more than 0.3, as predicted
        by randomised trees that were fitted to other cells. ``"drop"`` treats these cells as unlabelled, and
        ``"keep"`` trains on all labels. ``"auto"`` drops label issues, with a warning, if there are so many that
        labels must have been mixed up; types that merely shade into each other do not have as many.
        :func:`scquery_ae.tl.audit` applies the same limit to the predictions of cross-fitted encoders, which take
        minutes instead of seconds.
    checkpoint
        Folder to keep the state in after each epoch. The same call with the same cells and encoder resumes from the
        last epoch, with the same result as an uninterrupted call.
    %(key_added)s
    random_state
        Seed of the split, the classifier's initial weights, the order of the cells and the noise.
    %(progress)s

    Returns
    -------
    None. Changes `encoder` (layers, classifier, discriminant, ``encoder.history["finetune"]``), and writes

    ``obs["scquery_split"]`` : categorical
        ``"train"`` or ``"validation"``, or ``"label_issue"`` for cells whose label was dropped; missing for cells
        without a label.

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
    Northcutt et al., Journal of Artificial Intelligence Research 70, 1373 (2021), on label issues.
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
            f"{argument('label_key', label_key)} must give at least two cell types. Received {len(types)} "
            f"({int(labelled.sum())} of {adata.n_obs} cells have a label); label more cells or name another column."
        )
        raise ArgumentError(msg)
    settings = replace(settings, margin=_margins(margin, types))
    batches = batch_codes(adata, batch_key)
    if settings.adversarial_weight and (batches is None or len(np.unique(batches[labelled])) < 2):
        msg = (
            f"{argument('adversarial_weight')} needs {argument('batch_key')} with at least two batches of labelled "
            f"cells. Received {batch_key!r}{'' if batches is None else ' with one'}; name the column of the batches."
        )
        raise ArgumentError(msg)
    rows = CellRows.read(cells, encoder.transform)
    label_issue = labels_to_drop(encoder, rows, codes, len(types), settings.label_issues, settings.random_state)
    codes[label_issue] = -1
    labelled &= ~label_issue
    settings = replace(settings, batch_size=settings.cells_per_step(int(labelled.sum())))
    held_out = np.zeros(adata.n_obs, dtype=bool)
    held_out[labelled] = stratified_split(
        codes[labelled],
        settings.validation_fraction,
        settings.random_state,
        None if batches is None else batches[labelled],
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
    """Return one margin, or a matrix with a margin for each pair of types in their order."""
    import pandas as pd

    values: Any = margin
    if isinstance(margin, pd.DataFrame):
        margin = margin.rename(index=str, columns=str)
        missing = [kind for kind in types if kind not in margin.index or kind not in margin.columns]
        if missing:
            msg = (
                f"`margin` needs a row and a column for each type. Received none for {shown(missing)}; "
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
