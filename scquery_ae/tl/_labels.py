"""Types and batches of cells as numbers, and what fine-tuning did with each label."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from scquery_ae._checks import check_obs_key, shown
from scquery_ae._errors import ArgumentError, warn
from scquery_ae.labels import label_codes, label_types
from scquery_ae.training import find_label_issues

if TYPE_CHECKING:
    import pandas as pd
    from anndata import AnnData

    from scquery_ae.encoder import Encoder
    from scquery_ae.loaders import CellRows


def known_label_codes(adata: AnnData, label_key: str, types: tuple[str, ...]) -> np.ndarray:
    """Return the type of each cell as a position in the encoder's `types`, -1 without a label; refuse other types."""
    labels = check_obs_key(adata, label_key, "label_key")
    strangers = sorted(set(label_types(labels)) - set(types))
    if strangers:
        msg = (
            f"`label_key={label_key!r}` holds types that the encoder was not fine-tuned on: {shown(strangers)}. "
            f"Expected {shown(types)}; fine-tune on this column first."
        )
        raise ArgumentError(msg)
    return label_codes(labels, types)


def batch_codes(adata: AnnData, batch_key: str | None) -> np.ndarray | None:
    """Return the batch of each cell as a number, or None without a key."""
    if batch_key is None:
        return None
    names = [str(batch) for batch in check_obs_key(adata, batch_key, "batch_key")]
    return np.unique(names, return_inverse=True)[1]


def label_issues_to_drop(
    encoder: Encoder, rows: CellRows, labels: np.ndarray, n_types: int, label_issues: str, random_state: int
) -> np.ndarray:
    """Return which labels to drop, bool ``(n,)``, and warn where it was not asked for."""
    if encoder.components is None:
        return np.zeros(len(labels), dtype=bool)
    found = find_label_issues(encoder.project(rows.logged), labels, n_types, random_state)
    if label_issues == "auto":
        if not found.widespread:
            return np.zeros(len(labels), dtype=bool)
        warn(
            f"Many labels seem to be wrong: {int(found.label_issue.sum())} of {int((labels >= 0).sum())} are label_issue, "
            f"and next to nothing speaks for {found.n_contradicted}. Cells with label issues count as unlabelled. "
            'See them with `scq.tl.audit`; `label_issues="keep"` learns from all, and "drop" does without the warning.'
        )
    return found.label_issue


def split_column(labelled: np.ndarray, held_out: np.ndarray, label_issue: np.ndarray, index: pd.Index) -> pd.Series:
    """Return what fine-tuning did with each cell, as :func:`read_split` reads it."""
    import pandas as pd

    codes = np.where(labelled, held_out.astype(int), np.where(label_issue, 2, -1))
    names = ["train", "validation", "label_issue"] if label_issue.any() else ["train", "validation"]
    return pd.Series(pd.Categorical.from_codes(codes, categories=pd.Index(names)), index=index)


def read_split(adata: AnnData, split: str) -> tuple[np.ndarray, np.ndarray]:
    """Return which cells fine-tuning held out, and which it left aside for a label issue, bool ``(n,)``."""
    if split not in adata.obs:
        warn(
            f'`adata.obs["{split}"]` is not there, so no cells are known to be held out from training: confidence is '
            "not calibrated and nothing will be called unknown. Use the AnnData that `scq.tl.finetune` was called on."
        )
        return np.zeros(adata.n_obs, dtype=bool), np.zeros(adata.n_obs, dtype=bool)
    column = check_obs_key(adata, split, "key_added").astype(object)
    held_out = np.asarray(column == "validation")
    if not held_out.any():
        warn(
            "Fine-tuning held no cells out: confidence is not calibrated and nothing will be called unknown. "
            "Fine-tune with a `validation_fraction` above 0."
        )
    return held_out, np.asarray(column == "label_issue")
