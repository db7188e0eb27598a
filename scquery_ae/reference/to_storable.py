"""Conversion of annotation to dtypes that Parquet stores."""

from __future__ import annotations

import pandas as pd


def to_storable(obs: pd.DataFrame) -> pd.DataFrame:
    """Return `obs` with columns of numbers, booleans, dates, text and categories of text; other values become text."""
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
    # Set afterwards: given to the constructor, pandas would look the rows up by name.
    table.index = obs.index.astype(str)
    return table
