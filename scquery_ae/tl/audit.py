"""``tl.audit``: label issues among the cells of a reference."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from scquery_ae._checks import check_flag, check_integer
from scquery_ae._docs import shared_parameters
from scquery_ae._errors import ArgumentError
from scquery_ae._logging import logger
from scquery_ae.annotate import combine, fit_members
from scquery_ae.encoder import Encoder
from scquery_ae.labels import batch_codes, known_label_codes
from scquery_ae.loaders import CellRows, open_training
from scquery_ae.training import is_label_issue, make_folds, out_of_fold, with_components

if TYPE_CHECKING:
    import pandas as pd
    from anndata import AnnData


@shared_parameters
def audit(
    adata: AnnData,
    encoder: Encoder,
    *,
    label_key: str,
    batch_key: str | None = None,
    n_folds: int = 5,
    random_state: int = 0,
    progress: bool = True,
) -> pd.DataFrame:
    """Rank labelled cells by how improbable their label is to an encoder that has not seen it.

    Fine-tuning is repeated once per fold, and the classifier, neighbors and discriminant of the other folds predict the
    cells of each fold.

    Parameters
    ----------
    adata
        The cells that `encoder` was fine-tuned on; not changed.
    encoder
        From :func:`scquery_ae.tl.finetune`, in this session.
    label_key
        Column of ``obs`` with the cell types.
    batch_key
        Column of ``obs`` with the batches. Each batch then stays in one fold, and its labels are compared with
        predictions from the other batches.
    n_folds
        Number of folds, at least 2 and at most the number of batches.
    random_state
        Seed of the folds.
    %(progress)s

    Returns
    -------
    One row per labelled cell, the most probable label issue first: ``label``, ``suggested`` (the most probable type),
    ``p_label`` and ``p_suggested`` (calibrated probabilities), and ``is_label_issue``, whether ``p_suggested`` exceeds
    ``p_label`` by more than 0.3. :func:`scquery_ae.tl.finetune` applies the same limit to the predictions of randomised
    trees, which are faster to fit, so that the two can differ for labels close to the limit.

    Raises
    ------
    NotFittedError
        If `adata` was not normalised or `encoder` was not fine-tuned.
    MissingKeyError
        If a key is not a column of ``obs``.
    ArgumentError
        If an argument is out of its range, or a label is not among the encoder's types.

    References
    ----------
    Northcutt et al., Journal of Artificial Intelligence Research 70, 1373 (2021).
    """
    import pandas as pd

    check_integer("n_folds", n_folds, 2)
    check_flag("progress", progress)
    check_integer("random_state", random_state, 0)
    if not isinstance(encoder, Encoder):
        msg = f"`tl.audit` needs a fine-tuned encoder. Received {type(encoder).__name__}."
        raise ArgumentError(msg)
    types = encoder.fitted_classifier.types
    opened = open_training(adata, encoder.transform, "tl.audit")
    codes = known_label_codes(adata, label_key, types)
    if n_folds > (codes >= 0).sum():
        msg = f"`n_folds={n_folds}` is more than the {int((codes >= 0).sum())} labelled cells. Ask for fewer."
        raise ArgumentError(msg)
    batches = batch_codes(adata, batch_key)
    if batches is not None and batches.max() + 1 < n_folds:
        msg = f"`n_folds={n_folds}` is more than the {batches.max() + 1} batches of {batch_key!r}. Ask for fewer."
        raise ArgumentError(msg)
    folds = make_folds(codes, batches, n_folds, random_state)
    cells = CellRows.read(opened, encoder.transform)
    predicted = out_of_fold(with_components(encoder, cells), cells, codes, folds, batches, progress=progress)
    given = codes[predicted.rows]
    probabilities = combine(fit_members(predicted.members, given), predicted.members)
    best = probabilities.argmax(axis=1)
    everyone = np.arange(len(given))
    p_label, p_best = probabilities[everyone, given], probabilities[everyone, best]
    named = np.asarray(types, dtype=object)
    table = pd.DataFrame(
        {
            "label": named[given],
            "suggested": named[best],
            "p_label": p_label,
            "p_suggested": p_best,
            "is_label_issue": is_label_issue(p_label, p_best),
        },
        index=adata.obs_names[predicted.rows],
    )
    logger.info(
        "audited %d cells: %d label issues; returned a table, and wrote nothing into the AnnData",
        len(table),
        int(table["is_label_issue"].sum()),
    )
    return table.iloc[np.argsort(p_label - p_best, kind="stable")]
