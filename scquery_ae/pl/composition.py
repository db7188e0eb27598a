"""``pl.composition``: fraction of each type in every sample."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
from matplotlib import pyplot as plt
from matplotlib.patches import Patch
from matplotlib.ticker import PercentFormatter

from scquery_ae._checks import check_adata, check_obs_key, check_slots, shown
from scquery_ae._docs import shared_parameters
from scquery_ae._errors import ArgumentError
from scquery_ae.pl._colors import UNKNOWN, as_categories, category_colours
from scquery_ae.pl._legend import legend_beside
from scquery_ae.pl._palette import MISSING
from scquery_ae.pl._results import check_columns, is_unknown, numbers
from scquery_ae.pl._style import check_ax, check_save, check_show, finish, font_scale, style

if TYPE_CHECKING:
    from os import PathLike

    from anndata import AnnData
    from matplotlib.axes import Axes

_HATCH: dict[str, Any] = {"facecolor": "0.92", "edgecolor": UNKNOWN, "hatch": "////", "linewidth": 0}
#: Points from the axes to the right end of each column of numbers, and to the legend.
_COLUMNS, _REACH = (34, 92, 144), 150


@shared_parameters
def composition(
    adata: AnnData,
    groupby: str,
    *,
    label_key: str | None = None,
    key_added: str = "scquery",
    ax: Axes | None = None,
    show: bool | None = None,
    save: str | bool | PathLike[str] | None = None,
) -> Axes | None:
    """Plot the fraction of each type in every group of cells, such as samples, donors or conditions.

    Cells called unknown are hatched at the right end of the bars. The numbers beside each bar are its cells, their
    mean confidence and the fraction called unknown.

    Parameters
    ----------
    adata
        Cells after :func:`scquery_ae.tl.query`.
    groupby
        Column of ``obs`` with one bar for each value, in the order of its categories. Cells without a value are left
        out.
    label_key
        Column of ``obs`` that divides the bars, such as ``"scquery_label_coarse"`` or the known types; cells called
        unknown are then not separated. None takes the labels and separates the cells called unknown.
    %(key_added)s
    %(ax)s
    %(show)s
    %(save)s

    Returns
    -------
    The axes, or None if the figure was shown. Colours of the types are read from or written to

    ``uns["scquery_label_colors"]`` : list of str
        One colour for each category, as in scanpy; for another `label_key`, ``uns[f"{label_key}_colors"]``. Views are
        not written to.

    Raises
    ------
    MissingKeyError
        If `groupby`, `label_key` or a column of ``tl.query`` is not in ``obs``.
    ArgumentError
        If no cell has a group, or there are too many groups or types.
    """
    path = check_save(save, "composition")
    check_show(show)
    check_ax(ax)
    slots = check_slots(key_added)
    check_adata(adata, "pl.composition")
    groups = as_categories(check_obs_key(adata, groupby, "groupby"), "groupby", groupby)
    check_columns(adata, (slots.label, slots.confidence, slots.unknown), "pl.composition")
    key = slots.label if label_key is None else label_key
    labels = as_categories(check_obs_key(adata, key, "label_key"), "label_key", key)
    confidence, unknown = numbers(adata, slots.confidence, "pl.composition"), is_unknown(adata, slots)
    grouped = groups.codes >= 0
    if not grouped.any():
        msg = (
            f"`groupby={groupby!r}` has no value in any of {adata.n_obs} cells. Pass another column, one of "
            f"{shown(adata.obs)}."
        )
        raise ArgumentError(msg)
    n_types = len(labels.categories)
    # One column for each type, one for cells without a label, and one for cells called unknown.
    column = np.where(labels.codes < 0, n_types, labels.codes)
    if label_key is None:
        column = np.where(unknown, n_types + 1, column)
    counts = np.zeros((len(groups.categories), n_types + 2), dtype=int)
    np.add.at(counts, (groups.codes[grouped], column[grouped]), 1)
    present = counts.sum(axis=1) > 0
    counts = counts[present]
    names = [str(name) for name in groups.categories[present]]
    cells = pd.DataFrame({"confidence": confidence, "unknown": unknown}).groupby(groups.codes).mean()
    cells = cells.loc[np.flatnonzero(present)]

    looks: list[dict[str, Any]] = [{"facecolor": colour} for colour in category_colours(adata, key, n_types)]
    looks += [{"facecolor": MISSING}, _HATCH]
    entries = [*map(str, labels.categories), "no label", "unknown"]
    scale = font_scale()
    with style():
        owned = ax is None
        if ax is None:
            size = 6.6 + 0.07 * min(max(map(len, names)), 60), 1.2 + 0.3 * max(len(names), 3)
            _, ax = plt.subplots(figsize=(size[0] * scale, size[1] * scale), layout="constrained")
        _draw_bars(ax, counts, looks, entries)
        ax.set(yticks=range(len(names)), yticklabels=names, ylim=(len(names) - 0.4, -0.6), ylabel=groupby)
        _write_columns(ax, counts.sum(axis=1), cells["confidence"].to_numpy(), cells["unknown"].to_numpy())
        handles = [
            Patch(label=name, **look)
            for name, look, total in zip(entries, looks, counts.sum(axis=0), strict=True)
            if total
        ]
        legend_beside(ax, handles, owned=owned, title=key, offset=_REACH * scale, loc="upper")
        done = finish(ax.figure.canvas.figure, show=show, save=path, owned=owned)
    return None if done else ax


def _draw_bars(ax: Axes, counts: np.ndarray, looks: list[dict[str, Any]], entries: list[str]) -> None:
    fractions = counts / counts.sum(axis=1, keepdims=True)
    starts = np.cumsum(fractions, axis=1) - fractions
    rows = np.arange(len(counts))
    for fraction, start, look, name in zip(fractions.T, starts.T, looks, entries, strict=True):
        if fraction.any():
            ax.barh(rows, fraction, left=start, height=0.8, label=name, **look)
    ax.set(xlim=(0, 1), xlabel="fraction of cells")
    ax.xaxis.set_major_formatter(PercentFormatter(1))
    ax.tick_params(axis="y", length=0)
    ax.spines["left"].set_visible(False)


def _write_columns(ax: Axes, cells: np.ndarray, confidence: np.ndarray, unknown: np.ndarray) -> None:
    """Write the numbers of each bar to its right, in columns with a heading."""
    columns = (
        ("cells", [f"{count:,}" for count in cells]),
        ("confidence", ["" if np.isnan(mean) else f"{mean:.2f}" for mean in confidence]),
        ("unknown", [f"{fraction:.0%}" for fraction in unknown]),
    )
    for place, (title, values) in zip(_COLUMNS, columns, strict=True):
        for row, text in enumerate([*values, title]):
            ax.annotate(
                text,
                (1, row if row < len(values) else -0.6),
                (place * font_scale(), 0),
                xycoords=ax.get_yaxis_transform(),
                textcoords="offset points",
                ha="right",
                va="center" if row < len(values) else "bottom",
                fontsize="small",
                annotation_clip=False,
            )
