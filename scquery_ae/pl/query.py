"""``pl.query``: number of cells and confidence of each label."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pandas as pd
from matplotlib.ticker import MaxNLocator, StrMethodFormatter

from scquery_ae._checks import check_slots
from scquery_ae._docs import shared_parameters
from scquery_ae._errors import ArgumentError
from scquery_ae._slots import Slots
from scquery_ae.pl._colors import UNKNOWN
from scquery_ae.pl._palette import OKABE_ITO
from scquery_ae.pl._panels import heading, panels
from scquery_ae.pl._results import check_columns, is_unknown, numbers
from scquery_ae.pl._style import check_ax, check_save, check_show, finish, font_scale, style

if TYPE_CHECKING:
    from os import PathLike

    from anndata import AnnData
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

_KNOWN = OKABE_ITO[0]
_SUMMARY = "0.2"
_POINTS_A_LABEL = 200


@shared_parameters
def query(
    adata: AnnData,
    *,
    key_added: str = "scquery",
    ax: Axes | None = None,
    show: bool | None = None,
    save: str | bool | PathLike[str] | None = None,
) -> Figure | None:
    """Plot the number of cells and the confidence of each label.

    Bars on the left count the cells of each label, most frequent first; cells called unknown are hatched. The right
    panel shows the confidence of each label: median (point), quartiles (thick line), 5 to 95 % (thin line), and cells
    (dots; at most 200 for each label, evenly spaced by rank).

    Parameters
    ----------
    adata
        Cells after :func:`scquery_ae.tl.query`. Cells without a label are left out.
    %(key_added)s
    ax
        Axes whose position the panels take. None makes a figure.
    %(show)s
    %(save)s

    Returns
    -------
    The figure, or None if it was shown.

    Raises
    ------
    MissingKeyError
        If a column of ``tl.query`` is not in ``obs``.
    ArgumentError
        If no cell has a label, or `save` is not a path.
    """
    path = check_save(save, "query")
    check_show(show)
    check_ax(ax)
    labels, confidence, unknown = _read(adata, check_slots(key_added))
    counts = labels.value_counts(sort=False)
    counts = counts[counts > 0].sort_values(ascending=False, kind="stable")
    names = [str(name) for name in counts.index]
    members = [(labels == label).to_numpy() for label in counts.index]

    scale = font_scale()
    width = 8 + 0.07 * min(max(map(len, names)), 60)
    height = 1.5 + 0.26 * max(len(names), 3)
    with style():
        figure, grid = panels(ax, 1, 2, sharey=True, figsize=(width * scale, height * scale))
        left, right = grid[0]
        _draw_counts(left, names, counts.to_numpy(), np.array([unknown[cells].sum() for cells in members]))
        for row, cells in enumerate(members):
            _draw_confidence(right, row, confidence[cells], unknown[cells])
        right.set(xlim=(0, 1), xlabel="confidence of the label")
        right.tick_params(axis="y", length=0)
        right.grid(axis="x", color="0.9")
        n, n_unknown = len(labels), int(unknown.sum())
        noun = "cell" if n == 1 else "cells"
        heading(figure, grid, ax, f"{n:,} query {noun}, {n_unknown:,} ({_per_cent(n_unknown, n)}) unknown")
        _make_room(left, counts.to_numpy())
        done = finish(figure, show=show, save=path, owned=ax is None)
    return None if done else figure


def _read(adata: AnnData, slots: Slots) -> tuple[pd.Series, np.ndarray, np.ndarray]:
    """Return label and confidence of the labelled cells, and whether they are called unknown."""
    check_columns(adata, (slots.label, slots.confidence, slots.unknown), "pl.query")
    confidence, unknown = numbers(adata, slots.confidence, "pl.query"), is_unknown(adata, slots)
    labelled = adata.obs[slots.label].notna().to_numpy()
    if not labelled.any():
        msg = (
            f"`pl.query` needs cells with a label. All {adata.n_obs} values of `adata.obs[{slots.label!r}]` are "
            "missing; query the cells again."
        )
        raise ArgumentError(msg)
    labels = adata.obs.loc[labelled, slots.label].astype("category")
    return labels, confidence[labelled], unknown[labelled]


def _draw_counts(ax: Axes, names: list[str], counts: np.ndarray, unknown: np.ndarray) -> None:
    rows = np.arange(len(names))
    known = counts - unknown
    ax.barh(rows, known, height=0.75, color=_KNOWN, label="known")
    ax.barh(
        rows,
        unknown,
        left=known,
        height=0.75,
        color="0.9",
        edgecolor=UNKNOWN,
        hatch="////",
        linewidth=0,
        label="unknown",
    )
    for row, (count, n_unknown) in enumerate(zip(counts, unknown, strict=True)):
        text = f"{count:,} ({_per_cent(count, counts.sum())})" + _unknown_part(n_unknown, count)
        note = ax.annotate(text, (count, row), (4, 0), textcoords="offset points", va="center", fontsize="small")
        # `_make_room` makes room for it inside the axes.
        note.set_in_layout(False)
    ax.xaxis.set_major_locator(MaxNLocator(5, integer=True))
    ax.xaxis.set_major_formatter(StrMethodFormatter("{x:,.0f}"))
    margin = 0.5 if len(names) > 1 else 1
    ax.set(yticks=rows, yticklabels=names, ylim=(len(names) - 1 + margin, -margin), xlabel="cells")
    ax.tick_params(axis="y", length=0)
    ax.legend(loc="lower left", bbox_to_anchor=(0, 1), ncols=2, borderaxespad=0.2)


def _draw_confidence(ax: Axes, row: int, confidence: np.ndarray, unknown: np.ndarray) -> None:
    measured = np.isfinite(confidence)
    order = np.argsort(confidence[measured], kind="stable")
    values, strange = confidence[measured][order], unknown[measured][order]
    if not len(values):
        return
    low, lower, median, upper, high = np.quantile(values, [0.05, 0.25, 0.5, 0.75, 0.95])
    picked = np.unique(np.linspace(0, len(values) - 1, min(len(values), _POINTS_A_LABEL)).astype(int))
    # Steps of the golden ratio spread points evenly, without random numbers.
    heights = row + 0.6 * ((np.arange(len(picked)) * 0.6180339887) % 1 - 0.5)
    for group, colour in ((~strange[picked], _KNOWN), (strange[picked], UNKNOWN)):
        ax.scatter(
            values[picked][group],
            heights[group],
            s=7,
            color=colour,
            alpha=0.5,
            linewidths=0,
            clip_on=False,
            rasterized=True,
        )
    ax.hlines(row, low, high, color=_SUMMARY, linewidth=1)
    ax.hlines(row, lower, upper, color=_SUMMARY, linewidth=4)
    ax.plot(median, row, marker="o", markersize=5.5, color="white", markeredgecolor=_SUMMARY, clip_on=False)


def _make_room(ax: Axes, counts: np.ndarray) -> None:
    """Extend the x axis until the texts at the ends of the bars are inside the axes."""
    ax.figure.canvas.figure.draw_without_rendering()
    width = ax.get_window_extent().width
    texts = ax.texts[: len(counts)]
    room = [(count, text.get_window_extent().width + 12) for count, text in zip(counts, texts, strict=True)]
    # A bar of length x with a text of t pixels fits in w pixels if x / limit * w + t <= w.
    ax.set_xlim(0, max(length * width / max(width - text, width / 10) for length, text in room))


def _per_cent(part: int, whole: int) -> str:
    if part in (0, whole):
        return "0%" if part == 0 else "100%"
    value = 100 * part / whole
    return f"{value:.1f}%" if value >= 0.1 else "<0.1%"


def _unknown_part(part: int, whole: int) -> str:
    if part == 0:
        return ""
    return ", all unknown" if part == whole else f", {part:,} unknown"
