"""``pl.explain``: genes behind the similarity and the distance of a query cell and its neighbor."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pandas as pd
from matplotlib.ticker import MaxNLocator

from scquery_ae._checks import check_integer
from scquery_ae._docs import shared_parameters
from scquery_ae._errors import ArgumentError
from scquery_ae.pl._palette import OKABE_ITO
from scquery_ae.pl._panels import heading, panels
from scquery_ae.pl._style import check_ax, check_save, check_show, finish, font_scale, style

if TYPE_CHECKING:
    from os import PathLike

    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

#: Column, title, what a gene on both sides does besides, and colour of each panel.
_SIDES = (
    ("similarity", "raise the similarity", "raises the distance too", OKABE_ITO[0]),
    ("distance", "raise the distance", "raises the similarity too", OKABE_ITO[1]),
)


@shared_parameters
def explain(
    table: pd.DataFrame,
    *,
    n_genes: int = 15,
    ax: Axes | None = None,
    show: bool | None = None,
    save: str | bool | PathLike[str] | None = None,
) -> Figure | None:
    """Plot the genes that contribute most to the similarity and to the distance of a query cell and its neighbor.

    A gene can contribute to both: cells that share an expressed gene are similar, and still differ in its amount. The
    bars of genes that are in both panels are hatched.

    Parameters
    ----------
    table
        From :func:`scquery_ae.tl.explain`.
    n_genes
        Number of genes in each panel.
    ax
        Axes whose position the panels take. None makes a figure.
    %(show)s
    %(save)s

    Returns
    -------
    The figure, or None if it was shown.

    Raises
    ------
    ArgumentError
        If `table` is not from ``tl.explain``, or an argument is out of its range.
    """
    path = check_save(save, "explain")
    check_show(show)
    check_ax(ax)
    check_integer("n_genes", n_genes)
    columns = getattr(table, "columns", ())
    if "similarity" not in columns or "distance" not in columns:
        msg = (
            "`pl.explain` needs the table of `scq.tl.explain(adata, reference, cell)`. "
            f"Received {type(table).__name__}; pass that table."
        )
        raise ArgumentError(msg)
    for column, *_ in _SIDES:
        if not pd.api.types.is_numeric_dtype(table[column]) or pd.api.types.is_complex_dtype(table[column]):
            msg = (
                f"`pl.explain` needs numbers in the column {column!r}. Received values of type {table[column].dtype}; "
                "pass the table of `scq.tl.explain` unchanged."
            )
            raise ArgumentError(msg)
    # Only genes that raise a value are listed on its side.
    top = {column: table[column][table[column] > 0].nlargest(n_genes)[::-1] for column, *_ in _SIDES}
    both = top["similarity"].index.intersection(top["distance"].index)
    scale = font_scale()
    with style():
        figure, grid = panels(ax, 1, 2, figsize=(7.5 * scale, (1.4 + 0.24 * n_genes) * scale))
        for panel, (column, title, note, colour) in zip(grid.flat, _SIDES, strict=True):
            _draw(panel, top[column], both, colour)
            label = f"contribution to the cosine {column}"
            panel.set(title=title, xlabel=f"{label}\n(hatched: {note})" if len(both) else label)
        attrs = table.attrs
        if attrs:
            text = f"{attrs['cell']} and {attrs['neighbor']} ({attrs['label']}), similarity {attrs['similarity']:.2f}"
            heading(figure, grid, ax, text)
        shown = finish(figure, show=show, save=path, owned=ax is None)
    return None if shown else figure


def _draw(panel: Axes, values: pd.Series, both: pd.Index, colour: str) -> None:
    for row, (gene, value) in enumerate(values.items()):
        panel.barh(row, value, color=colour, hatch="////" if gene in both else None, edgecolor="white", linewidth=0)
    panel.set_yticks(range(len(values)), list(values.index))
    panel.axvline(0, color="black", linewidth=0.8)
    panel.xaxis.set_major_locator(MaxNLocator(3, steps=[1, 2, 5, 10]))
    # Not an offset such as 1e-3 at the end of the axis, which would cross the label of a narrow panel.
    panel.xaxis.set_major_formatter("{x:.2g}")
