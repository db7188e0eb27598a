"""Colours of categories, read from and stored in ``uns``, as in scanpy."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pandas as pd
from matplotlib.colors import is_color_like

from scquery_ae._checks import is_several, shown
from scquery_ae._errors import ArgumentError
from scquery_ae.pl._palette import palette

if TYPE_CHECKING:
    from anndata import AnnData

MOST_CATEGORIES = 256

#: Cells called unknown.
UNKNOWN = "0.45"


def as_categories(values: pd.Series, argument: str, key: str) -> pd.Categorical:
    """Return a column of ``obs`` as categories, at most as many as there are colours."""
    try:
        groups = pd.Categorical(values)
    except TypeError as error:
        msg = (
            f"`{argument}={key!r}` holds values that cannot be categories ({error}). Pass a column of text, booleans "
            "or numbers."
        )
        raise ArgumentError(msg) from error
    if len(groups.categories) > MOST_CATEGORIES:
        msg = (
            f"`{argument}={key!r}` has {len(groups.categories)} categories, and at most {MOST_CATEGORIES} can be "
            f"coloured. Received {shown(groups.categories)}; merge categories, or convert numbers stored as text."
        )
        raise ArgumentError(msg)
    return groups


def category_colours(adata: AnnData, key: str, n: int) -> list[str]:
    """Return one colour for each category: those in ``uns`` if they are enough and valid, and new ones otherwise."""
    slot = f"{key}_colors"
    stored = adata.uns.get(slot, ())
    kept = [str(colour) for colour in stored] if is_several(stored) else []
    if len(kept) >= n and all(map(is_color_like, kept)):
        return kept[:n]
    colours = list(palette(n))
    if not adata.is_view:
        adata.uns[slot] = colours
    return colours
