"""Values laid out as text and as JSON."""

from __future__ import annotations

import math
import os
from collections.abc import Mapping, Sequence
from os import PathLike
from typing import Any


def to_json(value: Any) -> Any:
    """Convert a value to JSON types: NumPy numbers to Python's, paths to text, NaN and infinity to None."""
    if isinstance(value, Mapping):
        return {str(key): to_json(item) for key, item in value.items()}
    if isinstance(value, str | bool) or value is None:
        return value
    if isinstance(value, PathLike):
        return os.fspath(value)
    if hasattr(value, "tolist"):
        return to_json(value.tolist())
    if isinstance(value, Sequence | set | frozenset):
        return [to_json(item) for item in value]
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    return value


def format_table(rows: Sequence[Sequence[str]], *, left: int = 1) -> str:
    """Lay out rows in columns: the first `left` flush left, the others flush right."""
    widths = [max(len(row[i]) for row in rows) for i in range(len(rows[0]))]
    lines = [
        "  ".join(cell.ljust(width) if i < left else cell.rjust(width) for i, (cell, width) in enumerate(cells))
        for cells in (zip(row, widths, strict=True) for row in rows)
    ]
    return "\n".join(line.rstrip() for line in lines)


def format_pairs(rows: Sequence[tuple[str, str]]) -> str:
    """Lay out names and their values, one pair per line."""
    width = max(len(name) for name, _ in rows)
    return "\n".join(f"{name:{width}}  {value}" for name, value in rows)


def format_percent(part: int, whole: int) -> str:
    """Return a fraction in per cent, ``-`` of nothing."""
    return f"{part / whole:.1%}" if whole else "-"


def keep_lines(text: str | None) -> str | None:
    r"""Return help text in which a written ``\b`` tells click to keep the lines that follow."""
    return None if text is None else text.replace("\\b\n", "\b\n")
