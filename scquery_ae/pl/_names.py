"""Names of groups: written on a plot, moved apart where they would overlap, and in a legend."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pandas as pd
from matplotlib.collections import LineCollection
from matplotlib.patheffects import withStroke

from scquery_ae.pl._legend import LEGEND_COLUMNS, LEGEND_ROWS, dots, legend_beside
from scquery_ae.pl._palette import MISSING

if TYPE_CHECKING:
    from collections.abc import Sequence

    from matplotlib.axes import Axes
    from matplotlib.text import Text

#: Names that would cover more of the axes than this are replaced by numbers.
_MOST_COVERED = 0.15
_GAP = (6.0, 2.5)  # points between two names, beside and above each other


def name_categories(
    ax: Axes,
    points: np.ndarray,
    groups: pd.Categorical,
    colours: list[str],
    drawn: np.ndarray,
    *,
    n_missing: int,
    legend_loc: str,
    owned: bool,
    missing: str = "missing",
    unplaced: str | None = None,
) -> None:
    """Name the categories of the cells drawn, on the data and in a legend, as ``pl.embedding`` describes.

    `missing` is what the legend calls grey cells; cells of the category `unplaced` lie anywhere and have no name there.
    """
    present = np.unique(groups.codes[drawn])
    present = present[np.argsort(groups.categories[present] == unplaced, kind="stable")]
    names = [str(groups.categories[code]) for code in present]
    n_entries = len(names) + (n_missing > 0)
    fits = owned and n_entries <= LEGEND_ROWS * LEGEND_COLUMNS
    if legend_loc == "auto" and pd.api.types.is_bool_dtype(groups.categories):
        # The median of all False lies anywhere.
        legend_loc = "right margin"
    with_legend = legend_loc == "right margin" or (legend_loc == "auto" and fits)
    texts = []
    if legend_loc in ("auto", "on data"):
        placed = [name for name in names if name != unplaced]
        cells = [points[drawn[groups.codes[drawn] == code]] for code in present[: len(placed)]]
        texts = write_names(ax, np.array([np.median(group, axis=0) for group in cells]).reshape(-1, 2), placed)
    if with_legend and texts and share_covered(ax, texts) > _MOST_COVERED:
        for number, text in enumerate(texts, start=1):
            text.set_text(str(number))
        names = [name if name == unplaced else f"{number}  {name}" for number, name in enumerate(names, start=1)]
    if with_legend and n_entries:
        entries = [(name, colours[code]) for name, code in zip(names, present, strict=True)]
        legend_beside(ax, dots(entries + [(missing, MISSING)] * (n_missing > 0)), owned=owned)
    move_apart(ax, texts)


def write_names(ax: Axes, anchors: np.ndarray, names: Sequence[str]) -> list[Text]:
    """Write each name at its anchor, in data coordinates ``(n, 2)``; :func:`move_apart` comes after the layout."""
    outline = [withStroke(linewidth=3, foreground="white")]
    texts = [
        ax.text(x, y, name, ha="center", va="center", fontsize="small", path_effects=outline, zorder=4)
        for (x, y), name in zip(anchors, names, strict=True)
    ]
    for text in texts:
        # They are kept inside the axes, so they need no margin.
        text.set_in_layout(False)
    return texts


def share_covered(ax: Axes, texts: Sequence[Text]) -> float:
    """Return the area of the texts as a share of that of the axes."""
    ax.figure.canvas.figure.draw_without_rendering()
    areas = [np.prod(text.get_window_extent().size) for text in texts]
    return float(sum(areas) / np.prod(ax.get_window_extent().size))


def move_apart(ax: Axes, texts: Sequence[Text]) -> None:
    """Move overlapping texts apart and into the axes; a line leads from a text to the anchor that it has left."""
    if not texts:
        return
    ax.figure.canvas.figure.draw_without_rendering()
    anchors = ax.transData.transform([text.get_position() for text in texts])
    sizes = np.array([text.get_window_extent().size for text in texts])
    gap = np.array(_GAP) * ax.figure.dpi / 72
    frame = ax.get_window_extent()
    centres = spread(anchors, sizes + gap, np.array([frame.min, frame.max]))
    ends = ax.transData.inverted().transform(np.concatenate([centres, anchors])).reshape(2, -1, 2)
    for text, end in zip(texts, ends[0], strict=True):
        text.set_position(end)
    left = (np.abs(centres - anchors) > sizes / 2 + gap).any(axis=1)
    if left.any():
        leaders = LineCollection(list(ends[:, left].swapaxes(0, 1)), colors="0.2", linewidths=0.6, zorder=3)
        # Leaders do not change the limits of the axes.
        ax.add_collection(leaders, autolim=False)


def spread(centres: np.ndarray, sizes: np.ndarray, frame: np.ndarray, *, steps: int = 500) -> np.ndarray:
    """Return the centres of boxes, moved until none overlaps another.

    In each step all overlapping pairs are pushed apart, half each and a little more, along the axis on which they
    overlap least, and boxes outside the frame are moved inside. The same boxes always end at the same places.

    Parameters
    ----------
    centres
        Where the boxes want to be, ``(n, 2)``.
    sizes
        Width and height, ``(n, 2)``.
    frame
        Lower left and upper right corner that boxes stay within, ``(2, 2)``; a box larger than it is centred.
    steps
        Most steps; boxes that have no room may still overlap after the last.

    Returns
    -------
    Centres, float64 ``(n, 2)``.
    """
    places = np.asarray(centres, dtype=np.float64).copy()
    n = len(places)
    reach = (sizes[:, None] + sizes[None]) / 2
    # Boxes at the same place part in their order.
    first = np.where(np.arange(n)[:, None] < np.arange(n)[None], -1.0, 1.0)
    low, high = frame[0] + sizes / 2, frame[1] - sizes / 2
    low, high = np.minimum(low, (low + high) / 2), np.maximum(high, (low + high) / 2)
    # Halves alone would close in on a place without overlap and never get there.
    nudge = 0.05 * sizes.min()
    for _ in range(steps):
        places = np.clip(places, low, high)
        offset = places[:, None] - places[None]
        overlap = reach - np.abs(offset)
        neighbor = (overlap > 1e-6).all(axis=2)
        np.fill_diagonal(neighbor, val=False)
        if not neighbor.any():
            break
        direction = np.where(offset == 0, first[:, :, None], np.sign(offset))
        along = overlap == overlap.min(axis=2, keepdims=True)
        push = np.where(neighbor[:, :, None] & along, direction * (overlap / 2 + nudge), 0)
        # The mean of a crowded box's pushes, not their sum: sums overshoot and swing.
        places += push.sum(axis=1) / np.maximum((push != 0).sum(axis=1), 1)
    return np.clip(places, low, high)
