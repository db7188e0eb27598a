"""``tl.audit``: cells whose labels their neighbors do not believe."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from scquery_ae._checks import check_flag, check_integer
from scquery_ae._errors import ArgumentError
from scquery_ae._logging import logger
from scquery_ae.encoder import Encoder
from scquery_ae.loaders import CellRows, open_training
from scquery_ae.reference.calibration import weights
from scquery_ae.stats import fit_combination
from scquery_ae.tl._labels import batch_codes, known_label_codes
from scquery_ae.tl._out_of_fold import out_of_fold
from scquery_ae.training import make_folds

if TYPE_CHECKING:
    import pandas as pd
    from anndata import AnnData

#: A label is label_issue where another type is this much more probable.
LABEL_ISSUE_GAP = 0.4


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
    """Rank labelled cells by how little an encoder that has not seen their labels believes them.

    Fine-tuning is repeated once a fold, and classifier, neighborhood and genes of the other folds judge the cells
    of each.

    Parameters
    ----------
    adata
        The cells that `encoder` was fine-tuned on; left as it is.
    encoder
        From :func:`scquery_ae.tl.finetune`, in this session.
    label_key
        Column of ``obs`` with the cell types.
    batch_key
        Column of ``obs`` with the batches, which then stay whole: the labels of each are judged by the others.
    n_folds
        Number of folds, at least 2 and at most that of the batches.
    random_state
        Seed of the folds.
    progress
        Show progress bars on a terminal or in a notebook.

    Returns
    -------
    One row a labelled cell, the most label_issue first: ``label``, ``suggested`` (the most probable type), ``p_label`` and
    ``p_suggested`` (calibrated), and ``label_issue``, whether another type is more probable by more than .4.

    Raises
    ------
    NotFittedError
        If `adata` was not normalised or `encoder` not fine-tuned.
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
    latent = known_label_codes(adata, label_key, types)
    if n_folds > (latent >= 0).sum():
        msg = f"`n_folds={n_folds}` is more than the {int((latent >= 0).sum())} labelled cells. Ask for fewer."
        raise ArgumentError(msg)
    batches = batch_codes(adata, batch_key)
    if batches is not None and batches.max() + 1 < n_folds:
        msg = f"`n_folds={n_folds}` is more than the {batches.max() + 1} batches of {batch_key!r}. Ask for fewer."
        raise ArgumentError(msg)
    folds = make_folds(latent, batches, n_folds, random_state)
    cells = CellRows.read(opened, encoder.transform)
    judged = out_of_fold(encoder, cells, latent, folds, batches, progress=progress)
    given = latent[judged.rows]
    probabilities = fit_combination(judged.members, given, weights())(judged.members, weights())
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
            "label_issue": p_best - p_label > LABEL_ISSUE_GAP,
        },
        index=adata.obs_names[judged.rows],
    )
    logger.info(
        "audited %d cells: %d labels are label_issue; returned a table, and wrote nothing into the AnnData",
        len(table),
        int(table["label_issue"].sum()),
    )
    return table.iloc[np.argsort(p_label - p_best, kind="stable")]
