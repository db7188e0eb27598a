"""``pl.explain``: the genes behind a neighbor."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pandas as pd
from matplotlib.ticker import MaxNLocator

from scquery_ae._checks import check_integer
from scquery_ae._errors import ArgumentError
from scquery_ae.pl._palette import OKABE_ITO
from scquery_ae.pl._panels import heading, panels
from scquery_ae.pl._style import check_ax, check_save, check_show, finish, font_scale, style

if TYPE_CHECKING:
    from os import PathLike

    from matplotlib.axes import Axes
    from matplotlib.figure import Figure


def explain(
    table: pd.DataFrame,
    *,
    n_genes: int = 15,
    ax: Axes | None = None,
    show: bool | None = None,
    save: str | bool | PathLike[str] | None = None,
) -> Figure | None:
    """Plot the genes that bring a query cell and its neighbor together, and those that set them apart.

    Parameters
    ----------
    table
        From :func:`scquery_ae.tl.explain`.
    n_genes
        Genes on each side.
    ax
        Axes whose place the panels take; None for a new figure.
    show
        Show the figure; None where matplotlib can (a window or a notebook) and `ax` is None.
    save
        Path to save to; the ending gives the format. True for a file in ``scanpy.settings.figdir``. A new figure that
        was saved and not shown is closed in pyplot.

    Returns
    -------
    The figure, or None if it was shown.

    Raises
    ------
    ArgumentError
        If `table` is not one of `tl.explain`, or an argument is out of its range.
    """
    path = check_save(save, "explain")
    check_show(show)
    check_ax(ax)
    check_integer("n_genes", n_genes)
    columns = getattr(table, "columns", ())
    if "similarity" not in columns or "distance" not in columns:
        msg = f"`pl.explain` needs the table of `scq.tl.explain`. Received {type(table).__name__}."
        raise ArgumentError(msg)
    for column in ("similarity", "distance"):
        if not pd.api.types.is_numeric_dtype(table[column]) or pd.api.types.is_complex_dtype(table[column]):
            msg = f"`pl.explain` needs numbers in the column {column!r}. Received values of type {table[column].dtype}."
            raise ArgumentError(msg)
    scale = font_scale()
    with style():
        figure, grid = panels(ax, 1, 2, figsize=(7.5 * scale, (1.2 + 0.24 * n_genes) * scale))
        sides = (("similarity", "bring them together", OKABE_ITO[0]), ("distance", "set them apart", OKABE_ITO[1]))
        for panel, (column, title, colour) in zip(grid.flat, sides, strict=True):
            top = table[column].nlargest(n_genes)[::-1]
            panel.barh(range(len(top)), top.to_numpy(), color=colour)
            panel.set_yticks(range(len(top)), list(top.index))
            panel.set(title=title, xlabel=f"part of the cosine {column}")
            panel.axvline(0, color="black", linewidth=0.8)
            panel.xaxis.set_major_locator(MaxNLocator(3, steps=[1, 2, 5, 10]))
            # A power of ten at the end of the axis would cross the label of a narrow panel.
            panel.xaxis.set_major_formatter("{x:.2g}")
        attrs = table.attrs
        if attrs:
            text = f"{attrs['cell']} and {attrs['neighbor']} ({attrs['label']}), similarity {attrs['similarity']:.2f}"
            heading(figure, grid, ax, text)
        shown = finish(figure, show=show, save=path, owned=ax is None)
    return None if shown else figure
