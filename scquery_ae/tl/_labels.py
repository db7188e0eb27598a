"""Types and batches of cells as numbers."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from scquery_ae._checks import check_obs_key, shown
from scquery_ae._errors import ArgumentError
from scquery_ae.labels import label_codes, label_types

if TYPE_CHECKING:
    from anndata import AnnData


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
