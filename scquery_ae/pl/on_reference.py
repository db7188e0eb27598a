"""``pl.on_reference``: query cells in the embedding of the reference."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pandas as pd
from anndata import AnnData
from matplotlib import pyplot as plt

from scquery_ae._checks import check_adata, check_choice, check_obs_key, check_slots, check_text
from scquery_ae._docs import shared_parameters
from scquery_ae._errors import ArgumentError
from scquery_ae.pl._cells import Values, check_look, coordinates, draw_cells, numbers_or_categories
from scquery_ae.pl._colors import UNKNOWN, category_colours
from scquery_ae.pl._results import check_columns, is_unknown, reference_rows
from scquery_ae.pl._style import check_ax, check_save, check_show, finish, font_scale, style

if TYPE_CHECKING:
    from os import PathLike

    from matplotlib.axes import Axes

_PLACES = ("neighbors", "basis")
#: Total area of the points, in square points.
_AREA = 20_000


@shared_parameters
def on_reference(
    adata: AnnData,
    reference: AnnData,
    *,
    color: str | None = None,
    basis: str = "X_umap",
    place: str = "neighbors",
    size: float | None = None,
    cmap: str = "viridis",
    vmin: float | None = None,
    vmax: float | None = None,
    legend_loc: str = "auto",
    title: str | None = None,
    key_added: str = "scquery",
    ax: Axes | None = None,
    show: bool | None = None,
    save: str | bool | PathLike[str] | None = None,
) -> Axes | None:
    """Plot query cells, coloured, over the cells of the reference, light grey, in one embedding.

    No embedding is computed: the position of a query cell is the mean of the coordinates of its neighbors in the
    reference. A cell whose neighbors are in two groups is therefore drawn between the groups, and a cell unlike any
    reference cell among those that it resembles most. Cells called unknown are dark grey. To give query cells
    positions of their own, embed both together (concatenate, then ``sc.pp.neighbors(both, use_rep="X_scquery")`` and
    ``sc.tl.umap(both)``), copy the coordinates of each part to its ``obsm``, and pass ``place="basis"``.

    Parameters
    ----------
    adata
        Cells after :func:`scquery_ae.tl.query`.
    reference
        AnnData of the reference's cells, complete and in their order, with the embedding in ``obsm``.
    color
        Column of ``adata.obs`` with numbers, or with at most 256 categories. None takes the label and separates the
        cells called unknown.
    basis
        Key of ``obsm``. ``"umap"`` also finds ``"X_umap"``.
    place
        ``"neighbors"`` draws a cell at the mean position of its neighbors, and ``"basis"`` at ``adata.obsm[basis]``,
        which must have been computed together with the reference's.
    size
        Area of a query cell in square points. None sets it by the number of cells.
    cmap, vmin, vmax, legend_loc
        As for :func:`scquery_ae.pl.embedding`.
    title
        Title of the axes. None writes the numbers of cells.
    %(key_added)s
    %(ax)s
    %(show)s
    %(save)s

    Returns
    -------
    The axes, or None if the figure was shown. Colours of categories are read from or written to

    ``adata.uns[f"{color}_colors"]`` : list of str
        One colour for each category, as in scanpy. Views are not written to.

    Raises
    ------
    MissingKeyError
        If the cells were not queried, `color` is not in ``obs`` or `basis` not in ``obsm``.
    ArgumentError
        If `reference` was not queried, or an argument is out of its range.
    """
    path = check_save(save, "on_reference")
    check_show(show)
    check_ax(ax)
    check_adata(adata, "pl.on_reference")
    if not isinstance(reference, AnnData):
        msg = (
            "`reference` must be the AnnData of the reference's cells, with an embedding in `obsm`. "
            f"Received {type(reference).__name__}; pass the AnnData that the reference was built from."
        )
        raise ArgumentError(msg)
    check_adata(reference, "pl.on_reference")
    check_choice("place", place, _PLACES)
    area = float(np.clip(_AREA / adata.n_obs, 1.5, 12)) if size is None else size
    look = check_look(adata.n_obs, legend_loc=legend_loc, size=area, cmap=cmap, vmin=vmin, vmax=vmax)
    if title is not None:
        check_text("title", title)
    slots = check_slots(key_added)
    apart = color is None
    if color is None:
        check_columns(adata, (slots.label, slots.unknown), "pl.on_reference")
        color = slots.label
    own = numbers_or_categories(check_obs_key(adata, color, "color"), color)
    axis, ground = coordinates(reference, basis, "reference")
    if place == "neighbors":
        mine = ground[reference_rows(adata, slots.neighbors, len(ground), "pl.on_reference")].mean(axis=1)
    else:
        _, mine = coordinates(adata, basis)
    values, names = _beneath(own, len(ground)), None
    if own.groups is not None and apart:
        values, names = _with_unknown(values, is_unknown(adata, slots))
    with style():
        owned = ax is None
        if ax is None:
            _, ax = plt.subplots(figsize=(5.4 * font_scale(), 5 * font_scale()), layout="constrained")
        colours = None
        if own.groups is not None:
            colours = [*category_colours(adata, color, len(own.groups.categories)), UNKNOWN]
        n = f"{adata.n_obs:,} query {'cell' if adata.n_obs == 1 else 'cells'} on {reference.n_obs:,} reference cells"
        ax.set(xlabel=f"{axis} 1", ylabel=f"{axis} 2", title=n if title is None else title)
        draw_cells(
            ax,
            np.concatenate([ground, mine]),
            values,
            colours,
            look,
            owned=owned,
            missing="reference",
            missing_size=float(np.clip(_AREA / len(ground), 1, 10)),
            unplaced=names,
        )
        done = finish(ax.figure.canvas.figure, show=show, save=path, owned=owned)
    return None if done else ax


def _beneath(own: Values, n: int) -> Values:
    """Return the values of the query cells after `n` missing values for the reference cells."""
    if own.groups is None:
        return Values(own.name, np.r_[np.full(n, np.nan), own.numbers], None)
    codes = np.r_[np.full(n, -1), own.numbers].astype(int)
    return Values(own.name, codes, pd.Categorical.from_codes(codes, categories=own.groups.categories))


def _with_unknown(values: Values, unknown: np.ndarray) -> tuple[Values, str]:
    """Return the labels with a category for the cells called unknown, and the name of this category."""
    categories = [str(name) for name in values.groups.categories] if values.groups is not None else []
    # A reference may have a type with the name "unknown".
    name = "unknown" if "unknown" not in categories else "called unknown"
    codes = values.numbers.astype(int)
    codes[len(codes) - len(unknown) :][unknown] = len(categories)
    groups: pd.Categorical = pd.Categorical.from_codes(codes, categories=pd.Index([*categories, name], dtype=object))
    return Values(values.name, codes, groups), name
