"""Filter expressions of Milvus, by row number and by metadata."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import pandas as pd

from scquery_ae._array_checks import check_array
from scquery_ae._checks import check_mapping, is_integer, is_several, shown
from scquery_ae._errors import ArgumentError, MissingKeyError
from scquery_ae.index.milvus.columns import PREFIX, convert

#: Largest number of ranges of rows, and of row numbers, in one request. Milvus Lite cancels a request that takes half a
#: minute, so a request has to be short.
MAX_RANGES = 64
MAX_IDS = 100_000

#: Characters that end a literal, or that a literal cannot contain.
ESCAPES = str.maketrans({"\\": "\\\\", '"': '\\"', "\n": "\\n", "\r": "\\r", "\t": "\\t"})


def conditions(among: Any, where: Mapping[str, Any] | None, columns: Mapping[str, str]) -> list[str]:
    """Return disjoint filters whose union is the rows `among` with the values `where`."""
    terms = _terms(where, columns)
    if among is None:
        return [" and ".join(terms)]
    rows = check_array("among", among, (None,), whole=True).astype(np.int64)
    if rows.size and rows.min() < 0:
        msg = f"`among` must be row numbers of at least 0. Received {rows.min()}."
        raise ArgumentError(msg)
    return [" and ".join((*terms, f"({condition})")) for condition in row_conditions(rows)]


def row_conditions(rows: np.ndarray) -> list[str]:
    """Return disjoint filters whose union is `rows`, none of them too long for Milvus.

    Consecutive rows become ranges. If there are too many ranges, the filter lists the rows, or the rows to leave out
    if these are fewer.
    """
    rows = np.unique(rows)
    if not rows.size:
        return []
    starts = np.flatnonzero(np.diff(rows, prepend=rows[0] - 2) > 1)
    if len(starts) <= MAX_RANGES:
        ends = np.append(starts[1:], len(rows)) - 1
        ranges = zip(rows[starts].tolist(), rows[ends].tolist(), strict=True)
        return [" or ".join(f"(row >= {low} and row <= {high})" for low, high in ranges)]
    low, high = int(rows[0]), int(rows[-1])
    inverted = high - low + 1 < 2 * len(rows)
    listed = np.setdiff1d(np.arange(low, high + 1), rows, assume_unique=True) if inverted else rows
    if len(listed) > MAX_IDS:
        half = len(rows) // 2
        return row_conditions(rows[:half]) + row_conditions(rows[half:])
    condition = f"row in [{','.join(map(str, listed.tolist()))}]"
    return [f"row >= {low} and row <= {high} and not ({condition})" if inverted else condition]


def check_rows(rows: Any, n: int | None) -> np.ndarray:
    """Return `n` different row numbers as int64, in any order. If `n` is None, any positive number of them."""
    numbers = check_array("rows", rows, (n,), whole=True).astype(np.int64)
    if not numbers.size or numbers.min() < 0 or len(np.unique(numbers)) < len(numbers):
        msg = (
            "`rows` must be one or more different row numbers of at least 0. "
            f"Received {shown(numbers) or 'an empty array'}."
        )
        raise ArgumentError(msg)
    return numbers


def _terms(where: Mapping[str, Any] | None, columns: Mapping[str, str]) -> list[str]:
    """Return one filter for each column of `where`."""
    terms = []
    for name, wanted in check_mapping("where", {} if where is None else where, "columns to values").items():
        if name not in columns:
            msg = (
                f"The collection has no metadata column {name!r}. "
                f"Expected one of: {shown(columns, limit=20) or 'none'}."
            )
            raise MissingKeyError(msg)
        values = list(wanted) if is_several(wanted) else [wanted]
        if not values:
            msg = f"`where` has no value for {name!r}. Pass at least one, or omit the column."
            raise ArgumentError(msg)
        literals = ", ".join(dict.fromkeys(_literal(name, columns[name], value) for value in values))
        terms.append(f"{PREFIX}{name} in [{literals}]")
    return terms


def _literal(name: str, kind: str, value: Any) -> str:
    """Return a value as a literal of Milvus' filters. The characters of the value cannot end the literal."""
    if isinstance(value, np.generic):
        value = value.item()
    fits = {
        "text": not is_several(value) and np.ndim(value) == 0 and not pd.isna(value),
        "whole": is_integer(value),
        "number": isinstance(value, int | float) and not isinstance(value, bool),
        "flag": isinstance(value, bool),
    }
    if not fits[kind]:
        msg = f"`where[{name!r}]` must be of kind {kind!r}, as the column is. Received {value!r}."
        raise ArgumentError(msg)
    value = convert(f"where[{name!r}]", kind, value)
    return f'"{value.translate(ESCAPES)}"' if kind == "text" else repr(value).lower()
