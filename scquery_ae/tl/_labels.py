"""Labels and batches of cells as integers, and the slot that records how fine-tuning used each label."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from scquery_ae._checks import check_obs_key, shown
from scquery_ae._errors import ArgumentError, warn
from scquery_ae.labels import label_codes, label_types

if TYPE_CHECKING:
    import pandas as pd
    from anndata import AnnData


def known_label_codes(adata: AnnData, label_key: str, types: tuple[str, ...]) -> np.ndarray:
    """Return the position of each cell's label in the encoder's `types`, int ``(n,)``; -1 without a label.

    Raises
    ------
    ArgumentError
        If the column holds other types.
    """
    labels = check_obs_key(adata, label_key, "label_key")
    other = sorted(set(label_types(labels)) - set(types))
    if other:
        msg = (
            f"`label_key={label_key!r}` holds types that the encoder was not fine-tuned on: {shown(other)}. "
            f"Expected {shown(types)}; fine-tune on this column first."
        )
        raise ArgumentError(msg)
    return label_codes(labels, types)


def batch_codes(adata: AnnData, batch_key: str | None) -> np.ndarray | None:
    """Return the batch of each cell, int ``(n,)``, or None without a key."""
    if batch_key is None:
        return None
    names = [str(batch) for batch in check_obs_key(adata, batch_key, "batch_key")]
    return np.unique(names, return_inverse=True)[1]


def split_column(labelled: np.ndarray, held_out: np.ndarray, label_issue: np.ndarray, index: pd.Index) -> pd.Series:
    """Return how fine-tuning used each cell: ``"train"``, ``"validation"``, ``"label_issue"`` or missing."""
    import pandas as pd

    codes = np.where(labelled, held_out.astype(int), np.where(label_issue, 2, -1))
    names = ["train", "validation", "label_issue"] if label_issue.any() else ["train", "validation"]
    return pd.Series(pd.Categorical.from_codes(codes, categories=pd.Index(names)), index=index)


def read_split(adata: AnnData, split: str) -> tuple[np.ndarray, np.ndarray]:
    """Return which cells fine-tuning held out, and which had a label issue and were ignored, both bool ``(n,)``."""
    if split not in adata.obs:
        warn(
            f'`adata.obs["{split}"]` is missing, so that no cells are known to be held out from training: confidence '
            "is not calibrated, and no cell will be called unknown. Use the AnnData that was passed to "
            "`scq.tl.finetune`."
        )
        return np.zeros(adata.n_obs, dtype=bool), np.zeros(adata.n_obs, dtype=bool)
    column = check_obs_key(adata, split, "key_added").astype(object)
    held_out = np.asarray(column == "validation")
    if not held_out.any():
        warn(
            "Fine-tuning held out no cells: confidence is not calibrated, and no cell will be called unknown. "
            "Fine-tune with a `validation_fraction` above 0."
        )
    return held_out, np.asarray(column == "label_issue")
