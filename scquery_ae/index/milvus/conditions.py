"""Filters of Milvus: which rows, and which values of the metadata, may be found."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import pandas as pd

from scquery_ae._array_checks import check_array
from scquery_ae._checks import check_mapping, is_integer, is_several, shown
from scquery_ae._errors import ArgumentError, MissingKeyError
from scquery_ae.index.milvus.columns import PREFIX, as_held

#: Runs of rows, and numbers of rows, in one request. One that takes half a minute is cut off by the embedded file's
#: server, so that it has to be short.
RANGES = 64
REQUEST_IDS = 100_000

#: What would end a literal, or may not stand in one.
ESCAPES = str.maketrans({"\\": "\\\\", '"': '\\"', "\n": "\\n", "\r": "\\r", "\t": "\\t"})


def conditions(among: Any, where: Mapping[str, Any] | None, columns: Mapping[str, str]) -> list[str]:
    """Return filters that together let through the rows `among` that are as `where` says, each once."""
    terms = _terms(where, columns)
    if among is None:
        return [" and ".join(terms)]
    rows = check_array("among", among, (None,), whole=True).astype(np.int64)
    if rows.size and rows.min() < 0:
        msg = f"`among` must be rows, from 0. Received {rows.min()}."
        raise ArgumentError(msg)
    return [" and ".join((*terms, f"({condition})")) for condition in row_conditions(rows)]


def row_conditions(rows: np.ndarray) -> list[str]:
    """Return filters that together let some rows through, each once, and none of which is too long for Milvus.

    Rows that lie together are named by their first and last, and if the others are fewer, those are named.
    """
    rows = np.unique(rows)
    if not rows.size:
        return []
    starts = np.flatnonzero(np.diff(rows, prepend=rows[0] - 2) > 1)
    if len(starts) <= RANGES:
        ends = np.append(starts[1:], len(rows)) - 1
        ranges = zip(rows[starts].tolist(), rows[ends].tolist(), strict=True)
        return [" or ".join(f"(row >= {low} and row <= {high})" for low, high in ranges)]
    low, high = int(rows[0]), int(rows[-1])
    fewer = high - low + 1 < 2 * len(rows)
    named = np.setdiff1d(np.arange(low, high + 1), rows, assume_unique=True) if fewer else rows
    if len(named) > REQUEST_IDS:
        half = len(rows) // 2
        return row_conditions(rows[:half]) + row_conditions(rows[half:])
    listed = f"row in [{','.join(map(str, named.tolist()))}]"
    return [f"row >= {low} and row <= {high} and not ({listed})" if fewer else listed]


def check_rows(rows: Any, n: int | None) -> np.ndarray:
    """Return `n` row numbers, ascending or not, each once; None for any number of them."""
    numbers = check_array("rows", rows, (n,), whole=True).astype(np.int64)
    if not numbers.size or numbers.min() < 0 or len(np.unique(numbers)) < len(numbers):
        msg = f"`rows` must be at least one number from 0, each given once. Received {shown(numbers) or 'none'}."
        raise ArgumentError(msg)
    return numbers


def _terms(where: Mapping[str, Any] | None, columns: Mapping[str, str]) -> list[str]:
    """Return one filter a column; names come from the collection, and values are written as literals."""
    terms = []
    for name, wanted in check_mapping("where", {} if where is None else where, "columns to values").items():
        if name not in columns:
            msg = f"The collection has no metadata {name!r}. Expected one of: {shown(columns, limit=20) or 'none'}."
            raise MissingKeyError(msg)
        values = list(wanted) if is_several(wanted) else [wanted]
        if not values:
            msg = f"`where` gives no value for {name!r}. Name at least one, or leave the column out."
            raise ArgumentError(msg)
        literals = ", ".join(dict.fromkeys(_literal(name, columns[name], value) for value in values))
        terms.append(f"{PREFIX}{name} in [{literals}]")
    return terms


def _literal(name: str, kind: str, value: Any) -> str:
    """Return a value as Milvus' filters write it. Nothing in it can end the literal."""
    if isinstance(value, np.generic):
        value = value.item()
    meant = {
        "text": not is_several(value) and np.ndim(value) == 0 and not pd.isna(value),
        "whole": is_integer(value),
        "number": isinstance(value, int | float) and not isinstance(value, bool),
        "flag": isinstance(value, bool),
    }
    if not meant[kind]:
        msg = f"`where[{name!r}]` must be of kind {kind!r}, as the column is. Received {value!r}."
        raise ArgumentError(msg)
    value = as_held(f"where[{name!r}]", kind, value)
    return f'"{value.translate(ESCAPES)}"' if kind == "text" else repr(value).lower()
