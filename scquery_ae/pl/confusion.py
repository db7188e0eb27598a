"""``pl.confusion``: what cells of each true type were called."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from os import PathLike
from typing import TYPE_CHECKING, Any

import matplotlib as mpl
import numpy as np
import pandas as pd
from matplotlib import pyplot as plt
from matplotlib.patches import Rectangle
from matplotlib.ticker import PercentFormatter

from scquery_ae._checks import check_mapping, check_obs_key, check_slots, is_several
from scquery_ae._errors import ArgumentError
from scquery_ae.ontology import CellOntology
from scquery_ae.pl._answers import check_columns, is_unknown, texts
from scquery_ae.pl._order import by_confusion, by_ontology
from scquery_ae.pl._style import check_ax, check_save, check_show, finish, font_scale, style

if TYPE_CHECKING:
    from anndata import AnnData
    from matplotlib.axes import Axes

#: Columns from the types to the unknown, and the least height of a number in points.
_GAP, _LEAST_FONT = 0.35, 3.5


def confusion(
    adata: AnnData,
    truth_key: str,
    *,
    ontology: CellOntology | str | PathLike[str] | None = None,
    terms: Mapping[str, str] | None = None,
    order: Sequence[str] | None = None,
    key_added: str = "scquery",
    ax: Axes | None = None,
    show: bool | None = None,
    save: str | bool | PathLike[str] | None = None,
) -> Axes | None:
    """Plot what the cells of each true type were called: shares of the row as shade, and counts.

    Cells called unknown, and those without a label, are a column of their own. Where a type of the truth is one of the
    reference's, a frame marks the right answer. Close types stand side by side: relatives in the Cell Ontology if one
    is given, otherwise types that are taken for each other (average linkage).

    Parameters
    ----------
    adata
        Cells after :func:`scquery_ae.tl.query`.
    truth_key
        Column of ``obs`` with the true types; cells without one are left out.
    ontology
        The ontology to order by, or the path of an OBO file such as ``cl-basic.obo``.
    terms
        For each type its term, by id or exact name; None if types are called as terms are. Types without one come last.
    order
        Types in the order wanted, instead; others follow.
    key_added
        Slot prefix given to ``tl.query``.
    ax
        Axes to draw on; None for a new figure.
    show
        Show the figure; None where matplotlib can (a window or a notebook) and `ax` is None.
    save
        Path to save to; the ending gives the format. True for a file in ``scanpy.settings.figdir``.

    Returns
    -------
    The axes, or None if the figure was shown.

    Raises
    ------
    MissingKeyError
        If `truth_key` or a column of ``tl.query`` is not in ``obs``, or the ontology or a term of it is not there.
    ArgumentError
        If no cell has a true type, no type has a term, or `order` is given with an ontology.

    References
    ----------
    Bar-Joseph et al., Bioinformatics 17, S22 (2001), on the order of leaves.
    """
    path = check_save(save, "confusion")
    check_show(show)
    check_ax(ax)
    slots = check_slots(key_added)
    check_columns(adata, (slots.label, slots.unknown), "pl.confusion")
    loaded = _check_order(ontology, terms, order)
    truth = texts(check_obs_key(adata, truth_key, "truth_key"))
    known = truth.notna().to_numpy()
    if not known.any():
        msg = (
            f"`pl.confusion` needs cells of a known type. All {adata.n_obs} of `adata.obs[{truth_key!r}]` are missing."
        )
        raise ArgumentError(msg)
    label = texts(adata.obs[slots.label]).mask(is_unknown(adata, slots))[known]
    offered = set(adata.obs[slots.label].astype("category").cat.categories.map(str))
    truth = truth[known]
    types = sorted({*truth, *label.dropna()})
    rows, columns = (pd.Categorical(values, categories=types).codes for values in (truth, label))
    counts = np.zeros((len(types), len(types) + 1), dtype=int)
    # The code of a missing label is -1, the last column.
    np.add.at(counts, (rows, columns), 1)
    if order is not None:
        first = [types.index(str(kind)) for kind in order if str(kind) in types]
        places = np.array([*first, *(i for i in range(len(types)) if i not in first)])
    else:
        places = by_ontology(types, loaded, terms) if loaded is not None else by_confusion(counts[:, :-1])
    true_places = [i for i in places if counts[i].sum()]
    called = [i for i in places if counts[:, i].sum() or (counts[i].sum() and types[i] in offered)]
    with style():
        owned = ax is None
        if ax is None:
            _, ax = plt.subplots(figsize=_figsize(types, len(true_places), len(called)), layout="constrained")
        shown_counts = counts[np.ix_(true_places, [*called, len(types)])]
        _draw(ax, shown_counts)
        ax.set_yticks(range(len(true_places)), [f"{types[i]} ({counts[i].sum():,})" for i in true_places])
        ax.set_xticks([*range(len(called)), len(called) + _GAP], [*(types[i] for i in called), "unknown"])
        ax.tick_params(axis="x", rotation=90)
        ax.set(xlabel="label", ylabel=truth_key)
        for row, i in enumerate(true_places):
            if i in called:
                place = (called.index(i) - 0.5, row - 0.5)
                ax.add_patch(Rectangle(place, 1, 1, fill=False, edgecolor="black", linewidth=1, zorder=3))
        _write_counts(ax, shown_counts)
        done = finish(ax.figure.canvas.figure, show=show, save=path, owned=owned)
    return None if done else ax


def _check_order(ontology: object, terms: object, order: object) -> CellOntology | None:
    """Return the ontology, read."""
    if order is not None and not is_several(order):
        msg = f"`order` must be a sequence of types, or None. Received {order!r}."
        raise ArgumentError(msg)
    if order is not None and ontology is not None:
        msg = "`order` and `ontology` both say how types stand. Received both; give one of the two."
        raise ArgumentError(msg)
    if terms is not None:
        check_mapping("terms", terms, "types to terms of the ontology")
        if ontology is None:
            msg = "`terms` are of an ontology. Received no `ontology`; give one, or the path of an OBO file."
            raise ArgumentError(msg)
    if ontology is None or isinstance(ontology, CellOntology):
        return ontology
    return CellOntology.read(ontology)  # type: ignore[arg-type]


def _figsize(types: Sequence[str], n_rows: int, n_columns: int) -> tuple[float, float]:
    """Return width and height that leave cells square, and room for the names."""
    cell = float(np.clip(8 / max(n_rows, n_columns), 0.3, 0.55))
    names = 0.085 * max(map(len, types)) + 0.5
    scale = font_scale()
    return (cell * (n_columns + 1 + _GAP) + names + 1.8) * scale, (cell * n_rows + names + 0.4) * scale


def _draw(ax: Axes, counts: np.ndarray) -> None:
    shares = counts / counts.sum(axis=1, keepdims=True)
    n_rows, n_types = shares.shape[0], shares.shape[1] - 1
    edges = np.arange(n_rows + 1) - 0.5
    look: dict[str, Any] = {"cmap": "Blues", "vmin": 0, "vmax": 1, "edgecolors": "white", "linewidth": 0.5}
    mesh = ax.pcolormesh(np.arange(n_types + 1) - 0.5, edges, shares[:, :-1], **look)
    apart = n_types + _GAP
    ax.pcolormesh([apart - 0.5, apart + 0.5], edges, shares[:, -1:], **look)
    ax.set(xlim=(-0.5, apart + 0.5), ylim=(n_rows - 0.5, -0.5), aspect="equal")
    ax.tick_params(length=0)
    for side in ("left", "bottom"):
        ax.spines[side].set_visible(False)
    height = min(1.0, 6 / n_rows)
    bar = ax.inset_axes((1 + 0.5 / (apart + 1), 1 - height, 0.5 / (apart + 1), height))
    ax.figure.colorbar(mesh, cax=bar, label="share of the true type", format=PercentFormatter(1))


def _write_counts(ax: Axes, counts: np.ndarray) -> None:
    """Write each count that is not 0 as large as its square lets it be, or none where that is too small."""
    figure = ax.figure.canvas.figure
    figure.draw_without_rendering()
    side = ax.get_window_extent().width / (counts.shape[1] + _GAP) * 72 / figure.dpi
    digits = len(str(counts.max()))
    size = min(0.55 * side, 0.9 * side / (0.62 * max(digits, 2)), float(mpl.rcParams["font.size"]))
    if size < _LEAST_FONT:
        return
    shares = counts / counts.sum(axis=1, keepdims=True)
    for row, column in np.argwhere(counts):
        place = column + (_GAP if column == counts.shape[1] - 1 else 0)
        colour = "white" if shares[row, column] > 0.55 else "black"
        text = ax.text(place, row, str(counts[row, column]), ha="center", va="center", fontsize=size, color=colour)
        text.set_in_layout(False)
