"""Cell-type labels as positions among the types."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pandas as pd


def label_types(labels: pd.Series) -> tuple[str, ...]:
    """Return the distinct labels as text, in alphabetical order; missing ones are left out."""
    kept = labels.dropna()
    # Values that cannot be hashed, such as lists, are told apart as text.
    kept = kept if isinstance(kept.dtype, pd.CategoricalDtype) else kept.astype(object).map(str)
    return tuple(sorted({str(label) for label in kept.unique()}))


def label_codes(labels: pd.Series, types: Sequence[str]) -> np.ndarray:
    """Return each label's position in `types`, int64 ``(n,)``; -1 for a missing or unlisted label."""
    text = labels.astype(object).map(str, na_action="ignore")
    return np.asarray(pd.Categorical(text, categories=list(types)).codes, dtype=np.int64)
