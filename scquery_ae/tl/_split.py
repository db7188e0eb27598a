"""The slot that records how fine-tuning used each cell."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from scquery_ae._checks import check_obs_key
from scquery_ae._errors import warn

if TYPE_CHECKING:
    import pandas as pd
    from anndata import AnnData


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
