"""Parts of a report (paragraphs, lists, tables, figures), and the format of its numbers."""

from __future__ import annotations

import base64
import io
import re
import struct
import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import matplotlib as mpl
import numpy as np
from markupsafe import Markup, escape
from matplotlib import pyplot as plt
from matplotlib.figure import Figure

from scquery_ae.pl._style import style

#: Characters that neither HTML nor SVG can hold.
ILLEGAL = re.compile("[\x00-\x08\x0b\x0c\x0e-\x1f\x7f\ud800-\udfff\ufffe\uffff]")

#: ``[[anchor]]`` or ``[[anchor|text]]``, and ``<https://...>``. Type names seldom contain either.
_MARKS = re.compile(r"`([^`]+)`|\[\[([\w-]+)(?:\|([^\]]+))?\]\]|<(https://[^\s<>]+)>")

#: A figure is stored as PNG if its SVG exceeds this many bytes and the PNG is smaller.
_LARGE_SVG = 250_000
_DPI = 160


@dataclass(frozen=True)
class Text:
    """A paragraph, in the markup of :func:`marked`."""

    text: str
    kind: str = "text"


@dataclass(frozen=True)
class Note:
    """A remark on something that the report cannot show."""

    text: str
    kind: str = "note"


@dataclass(frozen=True)
class Items:
    """A bulleted list. A list of warnings is highlighted."""

    items: Sequence[str]
    warns: bool = False
    kind: str = "items"


@dataclass(frozen=True)
class Terms:
    """Glossary entries: anchor, term and definition."""

    entries: Sequence[tuple[str, str, str]]
    kind: str = "terms"


@dataclass(frozen=True)
class Table:
    """Rows of text under a caption. The first cell of a row is its heading; `numeric` columns are right-aligned."""

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
    """Text to copy, with its line breaks."""

    text: str
    kind: str = "code"


Part = Text | Note | Items | Terms | Table | Drawing | Code


@dataclass
class Section:
    """An anchor, a heading and the parts below it."""

    key: str
    heading: str
    parts: list[Part] = field(default_factory=list)


def pairs_table(caption: str, pairs: Sequence[tuple[str, object]]) -> Table:
    """Return a table of names and values."""
    return Table(caption, (), [(name, str(value)) for name, value in pairs])


def marked(text: str) -> Markup:
    """Return escaped text with its markup as HTML.

    Backticks enclose code, ``[[anchor]]`` and ``[[anchor|text]]`` link to a place on the page, and ``<https://...>``
    links to another page. Without a text, the link has the words of its anchor.
    """
    pieces, end = [], 0
    for match in _MARKS.finditer(text):
        pieces.append(escape(text[end : match.start()]))
        pieces.append(_element(*match.groups()))
        end = match.end()
    return Markup("").join([*pieces, escape(text[end:])])


def _element(code: str | None, anchor: str | None, text: str | None, url: str | None) -> Markup:
    if code is not None:
        return Markup("<code>{}</code>").format(code)
    if url is not None:
        return Markup('<a href="{}">{}</a>').format(url, url)
    return Markup('<a href="#{}">{}</a>').format(anchor, text or str(anchor).replace("-", " "))


def drawing(plot: Callable[..., Any], *args: Any, alt: str, caption: str, **kwargs: Any) -> Drawing:
    """Draw a plot of ``scq.pl`` for the page, in matplotlib's default style whatever the user's settings are."""
    default = plt.style.context("default", after_reset=True)
    # A dollar sign in a name is a letter, not the start of a formula.
    with default, mpl.rc_context({"text.parse_math": False}), plt.ioff(), warnings.catch_warnings():
        # SVG text is drawn with the fonts of the browser, which have more glyphs than matplotlib's.
        warnings.filterwarnings("ignore", message="Glyph .* missing from")
        drawn = plot(*args, show=False, **kwargs)
        figure = drawn if isinstance(drawn, Figure) else drawn.figure.canvas.figure
        try:
            source, width = _encode(figure)
        finally:
            plt.close(figure)
    return Drawing(source, width, alt, caption)


def _encode(figure: Figure) -> tuple[str, int]:
    """Return a figure as a data URI, SVG or PNG, and its width in CSS pixels."""
    svg = _save(figure, "svg", metadata={"Date": None, "Creator": None})
    found = re.search(rb'<svg[^>]*\swidth="([\d.]+)pt"', svg)
    if found is None or ILLEGAL.search(svg.decode()):
        return _png(_save(figure, "png"))
    if len(svg) > _LARGE_SVG:
        png = _save(figure, "png")
        if len(png) < len(svg):
            return _png(png)
    return _uri("svg+xml", svg), round(float(found[1]) * 96 / 72)


def _png(data: bytes) -> tuple[str, int]:
    pixels = struct.unpack(">I", data[16:20])[0]
    return _uri("png", data), round(pixels / _DPI * 96)


def _save(figure: Figure, kind: str, **kwargs: Any) -> bytes:
    buffer = io.BytesIO()
    with style():
        figure.savefig(buffer, format=kind, dpi=_DPI, bbox_inches="tight", pad_inches=0.08, **kwargs)
    return buffer.getvalue()


def _uri(kind: str, data: bytes) -> str:
    return f"data:image/{kind};base64,{base64.b64encode(data).decode()}"


def per_cent(part: float, whole: float) -> str:
    """Return a fraction in per cent, rounded to 0 or 100 only if it is exactly that."""
    if not whole:
        return "-"
    value = 100 * part / whole
    if part in (0, whole):
        return f"{value:.0f}%"
    if value < 0.1:
        return "<0.1%"
    return ">99.9%" if value >= 99.95 else f"{value:.1f}%"


def count_and_fraction(part: int, whole: int) -> str:
    """Return a count and its fraction of the whole, such as ``5 (12.5%)``."""
    return f"{part:,} ({per_cent(part, whole)})"


def count_true(flags: np.ndarray | Sequence[bool]) -> str:
    """Return the number and the fraction of true values."""
    return count_and_fraction(int(np.sum(flags)), len(flags))


def cells(n: int) -> str:
    """Return a number of cells, such as ``1 cell`` or ``1,200 cells``."""
    return f"{n:,} cell" if n == 1 else f"{n:,} cells"


def number(value: float, digits: int = 2) -> str:
    """Return a number with `digits` decimals, or a dash for NaN."""
    return "-" if np.isnan(value) else f"{value:.{digits}f}"


def probability(value: float, digits: int = 2) -> str:
    """Return a probability with `digits` decimals, or a dash for NaN.

    It is never shown as 1, because single precision rounds values just below 1, and as 0 only if it is 0.
    """
    least = 10.0**-digits
    if 0 < value < least / 2:
        return f"<{least:.{digits}f}"
    return f">{1 - least:.{digits}f}" if value >= 1 - least / 2 else number(value, digits)


def listed(names: Sequence[object], most: int = 8) -> str:
    """Return names joined for a sentence; of more than `most`, the first and how many follow."""
    texts = [str(name) for name in names]
    if len(texts) > most:
        texts = [*texts[:most], f"{len(texts) - most:,} more"]
    return " and ".join(filter(None, [", ".join(texts[:-1]), *texts[-1:]])) or "none"
