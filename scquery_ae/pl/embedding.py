"""``pl.embedding``: cells on a plane, coloured by what is known of them."""

from __future__ import annotations

from typing import TYPE_CHECKING

from matplotlib import pyplot as plt

from scquery_ae._checks import check_adata, check_obs_key, check_text
from scquery_ae.pl._cells import check_look, coordinates, draw_cells, numbers_or_categories
from scquery_ae.pl._colors import category_colours
from scquery_ae.pl._style import check_ax, check_save, check_show, finish, font_scale, style

if TYPE_CHECKING:
    from os import PathLike

    from anndata import AnnData
    from matplotlib.axes import Axes


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
    save: str | bool | PathLike[str] | None = None,
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
        Path to save to; the ending gives the format. True for a file in ``scanpy.settings.figdir``. A new figure that
        was saved and not shown is closed in pyplot.

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
    path = check_save(save, "embedding")
    check_show(show)
    check_adata(adata, "pl.embedding")
    look = check_look(adata.n_obs, legend_loc=legend_loc, size=size, cmap=cmap, vmin=vmin, vmax=vmax)
    if title is not None:
        check_text("title", title)
    check_ax(ax)
    values = numbers_or_categories(check_obs_key(adata, color, "color"), color)
    axis, points = coordinates(adata, basis)
    with style():
        owned = ax is None
        if ax is None:
            _, ax = plt.subplots(figsize=(5.4 * font_scale(), 5 * font_scale()), layout="constrained")
        colours = None if values.groups is None else category_colours(adata, color, len(values.groups.categories))
        default = "" if colours is None else color
        ax.set(xlabel=f"{axis} 1", ylabel=f"{axis} 2", title=default if title is None else title)
        draw_cells(ax, points, values, colours, look, owned=owned)
        done = finish(ax.figure.canvas.figure, show=show, save=path, owned=owned)
    return None if done else ax
