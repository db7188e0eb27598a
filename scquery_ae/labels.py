"""Cell-type labels as types and label codes."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pandas as pd


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
