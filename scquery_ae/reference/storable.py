"""Annotation that a file can hold."""

from __future__ import annotations

import pandas as pd


def storable(obs: pd.DataFrame) -> pd.DataFrame:
    """Return the columns of `obs` that Parquet takes: numbers, booleans, dates, text and categories."""
    kept = {}
    for name in obs.columns:
        column = obs[name]
        categories = column.cat.categories if isinstance(column.dtype, pd.CategoricalDtype) else ()
        if not all(isinstance(category, str) for category in categories):
            column = column.astype(object)
        if column.dtype == object:  # text, or a mixture that Parquet would refuse
            column = column.map(str, na_action="ignore").astype("category")
        kept[str(name)] = column
    return pd.DataFrame(kept, index=obs.index.astype(str))
