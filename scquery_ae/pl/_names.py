"""Names of groups, on the plot and in a legend, placed so that they hide neither each other nor small groups.

Checked: adjustText, which moves texts away from every point. Here only small groups must stay visible; the names of
large groups belong on their points.
"""

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

#: Names that would cover a larger fraction of the axes are replaced by numbers.
_MOST_COVERED = 0.15
#: A name that would cover a larger fraction of its group is written beside the group.
_MOST_HIDDEN = 0.25
#: Points between two names, beside and above each other.
_GAP = (6.0, 2.5)


def name_categories(
    ax: Axes,
    points: np.ndarray,
    groups: pd.Categorical,
    colours: list[str],
    drawn: np.ndarray,
    *,
    n_missing: int,
    size: float,
    legend_loc: str,
    owned: bool,
    missing: str = "missing",
    unplaced: str | None = None,
) -> None:
    """Name the categories of the cells drawn, on the data and in a legend, as ``pl.embedding`` describes.

    `size` is the area of a point in square points. `missing` is the name of grey cells in the legend. The category
    `unplaced` is named in the legend only.
    """
    present = np.unique(groups.codes[drawn])
    present = present[np.argsort(groups.categories[present] == unplaced, kind="stable")]
    names = [str(groups.categories[code]) for code in present]
    n_entries = len(names) + (n_missing > 0)
    fits = owned and n_entries <= LEGEND_ROWS * LEGEND_COLUMNS
    if legend_loc == "auto" and pd.api.types.is_bool_dtype(groups.categories):
        # The cells with False are no group with a place of its own.
        legend_loc = "right margin"
    with_legend = legend_loc == "right margin" or (legend_loc == "auto" and fits)
    texts, cells = [], []
    if legend_loc in ("auto", "on data"):
        placed = [name for name in names if name != unplaced]
        cells = [points[drawn[groups.codes[drawn] == code]] for code in present[: len(placed)]]
        texts = write_names(ax, np.array([np.median(group, axis=0) for group in cells]).reshape(-1, 2), placed)
    if with_legend and texts and fraction_covered(ax, texts) > _MOST_COVERED:
        for number, text in enumerate(texts, start=1):
            text.set_text(str(number))
        names = [name if name == unplaced else f"{number}  {name}" for number, name in enumerate(names, start=1)]
    if with_legend and n_entries:
        entries = [(name, colours[code]) for name, code in zip(names, present, strict=True)]
        legend_beside(ax, dots(entries + [(missing, MISSING)] * (n_missing > 0)), owned=owned)
    move_apart(ax, texts, cells, point_size=size)


def write_names(ax: Axes, anchors: np.ndarray, names: Sequence[str]) -> list[Text]:
    """Write each name at its anchor, in data coordinates ``(n, 2)``. Call :func:`move_apart` after the layout."""
    outline = [withStroke(linewidth=3, foreground="white")]
    texts = [
        ax.text(x, y, name, ha="center", va="center", fontsize="small", path_effects=outline, zorder=4)
        for (x, y), name in zip(anchors, names, strict=True)
    ]
    for text in texts:
        # `move_apart` keeps them inside the axes, so they need no margin.
        text.set_in_layout(False)
    return texts


def fraction_covered(ax: Axes, texts: Sequence[Text]) -> float:
    """Return the area of the texts as a fraction of the area of the axes."""
    ax.figure.canvas.figure.draw_without_rendering()
    areas = [np.prod(text.get_window_extent().size) for text in texts]
    return float(sum(areas) / np.prod(ax.get_window_extent().size))


def move_apart(ax: Axes, texts: Sequence[Text], groups: Sequence[np.ndarray] = (), *, point_size: float = 0.0) -> None:
    """Move texts apart, off the groups that they would hide, and into the axes.

    A line leads from a text that has moved far to its anchor, or to the edge of its group.

    Parameters
    ----------
    ax
        Axes of the texts.
    texts
        From :func:`write_names`, at their anchors.
    groups
        Points of the group of each text, in data coordinates, ``(n_cells, 2)`` each.
    point_size
        Area of a point, in square points.
    """
    if not texts:
        return
    ax.figure.canvas.figure.draw_without_rendering()
    anchors = ax.transData.transform([text.get_position() for text in texts])
    sizes = np.array([text.get_window_extent().size for text in texts])
    pixels = ax.figure.dpi / 72
    gap = np.array(_GAP) * pixels
    frame = ax.get_window_extent()
    frame_box = np.array([frame.min, frame.max])
    radius = np.sqrt(point_size) / 2 * pixels
    small, boxes = _small_groups(anchors, sizes, [ax.transData.transform(group) for group in groups], radius)
    centres = _beside_small_groups(anchors, sizes + gap, small, boxes, frame_box)
    centres = spread(centres, sizes + gap, frame_box, fixed=boxes, steps=200)
    # Where there is no room for both, the names must not overlap.
    centres = spread(centres, sizes + gap, frame_box)
    ends = anchors.copy()
    if len(small):
        ends[small] = np.clip(centres[small], boxes[:, 0], boxes[:, 1])
    lines = ax.transData.inverted().transform(np.concatenate([centres, ends])).reshape(2, -1, 2)
    for text, position in zip(texts, lines[0], strict=True):
        text.set_position(position)
    far = (np.abs(centres - ends) > sizes / 2 + gap).any(axis=1)
    if far.any():
        leaders = LineCollection(list(lines[:, far].swapaxes(0, 1)), colors="0.2", linewidths=0.6, zorder=3)
        # Leaders do not change the limits of the axes.
        ax.add_collection(leaders, autolim=False)


def _small_groups(
    anchors: np.ndarray, sizes: np.ndarray, groups: Sequence[np.ndarray], radius: float
) -> tuple[np.ndarray, np.ndarray]:
    """Return the groups that their names would hide, and the corners of the box of each, ``(n_small, 2, 2)``."""
    small, boxes = [], []
    for i, group in enumerate(groups):
        hidden = (np.abs(group - anchors[i]) < sizes[i] / 2).all(axis=1)
        if hidden.mean() > _MOST_HIDDEN:
            small.append(i)
            # Without outliers, which would make the box large. The width of the name is its larger side.
            near = group[(np.abs(group - anchors[i]) < sizes[i, 0]).all(axis=1)]
            boxes.append([near.min(axis=0) - radius, near.max(axis=0) + radius])
    return np.array(small, dtype=int), np.array(boxes).reshape(-1, 2, 2)


def _beside_small_groups(
    anchors: np.ndarray, sizes: np.ndarray, small: np.ndarray, boxes: np.ndarray, frame: np.ndarray
) -> np.ndarray:
    """Return the centres of the names, those of small groups on the side of the group where they hide least."""
    centres = anchors.copy()
    placed = [i for i in range(len(anchors)) if i not in small]
    for i, box in zip(small, boxes, strict=True):
        reach = (box[1] - box[0] + sizes[i]) / 2
        sides = box.mean(axis=0) + reach * np.array([[0, 1], [0, -1], [1, 0], [-1, 0]])
        sides = np.clip(sides, frame[0] + sizes[i] / 2, frame[1] - sizes[i] / 2)
        low = np.concatenate([centres[placed] - sizes[placed] / 2, boxes[:, 0]])
        high = np.concatenate([centres[placed] + sizes[placed] / 2, boxes[:, 1]])
        common = np.minimum(sides[:, None] + sizes[i] / 2, high) - np.maximum(sides[:, None] - sizes[i] / 2, low)
        hidden = np.prod(np.clip(common, 0, None), axis=2).sum(axis=1)
        centres[i] = sides[hidden.argmin()]
        placed.append(int(i))
    return centres


def spread(
    centres: np.ndarray, sizes: np.ndarray, frame: np.ndarray, *, fixed: np.ndarray | None = None, steps: int = 500
) -> np.ndarray:
    """Return the centres of boxes, moved until none overlaps another or a fixed box.

    In each step all overlapping pairs are pushed apart, half each and a little more, along the axis on which they
    overlap least, and boxes outside the frame are moved inside. The result is deterministic.

    Parameters
    ----------
    centres
        Preferred centres of the boxes, ``(n, 2)``.
    sizes
        Width and height, ``(n, 2)``.
    frame
        Lower left and upper right corner of the area in which the boxes stay, ``(2, 2)``. A larger box is centred.
    fixed
        Lower left and upper right corners of boxes that do not move, ``(n_fixed, 2, 2)``.
    steps
        Largest number of steps. Boxes that have no room may still overlap after the last.

    Returns
    -------
    Centres, float64 ``(n, 2)``.
    """
    n, fixed = len(centres), np.zeros((0, 2, 2)) if fixed is None else fixed
    places = np.concatenate([np.asarray(centres, dtype=np.float64), fixed.mean(axis=1)])
    sizes = np.concatenate([sizes, fixed[:, 1] - fixed[:, 0]])
    m = len(places)
    reach = (sizes[:, None] + sizes[None]) / 2
    # Boxes at the same place part in their order.
    first = np.where(np.arange(m)[:, None] < np.arange(m)[None], -1.0, 1.0)
    low, high = frame[0] + sizes[:n] / 2, frame[1] - sizes[:n] / 2
    low, high = np.minimum(low, (low + high) / 2), np.maximum(high, (low + high) / 2)
    # Halves alone would approach a place without overlap and never reach it.
    nudge = 0.05 * sizes[:n].min()
    for _ in range(steps):
        places[:n] = np.clip(places[:n], low, high)
        offset = places[:, None] - places[None]
        overlap = reach - np.abs(offset)
        overlapping = (overlap > 1e-6).all(axis=2)
        np.fill_diagonal(overlapping, val=False)
        overlapping[n:, n:] = False
        if not overlapping.any():
            break
        direction = np.where(offset == 0, first[:, :, None], np.sign(offset))
        along = overlap == overlap.min(axis=2, keepdims=True)
        push = np.where(overlapping[:, :, None] & along, direction * (overlap / 2 + nudge), 0)
        # The mean of a crowded box's pushes, not their sum, which would overshoot and oscillate.
        moved = push.sum(axis=1) / np.maximum((push != 0).sum(axis=1), 1)
        places[:n] += moved[:n]
    return np.asarray(np.clip(places[:n], low, high))
