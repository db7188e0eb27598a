"""Read the results of a query for a plot, and compare them with known types."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from scquery_ae._checks import check_adata, check_obs_key, check_text, shown
from scquery_ae._errors import ArgumentError, MissingKeyError
from scquery_ae._slots import Slots

if TYPE_CHECKING:
    from collections.abc import Sequence

    from anndata import AnnData


@dataclass(frozen=True)
class Comparison:
    """Labels compared with known types, for the cells that have both.

    Attributes
    ----------
    confidence, pvalue
        Float64 ``(n,)``.
    correct
        Whether the label equals the known type, bool ``(n,)``.
    unknown
        Whether the cell is called unknown, bool ``(n,)``.
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
            "Call `scq.tl.query(adata, reference)` first, or pass the `key_added` that it was called with."
        )
        raise MissingKeyError(msg)
    for column in columns:
        check_obs_key(adata, column, "key_added")


def numbers(adata: AnnData, column: str, function: str) -> np.ndarray:
    """Return a numeric column of ``obs``, float64 ``(n_obs,)``."""
    kind = adata.obs[column].dtype
    if not pd.api.types.is_numeric_dtype(kind) or pd.api.types.is_complex_dtype(kind):
        msg = f"`{function}` needs numbers in `adata.obs[{column!r}]`. Received {kind}; query the cells again."
        raise ArgumentError(msg)
    return np.asarray(adata.obs[column].to_numpy(dtype=float, na_value=np.nan))


def is_unknown(adata: AnnData, slots: Slots) -> np.ndarray:
    """Return which cells are called unknown, bool ``(n_obs,)``."""
    # Not astype(bool): after a concatenation the column can hold NaN, which would count as true.
    return np.asarray(adata.obs[slots.unknown].eq(True).to_numpy(dtype=bool))


def as_text(values: pd.Series) -> pd.Series:
    """Return the values as text and leave missing values missing."""
    return values.astype(object).map(str, na_action="ignore")


def reference_rows(adata: AnnData, slot: str, n_reference: int, function: str) -> np.ndarray:
    """Return the reference rows of each cell's neighbors, int ``(n_obs, n_neighbors)``."""
    if slot not in adata.obsm:
        msg = (
            f"`{function}` needs the neighbors that `scq.tl.query` writes. Not in `adata.obsm`: {slot!r}. "
            "Call `scq.tl.query(adata, reference)` first, or pass the `key_added` that it was called with."
        )
        raise MissingKeyError(msg)
    neighbors = np.asarray(adata.obsm[slot])
    if neighbors.size and (neighbors.min() < 0 or neighbors.max() >= n_reference):
        msg = (
            f"`{function}` needs the reference that was queried. The neighbors in `adata.obsm[{slot!r}]` are its rows "
            f"{neighbors.min()} to {neighbors.max()}. Received a reference of {n_reference} cells; pass the one that "
            "was queried."
        )
        raise ArgumentError(msg)
    return neighbors


def reference_column(obs: pd.DataFrame, key: str, argument: str) -> pd.Series:
    """Return a column of the reference's ``obs``."""
    check_text(argument, key)
    if key not in obs.columns:
        msg = f"`{argument}={key!r}` is not in the reference's `obs`. Expected one of {shown(obs.columns, 20)}."
        raise MissingKeyError(msg)
    column: pd.Series = obs[key]
    return column


def compare_labels(adata: AnnData, truth_key: str, slots: Slots, function: str) -> Comparison:
    """Compare the labels with a column of known types."""
    check_columns(adata, (slots.label, slots.confidence, slots.pvalue, slots.unknown), function)
    truth, label = as_text(check_obs_key(adata, truth_key, "truth_key")), as_text(adata.obs[slots.label])
    confidence, pvalue = (numbers(adata, column, function) for column in (slots.confidence, slots.pvalue))
    kept = (truth.notna() & label.notna()).to_numpy()
    if not kept.any():
        msg = (
            f"`{function}` needs cells that have a label and a type in `adata.obs[{truth_key!r}]`. "
            f"None of {adata.n_obs} cells has both; pass the column of known types as `truth_key`."
        )
        raise ArgumentError(msg)
    types = set(adata.obs[slots.label].astype("category").cat.categories.map(str))
    if types.isdisjoint(truth[kept]):
        msg = (
            f"`{function}` compares type names. Expected `adata.obs[{truth_key!r}]` to share names with the labels, "
            f"such as {shown(sorted(types))}. Received {shown(sorted(set(truth[kept])))}. Rename the known types as in "
            "the reference, for example with `adata.obs[key].map(names)`."
        )
        raise ArgumentError(msg)
    for name, values in ((slots.confidence, confidence), (slots.pvalue, pvalue)):
        if not ((values[kept] >= 0) & (values[kept] <= 1)).all():
            msg = (
                f"`{function}` needs values from 0 to 1 in `adata.obs[{name!r}]`. Received missing values or values "
                "outside this range; query the cells again."
            )
            raise ArgumentError(msg)
    correct = (truth == label).to_numpy()[kept]
    return Comparison(confidence[kept], pvalue[kept], correct, is_unknown(adata, slots)[kept])
