"""``pl.embedding``: cells on a plane, coloured by what is known of them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import matplotlib as mpl
import numpy as np
import pandas as pd
from matplotlib import pyplot as plt
from matplotlib.axes import Axes
from matplotlib.colors import Colormap, is_color_like, to_rgba_array

from scquery_ae._array_checks import check_array
from scquery_ae._checks import check_adata, check_choice, check_number, check_obs_key, check_text, is_several, shown
from scquery_ae._errors import ArgumentError, MissingKeyError
from scquery_ae.pl._names import name_categories
from scquery_ae.pl._palette import MISSING, palette
from scquery_ae.pl._style import check_save, check_show, finish, font_scale, style

if TYPE_CHECKING:
    from os import PathLike

    from anndata import AnnData

_AXIS_NAMES = {"umap": "UMAP", "tsne": "t-SNE", "pca": "PC", "diffmap": "DC"}
_LEGENDS = ("auto", "on data", "right margin", "none")
_MOST_CATEGORIES = 256


def embedding(
    adata: AnnData,
    *,
    color: str,
    basis: str = "X_umap",
    size: float | None = None,
    cmap: str = "viridis",
    vmin: float | None = None,
    vmax: float | None = None,
    legend_loc: str = "auto",
    title: str | None = None,
    ax: Axes | None = None,
    show: bool | None = None,
    save: str | PathLike[str] | None = None,
) -> Axes | None:
    """Plot the first two columns of an embedding, coloured by a column of ``obs``.

    Cells are drawn in random order (always the same), so that no group hides another; those whose value is missing
    are drawn in light grey beneath.

    Parameters
    ----------
    adata
        Cells with the embedding in ``obsm``.
    color
        Column of ``obs``: at most 256 categories (text and booleans count as such), or numbers.
    basis
        Key of ``obsm``, with at least two columns; ``"umap"`` also finds ``"X_umap"``.
    size
        Area of a point in square points; None to go by the number of cells.
    cmap, vmin, vmax
        Colour map of numbers, and the values at its ends; None for the least and the largest.
    legend_loc
        Where categories are named: ``"on data"``, ``"right margin"``, ``"none"``, or ``"auto"``, which is on the data
        and, in a figure of its own, also in a legend of up to 110 entries. Names that would cover too much of the
        data are then replaced by their numbers in the legend. Booleans have a legend only.
    title
        Title of the axes; None for `color` if it holds categories. Numbers have it at their colour bar.
    ax
        Axes to draw on; None for a new figure.
    show
        Show the figure; None where matplotlib can (a window or a notebook) and `ax` is None.
    save
        Path to save to; the ending gives the format. A new figure that was saved and not shown is closed in pyplot.

    Returns
    -------
    The axes, or None if the figure was shown. Colours of categories are read from or written to

    ``uns["{color}_colors"]`` : list of str
        One a category, as scanpy keeps them. A view is not written to.

    Raises
    ------
    MissingKeyError
        If `color` is not in ``obs`` or `basis` not in ``obsm``.
    ArgumentError
        If the embedding has fewer than two columns, there are too many categories, or an argument is out of its
        range.
    """
    path = check_save(save)
    check_show(show)
    check_adata(adata, "pl.embedding")
    check_choice("legend_loc", legend_loc, _LEGENDS)
    area = float(np.clip(30_000 / adata.n_obs, 1, 25)) if size is None else size
    check_number("size", area, 0, np.inf, closed="neither")
    for name, end in (("vmin", vmin), ("vmax", vmax)):
        if end is not None:
            check_number(name, end, -np.inf, np.inf)
    if title is not None:
        check_text("title", title)
    if not isinstance(cmap, Colormap):
        check_choice("cmap", cmap, tuple(mpl.colormaps))
    if ax is not None and not isinstance(ax, Axes):
        msg = f"`ax` must be the axes to draw on, or None. Received {type(ax).__name__}."
        raise ArgumentError(msg)
    values = check_obs_key(adata, color, "color")
    key, points = _coordinates(adata, basis)
    other = pd.api.types.is_bool_dtype(values) or pd.api.types.is_complex_dtype(values)
    numeric = pd.api.types.is_numeric_dtype(values) and not other
    groups = None if numeric else _categories(values, color)
    # Codes of categories are numbers too, -1 for a missing one.
    numbers = values.to_numpy(dtype=float, na_value=np.nan) if groups is None else groups.codes
    known = np.isfinite(numbers) if groups is None else numbers >= 0
    order = np.random.default_rng(0).permutation(len(points))
    order = order[np.isfinite(points[order]).all(axis=1)]
    drawn, grey = order[known[order]], order[~known[order]]

    with style():
        owned = ax is None
        if ax is None:
            _, ax = plt.subplots(figsize=(5.4 * font_scale(), 5 * font_scale()), layout="constrained")
        look: dict[str, Any] = {"s": area, "linewidths": 0, "rasterized": True}
        if len(grey):
            ax.scatter(*points[grey].T, color=MISSING, zorder=1, **look)
        axis = key.removeprefix("X_")
        axis = _AXIS_NAMES.get(axis, axis)
        ax.set(xticks=[], yticks=[], xlabel=f"{axis} 1", ylabel=f"{axis} 2")
        if groups is not None:
            colours = _colours(adata, color, groups)
            ax.scatter(*points[drawn].T, color=to_rgba_array(colours)[numbers[drawn]], zorder=2, **look)
            ax.set_title(color if title is None else title)
            name_categories(ax, points, groups, colours, drawn, n_missing=len(grey), legend_loc=legend_loc, owned=owned)
        else:
            ax.set_title(title or "")
            if len(drawn):
                mapped = ax.scatter(
                    points[drawn, 0],
                    points[drawn, 1],
                    c=numbers[drawn],
                    cmap=cmap,
                    vmin=vmin,
                    vmax=vmax,
                    zorder=2,
                    **look,
                )
                ax.figure.colorbar(mapped, ax=ax, label=color, shrink=0.6, aspect=15)
        done = finish(ax.figure.canvas.figure, show=show, save=path, owned=owned)
    return None if done else ax


def _coordinates(adata: AnnData, basis: str) -> tuple[str, np.ndarray]:
    """Return the key of ``obsm`` and its first two columns."""
    check_text("basis", basis)
    key = next((key for key in (basis, f"X_{basis}") if key in adata.obsm), None)
    if key is None:
        msg = (
            f"`basis={basis!r}` is not in `adata.obsm`. Expected one of {shown(adata.obsm, 20) or '(none there)'}; "
            "compute the embedding first, for example with `sc.tl.umap(adata)`."
        )
        raise MissingKeyError(msg)
    values: Any = adata.obsm[key]
    if np.ndim(values) != 2 or values.shape[1] < 2:
        msg = f"`adata.obsm[{key!r}]` must have at least two columns to be plotted. Received shape {values.shape}."
        raise ArgumentError(msg)
    values = values.iloc[:, :2] if isinstance(values, pd.DataFrame) else values[:, :2]
    dense = values.toarray() if hasattr(values, "toarray") else values
    return key, check_array(f"adata.obsm[{key!r}]", dense).astype(float)


def _categories(values: pd.Series, color: str) -> pd.Categorical:
    try:
        groups = pd.Categorical(values)
    except TypeError as error:
        msg = f"`color={color!r}` holds values that cannot be told apart ({error}). Give text, booleans or numbers."
        raise ArgumentError(msg) from error
    if len(groups.categories) > _MOST_CATEGORIES:
        msg = (
            f"`color={color!r}` has {len(groups.categories)} categories, and no more than {_MOST_CATEGORIES} can be "
            f"coloured. Received such as {shown(groups.categories)}; merge them, or convert numbers held as text."
        )
        raise ArgumentError(msg)
    return groups


def _colours(adata: AnnData, color: str, groups: pd.Categorical) -> list[str]:
    """Return one colour a category: those kept in ``uns`` if they are enough and valid, otherwise new ones."""
    slot, n = f"{color}_colors", len(groups.categories)
    stored = adata.uns.get(slot, ())
    kept = [str(colour) for colour in stored] if is_several(stored) else []
    if len(kept) >= n and all(map(is_color_like, kept)):
        return kept[:n]
    colours = list(palette(n))
    if not adata.is_view:
        adata.uns[slot] = colours
    return colours
