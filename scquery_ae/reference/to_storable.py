"""Annotation that a file can hold."""

from __future__ import annotations

import pandas as pd


def to_storable(obs: pd.DataFrame) -> pd.DataFrame:
    """Return the columns of `obs` that Parquet takes: numbers, booleans, dates, text and categories."""
    kept = {}
    for i, name in enumerate(obs.columns):
        column = obs.iloc[:, i]
        categories = column.cat.categories if isinstance(column.dtype, pd.CategoricalDtype) else ()
        if not all(isinstance(category, str) for category in categories):
            column = column.astype(object)
        if column.dtype == object:  # text, or a mixture that Parquet would refuse
            column = column.map(str, na_action="ignore").astype("category")
        kept[str(name)] = column
    table = pd.DataFrame(kept, index=obs.index)
    # Not given above, where pandas would look for the rows by their names.
    table.index = obs.index.astype(str)
    return table
