"""What a report is made of: paragraphs, lists, tables and figures; and how it writes numbers."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
from markupsafe import Markup, escape

#: Characters that neither HTML nor SVG can hold.
ILLEGAL = re.compile("[\x00-\x08\x0b\x0c\x0e-\x1f\x7f\ud800-\udfff\ufffe\uffff]")


@dataclass(frozen=True)
class Text:
    """A paragraph; what stands between backticks is code."""

    text: str
    kind: str = "text"


@dataclass(frozen=True)
class Hint:
    """What was left out, and how to get it."""

    text: str
    kind: str = "hint"


@dataclass(frozen=True)
class Items:
    """A list; one that warns is set apart."""

    items: Sequence[str]
    warns: bool = False
    kind: str = "items"


@dataclass(frozen=True)
class Terms:
    """Words and what they mean."""

    pairs: Sequence[tuple[str, str]]
    kind: str = "terms"


@dataclass(frozen=True)
class Table:
    """Rows of text under a caption. The first column names its row; of `numeric` columns numbers stand to the right."""

    caption: str
    columns: Sequence[str]
    rows: Sequence[Sequence[str]]
    numeric: Sequence[int] = ()
    kind: str = "table"


@dataclass(frozen=True)
class Drawing:
    """A figure as a data URI, `width` CSS pixels wide."""

    source: str
    width: int
    alt: str
    caption: str
    kind: str = "figure"


@dataclass(frozen=True)
class Code:
    """Text to copy, kept in its lines."""

    text: str
    kind: str = "code"


Part = Text | Hint | Items | Terms | Table | Drawing | Code


@dataclass
class Section:
    """A heading, the name that links lead to, and what stands under it."""

    key: str
    heading: str
    parts: list[Part] = field(default_factory=list)


def pairs_table(caption: str, pairs: Sequence[tuple[str, object]]) -> Table:
    """Return a table of words and what they say."""
    return Table(caption, (), [(word, str(said)) for word, said in pairs])


def marked(text: str) -> Markup:
    """Return text, escaped, with what stands between backticks as code."""
    pieces = str(text).split("`")
    if len(pieces) % 2 == 0:  # one backtick has no partner
        return escape(text)
    return Markup("").join(
        Markup("<code>{}</code>").format(piece) if i % 2 else escape(piece) for i, piece in enumerate(pieces)
    )


def per_cent(part: float, whole: float) -> str:
    """Return a share, never rounded to none or all."""
    if not whole:
        return "-"
    share = 100 * part / whole
    if part in (0, whole):
        return f"{share:.0f}%"
    if share < 0.1:
        return "<0.1%"
    return ">99.9%" if share >= 99.95 else f"{share:.1f}%"


def count_and_share(part: int, whole: int) -> str:
    """Return a number and its share of the whole."""
    return f"{part:,} ({per_cent(part, whole)})"


def with_share(which: np.ndarray | Sequence[bool]) -> str:
    """Return how many are true, and their share."""
    return count_and_share(int(np.sum(which)), len(which))


def cells(n: int) -> str:
    """Return a number of cells in words."""
    return f"{n:,} cell" if n == 1 else f"{n:,} cells"


def number(value: float, digits: int = 2) -> str:
    """Return a number with so many digits, or a dash where there is none."""
    return "-" if np.isnan(value) else f"{value:.{digits}f}"


def probability(value: float, digits: int = 2) -> str:
    """Return a number from 0 to 1 with so many digits, a dash where there is none.

    Never 1, which single precision makes of what is a little less, and 0 only for 0.
    """
    least = 10.0**-digits
    if 0 < value < least / 2:
        return f"<{least:.{digits}f}"
    return f">{1 - least:.{digits}f}" if value >= 1 - least / 2 else number(value, digits)


def listed(names: Sequence[object], most: int = 8) -> str:
    """Return names in a sentence, the first of many."""
    texts = [str(name) for name in names]
    if len(texts) > most:
        texts = [*texts[:most], f"{len(texts) - most:,} more"]
    return " and ".join(filter(None, [", ".join(texts[:-1]), *texts[-1:]])) or "none"
