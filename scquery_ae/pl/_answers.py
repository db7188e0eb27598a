"""What a query wrote, read back for plots, and set against the truth where it is known."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from scquery_ae._checks import check_adata, check_obs_key, shown
from scquery_ae._errors import ArgumentError, MissingKeyError
from scquery_ae._slots import Slots

if TYPE_CHECKING:
    from collections.abc import Sequence

    from anndata import AnnData


@dataclass(frozen=True)
class Judged:
    """Cells whose type is known and that have a label.

    Attributes
    ----------
    confidence, pvalue
        Float64 ``(n,)``.
    correct, unknown
        Whether the label is the truth, and whether the cell was called unknown, bool ``(n,)``.
    """

    confidence: np.ndarray
    pvalue: np.ndarray
    correct: np.ndarray
    unknown: np.ndarray


def check_columns(adata: AnnData, columns: Sequence[str], function: str) -> None:
    """Raise unless `adata` has these columns of ``tl.query``."""
    check_adata(adata, function)
    absent = [column for column in columns if column not in adata.obs]
    if absent:
        msg = (
            f"`{function}` needs the columns that `scq.tl.query` writes. Not in `adata.obs`: {shown(absent)}. "
            "Call `scq.tl.query(adata, reference)` first, or give the `key_added` that it was called with."
        )
        raise MissingKeyError(msg)
    for column in columns:
        check_obs_key(adata, column, "key_added")


def numbers(adata: AnnData, column: str, function: str) -> np.ndarray:
    """Return a column of numbers, float64 ``(n_obs,)``."""
    kind = adata.obs[column].dtype
    if not pd.api.types.is_numeric_dtype(kind) or pd.api.types.is_complex_dtype(kind):
        msg = f"`{function}` needs numbers in `adata.obs[{column!r}]`. Received {kind}; query the cells again."
        raise ArgumentError(msg)
    return np.asarray(adata.obs[column].to_numpy(dtype=float, na_value=np.nan))


def is_unknown(adata: AnnData, slots: Slots) -> np.ndarray:
    """Return which cells were called unknown, bool ``(n_obs,)``."""
    # Not astype(bool): after a concatenation, unknown can hold NaN, which is true.
    return np.asarray(adata.obs[slots.unknown].eq(True).to_numpy(dtype=bool))


def texts(values: pd.Series) -> pd.Series:
    """Return values as text, missing ones as they are."""
    return values.astype(object).map(str, na_action="ignore")


def judge(adata: AnnData, truth_key: str, slots: Slots, function: str) -> Judged:
    """Return how the labels compare with a column of the truth."""
    check_columns(adata, (slots.label, slots.confidence, slots.pvalue, slots.unknown), function)
    truth, label = texts(check_obs_key(adata, truth_key, "truth_key")), texts(adata.obs[slots.label])
    confidence, pvalue = (numbers(adata, column, function) for column in (slots.confidence, slots.pvalue))
    kept = (truth.notna() & label.notna()).to_numpy()
    if not kept.any():
        msg = (
            f"`{function}` needs cells with a label and a type in `adata.obs[{truth_key!r}]`. "
            f"None of {adata.n_obs} has both."
        )
        raise ArgumentError(msg)
    types = set(adata.obs[slots.label].astype("category").cat.categories.map(str))
    if types.isdisjoint(truth[kept]):
        msg = (
            f"`{function}` compares names, and `adata.obs[{truth_key!r}]` shares none with the labels. Received "
            f"{shown(sorted(set(truth[kept])))}; labels are {shown(sorted(types))}. Write the truth in the "
            "reference's names, for example with `adata.obs[key].map(names)`."
        )
        raise ArgumentError(msg)
    for name, values in ((slots.confidence, confidence), (slots.pvalue, pvalue)):
        if not ((values[kept] >= 0) & (values[kept] <= 1)).all():
            msg = (
                f"`{function}` needs values from 0 to 1 in `adata.obs[{name!r}]`. Received others, or missing ones; "
                "query the cells again."
            )
            raise ArgumentError(msg)
    return Judged(confidence[kept], pvalue[kept], (truth == label).to_numpy()[kept], is_unknown(adata, slots)[kept])
