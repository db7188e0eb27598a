"""``pl.on_reference``: query cells on the reference's embedding."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pandas as pd
from anndata import AnnData
from matplotlib import pyplot as plt

from scquery_ae._checks import check_adata, check_choice, check_obs_key, check_slots, check_text
from scquery_ae._errors import ArgumentError
from scquery_ae.pl._answers import check_columns, is_unknown
from scquery_ae.pl._cells import Values, check_look, coordinates, draw_cells, numbers_or_categories
from scquery_ae.pl._colors import UNKNOWN, category_colours
from scquery_ae.pl._style import check_ax, check_save, check_show, finish, font_scale, style
from scquery_ae.pl.neighbors_by_batch import hits_of

if TYPE_CHECKING:
    from os import PathLike

    from matplotlib.axes import Axes

_PLACES = ("neighbors", "basis")
#: Square points that cells share.
_AREA = 20_000


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

    Nothing is embedded anew: a query cell stands at the mean place of its neighbors. A cell unlike any other therefore
    stands among those that it resembles most; whether it does is for ``scquery_unknown`` to say, whose cells are dark
    grey. For places of their own, embed both together (concatenate, then ``sc.pp.neighbors(both,
    use_rep="X_scquery")`` and ``sc.tl.umap(both)``), put each part's places back into its ``obsm``, and give
    ``place="basis"``.

    Parameters
    ----------
    adata
        Cells after :func:`scquery_ae.tl.query`.
    reference
        The reference's cells, all and in their order, with the embedding in ``obsm``.
    color
        Column of ``adata.obs``: at most 256 categories, or numbers; None for the label, and cells called unknown apart.
    basis
        Key of ``obsm``; ``"umap"`` also finds ``"X_umap"``.
    place
        ``"neighbors"`` for the mean place of a cell's neighbors, ``"basis"`` for ``adata.obsm[basis]``, which must then have been
        computed together with the reference's.
    size
        Area of a query cell in square points; None to go by the number of cells.
    cmap, vmin, vmax, legend_loc
        As for :func:`scquery_ae.pl.embedding`.
    title
        Title of the axes; None for how many cells there are of each.
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
    The axes, or None if the figure was shown. Colours of categories are read from or written to

    ``adata.uns["{color}_colors"]`` : list of str
        One a category, as scanpy keeps them. A view is not written to.

    Raises
    ------
    MissingKeyError
        If the cells were not queried, `color` is not in ``obs`` or `basis` not in ``obsm``.
    ArgumentError
        If `reference` has fewer cells than the neighbors point to, or an argument is out of its range.
    """
    path = check_save(save, "on_reference")
    check_show(show)
    check_ax(ax)
    check_adata(adata, "pl.on_reference")
    if not isinstance(reference, AnnData):
        msg = (
            "`reference` must be the AnnData of the reference's cells, with an embedding in `obsm`. "
            f"Received {type(reference).__name__}."
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
        mine = ground[hits_of(adata, slots.neighbors, len(ground), "pl.on_reference")].mean(axis=1)
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
        n = f"{adata.n_obs:,} query {'cell' if adata.n_obs == 1 else 'cells'} on {reference.n_obs:,} of the reference"
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
    """Return the values of the query's cells after those of `n` cells that have none."""
    if own.groups is None:
        return Values(own.name, np.r_[np.full(n, np.nan), own.numbers], None)
    codes = np.r_[np.full(n, -1), own.numbers].astype(int)
    return Values(own.name, codes, pd.Categorical.from_codes(codes, categories=own.groups.categories))


def _with_unknown(values: Values, unknown: np.ndarray) -> tuple[Values, str]:
    """Return labels with one more category, that of the cells called unknown, and its name."""
    categories = [str(name) for name in values.groups.categories] if values.groups is not None else []
    # A reference may have a type of that name.
    name = "unknown" if "unknown" not in categories else "called unknown"
    codes = values.numbers.astype(int)
    codes[len(codes) - len(unknown) :][unknown] = len(categories)
    groups: pd.Categorical = pd.Categorical.from_codes(codes, categories=pd.Index([*categories, name], dtype=object))
    return Values(values.name, codes, groups), name
