"""``pl.embedding``: cells in two dimensions of an embedding, coloured by a column of ``obs``."""

from __future__ import annotations

from typing import TYPE_CHECKING

from matplotlib import pyplot as plt

from scquery_ae._checks import check_adata, check_obs_key, check_text
from scquery_ae._docs import shared_parameters
from scquery_ae.pl._cells import check_look, coordinates, draw_cells, numbers_or_categories
from scquery_ae.pl._colors import category_colours
from scquery_ae.pl._style import check_ax, check_save, check_show, finish, font_scale, style

if TYPE_CHECKING:
    from os import PathLike

    from anndata import AnnData
    from matplotlib.axes import Axes


@shared_parameters
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
    """Plot the first two dimensions of an embedding, coloured by a column of ``obs``.

    Cells are drawn in a fixed random order, so that no group hides another. Cells with a missing value are drawn first,
    in light grey.

    Parameters
    ----------
    adata
        Cells with the embedding in ``obsm``.
    color
        Column of ``obs`` with numbers, or with at most 256 categories; text and booleans are categories.
    basis
        Key of ``obsm`` with at least two columns. ``"umap"`` also finds ``"X_umap"``.
    size
        Area of a point in square points. None sets it by the number of cells.
    cmap, vmin, vmax
        Colour map for numbers, and the values at its ends. None takes the smallest and the largest value.
    legend_loc
        Where categories are named: ``"on data"``, ``"right margin"``, ``"none"`` or ``"auto"``. A name that would hide
        its group is written beside it. ``"auto"`` names categories on the data and, in a new figure, also in a legend
        of up to 110 entries; names that would cover too much of the data are replaced by numbers that the legend
        explains. ``"auto"`` names booleans in the legend only.
    title
        Title of the axes. None takes `color` for categories; for numbers, `color` is written at the colour bar.
    %(ax)s
    %(show)s
    %(save)s

    Returns
    -------
    The axes, or None if the figure was shown. Colours of categories are read from or written to

    ``uns[f"{color}_colors"]`` : list of str
        One colour for each category, as in scanpy. Views are not written to.

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
