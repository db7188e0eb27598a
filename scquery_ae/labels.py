"""Cell-type labels as types and label codes."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from scquery_ae._caller import argument
from scquery_ae._checks import check_obs_key, shown
from scquery_ae._errors import ArgumentError

if TYPE_CHECKING:
    from anndata import AnnData


def label_types(labels: pd.Series) -> tuple[str, ...]:
    """Return the distinct labels as text, in alphabetical order, without missing values."""
    kept = labels.dropna()
    # Convert first: values such as lists cannot be hashed.
    kept = kept if isinstance(kept.dtype, pd.CategoricalDtype) else kept.astype(object).map(str)
    return tuple(sorted({str(label) for label in kept.unique()}))


def label_codes(labels: pd.Series, types: Sequence[str]) -> np.ndarray:
    """Return the position of each label in `types`, int64 ``(n,)``; -1 for a missing label or another type."""
    text = labels.astype(object).map(str, na_action="ignore")
    return np.asarray(pd.Categorical(text, categories=list(types)).codes, dtype=np.int64)


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
            f"{argument('label_key', label_key)} holds types that the encoder was not fine-tuned on: {shown(other)}. "
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
