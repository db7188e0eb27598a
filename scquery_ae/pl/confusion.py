"""``pl.confusion``: labels of the cells of each known type."""

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
from scquery_ae._docs import shared_parameters
from scquery_ae._errors import ArgumentError
from scquery_ae.ontology import CellOntology
from scquery_ae.pl._order import by_confusion, by_ontology
from scquery_ae.pl._results import as_text, check_columns, is_unknown
from scquery_ae.pl._style import check_ax, check_save, check_show, finish, font_scale, style

if TYPE_CHECKING:
    from anndata import AnnData
    from matplotlib.axes import Axes

#: Columns between the labels and the fraction unknown.
_GAP = 0.35
_UNKNOWN_COLUMN = "called unknown"
#: Smaller numbers, in points, are left out.
_SMALLEST_FONT = 3.5


@shared_parameters
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
    """Plot the labels of the cells of each known type: counts, and fractions of the row as shade.

    Every cell counts under its label, whether or not it is called unknown; the column on the right has the fraction
    of each known type that is called unknown. Frames mark correct labels. Similar types are neighbors: relatives in
    the Cell Ontology if one is given, and otherwise types that are mistaken for each other (average linkage).

    Parameters
    ----------
    adata
        Cells after :func:`scquery_ae.tl.query`.
    truth_key
        Column of ``obs`` with the known types. Cells without one are left out.
    ontology
        Ontology to order by, or the path of an OBO file such as ``cl-basic.obo``.
    terms
        Maps types to ontology terms, by id or exact name. None looks up the types by their names. Types without a
        term come last.
    order
        Order of the types, instead of `ontology`. Types that it lacks follow.
    %(key_added)s
    %(ax)s
    %(show)s
    %(save)s

    Returns
    -------
    The axes, or None if the figure was shown.

    Raises
    ------
    MissingKeyError
        If `truth_key` or a column of ``tl.query`` is not in ``obs``, or the ontology or one of its terms is missing.
    ArgumentError
        If no cell has a known type, no type has a term, or `order` is given with an ontology.

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
    truth = as_text(check_obs_key(adata, truth_key, "truth_key"))
    known = truth.notna().to_numpy()
    if not known.any():
        msg = (
            f"`pl.confusion` needs cells of a known type. All {adata.n_obs} values of `adata.obs[{truth_key!r}]` are "
            "missing; pass another column as `truth_key`."
        )
        raise ArgumentError(msg)
    truth, label = truth[known], as_text(adata.obs[slots.label])[known]
    unknown = pd.Series(is_unknown(adata, slots)[known]).groupby(truth.to_numpy()).mean()
    reference_types = set(adata.obs[slots.label].astype("category").cat.categories.map(str))
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
    row_types = [i for i in places if counts[i].sum()]
    column_types = [i for i in places if counts[:, i].sum() or (counts[i].sum() and types[i] in reference_types)]
    names = [types[i] for i in column_types]
    if counts[:, -1].any():
        column_types, names = [*column_types, len(types)], [*names, "no label"]
    matrix = counts[np.ix_(row_types, column_types)]
    with style():
        owned = ax is None
        if ax is None:
            _, ax = plt.subplots(figsize=_figsize([*types, *names], *matrix.shape), layout="constrained")
        fractions = np.array([unknown[types[i]] for i in row_types])
        _draw(ax, matrix, fractions)
        ax.set_yticks(range(len(row_types)), [f"{types[i]} ({counts[i].sum():,})" for i in row_types])
        ax.set_xticks([*range(len(names)), len(names) + _GAP], [*names, _UNKNOWN_COLUMN])
        ax.tick_params(axis="x", rotation=90)
        # Above the labels: below, the names of the columns would separate it from them.
        ax.xaxis.set_label_position("top")
        ax.set_xlabel("label", x=len(names) / (len(names) + 1 + _GAP) / 2)
        ax.set_ylabel(f"true type ({truth_key})")
        for row, i in enumerate(row_types):
            if i in column_types:
                corner = (column_types.index(i) - 0.5, row - 0.5)
                ax.add_patch(Rectangle(corner, 1, 1, fill=False, edgecolor="black", linewidth=1, zorder=3))
        _write_numbers(ax, matrix, fractions)
        done = finish(ax.figure.canvas.figure, show=show, save=path, owned=owned)
    return None if done else ax


def _check_order(ontology: object, terms: object, order: object) -> CellOntology | None:
    """Return the ontology, read from its file if it is a path."""
    if order is not None and not is_several(order):
        msg = f"`order` must be a sequence of types, or None. Received {order!r}."
        raise ArgumentError(msg)
    if order is not None and ontology is not None:
        msg = "`order` and `ontology` both order the types. Received both; pass one of the two."
        raise ArgumentError(msg)
    if terms is not None:
        check_mapping("terms", terms, "types to terms of the ontology")
        if ontology is None:
            msg = "`terms` needs an `ontology`. Received none; pass one, or the path of an OBO file."
            raise ArgumentError(msg)
    if ontology is None or isinstance(ontology, CellOntology):
        return ontology
    return CellOntology.read(ontology)  # type: ignore[arg-type]


def _figsize(names: Sequence[str], n_rows: int, n_columns: int) -> tuple[float, float]:
    """Return width and height with square cells and room for the names."""
    cell = float(np.clip(8 / max(n_rows, n_columns), 0.3, 0.55))
    room = 0.085 * max(*map(len, names), len(_UNKNOWN_COLUMN)) + 0.5
    scale = font_scale()
    return (cell * (n_columns + 1 + _GAP) + room + 1.8) * scale, (cell * n_rows + room + 0.4) * scale


def _fractions(counts: np.ndarray) -> np.ndarray:
    return np.asarray(counts / counts.sum(axis=1, keepdims=True))


def _draw(ax: Axes, counts: np.ndarray, unknown: np.ndarray) -> None:
    n_rows, n_labels = counts.shape
    edges = np.arange(n_rows + 1) - 0.5
    look: dict[str, Any] = {"vmin": 0, "vmax": 1, "edgecolors": "white", "linewidth": 0.5}
    mesh = ax.pcolormesh(np.arange(n_labels + 1) - 0.5, edges, _fractions(counts), cmap="Blues", **look)
    right = n_labels + _GAP
    grey = ax.pcolormesh([right - 0.5, right + 0.5], edges, unknown[:, None], cmap="Greys", **look)
    ax.set(xlim=(-0.5, right + 0.5), ylim=(n_rows - 0.5, -0.5), aspect="equal")
    ax.tick_params(length=0)
    for side in ("left", "bottom"):
        ax.spines[side].set_visible(False)
    height = min(1.0, 6 / n_rows)
    # One scale for both colours: grey on the left, blue on the right.
    width = 0.3 / (right + 1)
    for drawn, start in ((grey, 0.4), (mesh, 0.7)):
        bar = ax.inset_axes((1 + start / (right + 1), 1 - height, width, height))
        ax.figure.colorbar(drawn, cax=bar, format=PercentFormatter(1))
        if drawn is grey:
            bar.tick_params(right=False, labelright=False)
    bar.set_ylabel("fraction of the true type\n(blue: label, grey: called unknown)")


def _write_numbers(ax: Axes, counts: np.ndarray, unknown: np.ndarray) -> None:
    """Write counts and fractions unknown as large as their squares allow, or none if that is too small."""
    figure = ax.figure.canvas.figure
    figure.draw_without_rendering()
    side = ax.get_window_extent().width / (counts.shape[1] + 1 + _GAP) * 72 / figure.dpi
    # A percentage has four characters.
    digits = max(len(str(counts.max())), 4 if (unknown == 1).any() else 3)
    size = min(0.55 * side, 0.9 * side / (0.62 * digits), float(mpl.rcParams["font.size"]))
    if size < _SMALLEST_FONT:
        return
    fractions = _fractions(counts)
    numbers = [(column, row, str(counts[row, column]), fractions[row, column]) for row, column in np.argwhere(counts)]
    right = counts.shape[1] + _GAP
    numbers += [(right, row, f"{unknown[row]:.0%}", unknown[row]) for row in np.flatnonzero(unknown)]
    for x, y, number, fraction in numbers:
        colour = "white" if fraction > 0.55 else "black"
        text = ax.text(x, y, number, ha="center", va="center", fontsize=size, color=colour)
        text.set_in_layout(False)
