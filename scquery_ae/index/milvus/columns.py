"""Metadata columns of a collection: their types in Milvus, and the conversion of values."""

from __future__ import annotations

import re
import sys
from collections.abc import Mapping
from typing import Any

import pandas as pd

from scquery_ae._checks import shown
from scquery_ae._errors import ArgumentError, MissingKeyError

#: Milvus' type and Python's type of each kind of column.
FIELD_TYPES = {"text": "VARCHAR", "whole": "INT64", "number": "DOUBLE", "flag": "BOOL"}
PYTHON_TYPES: dict[str, type] = {"text": str, "whole": int, "number": float, "flag": bool}
#: Prefix of metadata fields, so that no name is a keyword of Milvus' filters, such as ``not``.
PREFIX = "obs_"
#: Milvus' limit on the bytes of a text.
MAX_TEXT = 65_535

#: Kind and values of each column by name. Missing values are None.
Table = Mapping[str, tuple[str, list[Any]]]


def read_metadata(metadata: Any, n: int, columns: Mapping[str, str] | None = None) -> Table:
    """Convert a data frame of `n` rows to columns that Milvus can hold.

    If `columns`, the kinds of an existing collection, is given, the data frame must have exactly these columns.
    """
    if metadata is None:
        metadata = pd.DataFrame(index=range(n))
    if not isinstance(metadata, pd.DataFrame) or len(metadata) != n:
        received = f"{len(metadata)} rows" if isinstance(metadata, pd.DataFrame) else type(metadata).__name__
        msg = f"`metadata` must be a data frame of {n} rows, one for each vector. Received {received}."
        raise ArgumentError(msg)
    names = list(metadata.columns)
    if columns is not None and set(names) != set(columns):
        msg = (
            f"The collection has the metadata columns {shown(columns, limit=20) or 'none'}. Received "
            f"{shown(names, limit=20) or 'none'}; pass a data frame with exactly the columns of the collection."
        )
        raise MissingKeyError(msg)
    for name in names:
        if not isinstance(name, str) or not re.fullmatch(r"[A-Za-z0-9_]{1,200}", name) or names.count(name) > 1:
            msg = (
                "Names of columns of `metadata` must consist of letters, digits and underscores, and be unique. "
                f"Received {name!r}; rename it with `metadata.rename(columns=...)`."
            )
            raise ArgumentError(msg)
    return {name: _read_column(name, metadata[name], (columns or {}).get(name)) for name in names}


def _read_column(name: str, column: pd.Series, expected: str | None) -> tuple[str, list[Any]]:
    types, dtype, place = pd.api.types, column.dtype, f"metadata[{name!r}]"
    if types.is_bool_dtype(dtype):
        kind = "flag"
    elif types.is_integer_dtype(dtype):
        kind = "number" if expected == "number" else "whole"
    elif types.is_float_dtype(dtype):
        kind = "number"
    elif isinstance(dtype, pd.CategoricalDtype) or types.is_string_dtype(dtype):
        kind = "text"
    else:
        msg = f"`{place}` must be text, numbers or booleans. Received {dtype}; convert it, for example to text."
        raise ArgumentError(msg)
    if expected not in (None, kind):
        msg = f"`{place}` must be of kind {expected!r}, as in the collection. Received {dtype}."
        raise ArgumentError(msg)
    missing = column.isna()
    return kind, [None if gone else convert(place, kind, value) for value, gone in zip(column, missing, strict=True)]


def convert(place: str, kind: str, value: Any) -> Any:
    """Return a value as Milvus holds it. `place` names the value in the error message."""
    wrong = ""
    if kind == "whole" and not -(2**63) < value < 2**63:
        wrong = "fit into 64 bits"
    elif kind == "number" and not abs(value) <= sys.float_info.max:
        wrong = "be finite"
    elif kind == "text":
        value = str(value)
        # One half of a surrogate pair cannot be encoded.
        if re.search("[\0\ud800-\udfff]", value) or len(value.encode()) > MAX_TEXT:
            wrong = f"be text of at most {MAX_TEXT} bytes, without NUL"
    if wrong:
        msg = f"`{place}` must {wrong}. Received {repr(value)[:42]}."
        raise ArgumentError(msg)
    return PYTHON_TYPES[kind](value)
